//! Counts, ten times a second, in memory only: whoever starts it anew starts at 1, whoever restores it goes on.

use std::io::{self, Write};
use std::time::Duration;

fn main() -> io::Result<()> {
    let mut out = io::stdout();
    for count in 1u64.. {
        writeln!(out, "{count}")?;
        out.flush()?;
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}
