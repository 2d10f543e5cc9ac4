//! Texts on one line each. A name of a file may hold a newline, and characters that control a
//! terminal.

use std::fmt::Display;

/// The text for a terminal. Control characters are escaped, everything else stays as it is.
pub fn escaped(text: &str) -> String {
    if text.chars().any(char::is_control) { format!("{text:?}") } else { text.to_owned() }
}

/// One line for each.
pub fn lines(items: &[impl Display]) -> String {
    items.iter().map(|item| escaped(&item.to_string()) + "\n").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_one_line() {
        assert_eq!(lines(&["a b", "c\nd"]), "a b\n\"c\\nd\"\n");
        assert_eq!(lines(&[""; 0]), "");
    }
}
