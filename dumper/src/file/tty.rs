//! Terminals that the tree did not create. A process outside holds the other end, so they are
//! opened again by name.
//!
//! Settings (termios, window size) belong to the terminal, which still exists, so the image has
//! none of them. Terminals are always opened with `O_NOCTTY`: a session leader acquires its
//! controlling terminal on purpose, never by accident.

use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use crate::error::Result;
use crate::file::parts::device_node::DeviceNode;
use crate::kind::object::{DumpContext, RestoreContext};
use crate::kind::observed::ObservedFile;
use crate::kind::open_file::OpenFile;
use crate::sys::tty;

/// Table row.
pub struct Tty;

impl OpenFile for Tty {
    type Body = DeviceNode;
    const KIND: &'static str = "terminal";

    fn takes(&self, observed: &ObservedFile<'_>) -> bool {
        observed.stat.file_type().is_char_device() && tty::is_terminal(observed.stat.rdev())
    }

    fn dump(&self, observed: &ObservedFile<'_>, _objects: &mut dyn DumpContext) -> Result<DeviceNode> {
        let name = observed.target.display().to_string();
        let rdev = observed.stat.rdev();
        if tty::is_master(rdev) {
            return Err(observed.refuse(format_args!("pseudo-terminal master {name}")));
        }
        if tty::is_alias(rdev) {
            return Err(observed.refuse(format_args!("{name}, opened under that alias of the controlling terminal,")));
        }
        let node = DeviceNode::of(observed, "terminal")?;
        // The terminal itself answers this call, not its driver (tty_ioctl in
        // drivers/tty/tty_io.c). It fails only for a description that was hung up (vhangup(2), the
        // end of its session leader). If it were opened again by name, the description would work
        // again.
        if rustix::termios::tcgetwinsize(observed.description()?) == Err(rustix::io::Errno::IO) {
            return Err(observed.refuse(format_args!("terminal {name}, which has been hung up,")));
        }
        Ok(node)
    }

    fn restore(&self, body: DeviceNode, _context: &dyn RestoreContext) -> Result<OwnedFd> {
        body.open()
    }
}
