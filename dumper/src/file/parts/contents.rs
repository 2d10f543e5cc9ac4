//! Contents of a file that must be in the image. They are copied while the process is stopped,
//! because it may write to the file afterwards.

use std::os::fd::OwnedFd;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, OFlag, copy_file_range, fallocate, open};
use nix::sys::memfd::MFdFlags;
use nix::sys::stat::Mode;
use nix::unistd::{Whence, ftruncate, lseek};

use crate::error::{Doing, Result};
use crate::image::page_runs::PageRuns;
use crate::kind::object::ObjectContents;
use crate::sys::memory::PAGE;

/// Copies the first `size` bytes of `file` into a memfd, and leaves holes as holes, so the daemon's
/// own memory does not grow with the file. `None` if the file is one hole. It moves the offset of
/// `file`, so `file` must be a description that only the caller uses.
pub fn copy(file: &OwnedFd, size: u64, subject: &str) -> Result<Option<ObjectContents>> {
    let doing = || format!("{subject}: copying {size} bytes of contents");
    let to = nix::sys::memfd::memfd_create("ckptfs-contents", MFdFlags::MFD_CLOEXEC).doing(doing)?;
    copy_to(file, to, size, subject)
}

/// Copies as [`copy`] does, but into a nameless file (open(2), O_TMPFILE) in `dir`, which must be
/// on the filesystem of `file`. There a copy takes no memory and may cost nothing
/// (copy_file_range(2) shares the blocks if the filesystem can). If this fails or there is no room,
/// it copies into a memfd.
pub fn copy_beside(file: &OwnedFd, size: u64, dir: Option<&Path>, subject: &str) -> Result<Option<ObjectContents>> {
    let flags = OFlag::O_TMPFILE | OFlag::O_RDWR | OFlag::O_EXCL | OFlag::O_CLOEXEC;
    if let Some(to) = dir.and_then(|dir| open(dir, flags, Mode::from_bits_truncate(0o600)).ok()) {
        match copy_to(file, to, size, subject) {
            Err(error) if matches!(error.errno(), Some(libc::ENOSPC | libc::EDQUOT | libc::EFBIG)) => {
                log::info!("{error}; copying it into memory");
            }
            done => return done,
        }
    }
    copy(file, size, subject)
}

fn copy_to(file: &OwnedFd, to: OwnedFd, size: u64, subject: &str) -> Result<Option<ObjectContents>> {
    let doing = || format!("{subject}: copying {size} bytes of contents");
    ftruncate(&to, size.cast_signed()).doing(doing)?;
    let runs = copy_data(file, &to, size, subject)?;
    Ok((!runs.is_empty()).then_some(ObjectContents { runs, file: to }))
}

/// Makes the first `size` bytes of `to` those of `file`, which may be shorter: zeros follow then.
pub fn replace(file: &OwnedFd, to: &OwnedFd, size: u64, subject: &str) -> Result<()> {
    let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
    fallocate(to, flags, 0, size.cast_signed()).doing(|| format!("{subject}: emptying it"))?;
    copy_data(file, to, size, subject).map(drop)
}

/// Copies what is no hole, and returns its pages.
fn copy_data(file: &OwnedFd, to: &OwnedFd, size: u64, subject: &str) -> Result<PageRuns> {
    let doing = || format!("{subject}: copying {size} bytes of contents");
    let mut runs = PageRuns::new();
    let mut at = 0;
    while at < size {
        let data = match lseek(file, at.cast_signed(), Whence::SeekData) {
            Err(Errno::ENXIO) => break,
            got => got.doing(doing)?.cast_unsigned(),
        };
        let hole = lseek(file, data.cast_signed(), Whence::SeekHole).doing(doing)?.cast_unsigned();
        // A filesystem may report holes in other units than pages.
        let (from, upto) = (data - data % PAGE, hole.min(size).next_multiple_of(PAGE));
        let from = from.max(at);
        if upto <= from {
            break;
        }
        copy_range(file, to, from, upto.min(size), subject)?;
        runs.push(from, (upto - from) / PAGE);
        at = upto;
    }
    Ok(runs)
}

/// Copies one range. If the file has become shorter meanwhile, the rest reads as zeros, as it does
/// in the file itself.
fn copy_range(file: &OwnedFd, to: &OwnedFd, from: u64, upto: u64, subject: &str) -> Result<()> {
    let doing = |at: i64| move || format!("{subject}: copying contents at {at}");
    let mut at = from.cast_signed();
    while at.cast_unsigned() < upto {
        let mut target = at;
        let left = (upto - at.cast_unsigned()).min(1 << 30) as usize;
        match copy_file_range(file, Some(&mut at), to, Some(&mut target), left) {
            Ok(0) => break,
            Ok(_) => {}
            // Between filesystems, and for files of /proc and similar, only sendfile(2) works. It
            // copies through a pipe.
            Err(Errno::EXDEV | Errno::EINVAL | Errno::EOPNOTSUPP | Errno::ENOSYS) => {
                lseek(to, at, Whence::SeekSet).doing(doing(at))?;
                if nix::sys::sendfile::sendfile(to, file, Some(&mut at), left).doing(doing(at))? == 0 {
                    break;
                }
            }
            Err(errno) => return Err(errno).doing(doing(at)),
        }
    }
    Ok(())
}
