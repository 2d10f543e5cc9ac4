//! Descriptors inherited from the parent.

use ckptfs_dumper::{Doing, Result};

/// Closes all descriptors of the calling thread from the number `first` on. None of them may be in
/// use.
pub fn close_from(first: i32) -> Result<()> {
    let listed = std::fs::read_dir("/proc/thread-self/fd").doing(|| "listing the open descriptors")?;
    let numbers = listed.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    for number in numbers.filter(|number| *number >= first).collect::<Vec<_>>() {
        // The descriptor of the listing itself is closed already.
        let _ = nix::unistd::close(number);
    }
    Ok(())
}
