//! Counters to be waited for: eventfd(2). There is one description to each, because it cannot be opened by a name.
//!
//! The count is read from `fdinfo` (eventfd_show_fdinfo in fs/eventfd.c): a read(2) would take it away.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::eventfd::{EfdFlags, EventFd};
use serde::{Deserialize, Serialize};

use crate::error::{Doing, Error, Result};
use crate::kind::object::{DumpContext, RestoreContext};
use crate::kind::observed::ObservedFile;
use crate::kind::open_file::OpenFile;

const NAME: &[u8] = b"anon_inode:[eventfd]";

/// Table row.
pub struct Eventfd;

/// The record.
#[derive(Serialize, Deserialize)]
pub struct EventfdBody {
    count: u64,
    /// EFD_SEMAPHORE: a read takes one.
    semaphore: bool,
    flags: i32,
}

impl OpenFile for Eventfd {
    type Body = EventfdBody;
    const KIND: &'static str = "eventfd";

    fn takes(&self, seen: &ObservedFile<'_>) -> bool {
        seen.target.as_os_str().as_bytes() == NAME
    }

    fn dump(&self, seen: &ObservedFile<'_>, _objects: &dyn DumpContext) -> Result<EventfdBody> {
        let count = u64::from_str_radix(seen.info.text("eventfd-count"), 16)
            .map_err(|_| Error::os(format_args!("{}: no eventfd-count in its fdinfo", seen.subject), libc::EIO))?;
        if !seen.info.has("eventfd-semaphore") {
            // Linux 6.5 and later say it; without it nobody can tell.
            return Err(seen.refuse("an eventfd of which the kernel does not say whether it is a semaphore"));
        }
        if count == u64::MAX {
            // eventfd(2): only the kernel itself can bring it there; write(2) cannot.
            return Err(seen.refuse("an eventfd that has overflowed"));
        }
        Ok(EventfdBody { count, semaphore: seen.info.number("eventfd-semaphore") != 0, flags: seen.flags })
    }

    fn restore(&self, body: EventfdBody, _anchors: &dyn RestoreContext) -> Result<OwnedFd> {
        let doing = || format!("making an eventfd with count {}", body.count);
        let semaphore = if body.semaphore { EfdFlags::EFD_SEMAPHORE } else { EfdFlags::empty() };
        // Not to block, whatever an image says: the flags proper come after.
        let made = EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK | semaphore);
        let made = made.doing(doing)?;
        if body.count != 0 {
            made.write(body.count).doing(doing)?;
        }
        fcntl(made.as_fd(), FcntlArg::F_SETFL(OFlag::from_bits_retain(body.flags))).doing(doing)?;
        Ok(made.into())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;
    use crate::kind::observed::Via;
    use crate::sys::proc::status::Fields;

    struct None;
    impl DumpContext for None {
        fn id_of(&self, _: &dyn crate::kind::object::DynObject, seen: &ObservedFile<'_>) -> Result<u32> {
            Err(seen.refuse("an object"))
        }
    }
    impl RestoreContext for None {
        fn anchor(&self, id: u32) -> Result<&crate::kind::object::RestoredObject> {
            Err(Error::damaged(format!("object {id}")))
        }
    }

    fn seen(fd: &impl AsRawFd) -> ObservedFile<'static> {
        let number = fd.as_raw_fd();
        let link = format!("/proc/self/fd/{number}");
        let info = Fields::read(&format!("/proc/self/fdinfo/{number}")).unwrap();
        ObservedFile {
            subject: "test".into(),
            target: std::fs::read_link(&link).unwrap(),
            stat: std::fs::metadata(&link).unwrap(),
            flags: info.octal("flags") as i32 & !libc::O_CLOEXEC,
            position: 0,
            info,
            must_not_change: false,
            held: Via::Link(""),
        }
    }

    #[test]
    fn count_and_flags_come_back() {
        for (count, flags) in [
            (0, EfdFlags::empty()),
            (10, EfdFlags::EFD_SEMAPHORE),
            (u64::MAX - 1, EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_SEMAPHORE),
        ] {
            let made = EventFd::from_flags(flags).unwrap();
            if count != 0 {
                made.write(count).unwrap();
            }
            let before = seen(&made);
            assert!(Eventfd.takes(&before));
            let body = Eventfd.dump(&before, &None).unwrap();
            assert_eq!(body.count, count);
            let again = seen(&Eventfd.restore(body, &None).unwrap());
            assert_eq!(again.flags, before.flags);
            for field in ["eventfd-count", "eventfd-semaphore"] {
                assert_eq!(again.info.text(field), before.info.text(field));
            }
        }
    }
}
