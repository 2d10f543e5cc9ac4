//! The time namespace of a restored tree. The first root makes it and enters it before it has any
//! other thread; the other roots join it, and every other process inherits it.

use crate::error::{Context, Doing, Result};
use crate::pstree::clocks::Clocks;
use crate::sys::pid::Pid;
use crate::sys::remote::checked::Checked;
use crate::sys::remote::owned::Owned;

/// A time namespace that goes on from the clocks of an image.
pub struct TimeNamespace {
    clocks: Clocks,
    /// The root that has made it.
    first: Option<Pid>,
}

/// What an error adds to a refusal of the kernel.
const HINT: &str =
    "a time namespace for clocks that must not go back (-o clock=host restores with the clocks of this machine)";

impl TimeNamespace {
    /// Nothing is made before the first root enters.
    pub fn new(clocks: Clocks) -> Self {
        Self { clocks, first: None }
    }

    /// Makes a new root enter. It has a single thread and needs none of its descriptors.
    pub fn enter(&mut self, pid: Pid, root: &mut Owned) -> Result<()> {
        let hint = || format!("pid {pid}: {HINT}");
        let mut calls = Checked::new(root.scratch());
        let path = match self.first {
            Some(first) => format!("/proc/{first}/ns/time"),
            None => {
                calls.call(libc::SYS_unshare, [libc::CLONE_NEWTIME as u64], "unshare(CLONE_NEWTIME)");
                calls.flush(root).on(hint)?;
                // The kernel takes them until the first process is in.
                let offsets = format!("/proc/{pid}/timens_offsets");
                let text = self.clocks.offsets(Clocks::now())?;
                std::fs::write(&offsets, text).doing(|| format!("writing {offsets}")).on(hint)?;
                self.first = Some(pid);
                "/proc/self/ns/time_for_children".to_owned()
            }
        };
        calls.call(libc::SYS_close_range, [0, u64::from(u32::MAX), 0], "closing descriptors");
        let path_at = calls.put_str(path.as_bytes());
        let flags = (libc::O_RDONLY | libc::O_CLOEXEC) as u64;
        calls.call_giving(libc::SYS_openat, [libc::AT_FDCWD as u64, path_at.0, flags, 0], 0, format!("opening {path}"));
        calls.call(libc::SYS_setns, [0, libc::CLONE_NEWTIME as u64], "setns(CLONE_NEWTIME)");
        calls.call(libc::SYS_close, [0], format!("closing {path}"));
        calls.flush(root).on(hint)
    }
}
