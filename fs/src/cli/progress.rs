//! Progress of long work on a terminal: bytes, rate and time left. Nothing is shown if standard
//! error is not a terminal.

use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::path::Path;

use ckptfs_dumper::{Doing, Result};
use indicatif::{ProgressBar, ProgressStyle};

const KNOWN: &str = "{prefix} [{bar:30}] {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta} left";
const UNKNOWN: &str = "{prefix} {spinner} {binary_bytes} {binary_bytes_per_sec}";

/// How many bytes of output are buffered before whole lines are written.
const BUFFERED: usize = 8 << 10;

/// A progress bar. Dropping it removes it from the terminal.
pub struct Bar(ProgressBar);

impl Bar {
    /// `len` is the number of bytes of all the work, if that is known.
    pub fn new(name: &str, len: Option<u64>) -> Bar {
        if !std::io::stderr().is_terminal() {
            return Bar(ProgressBar::hidden());
        }
        let (bar, template) = match len {
            Some(len) => (ProgressBar::new(len), KNOWN),
            None => (ProgressBar::no_length(), UNKNOWN),
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Bar(bar.with_prefix(name.to_owned()))
    }

    /// Shows that this many bytes are done.
    pub fn reach(&self, bytes: u64) {
        self.0.set_position(bytes);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// An input, its name, and a bar that shows how much of it was read. The bar is removed at the end
/// of the input.
pub struct Input {
    /// For messages.
    pub name: String,
    bytes: Box<dyn Read>,
    bar: Bar,
}

impl Input {
    /// The same without a bar.
    pub fn quiet(path: &Path) -> Result<Input> {
        Ok(Input { bar: Bar(ProgressBar::hidden()), ..Input::open(path)? })
    }

    /// Opens a file. `-` is standard input.
    pub fn open(path: &Path) -> Result<Input> {
        let (name, bytes, len): (String, Box<dyn Read>, Option<u64>) = if path == Path::new("-") {
            ("standard input".into(), Box::new(std::io::stdin()), None)
        } else {
            let name = path.display().to_string();
            let file = File::open(path).doing(|| &name)?;
            let about = file.metadata().doing(|| &name)?;
            (name, Box::new(file), about.is_file().then_some(about.len()))
        };
        Ok(Input { bar: Bar::new(&name, len), bytes, name })
    }

    /// For output while this input is read.
    pub fn above_bar<'a>(&self, out: &'a mut dyn Write) -> BarOutput<'a> {
        BarOutput { bar: self.bar.0.clone(), out, buffer: Vec::new() }
    }
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.bytes.read(buffer)?;
        if len > 0 {
            self.bar.0.inc(len as u64);
        } else {
            // The next bar may begin, or results be written.
            self.bar.0.finish_and_clear();
        }
        Ok(len)
    }
}

/// An output that may be the terminal with the bar. Whole lines are written, above the bar. A flush
/// writes the rest too.
pub struct BarOutput<'a> {
    bar: ProgressBar,
    out: &'a mut dyn Write,
    buffer: Vec<u8>,
}

impl BarOutput<'_> {
    /// Runs `act`, which writes to the terminal in another way, with the bar hidden.
    pub fn without_bar(&self, act: impl FnOnce()) {
        self.bar.suspend(act);
    }

    fn put(&mut self, len: usize) -> io::Result<()> {
        let (bytes, out) = (&self.buffer[..len], &mut self.out);
        let put = self.bar.suspend(|| out.write_all(bytes).and_then(|()| out.flush()));
        self.buffer.drain(..len);
        put
    }
}

impl Write for BarOutput<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= BUFFERED
            && let Some(end) = self.buffer.iter().rposition(|byte| *byte == b'\n')
        {
            self.put(end + 1)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.put(self.buffer.len())
    }
}

/// Prints one line on standard error.
pub fn complain(what: &dyn std::fmt::Display) {
    // A failure is ignored: standard error is closed.
    let _ = writeln!(std::io::stderr(), "ckptfs: {what}");
}
