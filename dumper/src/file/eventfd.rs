//! Counters that a process can wait on: eventfd(2). Each has one description, because no name leads
//! to it.
//!
//! The count is read from `fdinfo` (eventfd_show_fdinfo in fs/eventfd.c): a read(2) would reset it.

use std::os::fd::OwnedFd;

use nix::sys::eventfd::{EfdFlags, EventFd};
use serde::{Deserialize, Serialize};

use crate::error::{Doing, Error, Result};
use crate::kind::object::{DumpContext, RestoreContext};
use crate::kind::observed::ObservedFile;
use crate::kind::open_file::OpenFile;
use crate::sys::fd;

const NAME: &str = "anon_inode:[eventfd]";

/// Table row.
pub struct Eventfd;

/// The record.
#[derive(Serialize, Deserialize)]
pub struct EventfdBody {
    count: u64,
    /// EFD_SEMAPHORE: a read takes 1 from the count.
    semaphore: bool,
    flags: i32,
}

impl OpenFile for Eventfd {
    type Body = EventfdBody;
    const KIND: &'static str = "eventfd";

    fn takes(&self, observed: &ObservedFile<'_>) -> bool {
        observed.target.as_os_str() == NAME
    }

    fn dump(&self, observed: &ObservedFile<'_>, _objects: &mut dyn DumpContext) -> Result<EventfdBody> {
        let count = u64::from_str_radix(observed.info.text("eventfd-count"), 16)
            .map_err(|_| Error::os(format_args!("{}: no eventfd-count in its fdinfo", observed.subject), libc::EIO))?;
        if !observed.info.has("eventfd-semaphore") {
            // Linux 6.5 and later show this. There is no other way to find it out.
            return Err(observed.refuse("an eventfd of which the kernel does not say whether it is a semaphore"));
        }
        if count == u64::MAX {
            // eventfd(2): only the kernel itself can set the count to this value, write(2) cannot.
            return Err(observed.refuse("an eventfd that has overflowed"));
        }
        Ok(EventfdBody { count, semaphore: observed.info.number("eventfd-semaphore") != 0, flags: observed.flags })
    }

    fn restore(&self, body: EventfdBody, _context: &dyn RestoreContext) -> Result<OwnedFd> {
        let doing = || format!("making an eventfd with count {}", body.count);
        let semaphore = if body.semaphore { EfdFlags::EFD_SEMAPHORE } else { EfdFlags::empty() };
        // Nonblocking first, whatever the image says, so that the write below cannot block. The
        // recorded flags are set last.
        let made = EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK | semaphore);
        let made = made.doing(doing)?;
        if body.count != 0 {
            made.write(body.count).doing(doing)?;
        }
        let made = OwnedFd::from(made);
        fd::set_flags(&made, body.flags)?;
        Ok(made)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::kind::object::fake::none;
    use crate::kind::observed::fake::observed;

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
            let before = observed(&made);
            assert!(Eventfd.takes(&before));
            let body = Eventfd.dump(&before, &mut none()).unwrap();
            assert_eq!(body.count, count);
            let again = observed(&Eventfd.restore(body, &none()).unwrap());
            assert_eq!(again.flags, before.flags);
            for field in ["eventfd-count", "eventfd-semaphore"] {
                assert_eq!(again.info.text(field), before.info.text(field));
            }
        }
    }
}
