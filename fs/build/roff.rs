//! From Markdown, as far as docs/mount.md uses it, to the requests of man(7).

/// Paragraphs, lists, tables and code blocks.
pub fn of_markdown(text: &str) -> String {
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
            // The rule below the first row says that it is the head of the table.
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
pub fn cells(row: &str) -> Vec<&str> {
    row.trim_matches('|').split('|').map(str::trim).collect()
}

/// One line of running text: code becomes bold, links become their text.
pub fn running(text: &str) -> String {
    let mut line = String::new();
    for (n, part) in text.split('`').enumerate() {
        match n % 2 {
            0 => line += &escaped(&without_links(part)).replace("**", ""),
            _ => line += &format!("\\fB{}\\fP", escaped(part)),
        }
    }
    // A line that begins with a dot or a quote would be a request.
    format!("\\&{line}\n")
}

fn without_links(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, link)) = rest.split_once('[') {
        match link.split_once("](").and_then(|(shown, behind)| Some((shown, behind.split_once(')')?.1))) {
            Some((shown, behind)) => {
                plain += &format!("{before}{shown}");
                rest = behind;
            }
            None => break,
        }
    }
    plain + rest
}

/// Text in which nothing is a request or an escape.
pub fn escaped(text: &str) -> String {
    text.replace('\\', "\\e").replace('-', "\\-").replace('\'', "\\(aq").replace('`', "\\(ga")
}
