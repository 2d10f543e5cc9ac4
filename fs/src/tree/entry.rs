//! A node of the tree in the form that a caller gets.

use std::ffi::OsString;
use std::time::SystemTime;

use ckptfs_dumper::{Error, Kind};

use crate::node::Steady;
use crate::process::caller::Caller;

/// One entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Inode number.
    pub ino: u64,
    /// Whether it is a directory.
    pub directory: bool,
    /// Its name.
    pub name: OsString,
}

/// ENOENT for `what`.
pub fn no_entry(what: impl std::fmt::Display) -> Error {
    Error::new(Kind::NotFound, format!("{what}: no such entry"))
}

/// A refusal with this errno.
pub fn refused(errno: i32, sentence: &str) -> Error {
    Error::new(Kind::System(errno), sentence)
}

/// What stat(2) returns for a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attr {
    /// Inode number.
    pub ino: u64,
    /// Exact while a handle is open. Otherwise an upper bound, never 0.
    pub size: u64,
    /// Units of 512 bytes.
    pub blocks: u64,
    /// The instant of the snapshot, or the start of the process, or of the mount.
    pub time: SystemTime,
    /// Whether it is a directory.
    pub directory: bool,
    /// Permission bits.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// How long all this stays the same. `Never` for a node that is steady only while open, if it
    /// is not open.
    pub steady: Steady,
    /// Whether its name leads to it for as long as its directory exists.
    pub fixed_name: bool,
    /// Whether the kernel may use them for a moment, if `steady` allows no more.
    pub for_a_moment: bool,
}

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// O_WRONLY or O_RDWR.
    pub write: bool,
    /// O_RDONLY or O_RDWR.
    pub read: bool,
    /// O_APPEND.
    pub append: bool,
    /// O_TRUNC.
    pub truncate: bool,
    /// The caller that opens it.
    pub caller: Caller,
}
