//! The engine of ckptfs: freeze a process tree, take its snapshot, tell it as an image, make an image live again.
//!
//! Records flow one way: kernel -> collector -> record -> layout -> bytes -> decoder -> record -> restorer -> kernel.
//!
//! | floor | rooms |
//! |---|---|
//! | the whole | [`tracer`] (who may freeze), [`snapshot`] (the instant), [`restore`] (an image lives again), [`stream`] |
//! | an instant | [`Checkpoint`]: of live processes or of a file ([`StoredImage`]); [`view`], `info` and [`core`] (it is looked at) |
//! | order of looking | `dump` (one process), `kin` (who is who), `heritage` (which pages are common) |
//! | order of putting back | `making` (records as they come), `family` (who makes whom), `made` (one process), `task::attribute::Phase`; `brood` undoes it |
//! | objects | `task` (what a task has), `file` (what a descriptor can be), `sysv` (what belongs to nobody), `pages` (memory in bulk) |
//! | who | [`target`] (whom), [`freeze`] (they stand still; [`cgroup`]), `door` (the way into a process), `child` (its copy-on-write child), `held` (what a snapshot is read from) |
//! | bytes | [`image`]: the format, knows no kernel object |
//! | kernel | `sys`: the only room with `unsafe` |
//!
//! Nothing points upward. Three back edges, no others: bytes on demand ([`image::PageSource`]), thaw on Drop
//! ([`freeze::Frozen`]), and the parent image of an increment (to come).

mod checkpoint;
mod cow;
mod dump;
mod error;
mod file;
mod freeze;
pub mod image;
mod kind;
mod memory;
mod options;
mod pstree;
mod read_ahead;
mod records;
mod restore;
mod snapshot;
mod sys;
mod sysv;
mod task;

/// Control groups as the engine reads them.
pub mod cgroup {
    pub use crate::sys::cgroup::members;
}

/// What /proc tells of a process by whatever name: programs and files are named by bytes, and those of a name need not be UTF-8.
pub mod proc {
    pub use crate::sys::proc::maps::{Mapping, maps};
    pub use crate::sys::proc::numbers;
    pub use crate::sys::proc::stat::{Stat, TICKS_PER_SECOND};
    pub use crate::sys::proc::status::Fields;
}

/// What the records of an image say, for a reader that restores nothing.
pub mod inspect {
    pub use crate::kind::record_sort::{Shown, ShownFile, ShownMapping, ShownProcess, ShownTask};
    pub use crate::records::show;
}

pub use crate::checkpoint::Checkpoint;
pub use crate::checkpoint::elf_core::Core;
pub use crate::checkpoint::elf_core::segments::HOLE_MOST;
pub use crate::checkpoint::stored::StoredImage;
pub use crate::checkpoint::view::VmaView;
pub use crate::error::{Context, Doing, Error, Kind, Result};
pub use crate::freeze::cgroup::CgroupFreezer;
pub use crate::freeze::snapshot_child::{is_snapshot_child, may_be_in_the_making};
pub use crate::freeze::target::Target;
pub use crate::options::{ChangedFiles, Options, SnapshotUse};
pub use crate::read_ahead::{Piece, ReadAhead};
pub use crate::restore::Restorer;
pub use crate::restore::outcome::Restored;
pub use crate::snapshot::Snapshot;
pub use crate::snapshot::tracer::Tracer;
pub use crate::sys::pid::Pid;
