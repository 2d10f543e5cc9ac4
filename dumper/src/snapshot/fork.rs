//! The copy-on-write children of a stopped tree, made one process after the other.

use crate::cow::child;
use crate::cow::children::Children;
use crate::dump::{CollectedProcess, memory};
use crate::error::{Error, Result};
use crate::freeze::entry::Entry;
use crate::sys::marks::Marks;
use crate::sys::remote::inject::Injected;

/// The children made so far.
pub struct Forks {
    /// One child for each process that has memory of its own.
    pub children: Children,
    /// Why some process has no child. The image is then read from the stopped tree, or not at all.
    pub failure: Option<Error>,
    /// Bytes that may still be copied into the daemon.
    budget: u64,
    /// The marks of the children.
    marks: Option<Marks>,
}

impl Forks {
    /// No child is made yet. With a `failure` none will be.
    pub fn new(failure: Option<Error>) -> Self {
        Self { children: Children::default(), failure, budget: memory::KEPT_MOST, marks: None }
    }

    /// Forks a process, and copies what its child does not get. After a failure no other process is
    /// forked, because its child would be of no use.
    pub fn fork(&mut self, injected: &mut Injected<'_>, process: &mut CollectedProcess, entry: &Entry) {
        if self.failure.is_none() {
            self.failure = self.try_fork(injected, process, entry).err();
        }
    }

    fn try_fork(&mut self, injected: &mut Injected<'_>, process: &mut CollectedProcess, entry: &Entry) -> Result<()> {
        let marks = match &self.marks {
            Some(marks) => marks,
            None => self.marks.insert(Marks::new()?),
        };
        let (child, settled) = child::fork(injected, process.pid, &memory::attachments(process)?, marks)?;
        let pid = child.pid();
        let child = self.children.push(child);
        settled?;
        // Before its process runs again and copies pages.
        child.die_first()?;
        child.unmap(&process.lock_mappings)?;
        memory::keep_what_fork_drops(process, entry, pid, &mut self.budget)
    }
}
