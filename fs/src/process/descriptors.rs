//! What whoever started this program has left open in it.

use ckptfs_dumper::{Doing, Result};

/// Closes the calling thread's descriptors from this number on. None of them may be in use.
pub fn close_from(first: i32) -> Result<()> {
    let listed = std::fs::read_dir("/proc/thread-self/fd").doing(|| "listing the open descriptors")?;
    let numbers = listed.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    for number in numbers.filter(|number| *number >= first).collect::<Vec<_>>() {
        // That of the listing itself is closed already.
        let _ = nix::unistd::close(number);
    }
    Ok(())
}
