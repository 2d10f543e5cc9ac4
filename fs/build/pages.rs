//! The manual pages. ckptfs(1) and one for each subcommand are made from the command line's
//! definition, from the texts behind `--help` (their paragraphs have headings, and their tables
//! become lists), and from docs/mount.md. ckptfs(5) is made from docs/format.md.

use std::fs;
use std::io::{Result, Write};
use std::path::Path;

use clap::Command;
use clap_mangen::Man;

use super::roff::escaped;
use super::{format_page, mount_page};

/// What a paragraph of the help begins with, and its section.
const SECTIONS: [(&str, &str); 4] = [
    ("Options (-o):", "MOUNT OPTIONS"),
    ("Signals:", "SIGNALS"),
    ("Environment:", "ENVIRONMENT"),
    ("Exit status:", "EXIT STATUS"),
];

/// Where the reason of a failure stands: among the first lines of every page.
const REASON: &str = "\
The reason of a failure stands on standard error. A failure of a file in the mount has only an errno: its reason is printed by ckptfs why,
and stands in status of the mount, or for a restore in the last line of its file restore.";

/// Writes them. `format` is the document that describes the format, `mount` the document that
/// describes the mount.
pub fn write(mut command: Command, format: &Path, mount: &Path, dir: &Path) -> Result<()> {
    command = command.disable_help_subcommand(true);
    command.build();
    let about_mount = fs::read_to_string(mount)?;
    for subcommand in command.get_subcommands() {
        let errors = mount_page::errors_of(&about_mount, subcommand.get_name())?;
        page(subcommand, "", &errors, &[], dir)?;
    }
    let about = fs::read_to_string("man/ckptfs.1.in")?
        .replace("@FILES@", &mount_page::files(&about_mount)?)
        .replace("@DESCRIBED@", &mount_page::described(&about_mount)?);
    let names: Vec<String> =
        command.get_subcommands().map(|subcommand| format!("ckptfs-{}", subcommand.get_name())).collect();
    page(&command, &about, &mount_page::all_errors(&about_mount)?, &names, dir)?;
    fs::write(dir.join("ckptfs.5"), format_page::page(&fs::read_to_string(format)?))
}

/// One page of section 1. `more` are the sections behind the options, `errors` is the text of
/// ERRORS, and `see_also` are the pages that it names besides the usual ones.
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
    write!(text, ".PP\n{}", lines(REASON))?;
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

/// Turns lines of the form `  WORDS  text` into a list. A line that begins further right continues
/// the text. Other lines stay as they are.
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

/// Running text, without the spaces at the beginnings of lines.
fn lines(text: &str) -> String {
    let words = text.lines().map(str::trim).filter(|line| !line.is_empty());
    words.map(|line| format!("\\&{}\n", escaped(line))).collect()
}
