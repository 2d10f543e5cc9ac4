//! The manual pages. ckptfs(1) and one for each subcommand are made from the command line's definition, from the texts
//! behind `--help` (their paragraphs have headings, and their tables become lists), and from docs/mount.md. ckptfs(5) is
//! written by hand around the drawing of the format.

use std::fs;
use std::io::{Error, Result, Write};
use std::path::Path;

use clap::Command;
use clap_mangen::Man;

use super::roff::{cells, escaped, of_markdown, running};

/// What a paragraph of the help begins with, and the section that it is.
const SECTIONS: [(&str, &str); 4] = [
    ("Options (-o):", "MOUNT OPTIONS"),
    ("Signals:", "SIGNALS"),
    ("Environment:", "ENVIRONMENT"),
    ("Exit status:", "EXIT STATUS"),
];

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

/// By which word of the column "at" the table of errors knows a subcommand.
const AT: [(&str, &str); 6] = [
    ("mount", "mount"),
    ("restore", "restore"),
    ("core", "file"),
    ("inspect", "file"),
    ("diff", "file"),
    ("verify", "file"),
];

/// The column at which the drawing of the mount says what a file is.
const TEXT_COLUMN: usize = 19;

/// Writes them. `format`: the source where the format is drawn; `mount`: the document that describes the mount.
pub fn write(mut command: Command, format: &Path, mount: &Path, dir: &Path) -> Result<()> {
    command = command.disable_help_subcommand(true);
    command.build();
    let about_mount = fs::read_to_string(mount)?;
    for subcommand in command.get_subcommands() {
        let at = AT.into_iter().find(|(name, _)| *name == subcommand.get_name());
        let errors = at.map(|(_, word)| errors_at(&about_mount, word)).transpose()?;
        page(subcommand, "", &errors.unwrap_or_default(), &[], dir)?;
    }
    let version = env!("CARGO_PKG_VERSION");
    let mut described = String::new();
    for (heading, name) in DESCRIBED {
        described += &format!(".SH {name}\n{}", of_markdown(section(&about_mount, heading)?));
    }
    let about = fs::read_to_string("man/ckptfs.1.in")?
        .replace("@FILES@", &layout(&about_mount)?)
        .replace("@DESCRIBED@", &described);
    let names: Vec<String> =
        command.get_subcommands().map(|subcommand| format!("ckptfs-{}", subcommand.get_name())).collect();
    page(&command, &about, &all_errors(&about_mount)?, &names, dir)?;
    let about_format = fs::read_to_string("man/ckptfs.5")?.replace("@VERSION@", version);
    fs::write(dir.join("ckptfs.5"), about_format.replace("@FORMAT@", &drawing(&fs::read_to_string(format)?)))
}

/// One page of section 1. `more`: sections behind the options; `errors`: the text of ERRORS; `see_also`: which pages it
/// names besides the usual ones.
fn page(command: &Command, more: &str, errors: &str, see_also: &[String], dir: &Path) -> Result<()> {
    let source = format!("ckptfs {}", env!("CARGO_PKG_VERSION"));
    let man = Man::new(command.clone()).source(source).manual("ckptfs");
    let mut text = Vec::new();
    man.render_title(&mut text)?;
    man.render_name_section(&mut text)?;
    man.render_synopsis_section(&mut text)?;
    man.render_description_section(&mut text)?;
    let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let section_of = |paragraph: &&str| SECTIONS.into_iter().find(|(head, _)| paragraph.starts_with(head));
    let (sections, described): (Vec<&str>, Vec<&str>) =
        help.split("\n\n").filter(|text| !text.is_empty()).partition(|paragraph| section_of(paragraph).is_some());
    for paragraph in described {
        write!(text, ".PP\n{}", lines(paragraph))?;
    }
    man.render_options_section(&mut text)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut text)?;
    }
    text.extend(more.bytes());
    for paragraph in sections {
        let (head, name) = section_of(&paragraph).unwrap_or_default();
        write!(text, ".SH {name}\n{}", table(&paragraph[head.len()..]))?;
    }
    if !errors.is_empty() {
        write!(text, ".SH ERRORS\n{errors}")?;
    }
    let others = ["ckptfs"].into_iter().chain(see_also.iter().map(String::as_str));
    let others = others.filter(|name| man.get_filename() != format!("{name}.1"));
    let mut others: Vec<String> = others.map(|name| format!(".BR {} (1)", escaped(name))).collect();
    others.extend([".BR ckptfs (5)".to_owned(), ".BR mount (8)".to_owned()]);
    writeln!(text, ".SH SEE ALSO\n{}", others.join(",\n"))?;
    fs::write(dir.join(man.get_filename()), text)
}

/// Lines of the form `  WORDS  text`, of which those that begin further right go on with the text, as a list; others as they are.
fn table(text: &str) -> String {
    let mut page = String::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        match line.strip_prefix("  ") {
            Some(entry) if !entry.starts_with(' ') => {
                let (term, text) = entry.split_once("  ").unwrap_or((entry, ""));
                page += &format!(".TP\n.B {}\n{}", escaped(term), lines(text));
            }
            _ => page += &lines(line),
        }
    }
    page
}

/// What stands below a heading of docs/mount.md.
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
fn all_errors(document: &str) -> Result<String> {
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

/// The errors of one subcommand.
fn errors_at(document: &str, word: &str) -> Result<String> {
    let mut page = lines(
        "Standard error has the reason in one line. It ends in the text of the errno where the kernel refused a call. The errnos behind \
         the reasons are:",
    );
    for Failure { errno, happened, to_do, .. } in failures(document)?.into_iter().filter(|row| row.at.contains(&word)) {
        page += &format!(".TP\n.B {errno}\n{}{}", running(happened), running(to_do));
    }
    if word == "mount" {
        page += ".PP\nThe errors that the files of the mount give are in\n.BR ckptfs (1).\n";
    }
    Ok(page)
}

/// The files of the mount as a list, from their drawing.
fn layout(document: &str) -> Result<String> {
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
        page += &running(text.trim());
    }
    Ok(page)
}

/// The drawing of the format, which stands in its module's documentation and nowhere else.
fn drawing(source: &str) -> String {
    let lines = source.lines().skip_while(|line| *line != "//! ```text").skip(1).take_while(|line| *line != "//! ```");
    let text: Vec<String> = lines.map(|line| line.trim_start_matches("//!").replace('\\', "\\e")).collect();
    // A line that begins with a dot or a quote would be a request.
    text.iter().map(|line| format!("\\&{line}\n")).collect()
}

/// Running text, without the spaces at which its lines begin.
fn lines(text: &str) -> String {
    let words = text.lines().map(str::trim).filter(|line| !line.is_empty());
    words.map(|line| format!("\\&{}\n", escaped(line))).collect()
}
