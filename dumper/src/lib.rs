//! The engine of ckptfs: it freezes a process tree, takes a copy-on-write snapshot of it, reads the
//! snapshot as an image, and restores processes from an image. It needs Linux on x86-64, and root
//! for both directions.
//!
//! ```no_run
//! use ckptfs_dumper::{
//!     Checkpoint, Options, ReadAhead, RestoreOptions, Restorer, SnapshotUse, Target, Tracer,
//! };
//!
//! fn there_and_back(pid: i32) -> ckptfs_dumper::Result<()> {
//!     // The tree of `pid` is stopped for some milliseconds, while the snapshot is taken.
//!     let tracer = Tracer::new(Target::tree(pid), Options::default(), None);
//!     let snapshot = tracer.snapshot(None, SnapshotUse::Stream)?;
//!     let mut image = Vec::new();
//!     while (image.len() as u64) < snapshot.image_len() {
//!         let offset = image.len() as u64;
//!         image.extend_from_slice(&snapshot.read_image(offset, 1 << 20, ReadAhead::Ours)?);
//!     }
//!     // Later, after `pid` has ended. Its processes run when the last write returns.
//!     let mut restorer = Restorer::new(RestoreOptions::default())?;
//!     restorer.write(&image)?;
//!     restorer.finish()
//! }
//! ```
//!
//! # Floors
//!
//! Records flow one way: kernel -> collector -> record -> layout -> bytes -> decoder -> record ->
//! restorer -> kernel. A module imports from lower floors and from its own folder.
//!
//! | floor | modules |
//! |---|---|
//! | 8 | `snapshot`: an instant of a tree, from freeze to layout |
//! | 7 | `dump`: kernel to records; `restore`: records to kernel; `checkpoint`: reads an instant |
//! | 6 | `records`: the table of all sorts of record |
//! | 5 | `file`: what a descriptor can be |
//! | 4 | `task`: what a task has; `memory`: mappings and pages; `cow`: copy-on-write children |
//! | 3 | `kind`: how a kind is defined; `freeze`, `pstree`, `sysv`, `read_ahead` |
//! | 2 | `options`; `refusals`; [`image`]: the format alone; `sys`: the only room with `unsafe` |
//! | 1 | `error`: what was attempted, on what, why it failed; `key`: signs images |
//!
//! `docs/design.md` of the project has more.

#![deny(unnameable_types)]

mod checkpoint;
mod cow;
mod dump;
mod error;
mod file;
mod freeze;
pub mod image;
mod key;
mod kind;
mod memory;
mod options;
mod pstree;
mod read_ahead;
mod records;
mod refusals;
mod restore;
mod snapshot;
mod sys;
mod sysv;
mod task;

/// Control groups as the engine reads them.
pub mod cgroup {
    pub use crate::sys::cgroup::members;
}

/// What /proc shows of a process. Names of programs and files are bytes and need not be UTF-8.
pub mod proc {
    pub use crate::freeze::hole::own_maps as maps;
    pub use crate::sys::proc::maps::Mapping;
    pub use crate::sys::proc::mountinfo::{Mount, mounts, mounts_of};
    pub use crate::sys::proc::numbers;
    pub use crate::sys::proc::stat::{Stat, TICKS_PER_SECOND};
    pub use crate::sys::proc::status::Fields;
    pub use crate::sys::proc::tables::descriptor_tables;
}

/// Terminals of this program.
pub mod terminal {
    pub use crate::sys::tty::{Pty, Settings, own_controlling};
}

/// What the records of an image show to a reader that restores nothing.
pub mod inspect {
    pub use crate::kind::record_sort::{
        RecordSort, Role, Shown, ShownFile, ShownMapping, ShownProcess, ShownTask, Subject,
    };
    pub use crate::records::show;
}

pub use crate::checkpoint::Checkpoint;
pub use crate::checkpoint::elf_core::Core;
pub use crate::checkpoint::elf_core::segments::HOLE_MOST;
pub use crate::checkpoint::stored::StoredImage;
pub use crate::checkpoint::view::{View, VmaView};
pub use crate::dump::check::check;
pub use crate::error::{Context, Doing, Error, Kind, Result};
pub use crate::freeze::cgroup::CgroupFreezer;
pub use crate::freeze::snapshot_child::{is_snapshot_child, may_be_in_the_making};
pub use crate::freeze::target::Target;
pub use crate::key::Key;
pub use crate::options::{ChangedFiles, ClockRule, ExternalPipes, Options, RestoreOptions, SnapshotUse, TerminalRule};
pub use crate::read_ahead::{Piece, ReadAhead};
pub use crate::restore::Restorer;
pub use crate::restore::outcome::{InForeground, Restored};
pub use crate::snapshot::Snapshot;
pub use crate::snapshot::tracer::Tracer;
pub use crate::sys::identity::Identity;
pub use crate::sys::memory::use_one_heap;
pub use crate::sys::pid::Pid;
pub use crate::sys::pidfd::PidFd;
pub use crate::sys::signal::name as signal_name;
