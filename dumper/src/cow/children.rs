//! What a snapshot is read from: copy-on-write children, or the stopped tree itself.

use std::collections::BTreeMap;

use crate::cow::child::{self, Child};
use crate::dump::process::{self, LookedProcess};
use crate::error::{Error, Result};
use crate::freeze::Frozen;
use crate::freeze::entry::Door;
use crate::memory::page_set::Kept;
use crate::sys::cgroup;
use crate::sys::pid::Pid;
use crate::sys::remote::inject::Injected;

/// What a snapshot is read from.
pub enum Held {
    /// Copy-on-write children; the tree goes on.
    Children(Children),
    /// The stopped tree itself, and children that are of no use.
    Tree(Frozen, Children),
}

impl Held {
    /// Everybody goes on, and no child is left.
    pub fn let_go(self) {
        match self {
            Held::Children(children) => children.end(),
            Held::Tree(frozen, children) => {
                drop(frozen);
                children.end();
            }
        }
    }
}

/// Copy-on-write children.
#[derive(Default)]
pub struct Children(Vec<Child>);

impl Children {
    /// One more: it has to be reaped from now on, whatever becomes of it.
    pub fn push(&mut self, child: Child) -> &mut Child {
        self.0.push(child);
        let last = self.0.len() - 1;
        &mut self.0[last]
    }

    /// By the process that each is the memory of.
    pub fn pids(&self) -> BTreeMap<Pid, Pid> {
        self.0.iter().map(|child| (child.parent(), child.pid())).collect()
    }

    /// No page of the image is read from shared mappings, and their files would stay open: with locks that are taken from now on.
    pub fn close_files(&mut self, shared: &BTreeMap<Pid, Vec<(u64, u64)>>) {
        for child in &mut self.0 {
            let ranges = shared.get(&child.parent()).map_or(&[][..], Vec::as_slice);
            // One that is sealed (mseal(2)) stays. A child that has ended says so when it is read.
            if let Err(error) = child.unmap(ranges) {
                log::debug!("pid {}: {error}", child.parent());
            }
        }
    }

    /// Puts them out of the way of what is meant for their process. In the daemon's own cgroup neither `cgroup.kill` nor the out-of-memory
    /// killer of the container meets them, and they do not keep a container's cgroup from being empty; what the pages cost stays charged
    /// where it was (cgroup v2, "Memory Ownership"). Without a command line `pkill -f` does not find them.
    pub fn stand_aside(&mut self) {
        let own = cgroup::path_of("self").ok().flatten();
        for child in &mut self.0 {
            let moved = own.as_ref().map_or(Ok(()), |own| cgroup::join(child.pid(), own));
            // Where that cannot be done they live as long as they are let.
            if let Err(error) = moved.and(child.hide_command_line()) {
                log::debug!("pid {}: {error}", child.parent());
            }
        }
    }

    /// Kills all of them, which frees their memory. They are zombies until [`Children::end`].
    pub fn kill(&mut self) {
        self.0.iter_mut().for_each(Child::kill);
    }

    /// Kills all of them, then has each reaped by its parent, which must go on by now.
    pub fn end(mut self) {
        self.kill();
        self.0.into_iter().for_each(Child::end);
    }
}

/// What is made while the tree is stopped.
pub struct Forks {
    /// One of each that has memory of its own.
    pub children: Children,
    /// What a child cannot have, by process and start of the mapping.
    pub kept: BTreeMap<(Pid, u64), Kept>,
    /// Why there cannot be a child of each.
    pub failure: Option<Error>,
    budget: u64,
}

impl Default for Forks {
    fn default() -> Self {
        Self { children: Children::default(), kept: BTreeMap::new(), failure: None, budget: process::KEPT_MOST }
    }
}

impl Forks {
    /// Forks a process, and copies what its child does not get.
    pub fn fork(&mut self, injected: &mut Injected<'_>, seen: &mut LookedProcess, door: &Door) -> Result<()> {
        let child = child::fork(injected, seen.pid, &process::attachments(seen)?)?;
        let pid = child.pid();
        self.children.push(child).unmap(&seen.locked)?;
        let kept = process::keep_what_fork_drops(seen, door, pid, &mut self.budget)?;
        self.kept.extend(kept.into_iter().map(|(start, kept)| ((seen.pid, start), kept)));
        Ok(())
    }
}
