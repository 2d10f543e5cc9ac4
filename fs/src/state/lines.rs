//! The lines of `restore`. Everything that is open shows those of its own open, and shares them.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::process::caller::Viewer;

/// The newest lines, each with the user that it belongs to.
pub struct Lines {
    most: usize,
    /// A leaf lock.
    state: Mutex<LinesState>,
}

#[derive(Default)]
struct LinesState {
    /// Oldest first.
    lines: VecDeque<(Option<u32>, Arc<str>)>,
    /// What is open and shows the lines of now.
    open: HashMap<Viewer, Weak<[Placed]>>,
}

/// A line, and the offset behind it.
struct Placed {
    end: u64,
    line: Arc<str>,
}

/// The lines that a viewer saw at one moment.
#[derive(Clone)]
pub struct Text(Arc<[Placed]>);

impl Lines {
    /// No line. The oldest is dropped when there are `most`.
    pub fn new(most: usize) -> Lines {
        Lines { most, state: Mutex::default() }
    }

    /// Adds a line, which ends with a newline.
    pub fn push(&self, owner: Option<u32>, line: String) {
        let mut state = self.state.lock();
        state.open.clear();
        if state.lines.len() == self.most {
            state.lines.pop_front();
        }
        state.lines.push_back((owner, line.into()));
    }

    /// What `viewer` sees of them.
    pub fn text(&self, viewer: Viewer) -> Text {
        let mut state = self.state.lock();
        if let Some(open) = state.open.get(&viewer).and_then(Weak::upgrade) {
            return Text(open);
        }
        let mut end = 0;
        let seen = state.lines.iter().filter(|(owner, _)| viewer.sees(*owner));
        let placed = seen.map(|(_, line)| {
            end += line.len() as u64;
            Placed { end, line: Arc::clone(line) }
        });
        let text: Arc<[Placed]> = placed.collect();
        state.open.retain(|_, open| open.strong_count() > 0);
        state.open.insert(viewer, Arc::downgrade(&text));
        Text(text)
    }
}

impl Text {
    /// `len` bytes at `offset`, fewer at the end.
    pub fn read(&self, offset: u64, len: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        let first = self.0.partition_point(|placed| placed.end <= offset);
        for Placed { end, line } in self.0.iter().skip(first) {
            let line = line.as_bytes();
            // Only the first line begins before the offset.
            let from = line.len().saturating_sub(usize::try_from(end - offset).unwrap_or(usize::MAX));
            let rest = line.get(from..).unwrap_or_default();
            let left = len - bytes.len();
            bytes.extend_from_slice(rest.get(..left).unwrap_or(rest));
            if bytes.len() == len {
                break;
            }
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &Text) -> String {
        String::from_utf8(text.read(0, usize::MAX)).unwrap_or_default()
    }

    #[test]
    fn what_is_open_stays_what_it_is_and_is_shared() {
        let lines = Lines::new(2);
        lines.push(None, "one\n".into());
        let (first, second) = (lines.text(Viewer::All), lines.text(Viewer::All));
        assert!(Arc::ptr_eq(&first.0, &second.0));
        lines.push(Some(7), "two\n".into());
        lines.push(Some(8), "three\n".into());
        assert_eq!((all(&first), all(&lines.text(Viewer::All))), ("one\n".into(), "two\nthree\n".into()));
        assert_eq!((all(&lines.text(Viewer::User(7))), all(&lines.text(Viewer::User(9)))), ("two\n".into(), "".into()));
    }

    #[test]
    fn it_is_read_in_any_pieces() {
        let lines = Lines::new(9);
        for line in ["one\n", "three\n", "x\n"] {
            lines.push(None, line.into());
        }
        let (text, whole) = (lines.text(Viewer::All), "one\nthree\nx\n");
        for from in 0..=whole.len() + 1 {
            for len in 0..=whole.len() + 1 {
                let wanted = &whole.as_bytes()[from.min(whole.len())..(from + len).min(whole.len())];
                assert_eq!(text.read(from as u64, len), wanted, "{len} bytes at {from}");
            }
        }
    }
}
