//! What a descriptor can *be*: the table of kinds, nothing else.

pub mod anon_shm;
pub mod device;
pub mod eventfd;
pub mod fd_table;
pub mod fifo;
pub mod lock;
pub mod memfd;
pub mod o_path;
pub mod parts;
pub mod pipe;
pub mod procfs;
pub mod regular;
pub mod removed_dir;
pub mod sigio;
pub mod sysv_shm;
pub mod tty;
pub mod unlinked;

use crate::kind::open_file::DynOpenFile;
use crate::kind::{fd_state, object};

/// Every kind; the first that takes a file has it. Files of a process stand first, because what leads to them is made late; what is
/// only a place in the tree before what can be read; files without a name before those with one, terminals before the other
/// character devices.
pub const KINDS: &[&dyn DynOpenFile] = &[
    &procfs::Procfs,
    &o_path::OPath,
    &memfd::MemfdDescription,
    &anon_shm::AnonShmDescription,
    &sysv_shm::SysvShmDescription,
    &unlinked::UnlinkedDescription,
    &removed_dir::RemovedDirDescription,
    &pipe::PipeEnd,
    &fifo::FifoEnd,
    &eventfd::Eventfd,
    &regular::Regular,
    &tty::Tty,
    &device::Device,
];

/// Every kind of object that descriptions share.
pub const OBJECTS: &[&dyn object::DynObject] = &[
    &memfd::Memfd,
    &anon_shm::AnonShm,
    &sysv_shm::SysvShm,
    &pipe::Pipe,
    &fifo::Fifo,
    &unlinked::Unlinked,
    &removed_dir::RemovedDir,
];

/// Every kind of what a descriptor can have, in the order of putting back: to take a lease makes the taker the one to be signalled,
/// unless there is one, and who it was is set right after.
pub const LATE: &[&dyn fd_state::DynFdState] = &[&lock::Lock, &sigio::Sigio];
