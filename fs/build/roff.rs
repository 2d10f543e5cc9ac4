//! Running text of Markdown in the requests of man(7).

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

/// Text without requests and escapes of man(7).
pub fn escaped(text: &str) -> String {
    text.replace('\\', "\\e").replace('-', "\\-").replace('\'', "\\(aq").replace('`', "\\(ga")
}
