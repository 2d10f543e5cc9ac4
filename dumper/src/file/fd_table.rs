//! The record of a descriptor table: which open file each descriptor is.

use serde::{Deserialize, Serialize};

use crate::image::frame::Tag;
use crate::sys::pid::Pid;

/// The tag of a descriptor table.
pub const TABLE: Tag = Tag(*b"FDTB");

/// A process's descriptors.
#[derive(Debug, Serialize, Deserialize)]
pub struct FdTable {
    /// The process.
    pub tid: Pid,
    /// Number, id of the open file, close-on-exec.
    pub fds: Vec<(i32, u32, bool)>,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub struct Visible {
    pub dev: u64,
    pub ino: u64,
    pub position: u64,
    pub flags: i32,
}
