//! Contents of a file that must be in the image, copied at the instant: afterwards the process may write to it again.

use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::sys::memfd::MFdFlags;
use nix::unistd::{Whence, lseek};

use super::object::Contents;
use crate::image::PageRuns;
use crate::sys::memory::PAGE;
use crate::{Doing, Result};

/// Copies the first `size` bytes of `file`, holes staying holes, into memory that is not the daemon's own: its peak does not grow with
/// the file. `None` if it is all hole. Moves the offset of `file`: to be a description of our own.
pub fn copy(file: &OwnedFd, size: u64, subject: &str) -> Result<Option<Contents>> {
    let doing = || format!("{subject}: copying {size} bytes of contents");
    let to = nix::sys::memfd::memfd_create("ckptfs-contents", MFdFlags::MFD_CLOEXEC).doing(doing)?;
    nix::unistd::ftruncate(&to, size.cast_signed()).doing(doing)?;
    let mut runs = PageRuns::new();
    let mut at = 0;
    while at < size {
        let data = match lseek(file, at.cast_signed(), Whence::SeekData) {
            Err(Errno::ENXIO) => break,
            got => got.doing(doing)?.cast_unsigned(),
        };
        let hole = lseek(file, data.cast_signed(), Whence::SeekHole).doing(doing)?.cast_unsigned();
        // A filesystem may tell holes in other units than pages.
        let (from, upto) = (data - data % PAGE, hole.min(size).next_multiple_of(PAGE));
        let from = from.max(at);
        if upto <= from {
            break;
        }
        send(file, &to, from, upto.min(size), subject)?;
        runs.push(from, (upto - from) / PAGE);
        at = upto;
    }
    Ok((!runs.is_empty()).then_some(Contents { runs, file: to }))
}

fn send(file: &OwnedFd, to: &OwnedFd, from: u64, upto: u64, subject: &str) -> Result<()> {
    let doing = || format!("{subject}: copying contents at {from}");
    lseek(to, from.cast_signed(), Whence::SeekSet).doing(doing)?;
    let mut at = from.cast_signed();
    while at.cast_unsigned() < upto {
        let len = (upto - at.cast_unsigned()).min(1 << 30) as usize;
        if nix::sys::sendfile::sendfile(to, file, Some(&mut at), len).doing(doing)? == 0 {
            // It has become shorter than it says: what is missing reads as zeros, as in the file itself.
            break;
        }
    }
    Ok(())
}
