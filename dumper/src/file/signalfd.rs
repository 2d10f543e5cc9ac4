//! Signals that are read from a descriptor: signalfd(2). It has no signals of its own: a read takes
//! those that wait for the reader.
//!
//! The set of signals is read from `fdinfo` (signalfd_show_fdinfo in fs/signalfd.c).

use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use serde::{Deserialize, Serialize};

use crate::error::{Doing, Error, Result};
use crate::kind::object::{DumpContext, RestoreContext};
use crate::kind::observed::ObservedFile;
use crate::kind::open_file::OpenFile;
use crate::sys::signal;

const NAME: &[u8] = b"anon_inode:[signalfd]";

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
        observed.target.as_os_str().as_bytes() == NAME
    }

    fn dump(&self, observed: &ObservedFile<'_>, _objects: &mut dyn DumpContext) -> Result<SignalfdBody> {
        let mask = u64::from_str_radix(observed.info.text("sigmask"), 16)
            .map_err(|_| Error::os(format_args!("{}: no sigmask in its fdinfo", observed.subject), libc::EIO))?;
        Ok(SignalfdBody { mask, flags: observed.flags })
    }

    fn restore(&self, body: SignalfdBody, _context: &dyn RestoreContext) -> Result<OwnedFd> {
        let made = signal::signalfd(body.mask)?;
        let flags = OFlag::from_bits_retain(body.flags);
        fcntl(&made, FcntlArg::F_SETFL(flags)).doing(|| "the flags of a signalfd")?;
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
        for (mask, flags) in [(0, OFlag::empty()), (1 << 63 | 1, OFlag::O_NONBLOCK), (all, OFlag::empty())] {
            let made = signal::signalfd(mask).unwrap();
            fcntl(&made, FcntlArg::F_SETFL(flags)).unwrap();
            let before = observed(&made);
            assert!(Signalfd.takes(&before));
            let body = Signalfd.dump(&before, &mut none()).unwrap();
            assert_eq!(body.mask, mask);
            let again = observed(&Signalfd.restore(body, &none()).unwrap());
            assert_eq!((again.flags, again.info.text("sigmask")), (before.flags, before.info.text("sigmask")));
        }
    }
}
