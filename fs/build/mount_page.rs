//! The parts of ckptfs(1) and of the pages of subcommands that docs/mount.md describes: the files
//! of the mount, how they behave, and the errors.

use std::io::{Error, Result};

use super::roff::{escaped, running};

/// The sections of docs/mount.md that are sections of ckptfs(1).
const DESCRIBED: [(&str, &str); 7] = [
    ("Reading an image", "READING AN IMAGE"),
    ("Pinned snapshots", "PINNED SNAPSHOTS"),
    ("Freeze, kill and cgroups", "FREEZE, KILL AND CGROUPS"),
    ("Permissions", "PERMISSIONS"),
    ("Restoring", "RESTORING"),
    ("Where the reason stands", "WHERE THE REASON STANDS"),
    ("mount(8) and fstab(5)", "MOUNT(8) AND FSTAB(5)"),
];

/// For each subcommand, its word in the column "at" of the table of errors.
const AT: [(&str, &str); 10] = [
    ("mount", "mount"),
    ("restore", "restore"),
    ("core", "file"),
    ("inspect", "file"),
    ("diff", "file"),
    ("verify", "file"),
    ("check", "check"),
    ("ps", "ps"),
    ("why", "why"),
    ("install-assets", "install"),
];

/// The column at which the drawing of the mount describes a file.
const TEXT_COLUMN: usize = 19;

/// The sections that describe how the mount behaves.
pub fn described(document: &str) -> Result<String> {
    let mut page = String::new();
    for (heading, name) in DESCRIBED {
        page += &format!(".SH {name}\n{}", of_markdown(section(document, heading)?));
    }
    Ok(page)
}

/// The files of the mount as a list, from their drawing.
pub fn files(document: &str) -> Result<String> {
    let drawn: Vec<&str> =
        document.lines().skip_while(|line| *line != "/ckpt/").skip(1).take_while(|line| *line != "```").collect();
    if drawn.is_empty() {
        return Err(Error::other("docs/mount.md: the drawing of the mount is not found"));
    }
    let mut page = String::new();
    // The folders above, by their depth.
    let mut above: Vec<(usize, &str)> = Vec::new();
    for line in drawn {
        let (name, text) = line.split_at_checked(TEXT_COLUMN).unwrap_or((line, ""));
        let depth = name.len() - name.trim_start().len();
        if !name.trim().is_empty() {
            above.retain(|(over, _)| *over < depth);
            above.push((depth, name.trim()));
            let path: String = above.iter().map(|(_, name)| *name).collect();
            page += &format!(".TP\n.B {}\n", escaped(&path));
        }
        if !text.trim().is_empty() {
            page += &running(text.trim());
        }
    }
    Ok(page)
}

/// The text below a heading of docs/mount.md.
fn section<'a>(document: &'a str, heading: &str) -> Result<&'a str> {
    let missing = || Error::other(format!("docs/mount.md: the section {heading:?} is not found"));
    let (_, text) = document.split_once(&format!("\n## {heading}\n")).ok_or_else(missing)?;
    Ok(text.split_once("\n## ").map_or(text, |(text, _)| text))
}

/// A row of the table of errors.
struct Failure<'a> {
    errno: &'a str,
    at: Vec<&'a str>,
    happened: &'a str,
    to_do: &'a str,
}

fn failures(document: &str) -> Result<Vec<Failure<'_>>> {
    let rows =
        section(document, "Errors")?.lines().filter(|line| line.starts_with("| E")).map(|row| match cells(row)[..] {
            [errno, at, happened, to_do] => Ok(Failure { errno, at: at.split(' ').collect(), happened, to_do }),
            _ => Err(Error::other(format!("docs/mount.md: a row of the errors has other columns: {row}"))),
        });
    let rows = rows.collect::<Result<Vec<_>>>()?;
    if rows.is_empty() { Err(Error::other("docs/mount.md: the table of errors is empty")) } else { Ok(rows) }
}

/// Every error, and the text before their table.
pub fn all_errors(document: &str) -> Result<String> {
    let text = section(document, "Errors")?;
    let mut page = of_markdown(text.split_once("\n|").map_or(text, |(before, _)| before));
    let mut above = "";
    for Failure { errno, at, happened, to_do } in failures(document)? {
        page += &if errno == above { ".IP\n".to_owned() } else { format!(".TP\n.B {errno}\n") };
        page += &format!("({}) {}{}", at.join(", "), running(happened), running(to_do));
        above = errno;
    }
    Ok(page)
}

/// The errors of a subcommand. Empty if the table has none of it.
pub fn errors_of(document: &str, subcommand: &str) -> Result<String> {
    let Some((_, word)) = AT.into_iter().find(|(name, _)| *name == subcommand) else { return Ok(String::new()) };
    let mut page = running("Standard error has the reason in one line. The errnos behind the reasons are:");
    for Failure { errno, happened, to_do, .. } in failures(document)?.into_iter().filter(|row| row.at.contains(&word)) {
        page += &format!(".TP\n.B {errno}\n{}{}", running(happened), running(to_do));
    }
    if word == "mount" {
        page += ".PP\nThe errors that the files of the mount give are in\n.BR ckptfs (1).\n";
    }
    Ok(page)
}

/// Paragraphs, lists, tables and code blocks.
fn of_markdown(text: &str) -> String {
    let mut page = String::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if line == "```" {
            page += ".PP\n.nf\n";
            for code in lines.by_ref().take_while(|code| *code != "```") {
                page += &format!("\\&{}\n", escaped(code));
            }
            page += ".fi\n";
        } else if line.starts_with('|') {
            // The rule below the first row marks it as the head of the table.
            if lines.next_if(|next| next.starts_with("| -")).is_none() {
                page += &entry(line);
            }
        } else if let Some(item) = line.strip_prefix("- ") {
            page += &format!(".IP \\(bu 2\n{}", running(item));
        } else if line.is_empty() {
            // A list ends where running text begins.
            if lines.peek().is_some_and(|next| !next.starts_with(['-', '|', '`', ' ']) && !next.is_empty()) {
                page += ".PP\n";
            }
        } else {
            page += &running(line.trim_start());
        }
    }
    page
}

/// A row of a table: the first cell is the term, the others are its text.
fn entry(row: &str) -> String {
    let cells = cells(row);
    let (term, text) = cells.split_first().map_or(("", ""), |(term, rest)| (*term, rest.last().copied().unwrap_or("")));
    let middle = match &cells[..] {
        [_, default, _] if !default.is_empty() => format!(" (default: {default})"),
        _ => String::new(),
    };
    format!(".TP\n{}{}", running(term), running(&format!("{text}{middle}")))
}

/// The cells of a row of a table.
fn cells(row: &str) -> Vec<&str> {
    row.trim_matches('|').split('|').map(str::trim).collect()
}
