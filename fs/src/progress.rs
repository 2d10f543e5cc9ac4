//! How far long work has come, on a terminal: bytes, rate and time left. Nothing where standard error is no terminal.

use std::fs::File;
use std::io::{IsTerminal, Read};
use std::path::Path;

use ckptfs_dumper::{Doing, Result};
use indicatif::{ProgressBar, ProgressBarIter, ProgressStyle};

const KNOWN: &str = "{prefix} [{bar:30}] {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta} left";
const UNKNOWN: &str = "{prefix} {spinner} {binary_bytes} {binary_bytes_per_sec}";

/// An input, its name for messages, and the bar that is moved by reading it.
pub struct Input {
    /// For messages.
    pub name: String,
    /// The bytes.
    pub bytes: ProgressBarIter<Box<dyn Read>>,
}

impl Input {
    /// Opens a file; `-` is standard input.
    pub fn open(path: &Path) -> Result<Input> {
        let (name, bytes, len): (String, Box<dyn Read>, Option<u64>) = if path == Path::new("-") {
            ("standard input".into(), Box::new(std::io::stdin()), None)
        } else {
            let name = path.display().to_string();
            let file = File::open(path).doing(|| &name)?;
            let about = file.metadata().doing(|| &name)?;
            (name, Box::new(file), about.is_file().then_some(about.len()))
        };
        Ok(Input { bytes: bar(&name, len).wrap_read(bytes), name })
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        self.bytes.progress.finish_and_clear();
    }
}

fn bar(name: &str, len: Option<u64>) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let (bar, template) = match len {
        Some(len) => (ProgressBar::new(len), KNOWN),
        None => (ProgressBar::no_length(), UNKNOWN),
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.with_prefix(name.to_owned())
}
