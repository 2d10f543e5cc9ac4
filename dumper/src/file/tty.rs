//! Terminals that the process did not make: the other end belongs to somebody outside, so they are opened again by name.
//!
//! Settings (termios, window size) live in the terminal, which stays; nothing of it is in the image. `O_NOCTTY` always: a
//! controlling terminal is acquired by its session leader on purpose, never by accident.

use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::kind::object::{DumpContext, RestoreContext};
use crate::kind::observed::{NOT_KEPT, ObservedFile, open_device};
use crate::kind::open_file::OpenFile;
use crate::sys::tty;

/// Table row.
pub struct Tty;

/// The record.
#[derive(Serialize, Deserialize)]
pub struct TtyBody {
    path: Vec<u8>,
    /// Readable twin of `path`.
    name: String,
    rdev: u64,
    flags: i32,
}

impl OpenFile for Tty {
    type Body = TtyBody;
    const KIND: &'static str = "terminal";

    fn takes(&self, seen: &ObservedFile<'_>) -> bool {
        seen.stat.file_type().is_char_device() && tty::is_terminal(seen.stat.rdev())
    }

    fn dump(&self, seen: &ObservedFile<'_>, _objects: &dyn DumpContext) -> Result<TtyBody> {
        let name = seen.target.display().to_string();
        let rdev = seen.stat.rdev();
        if tty::is_master(rdev) {
            return Err(seen.refuse(format_args!("pseudo-terminal master {name}")));
        }
        if tty::is_alias(rdev) {
            return Err(seen.refuse(format_args!("{name}, opened under that alias of the controlling terminal,")));
        }
        if !seen.is_named() {
            return Err(seen.refuse(format_args!("terminal {name} whose name is gone")));
        }
        // Asked of the terminal itself and not of its driver (tty_ioctl in drivers/tty/tty_io.c): only a description that was hung up
        // (vhangup(2), the end of its session's leader) has no answer. Opened by name it would be alive again.
        if rustix::termios::tcgetwinsize(seen.description()?) == Err(rustix::io::Errno::IO) {
            return Err(seen.refuse(format_args!("terminal {name}, which has been hung up,")));
        }
        let path = seen.target.clone().into_os_string().into_vec();
        Ok(TtyBody { path, name, rdev, flags: seen.flags & !NOT_KEPT })
    }

    fn restore(&self, body: TtyBody, _anchors: &dyn RestoreContext) -> Result<OwnedFd> {
        open_device(body.path, body.rdev, body.flags)
    }
}
