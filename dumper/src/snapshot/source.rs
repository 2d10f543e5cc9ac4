//! What a snapshot is read from: copy-on-write children, or the stopped tree itself.

use std::collections::BTreeMap;

use crate::cow::child;
use crate::cow::children::Children;
use crate::dump::{CollectedProcess, memory};
use crate::error::{Error, Result};
use crate::freeze::Frozen;
use crate::freeze::entry::Entry;
use crate::memory::source::Kept;
use crate::sys::pid::Pid;
use crate::sys::remote::inject::Injected;

/// What a snapshot is read from.
pub enum SnapshotSource {
    /// Copy-on-write children; the tree goes on.
    Children(Children),
    /// The stopped tree itself, and children that are of no use.
    Tree(Frozen, Children),
}

impl SnapshotSource {
    /// Everybody goes on, and no child is left.
    pub fn let_go(self) {
        match self {
            SnapshotSource::Children(children) => children.end(),
            SnapshotSource::Tree(frozen, children) => {
                drop(frozen);
                children.end();
            }
        }
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
        Self { children: Children::default(), kept: BTreeMap::new(), failure: None, budget: memory::KEPT_MOST }
    }
}

impl Forks {
    /// Forks a process, and copies what its child does not get.
    pub fn fork(&mut self, injected: &mut Injected<'_>, seen: &mut CollectedProcess, door: &Entry) -> Result<()> {
        let child = child::fork(injected, seen.pid, &memory::attachments(seen)?)?;
        let pid = child.pid();
        self.children.push(child).unmap(&seen.locked)?;
        let kept = memory::keep_what_fork_drops(seen, door, pid, &mut self.budget)?;
        self.kept.extend(kept.into_iter().map(|(start, kept)| ((seen.pid, start), kept)));
        Ok(())
    }
}
