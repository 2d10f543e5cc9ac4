//! Collects the objects that open files share, each once.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::unix::fs::MetadataExt;

use crate::dump::spool::{Spool, SpooledBlob};
use crate::error::Result;
use crate::image::frame::Record;
use crate::kind::external::{self, External, Key, Keys};
use crate::kind::object::{DumpContext, DynObject, ObjectContents};
use crate::kind::observed::ObservedFile;
use crate::sys::pid::Pid;
use crate::sys::proc::process;
use crate::sys::{clock, proc};

/// The objects of a tree. A kind of open file gets this as its [`DumpContext`], and nothing else of
/// the dump.
pub struct ObjectCollector {
    tree: BTreeSet<Pid>,
    /// The processes may run: objects are checked and not recorded.
    only_checks: bool,
    /// A time when the tree was already stopped, in ticks since boot.
    instant: u64,
    /// In the order of their ids.
    records: Vec<CollectedObject>,
    /// Their large blobs.
    spool: Spool,
    /// By device and inode.
    ids: BTreeMap<(u64, u64), u32>,
    reaching_out: Vec<ReachesOut>,
    /// Objects with descriptions, each with the reason why no process of the tree may read it.
    unreadable: BTreeMap<u32, Option<String>>,
}

/// An object that is recorded.
pub struct CollectedObject {
    /// Its record.
    pub record: Record,
    /// Where its blob is, if the record does not have it.
    pub blob: Option<SpooledBlob>,
    /// Its contents in bulk.
    pub contents: Option<ObjectContents>,
}

/// An object that a process outside the tree may hold an end of.
struct ReachesOut {
    id: u32,
    kind: &'static dyn DynObject,
    key: Key,
}

impl ObjectCollector {
    /// `tree` holds the pids of all processes of the tree, which are stopped.
    pub fn of(tree: BTreeSet<Pid>) -> Self {
        let instant = clock::boot_ticks();
        Self {
            tree,
            only_checks: false,
            instant,
            records: Vec::new(),
            spool: Spool::default(),
            ids: BTreeMap::new(),
            reaching_out: Vec::new(),
            unreadable: BTreeMap::new(),
        }
    }

    /// The same for processes that may run. No object is recorded.
    pub fn that_checks(tree: BTreeSet<Pid>) -> Self {
        Self { only_checks: true, ..Self::of(tree) }
    }

    /// Finds which processes outside the tree hold a part of an object, and says so in the record
    /// of the object: a restore does not make such an object. It reads every descriptor of the
    /// whole system, so it runs when the tree runs again. A process that was born after the tree
    /// was stopped does not count, and one that has ended since is missed.
    pub fn settle(&mut self) -> Result<()> {
        let keys = Keys::of(self.reaching_out.iter().map(|it| it.key));
        // Most trees have no such object, and then no process is searched.
        let pids = if keys.is_empty() { Vec::new() } else { proc::numbers("/proc")? };
        let mut outside: BTreeMap<Key, External> = BTreeMap::new();
        for pid in pids {
            let held = external::held_by(pid, &keys);
            if held.is_empty() || !external::is_outside(pid, &self.tree, self.instant) {
                continue;
            }
            for holder in held {
                let key = holder.key;
                let external = match outside.remove(&key) {
                    Some(external) => external.held_too(&holder),
                    None => External::of(&holder)?,
                };
                outside.insert(key, external);
            }
        }
        for object in &self.reaching_out {
            let Some(external) = outside.remove(&object.key) else { continue };
            let collected = &mut self.records[object.id as usize];
            collected.record = object.kind.external(&collected.record, external)?;
            // Its contents stay outside.
            collected.blob = None;
        }
        Ok(())
    }

    /// Why contents of some objects are not for the user of the tree.
    pub fn unreadable(&self) -> Vec<String> {
        self.unreadable.values().flatten().cloned().collect()
    }

    /// The records, in the order of their ids, and the file of their large blobs.
    pub fn into_records(self) -> (Vec<CollectedObject>, Option<File>) {
        (self.records, self.spool.into_file())
    }
}

impl DumpContext for ObjectCollector {
    fn id_of(&mut self, kind: &'static dyn DynObject, observed: &ObservedFile<'_>) -> Result<u32> {
        let key = (observed.stat.dev(), observed.stat.ino());
        if let Some(id) = self.ids.get(&key) {
            return Ok(*id);
        }
        let id = self.records.len() as u32;
        if self.only_checks {
            kind.check(observed)?;
            self.ids.insert(key, id);
            return Ok(id);
        }
        let (mut record, contents) = kind.dump(id, observed)?;
        let blob = self.spool.take(&mut record)?;
        self.records.push(CollectedObject { record, blob, contents });
        if kind.reaches_out() {
            self.reaching_out.push(ReachesOut { id, kind, key });
        }
        self.ids.insert(key, id);
        Ok(id)
    }

    fn only_checks(&self) -> bool {
        self.only_checks
    }

    fn is_in_tree(&self, pid: Pid) -> bool {
        // /proc has a directory for each thread as well, which it does not list.
        self.tree.contains(&pid) || process::of_task(pid).is_some_and(|pid| self.tree.contains(&pid))
    }

    fn holds(&mut self, id: u32, may_not_read: Option<String>) {
        let known = self.unreadable.entry(id).or_insert_with(|| may_not_read.clone());
        if may_not_read.is_none() {
            *known = None;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::process::Command;

    use nix::fcntl::OFlag;
    use nix::unistd::pipe2;

    use super::*;
    use crate::file::pipe::Pipe;
    use crate::kind::observed::fake::{observed_fd, this};

    #[test]
    fn an_object_is_recorded_once_and_marked_if_it_is_held_outside() {
        let (this, (from, to)) = (this(), pipe2(OFlag::O_CLOEXEC).unwrap());
        let pid = std::process::id() as Pid;
        let mut objects = ObjectCollector::of(BTreeSet::from([pid]));
        assert_eq!(objects.id_of(&Pipe, &observed_fd(&from, &this)).unwrap(), 0);
        assert_eq!(objects.id_of(&Pipe, &observed_fd(&to, &this)).unwrap(), 0);
        let (other, _end) = pipe2(OFlag::O_CLOEXEC).unwrap();
        assert_eq!(objects.id_of(&Pipe, &observed_fd(&other, &this)).unwrap(), 1);
        assert!(objects.is_in_tree(pid) && !objects.is_in_tree(pid + 1));
        // A child of the tree does not count, but it counts for any other tree.
        let mut child = Command::new("sleep").arg("100").stdout(to).spawn().unwrap();
        let external = |objects: &ObjectCollector| -> Vec<serde_json::Value> {
            let bodies = objects.records.iter().map(|it| it.record.body::<serde_json::Value>().unwrap());
            bodies.map(|mut body| body["external"].take()).collect()
        };
        objects.settle().unwrap();
        assert_eq!(external(&objects), [serde_json::Value::Null, serde_json::Value::Null]);
        (objects.tree, objects.instant) = (BTreeSet::new(), clock::boot_ticks() + 1);
        objects.settle().unwrap();
        let marked = external(&objects);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!((&marked[0]["pid"], &marked[0]["writes"]), (&child.id().into(), &true.into()));
        assert_eq!((marked[0].get("reads"), &marked[1]), (None, &serde_json::Value::Null));
    }
}
