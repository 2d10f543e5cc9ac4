//! The process that is signalled when a description becomes ready: F_SETOWN_EX, F_SETSIG, O_ASYNC
//! (fcntl(2)).
//!
//! The kernel stores the user ids of the caller of F_SETOWN_EX and checks them at every signal
//! (`sigio_perm` in fs/fcntl.c), so a restore makes the call under those ids. The descriptor
//! through which O_ASYNC was set decides the `si_fd` of the signal. The kernel does not show which
//! duplicate that was, so a restore takes the lowest.

use serde::{Deserialize, Serialize};

use crate::error::{Context, Result};
use crate::image::frame::Tag;
use crate::kind::fd_state::{FdState, Named, ObservedFd};
use crate::sys::fd;
use crate::sys::pid::Pid;
use crate::sys::remote::checked::Checked;
use crate::sys::signal;

const F_SETSIG: u64 = 10;
const F_SETOWN_EX: u64 = 15;
const F_OWNER_TID: i32 = 0;
const F_OWNER_PID: i32 = 1;

/// Table row.
pub struct Sigio;

/// The record.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SigioBody {
    /// F_OWNER_*.
    kind: i32,
    /// Thread, process or group; 0: none, or one that has ended.
    owner: Pid,
    /// 0: SIGIO, without a siginfo.
    signal: i32,
    /// The ids of the process that set the owner.
    uid: u32,
    euid: u32,
    /// With O_ASYNC: all flags that F_SETFL sets.
    flags: Option<i32>,
}

impl FdState for Sigio {
    type Body = SigioBody;
    /// What is signalled when a descriptor becomes ready, fcntl(2).
    const TAG: Tag = Tag(*b"SGIO");

    fn dump(&self, observed: &ObservedFd<'_>) -> Result<Vec<SigioBody>> {
        let file = observed.file;
        if observed.is_known || observed.flags & libc::O_PATH != 0 {
            return Ok(Vec::new());
        }
        let fd::SigioOwner { kind, id: owner, signal, uid, euid } =
            fd::owner(&file.description()?).on(|| &file.subject)?;
        if owner != 0 && file.stat.is_dir() {
            // F_NOTIFY sets an owner, and the kernel does not show the events it watches for
            // (fs/notify/dnotify/dnotify.c).
            return Err(file.refuse(format_args!("signals from directory {}", file.target.display())));
        }
        let is_async = observed.flags & libc::O_ASYNC != 0 && file.flags & libc::O_ASYNC == 0;
        let flags = is_async.then_some(file.flags | libc::O_ASYNC);
        let body = SigioBody { kind, owner, signal, uid, euid, flags };
        let none = SigioBody { kind: 0, owner: 0, signal: 0, uid, euid, flags: None };
        // Restoring a lease makes its holder the owner if there is none, so "no owner" is recorded
        // as well.
        let is_any = body != none || observed.flags & libc::O_ASYNC != 0;
        Ok(is_any.then_some(body).into_iter().collect())
    }

    fn names(&self, body: &SigioBody) -> Option<Named> {
        match (body.owner, body.kind) {
            (0, _) => None,
            (tid, F_OWNER_TID) => Some(Named::Task(tid)),
            (pid, F_OWNER_PID) => Some(Named::Process(pid)),
            (pgid, _) => Some(Named::Group(pgid)),
        }
    }

    fn restore(&self, body: &SigioBody, fd: i32, subject: &str, calls: &mut Checked) -> Result<()> {
        let owner = (body.owner as u32 as u64) << 32 | u64::from(body.kind as u32);
        let owner = calls.put(&owner.to_le_bytes());
        let fd = fd as u64;
        let set_owner = |calls: &mut Checked| {
            let doing = format!("{subject}: signals to {} (kind {})", body.owner, body.kind);
            calls.call(libc::SYS_fcntl, [fd, F_SETOWN_EX, owner.0], doing);
        };
        // The saved id stays root's. It permits the way back, and keeps the capabilities.
        let become_user = |uid: u32, euid: u32, calls: &mut Checked| {
            let doing = format!("{subject}: signals in the name of user {uid}, {euid}");
            calls.call(libc::SYS_setresuid, [u64::from(uid), u64::from(euid), 0], doing);
        };
        let is_foreign = body.owner != 0 && (body.uid, body.euid) != (0, 0);
        if is_foreign {
            become_user(body.uid, body.euid, calls);
        }
        set_owner(calls);
        if is_foreign {
            become_user(0, 0, calls);
        }
        if body.signal != 0 {
            let doing = format!("{subject}: {} for input and output", signal::name(body.signal));
            calls.call(libc::SYS_fcntl, [fd, F_SETSIG, body.signal as u64], doing);
        }
        if let Some(flags) = body.flags {
            calls.call(libc::SYS_fcntl, [fd, libc::F_SETFL as u64, flags as u64], format!("{subject}: O_ASYNC"));
            if body.owner == 0 {
                // O_ASYNC on a terminal, and a lease, set an owner where there is none.
                set_owner(calls);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::kind::observed::ObservedFile;
    use crate::kind::observed::fake::{observed_fd, this};
    use crate::sys::memory::RemotePtr;

    fn dump(path: &str, flags: i32, is_known: bool) -> Vec<SigioBody> {
        let (file, this) = (std::fs::File::open(path).unwrap(), this());
        let file = &ObservedFile { flags: flags & !libc::O_ASYNC, ..observed_fd(&file, &this) };
        FdState::dump(&Sigio, &ObservedFd { file, flags, info: "", is_known }).unwrap()
    }

    #[test]
    fn only_what_differs_from_a_new_description_is_recorded() {
        assert_eq!(dump("/dev/null", libc::O_RDONLY, false), []);
        let flags = libc::O_ASYNC | libc::O_NONBLOCK;
        let body = SigioBody { kind: 0, owner: 0, signal: 0, uid: 0, euid: 0, flags: Some(flags) };
        assert_eq!(dump("/dev/null", flags, false), [body]);
        assert_eq!(dump("/dev/null", flags, true), [], "recorded once");
    }

    #[test]
    fn the_named_task_must_be_in_the_image() {
        let body = |kind, owner| SigioBody { kind, owner, signal: 0, uid: 0, euid: 0, flags: None };
        assert_eq!(Sigio.names(&body(0, 5)), Some(Named::Task(5)));
        assert_eq!(Sigio.names(&body(1, 5)), Some(Named::Process(5)));
        assert_eq!(Sigio.names(&body(2, 5)), Some(Named::Group(5)));
        assert_eq!(Sigio.names(&body(1, 0)), None);
        let record = serde_json::to_string(&body(2, 5)).unwrap();
        assert_eq!(serde_json::from_str::<SigioBody>(&record).unwrap(), body(2, 5));
        let mut calls = Checked::new(RemotePtr(0x10000));
        Sigio.restore(&body(1, 5), 3, "pid 5 fd 3", &mut calls).unwrap();
    }
}
