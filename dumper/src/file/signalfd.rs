//! Signals that are read from a descriptor: signalfd(2). It has no signals of its own: a read takes
//! those that wait for the reader.
//!
//! The set of signals is read from `fdinfo` (signalfd_show_fdinfo in fs/signalfd.c).

use std::os::fd::OwnedFd;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::kind::object::{DumpContext, RestoreContext};
use crate::kind::observed::ObservedFile;
use crate::kind::open_file::OpenFile;
use crate::sys::{fd, signal};

const NAME: &str = "anon_inode:[signalfd]";

/// Table row.
pub struct Signalfd;

/// The record.
#[derive(Serialize, Deserialize)]
pub struct SignalfdBody {
    /// The signals that it takes: bit 0 is signal 1.
    mask: u64,
    flags: i32,
}

impl OpenFile for Signalfd {
    type Body = SignalfdBody;
    const KIND: &'static str = "signalfd";

    fn takes(&self, observed: &ObservedFile<'_>) -> bool {
        observed.target.as_os_str() == NAME
    }

    fn dump(&self, observed: &ObservedFile<'_>, _objects: &mut dyn DumpContext) -> Result<SignalfdBody> {
        let mask = u64::from_str_radix(observed.info.text("sigmask"), 16)
            .map_err(|_| Error::os(format_args!("{}: no sigmask in its fdinfo", observed.subject), libc::EIO))?;
        Ok(SignalfdBody { mask, flags: observed.flags })
    }

    fn restore(&self, body: SignalfdBody, _context: &dyn RestoreContext) -> Result<OwnedFd> {
        let made = signal::signalfd(body.mask)?;
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
    fn set_and_flags_come_back() {
        // SIGKILL and SIGSTOP are in no set.
        let all = !(1 << (libc::SIGKILL - 1) | 1 << (libc::SIGSTOP - 1));
        for (mask, flags) in [(0, 0), (1 << 63 | 1, libc::O_NONBLOCK), (all, 0)] {
            let made = signal::signalfd(mask).unwrap();
            fd::set_flags(&made, flags).unwrap();
            let before = observed(&made);
            assert!(Signalfd.takes(&before));
            let body = Signalfd.dump(&before, &mut none()).unwrap();
            assert_eq!(body.mask, mask);
            let again = observed(&Signalfd.restore(body, &none()).unwrap());
            assert_eq!((again.flags, again.info.text("sigmask")), (before.flags, before.info.text("sigmask")));
        }
    }
}
