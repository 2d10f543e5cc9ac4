//! What a descriptor can *be*: the table of kinds, nothing else.

mod buffer;
mod contents;
mod device;
mod fifo;
mod eventfd;
pub mod late;
pub mod lock;
mod memfd;
pub mod object;
pub mod open_file;
mod outside;
mod pipe;
mod regular;
mod shared_memory;
pub mod sharing;
mod signal_io;
mod terminal;
mod times;
mod unlinked;
mod xattrs;

use open_file::Row;

/// Every kind; the first that takes a file has it. Files without a name stand before those with one,
/// terminals before the other character devices.
pub const KINDS: &[&dyn Row] = &[
    &memfd::Description,
    &shared_memory::Mapped,
    &pipe::End,
    &fifo::End,
    &eventfd::Eventfd,
    &unlinked::Description,
    &regular::Regular,
    &terminal::Terminal,
    &device::Device,
];

/// Every kind of object that descriptions share.
pub const OBJECTS: &[&dyn object::Row] = &[&memfd::Memfd, &shared_memory::SharedMemory, &pipe::Pipe, &fifo::Fifo, &unlinked::Unlinked];

/// Every kind of what a descriptor can have, in the order of putting back: to take a lease makes the taker the one to be signalled,
/// unless there is one, and who it was is set right after.
pub const LATE: &[&dyn late::Row] = &[&lock::Lock, &signal_io::SignalIo];
