//! Control files: what is written to them.

/// The `0` or `1` that was written to a control file, whatever white space stands around it.
pub fn switch(bytes: &[u8]) -> Option<bool> {
    match bytes.trim_ascii() {
        b"0" => Some(false),
        b"1" => Some(true),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn switches_tolerate_white_space_and_nothing_else() {
        for (text, wanted) in
            [("1", Some(true)), ("0\n", Some(false)), (" 1 \n", Some(true)), ("", None), ("2", None), ("10", None)]
        {
            assert_eq!(switch(text.as_bytes()), wanted, "{text:?}");
        }
    }
}
