//! Who is signalled when a description becomes ready: F_SETOWN_EX, F_SETSIG, O_ASYNC (fcntl(2)).
//!
//! The kernel remembers the ids of the user who set it and checks them whenever it signals (`sigio_perm` in fs/fcntl.c), so the
//! call is made under those. Of several duplicates that O_ASYNC could have been set through, which decides the `si_fd` of the signal,
//! the lowest is taken: the kernel does not tell.

use serde::{Deserialize, Serialize};

use crate::error::{Context, Result};
use crate::image::frame::Tag;
use crate::kind::fd_state::{FdState, Named, Placed};
use crate::sys::fd;
use crate::sys::pid::Pid;
use crate::sys::remote::checked::Checked;

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
    /// Thread, process or group; 0: nobody, or somebody who is gone.
    owner: Pid,
    /// 0: SIGIO, without a siginfo.
    signal: i32,
    /// Of whoever set the owner.
    uid: u32,
    euid: u32,
    /// With O_ASYNC: all flags that F_SETFL sets.
    flags: Option<i32>,
}

impl FdState for Sigio {
    type Body = SigioBody;
    const TAG: Tag = Tag(*b"SGIO");

    fn dump(&self, placed: &Placed<'_>) -> Result<Vec<SigioBody>> {
        let seen = placed.seen;
        if placed.is_known || placed.flags & libc::O_PATH != 0 {
            return Ok(Vec::new());
        }
        let fd::Owner { kind, id: owner, signal, uid, euid } = fd::owner(&seen.description()?).on(|| &seen.subject)?;
        if owner != 0 && seen.stat.is_dir() {
            // F_NOTIFY sets an owner, and what it watches for is told to nobody (fs/notify/dnotify/dnotify.c).
            return Err(seen.refuse(format_args!("signals from directory {}", seen.target.display())));
        }
        let is_async = placed.flags & libc::O_ASYNC != 0 && seen.flags & libc::O_ASYNC == 0;
        let flags = is_async.then_some(seen.flags | libc::O_ASYNC);
        let body = SigioBody { kind, owner, signal, uid, euid, flags };
        let none = SigioBody { kind: 0, owner: 0, signal: 0, uid, euid, flags: None };
        // A lease has made its taker the owner, if there was none: that there is none now has to be said.
        let is_any = body != none || placed.flags & libc::O_ASYNC != 0;
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
        let own = |calls: &mut Checked| {
            let doing = format!("{subject}: signals to {} (kind {})", body.owner, body.kind);
            calls.call(libc::SYS_fcntl, [fd, F_SETOWN_EX, owner.0], doing);
        };
        // The saved id stays root's: the way back, and what keeps the capabilities.
        let become_user = |uid: u32, euid: u32, calls: &mut Checked| {
            let doing = format!("{subject}: signals in the name of user {uid}, {euid}");
            calls.call(libc::SYS_setresuid, [u64::from(uid), u64::from(euid), 0], doing);
        };
        let is_foreign = body.owner != 0 && (body.uid, body.euid) != (0, 0);
        if is_foreign {
            become_user(body.uid, body.euid, calls);
        }
        own(calls);
        if is_foreign {
            become_user(0, 0, calls);
        }
        if body.signal != 0 {
            let doing = format!("{subject}: signal {} for input and output", body.signal);
            calls.call(libc::SYS_fcntl, [fd, F_SETSIG, body.signal as u64], doing);
        }
        if let Some(flags) = body.flags {
            calls.call(libc::SYS_fcntl, [fd, libc::F_SETFL as u64, flags as u64], format!("{subject}: O_ASYNC"));
            if body.owner == 0 {
                // A terminal and a lease make somebody the owner where there is none.
                own(calls);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::kind::observed::{ObservedFile, Via};
    use crate::sys::memory::RemotePtr;
    use crate::sys::pidfd::PidFd;
    use crate::sys::proc::status::Fields;

    fn dump(path: &str, flags: i32, is_known: bool) -> Vec<SigioBody> {
        use std::os::fd::AsRawFd;
        let file = std::fs::File::open(path).unwrap();
        let pidfd = PidFd::open(std::process::id() as Pid).unwrap();
        let seen = ObservedFile {
            subject: "test".into(),
            target: path.into(),
            stat: file.metadata().unwrap(),
            flags: flags & !libc::O_ASYNC,
            position: 0,
            info: Fields::parse(""),
            must_not_change: false,
            held: Via::Descriptor(&pidfd, file.as_raw_fd()),
        };
        let placed = Placed { seen: &seen, flags, info: "", is_known, is_known_here: is_known };
        FdState::dump(&Sigio, &placed).unwrap()
    }

    #[test]
    fn only_what_differs_from_a_new_description_is_told() {
        assert_eq!(dump("/dev/null", libc::O_RDONLY, false), []);
        let flags = libc::O_ASYNC | libc::O_NONBLOCK;
        let body = SigioBody { kind: 0, owner: 0, signal: 0, uid: 0, euid: 0, flags: Some(flags) };
        assert_eq!(dump("/dev/null", flags, false), [body]);
        assert_eq!(dump("/dev/null", flags, true), [], "told once");
    }

    #[test]
    fn whoever_is_named_must_be_there() {
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
