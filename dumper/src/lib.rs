//! The engine of ckptfs: freeze a process tree, take its snapshot, tell it as an image, make an image live again.
//!
//! Records flow one way: kernel -> collector -> record -> layout -> bytes -> decoder -> record -> restorer -> kernel.
//!
//! | floor | rooms |
//! |---|---|
//! | the whole | [`tracer`] (who may freeze), [`snapshot`] (the instant), [`restore`] (an image lives again), [`stream`] |
//! | an instant | [`Instant`]: of live processes or of a file ([`StoredImage`]); [`view`], `info` and [`core`] (it is looked at) |
//! | order of looking | `dump` (one process), `kin` (who is who), `heritage` (which pages are common) |
//! | order of putting back | `making` (records as they come), `family` (who makes whom), `made` (one process), `task::attribute::Phase`; `brood` undoes it |
//! | objects | `task` (what a task has), `file` (what a descriptor can be), `sysv` (what belongs to nobody), `pages` (memory in bulk) |
//! | who | [`target`] (whom), [`freeze`] (they stand still; [`cgroup`]), `door` (the way into a process), `child` (its copy-on-write child), `held` (what a snapshot is read from) |
//! | bytes | [`image`]: the format, knows no kernel object |
//! | kernel | `sys`: the only room with `unsafe` |
//!
//! Nothing points upward. Three back edges, no others: bytes on demand ([`image::PageSource`]), thaw on Drop
//! ([`freeze::Frozen`]), and the parent image of an increment (to come).

mod brood;
pub mod cgroup;
mod child;
pub mod core;
mod core_bit;
mod door;
mod dump;
pub mod error;
mod family;
mod file;
pub mod freeze;
mod held;
mod heritage;
pub mod image;
mod info;
mod instant;
mod kin;
mod made;
mod making;
mod pages;
pub mod restore;
pub mod snapshot;
mod stored;
pub mod stream;
mod sys;
mod sysv;
pub mod target;
mod task;
pub mod tracer;
pub mod view;

/// What /proc tells of a process by whatever name: programs and files are named by bytes, and those of a name need not be UTF-8.
pub mod proc {
    pub use crate::sys::proc::{Fields, Mapping, Stat, TICKS_PER_SECOND, maps, numbers};
}

pub use self::core::Core;
pub use cgroup::CgroupFreezer;
pub use child::seen::{is_snapshot_child, may_be_in_the_making};
pub use error::{Context, Doing, Error, Kind, Result};
pub use file::changed::ChangedFiles;
pub use instant::Instant;
pub use restore::{Restored, Restorer};
pub use snapshot::Snapshot;
pub use stored::StoredImage;
pub use stream::{Piece, ReadAhead};
pub use sys::pid::Pid;
pub use target::Target;
pub use tracer::{Options, Purpose, Tracer};
pub use view::VmaView;
