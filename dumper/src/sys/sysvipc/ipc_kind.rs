//! The three sorts of object, and what they have in common.

use std::fmt;

use nix::errno::Errno;

use crate::error::{Doing, Result};

/// The three sorts of object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum IpcKind {
    /// A segment of shared memory.
    Shm,
    /// A set of semaphores.
    Sem,
    /// A message queue.
    Msg,
}

impl fmt::Display for IpcKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            IpcKind::Shm => "shared memory",
            IpcKind::Sem => "semaphore set",
            IpcKind::Msg => "message queue",
        })
    }
}

impl IpcKind {
    pub(super) fn next_id(self) -> &'static str {
        match self {
            IpcKind::Shm => "/proc/sys/kernel/shm_next_id",
            IpcKind::Sem => "/proc/sys/kernel/sem_next_id",
            IpcKind::Msg => "/proc/sys/kernel/msg_next_id",
        }
    }

    /// IPC_RMID.
    pub fn remove(self, id: i32) -> Result<()> {
        // SAFETY: the command takes no memory.
        let got = unsafe {
            match self {
                IpcKind::Shm => libc::shmctl(id, libc::IPC_RMID, std::ptr::null_mut()),
                IpcKind::Sem => libc::semctl(id, 0, libc::IPC_RMID),
                IpcKind::Msg => libc::msgctl(id, libc::IPC_RMID, std::ptr::null_mut()),
            }
        };
        Errno::result(got).map(drop).doing(|| format!("IPC_RMID of {self} {id}"))
    }

    /// The id of the object with this key, or `None` if there is none.
    pub fn with_key(self, key: i32) -> Option<i32> {
        // SAFETY: no memory is passed.
        let got = unsafe {
            match self {
                IpcKind::Shm => libc::shmget(key, 0, 0),
                IpcKind::Sem => libc::semget(key, 0, 0),
                IpcKind::Msg => libc::msgget(key, 0),
            }
        };
        (key != libc::IPC_PRIVATE && got != -1).then_some(got)
    }

    /// Uses up the id that was set for the next object, because it cannot be unset: makes an
    /// object, which is to be removed. Makes only a raw system call.
    pub(super) fn spend_next_id(self) -> i64 {
        let flags = libc::IPC_CREAT | 0o600;
        // SAFETY: no memory is passed.
        unsafe {
            match self {
                IpcKind::Shm => libc::syscall(libc::SYS_shmget, libc::IPC_PRIVATE, 1, flags),
                IpcKind::Sem => libc::syscall(libc::SYS_semget, libc::IPC_PRIVATE, 1, flags),
                IpcKind::Msg => libc::syscall(libc::SYS_msgget, libc::IPC_PRIVATE, flags),
            }
        }
    }

    /// IPC_RMID by a raw system call.
    pub(super) fn remove_raw(self, id: i64) {
        // SAFETY: the command takes no memory.
        unsafe {
            match self {
                IpcKind::Shm => libc::syscall(libc::SYS_shmctl, id, libc::IPC_RMID, 0),
                IpcKind::Sem => libc::syscall(libc::SYS_semctl, id, 0, libc::IPC_RMID, 0),
                IpcKind::Msg => libc::syscall(libc::SYS_msgctl, id, libc::IPC_RMID, 0),
            }
        };
    }
}
