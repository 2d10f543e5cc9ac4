//! Turns results of the tree into replies of fuser.

use std::ffi::OsStr;
use std::time::Duration;

use ckptfs_dumper::Result;
use fuser::{
    Errno, FileAttr, FileHandle, FileType, FopenFlags, Generation, INodeNo, ReplyAttr, ReplyDirectory, ReplyEmpty,
    ReplyEntry, ReplyOpen, ReplyWrite,
};

use crate::errno::errno;
use crate::node::Steady;
use crate::tree::entry::{Attr, Entry};

/// `st_blksize`: the unit in which cat(1) and cp(1) read.
pub const BLOCK_SIZE: u32 = 1 << 20;

/// Not cached: processes start and end.
const NO_TIME: Duration = Duration::ZERO;

/// Constant facts are cached for a long time: an inode number is never reused, and caches are
/// invalidated at the end.
const LONG: Duration = Duration::from_secs(86400);

fn file_attr(attr: &Attr) -> FileAttr {
    FileAttr {
        ino: INodeNo(attr.ino),
        size: attr.size,
        blocks: attr.blocks,
        atime: attr.time,
        mtime: attr.time,
        ctime: attr.time,
        crtime: attr.time,
        kind: kind(attr.directory),
        perm: attr.mode,
        nlink: 1,
        uid: attr.uid,
        gid: attr.gid,
        rdev: 0,
        blksize: BLOCK_SIZE,
        flags: 0,
    }
}

/// The kernel asks for the attributes of a file right after it has looked the file up, and for
/// those of the directories above it.
const MOMENT: Duration = Duration::from_millis(100);

fn valid(attr: &Attr) -> Duration {
    match attr.steady {
        Steady::Never if attr.for_a_moment => MOMENT,
        Steady::Never => NO_TIME,
        Steady::WhileOpen | Steady::Always => LONG,
    }
}

/// A fixed name may be cached although its node ends with its process: the kernel asks for the
/// attributes.
fn entry_valid(attr: &Attr) -> Duration {
    if attr.fixed_name { LONG } else { NO_TIME }
}

/// The entries of the directory `ino` from `offset` on, as many as fit.
pub fn listed(mut reply: ReplyDirectory, ino: INodeNo, offset: u64, entries: &[Entry]) {
    // An entry's offset is where the next call continues. "." and ".." come first; the number of
    // ".." is not used.
    let dots = [(ino.0, true, OsStr::new(".")), (ino.0, true, OsStr::new(".."))];
    let rest = entries.iter().map(|entry| (entry.ino, entry.directory, entry.name.as_os_str()));
    let from = usize::try_from(offset).unwrap_or(usize::MAX);
    for (at, (number, directory, name)) in dots.into_iter().chain(rest).enumerate().skip(from) {
        if reply.add(INodeNo(number), at as u64 + 1, kind(directory), name) {
            break;
        }
    }
    reply.ok();
}

/// Directory or file.
fn kind(directory: bool) -> FileType {
    if directory { FileType::Directory } else { FileType::RegularFile }
}

/// The errno of an error.
pub fn code(error: &ckptfs_dumper::Error) -> Errno {
    Errno::from_i32(errno(error.kind()))
}

/// Answers an open.
pub fn opened(reply: ReplyOpen, result: Result<u64>, steady: Steady) {
    let flags = match steady {
        Steady::Never => FopenFlags::FOPEN_DIRECT_IO,
        // The kernel drops cached pages of earlier instants at this open.
        Steady::WhileOpen => FopenFlags::empty(),
        Steady::Always => FopenFlags::FOPEN_KEEP_CACHE,
    };
    match result {
        Ok(handle) => reply.opened(FileHandle(handle), flags),
        Err(error) => reply.error(code(&error)),
    }
}

/// Answers a request for an entry.
pub fn entered(reply: ReplyEntry, result: Result<Attr>) {
    match result {
        Ok(attr) => reply.entry_with_ttls(&valid(&attr), &entry_valid(&attr), &file_attr(&attr), Generation(0)),
        Err(error) => reply.error(code(&error)),
    }
}

/// Answers a request for attributes.
pub fn attributes(reply: ReplyAttr, result: Result<Attr>) {
    match result {
        Ok(attr) => reply.attr(&valid(&attr), &file_attr(&attr)),
        Err(error) => reply.error(code(&error)),
    }
}

/// Answers a write of `len` bytes.
pub fn written(reply: ReplyWrite, result: Result<()>, len: usize) {
    match result {
        // A request is MAX_REQUEST at most.
        Ok(()) => reply.written(len as u32),
        Err(error) => reply.error(code(&error)),
    }
}

/// Answers a request that has no result but success.
pub fn done(reply: ReplyEmpty, result: Result<()>) {
    match result {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(code(&error)),
    }
}
