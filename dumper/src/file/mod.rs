//! What a descriptor can *be*: the tables of kinds.

pub mod anon_shm;
pub mod device;
pub mod epoll;
pub mod eventfd;
pub mod fd_table;
pub mod fifo;
pub mod inotify;
pub mod lock;
pub mod mapped_lock;
pub mod memfd;
pub mod namespace;
pub mod o_path;
pub mod parts;
pub mod pipe;
pub mod procfs;
pub mod regular;
pub mod removed_dir;
pub mod removed_node;
pub mod sigio;
pub mod signalfd;
pub mod special;
pub mod sysv_shm;
pub mod timerfd;
pub mod tty;
pub mod unlinked;

use std::os::unix::fs::FileTypeExt;

use crate::kind::fd_state::DynFdState;
use crate::kind::object::DynObject;
use crate::kind::observed::ObservedFile;
use crate::kind::open_file::DynOpenFile;
use crate::kind::relation::DynRelation;

/// Every kind of open file. A file is of the first kind that takes it, so the order matters:
/// - files of /proc/PID come first, whatever type they have: they are opened when the processes
///   exist again;
/// - namespaces come before regular files, which they are for stat(2);
/// - nodes without a name come before O_PATH descriptors, which have one;
/// - O_PATH descriptors come before kinds that read the file;
/// - files without a name come before those with one;
/// - terminals come before the other character devices.
pub const KINDS: &[&dyn DynOpenFile] = &[
    &procfs::Procfs,
    &namespace::Namespace,
    &removed_node::RemovedNodeDescription,
    &o_path::OPath,
    &memfd::MemfdDescription,
    &anon_shm::AnonShmDescription,
    &sysv_shm::SysvShmDescription,
    &unlinked::UnlinkedDescription,
    &removed_dir::RemovedDirDescription,
    &pipe::PipeEnd,
    &fifo::FifoEnd,
    &eventfd::Eventfd,
    &timerfd::Timerfd,
    &signalfd::Signalfd,
    &epoll::Epoll,
    &inotify::Inotify,
    &regular::Regular,
    &tty::Tty,
    &device::Device,
];

/// Every kind of object that descriptions share.
pub const OBJECTS: &[&dyn DynObject] = &[
    &memfd::Memfd,
    &anon_shm::AnonShm,
    &sysv_shm::SysvShm,
    &pipe::Pipe,
    &fifo::Fifo,
    &unlinked::Unlinked,
    &removed_dir::RemovedDir,
    &removed_node::RemovedNode,
];

/// Every kind of what a descriptor has beyond its open file, in the order of the restore. Locks
/// come first: taking a lease makes its holder the process to be signalled if there is none, and
/// the recorded one is set afterwards.
pub const FD_STATES: &[&dyn DynFdState] = &[&lock::Lock, &sigio::Sigio];

/// Every kind of what descriptions have to do with each other.
pub const RELATIONS: &[&dyn DynRelation] = &[&epoll::Watches, &inotify::Marks];

/// What no kind restores yet: the beginning of its link in /proc, and its name in errors. When one
/// is implemented, its line moves to [`KINDS`].
const UNSUPPORTED: &[(&str, &str)] = &[
    ("socket:", "a socket"),
    ("anon_inode:[fanotify]", "fanotify"),
    ("anon_inode:[io_uring]", "io_uring"),
    ("anon_inode:[userfaultfd]", "userfaultfd"),
    ("anon_inode:[pidfd]", "a pidfd"),
    ("anon_inode:[perf_event]", "a perf event"),
    ("anon_inode:bpf", "a BPF object"),
];

/// The name in errors of a file that no kind takes.
pub fn unsupported_name(observed: &ObservedFile<'_>) -> String {
    let target = observed.target.display().to_string();
    if observed.stat.file_type().is_socket()
        && let Ok(socket) = observed.description()
    {
        return parts::socket_name::of(&socket);
    }
    if let Some(what) = special::nameless(observed) {
        return format!("{what} ({target})");
    }
    match UNSUPPORTED.iter().find(|(prefix, _)| target.starts_with(prefix)) {
        Some((_, what)) => format!("{what} ({target})"),
        None => format!("{} {target}", observed.type_name()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::net::UnixStream;

    use rustix::process::{PidfdFlags, getpid, pidfd_open};

    use super::*;
    use crate::kind::observed::fake::{observed, observed_fd, this};

    #[test]
    fn a_file_that_no_kind_takes_has_a_name_in_errors() {
        let (socket, _other) = UnixStream::pair().unwrap();
        let this = this();
        let process = pidfd_open(getpid(), PidfdFlags::empty()).unwrap();
        for (file, name) in [
            (observed_fd(&socket, &this), "UNIX stream socket -> pid "),
            (observed(&process), "a pidfd (anon_inode:[pidfd])"),
        ] {
            assert!(KINDS.iter().all(|kind| !kind.takes(&file)));
            assert!(unsupported_name(&file).starts_with(name), "{}", unsupported_name(&file));
        }
    }
}
