//! What a descriptor can *be*: the table of kinds, nothing else.

mod buffer;
pub mod changed;
mod contents;
mod device;
mod eventfd;
mod fifo;
pub mod late;
pub mod lock;
mod memfd;
pub mod object;
mod of_process;
pub mod open_file;
mod outside;
mod overlay;
mod path_only;
mod pipe;
mod place;
pub mod regular;
mod removed;
mod shared_memory;
pub mod sharing;
mod signal_io;
mod sysv_shm;
mod terminal;
mod times;
mod unlinked;
mod xattrs;

use crate::file::open_file::Row;

/// Every kind; the first that takes a file has it. Files of a process stand first, because what leads to them is made late; what is
/// only a place in the tree before what can be read; files without a name before those with one, terminals before the other
/// character devices.
pub const KINDS: &[&dyn Row] = &[
    &of_process::OfProcess,
    &path_only::PathOnly,
    &memfd::Description,
    &shared_memory::Mapped,
    &sysv_shm::Mapped,
    &unlinked::Description,
    &removed::Description,
    &pipe::End,
    &fifo::End,
    &eventfd::Eventfd,
    &regular::Regular,
    &terminal::Terminal,
    &device::Device,
];

/// Every kind of object that descriptions share.
pub const OBJECTS: &[&dyn object::Row] = &[
    &memfd::Memfd,
    &shared_memory::SharedMemory,
    &sysv_shm::Shared,
    &pipe::Pipe,
    &fifo::Fifo,
    &unlinked::Unlinked,
    &removed::Removed,
];

/// Every kind of what a descriptor can have, in the order of putting back: to take a lease makes the taker the one to be signalled,
/// unless there is one, and who it was is set right after.
pub const LATE: &[&dyn late::Row] = &[&lock::Lock, &signal_io::SignalIo];
