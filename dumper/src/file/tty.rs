//! Terminals that the tree did not create. A process outside holds the other end, so they are
//! opened again by name, if it is still the same terminal ([`outside_terminal`]).
//!
//! Settings (termios) and window size belong to the terminal, which still exists, so a restore
//! leaves them as they are. Only the terminal of a caller who attaches to the tree gets the
//! settings that it had. Terminals are always opened with `O_NOCTTY`: a session leader acquires its
//! controlling terminal on purpose, never by accident.

use std::fs::Metadata;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::file::parts::device_node::DeviceNode;
use crate::kind::object::{DumpContext, RestoreContext};
use crate::kind::observed::{ObservedFile, Via};
use crate::kind::open_file::OpenFile;
use crate::pstree::outside_terminal::{OutsideTerminal, SessionLeader, foreground_of, is_opened_again, opened_again};
use crate::sys::pid::Pid;
use crate::sys::tty::{self, Settings, TerminalState};

/// What takes the place of a terminal that is left out.
const NULL: &str = "/dev/null";

/// Table row.
pub struct Tty;

/// The record.
#[derive(Serialize, Deserialize)]
pub struct TtyBody {
    #[serde(flatten)]
    node: DeviceNode,
    /// By what a restore knows that it is the same terminal. Images before this field do not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    outside: Option<OutsideTerminal>,
    /// Its settings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    settings: Option<Settings>,
    /// The process group in its foreground, if the process belongs to the session that it controls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    foreground: Option<Pid>,
}

impl OpenFile for Tty {
    type Body = TtyBody;
    const KIND: &'static str = "terminal";

    fn takes(&self, observed: &ObservedFile<'_>) -> bool {
        observed.stat.file_type().is_char_device() && tty::is_terminal(observed.stat.rdev())
    }

    fn dump(&self, observed: &ObservedFile<'_>, _objects: &mut dyn DumpContext) -> Result<TtyBody> {
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
        let description = observed.description()?;
        if rustix::termios::tcgetwinsize(&description) == Err(rustix::io::Errno::IO) {
            return Err(observed.refuse(format_args!("terminal {name}, which has been hung up,")));
        }
        let (session, foreground) = match observed.via {
            Via::Descriptor(pidfd, _) => (SessionLeader::of(pidfd.pid(), rdev), foreground_of(pidfd.pid(), rdev)),
            Via::Link(_) => (None, None),
        };
        let settings = Settings::of(&description).ok();
        Ok(TtyBody { node, outside: Some(OutsideTerminal::of(&observed.stat, session)?), settings, foreground })
    }

    fn is_handed_over(&self, context: &dyn RestoreContext) -> bool {
        context.terminal().is_some()
    }

    fn restore(&self, body: TtyBody, context: &dyn RestoreContext) -> Result<OwnedFd> {
        let TtyBody { node, outside, settings, foreground } = body;
        if let Some(terminal) = context.terminal() {
            let state = settings.map(|settings| TerminalState { settings, foreground });
            context.terminal_was(node.rdev(), node.name(), state)?;
            return node.open_other(terminal);
        }
        if !tty::is_terminal(node.rdev()) || tty::is_master(node.rdev()) || tty::is_alias(node.rdev()) {
            return Err(Error::damaged(format!("{}: no device number of a terminal", node.name())));
        }
        let is_it = |now: Option<&Metadata>| {
            let restored = |pid| context.restores_task(pid);
            let outside = outside.as_ref();
            is_opened_again(context.terminals(), node.name(), outside, node.rdev(), now, &restored)
        };
        let opened = opened_again(node.path(), is_it, || node.open())?;
        opened.map_or_else(
            || {
                context.warn(format!("terminal {} was outside of the tree: {NULL} takes its place", node.name()));
                node.open_other(Path::new(NULL))
            },
            Ok,
        )
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use crate::kind::object::fake::none;
    use crate::kind::observed::fake::observed;

    #[test]
    fn only_a_terminal_is_opened() {
        for path in ["/dev/null", "/dev/kmsg", "/dev/ptmx", "/dev/tty"] {
            let name = rustix::fs::open(path, rustix::fs::OFlags::PATH, rustix::fs::Mode::empty()).unwrap();
            let node = DeviceNode::of(&observed(&name), "terminal").unwrap();
            let body = TtyBody { node, outside: None, settings: None, foreground: None };
            assert_eq!(Tty.restore(body, &none()).unwrap_err().kind(), Kind::Damaged, "{path}");
        }
    }
}
