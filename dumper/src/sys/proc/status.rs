//! /proc/PID/status, fdinfo and every other file with one field on each line.

use crate::error::Result;
use crate::sys::proc::read_text;

/// `/proc/PID/status` (also `fdinfo`): lines of `Name: value`. It is the text itself: of some sixty
/// lines few are asked for.
#[derive(Clone, Debug)]
pub struct Fields(String);

impl Fields {
    /// Reads and parses a file of `Name: value` lines.
    pub fn read(path: &str) -> Result<Self> {
        read_text(path).map(Self)
    }

    /// The fields of a text.
    pub fn parse(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The value of the first line of this name.
    fn find(&self, name: &str) -> Option<&str> {
        self.0.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim()))
    }

    /// A value, empty if missing.
    pub fn text(&self, name: &str) -> &str {
        self.find(name).unwrap_or_default()
    }

    /// Whether there is such a line.
    pub fn has(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    /// The first number, in decimal.
    pub fn number(&self, name: &str) -> u64 {
        self.numbers(name).first().copied().unwrap_or(0)
    }

    /// All decimal numbers of a line.
    pub fn numbers(&self, name: &str) -> Vec<u64> {
        self.text(name).split_ascii_whitespace().filter_map(|word| word.parse().ok()).collect()
    }

    /// A number in hexadecimal (signal masks, capabilities).
    pub fn hex(&self, name: &str) -> u64 {
        u64::from_str_radix(self.text(name), 16).unwrap_or(0)
    }

    /// A number in octal (umask, flags of a descriptor).
    pub fn octal(&self, name: &str) -> u64 {
        u64::from_str_radix(self.text(name), 8).unwrap_or(0)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_all_bases() {
        let fields = Fields::parse("Umask:\t0022\nSigCgt:\t00000000000000ff\nUid:\t1 2 3 4\n");
        assert_eq!((fields.octal("Umask"), fields.hex("SigCgt")), (0o22, 255));
        assert_eq!(fields.numbers("Uid"), [1, 2, 3, 4]);
        assert_eq!(fields.number("None"), 0);
    }
}
