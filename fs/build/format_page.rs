//! ckptfs(5), from docs/format.md, which is made from the engine.

use super::roff::{escaped, running};

/// The page. `document`: the text of docs/format.md.
pub fn page(document: &str) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let mut page = format!(
        ".TH ckptfs 5 \"\" \"ckptfs {version}\" \"File formats\"\n.SH NAME\nckptfs \\- image of processes: the file format\n\
         .SH DESCRIPTION\n"
    );
    let mut lines = document.lines().peekable();
    while let Some(line) = lines.next() {
        if line.starts_with("<!--") {
            // How the document is made does not interest a reader of the page.
            while lines.next_if(|line| !line.ends_with("-->")).is_some() {}
            lines.next();
        } else if line.starts_with("```") {
            page += ".PP\n.nf\n.ft CW\n";
            for drawn in lines.by_ref().take_while(|line| *line != "```") {
                page += &format!("\\&{}\n", drawn.replace('\\', "\\e"));
            }
            page += ".ft\n.fi\n";
        } else if let Some((depth, heading)) =
            line.split_once("# ").filter(|(depth, _)| depth.chars().all(|it| it == '#'))
        {
            page += &match depth.len() {
                0 => String::new(),
                1 => format!(".SH {}\n", escaped(&heading.to_uppercase())),
                _ => format!(".SS {}\n", escaped(&heading.replace('`', ""))),
            };
        } else if let Some(row) = line.strip_prefix("| ") {
            // The rule below a row marks it as the head of the table.
            if !row.starts_with("---") && lines.peek().is_none_or(|next| !next.starts_with("| ---")) {
                page += &entry(row);
            }
        } else if let Some(item) = line.strip_prefix("- ") {
            page += &format!(".IP \\(bu 2\n{}", running(item));
        } else if line.is_empty() {
            if lines.peek().is_some_and(|next| !next.is_empty() && !next.starts_with(['#', '|', '-', '`', '<'])) {
                page += ".PP\n";
            }
        } else {
            page += &running(line);
        }
    }
    page + ".SH SEE ALSO\n.BR ckptfs (1),\n.BR proc (5),\n.BR core (5)\n"
}

/// A row: a name, its type or value, and its meaning.
fn entry(row: &str) -> String {
    // An escaped bar has no space before it.
    let mut cells = row.trim_end_matches('|').splitn(3, " | ");
    let mut cell = || cells.next().unwrap_or_default().trim().replace("\\|", "|");
    let (name, kind, text) = (cell(), cell(), cell());
    let head = format!(".TP\n{}", running(&format!("{name}  {kind}")));
    if text.is_empty() { head } else { head + &running(&text) }
}
