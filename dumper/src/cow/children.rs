//! The copy-on-write children of one tree.

use std::collections::BTreeMap;

use crate::cow::child::Child;
use crate::sys::cgroup;
use crate::sys::pid::Pid;

/// Copy-on-write children. Dropping them kills them. Only [`Children::end`] makes their parents
/// reap them.
#[derive(Default)]
pub struct Children(Vec<Child>);

impl Children {
    /// Adds a child. From now on it must be reaped, even if a later step fails.
    pub fn push(&mut self, child: Child) -> &mut Child {
        self.0.push(child);
        let last = self.0.len() - 1;
        &mut self.0[last]
    }

    /// The child of each process that has one.
    pub fn pids(&self) -> BTreeMap<Pid, Pid> {
        self.0.iter().map(|child| (child.parent(), child.pid())).collect()
    }

    /// Unmaps shared mappings from the children. The image never reads them, and they would keep
    /// files open, including locks that are taken later.
    pub fn close_files(&mut self, shared: &BTreeMap<Pid, Vec<(u64, u64)>>) {
        for child in &mut self.0 {
            let ranges = shared.get(&child.parent()).map_or(&[][..], Vec::as_slice);
            // A sealed mapping (mseal(2)) stays. If a child has ended, the next read of it reports
            // that.
            if let Err(error) = child.unmap(ranges) {
                log::debug!("pid {}: {error}", child.parent());
            }
        }
    }

    /// Keeps them out of actions that are meant for their processes. In the daemon's own cgroup
    /// neither `cgroup.kill` nor the container's out-of-memory killer finds them, and they do not
    /// keep a container's cgroup from being empty. Their pages stay charged to the old cgroup
    /// (cgroup v2, "Memory Ownership"). Without a command line `pkill -f` does not find them.
    pub fn stand_aside(&mut self) {
        let own = cgroup::path_of("self").ok().flatten();
        for child in &mut self.0 {
            let moved = own.as_ref().map_or(Ok(()), |own| cgroup::join(child.pid(), own));
            // Where this fails, the children live until one of these actions kills them.
            if let Err(error) = moved.and(child.hide_command_line()) {
                log::debug!("pid {}: {error}", child.parent());
            }
        }
    }

    /// Kills all of them, which frees their memory. They stay zombies until [`Children::end`].
    pub fn kill(&mut self) {
        self.0.iter_mut().for_each(Child::kill);
    }

    /// Kills all of them, then makes the parent of each reap it. The parents must run again.
    pub fn end(mut self) {
        self.kill();
        self.0.into_iter().for_each(Child::end);
    }
}
