//! The mount as a tree of nodes: what fuse.rs asks, answered without a word of FUSE.
//!
//! Order of locks: every lock of this crate is a leaf, taken and given back without another one inside and without a
//! call into the engine, but for two: a restore session's, which is held while bytes are restored, and inside which the
//! journal's, the container's and the status's are taken; and the table of tracers, under which a tracer is started.

mod attr;
mod files;

pub use attr::Attr;
pub use files::Access;

use std::ffi::OsStr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ckptfs_dumper::{Error, Kind, Options, Pid, Result};
use parking_lot::{Mutex, RwLock};

use crate::container::Container;
use crate::control::Freezer;
use crate::inodes::Inodes;
use crate::node::{Node, Role};
use crate::process::{self, Clock, ProcId, Range};
use crate::restore::Journal;
use crate::snapshots::Snapshots;
use crate::status::Status;
use crate::tracers::Tracers;
use files::Handles;

/// One entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Inode number.
    pub ino: u64,
    /// Whether it is a directory.
    pub directory: bool,
    /// Its name.
    pub name: String,
}

/// The mount.
pub struct Tree {
    container: Arc<Container>,
    clock: Clock,
    mounted: SystemTime,
    owner: (u32, u32),
    patience: Duration,
    inodes: Inodes,
    snapshots: Snapshots,
    freezer: Freezer,
    journal: Arc<Journal>,
    status: Arc<Status>,
    /// A leaf lock.
    handles: RwLock<Handles>,
    /// Open handles on `status`, and the length of the text of the last one. A leaf lock.
    status_open: Mutex<(usize, u64)>,
}

impl Tree {
    /// The tree of `container`, dumped and restored with `options`.
    pub fn new(container: Container, options: Options, mountpoint: String) -> Result<Tree> {
        let container = Arc::new(container);
        let status = Arc::new(Status::new(container.target().to_string(), mountpoint));
        let tracers = Tracers::new(options.clone());
        Ok(Tree {
            clock: Clock::new()?,
            mounted: SystemTime::now(),
            owner: (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw()),
            patience: options.freeze_timeout,
            inodes: Inodes::new(),
            snapshots: Snapshots::new(Arc::clone(&tracers), Arc::clone(&status)),
            freezer: Freezer::new(tracers),
            journal: Journal::new(Arc::clone(&container), Arc::clone(&status), options.changed_files),
            container,
            status,
            handles: RwLock::default(),
            status_open: Mutex::default(),
        })
    }

    /// The entry `name` of directory `parent`; the kernel holds its number once more.
    pub fn lookup(&self, parent: u64, name: &OsStr) -> Result<Attr> {
        let child = self.child(self.node(parent)?, name).ok_or_else(|| no_entry(name.display()))?;
        let attr = self.attr_of(child)?;
        self.inodes.look_up(child);
        Ok(attr)
    }

    /// The kernel forgets `count` lookups of `ino`.
    pub fn forget(&self, ino: u64, count: u64) {
        self.inodes.forget(ino, count, ProcId::is_alive);
    }

    /// What stat(2) tells of `ino`.
    pub fn attr(&self, ino: u64) -> Result<Attr> {
        self.attr_of(self.node(ino)?)
    }

    /// The entries of directory `ino`, without `.` and `..`.
    pub fn list(&self, ino: u64) -> Result<Vec<Entry>> {
        let node = self.node(ino)?;
        let mut children: Vec<(String, Node)> =
            node.fixed_children().into_iter().map(|(name, node)| (name.to_owned(), node)).collect();
        match node {
            Node::Root => {
                let members = self.container.members()?;
                self.inodes.prune(|node| node.process().is_none_or(|id| members.binary_search(&id).is_ok()));
                self.freezer.forget_dead();
                children.extend(members.into_iter().map(|id| (id.pid.to_string(), Node::Folder(id))));
            }
            Node::Folder(id) if !id.is_alive() => return Err(no_entry(id.pid)),
            Node::Vmas(id) => {
                let ranges = self.ranges(id).ok_or_else(|| no_entry(id.pid))?;
                self.inodes.prune(|node| match node {
                    Node::Vma(owner, range) => owner != id || ranges.contains(&range),
                    _ => true,
                });
                children.extend(ranges.into_iter().map(|range| (range.to_string(), Node::Vma(id, range))));
            }
            _ => {}
        }
        let entry = |(name, node): (String, Node)| Entry {
            ino: self.inodes.number(node),
            directory: node.role() == Role::Directory,
            name,
        };
        Ok(children.into_iter().map(entry).collect())
    }

    fn node(&self, ino: u64) -> Result<Node> {
        self.inodes.node(ino).ok_or_else(|| no_entry(format_args!("inode {ino}")))
    }

    fn child(&self, parent: Node, name: &OsStr) -> Option<Node> {
        if let Some(node) = parent.fixed_child(name) {
            return node.process().is_none_or(ProcId::is_alive).then_some(node);
        }
        let name = name.to_str()?;
        match parent {
            Node::Root => {
                let pid = name.parse::<Pid>().ok().filter(|pid| pid.to_string() == name)?;
                self.container.find(pid).map(Node::Folder)
            }
            Node::Vmas(id) => {
                let node = Node::Vma(id, Range::parse(name)?);
                // To read all mappings for each of them would make `ls -l` quadratic: what was listed is there until the
                // next listing. An open looks again.
                let listed = self.inodes.knows(node) && id.is_alive();
                (listed || self.ranges(id)?.iter().any(|&range| Node::Vma(id, range) == node)).then_some(node)
            }
            _ => None,
        }
    }

    /// What `vmas/` lists: the open snapshot's mappings, or those of now.
    fn ranges(&self, id: ProcId) -> Option<Vec<Range>> {
        match self.snapshots.peek(id).and_then(|view| view.vmas().ok()) {
            Some(vmas) => Some(vmas.iter().map(|vma| Range { start: vma.start, end: vma.end }).collect()),
            None => process::mappings(id.pid),
        }
    }
}

fn no_entry(what: impl std::fmt::Display) -> Error {
    Error::new(Kind::NotFound, format!("{what}: no such entry"))
}

fn refused(errno: i32, sentence: &str) -> Error {
    Error::new(Kind::System(errno), sentence)
}

#[cfg(test)]
mod tests;
