//! Counts, ten times a second, in memory only. A new start begins at 1. A restored counter
//! continues.

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
