//! Looking up and listing names; mkdir, rmdir and rename of pinned snapshots.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};

use ckptfs_dumper::{Pid, Result};

use crate::node::{File, Node, Of, PinId, Role};
use crate::process::caller::{Caller, Viewer};
use crate::process::{self, ProcId, Range, rights};
use crate::tree::Tree;
use crate::tree::entry::{Attr, Entry, no_entry, refused};

impl Tree {
    /// The entries of directory `ino` as `caller` may see them, without `.` and `..`.
    pub fn list(&self, ino: u64, caller: Caller) -> Result<Vec<Entry>> {
        let node = self.node(ino)?;
        if !self.exists(node) {
            return Err(no_entry(format_args!("inode {ino}")));
        }
        let fixed = self.fixed_children(node).into_iter();
        let mut children: Vec<(OsString, Node)> = fixed.map(|(name, node)| (name.into(), node)).collect();
        match node {
            Node::Root => match self.stored {
                Some(pin) => children.extend(self.processes_of(pin)),
                None => children.extend(self.processes()?),
            },
            // Nothing else is left of a process that has ended.
            Node::Folder(Of::Live(id)) if !id.is_alive() => {
                children.retain(|(_, child)| matches!(child, Node::Snapshots(_)));
            }
            Node::Folder(Of::Pinned(pin)) => {
                let others = self.others_of(pin).into_iter();
                children.extend(others.map(|pid| (name_of(pid), Node::Folder(Of::Within(pin, pid)))));
            }
            Node::Snapshots(pid) => {
                let pins = self.snapshots.pins();
                let is_seen = |pin: PinId| pins.view(pin).is_some_and(|view| view.is_in_part_of(caller.viewer()));
                let pinned = pins.names(pid).into_iter().filter(|(_, pin)| is_seen(*pin));
                children.extend(pinned.map(|(name, pin)| (name, Node::Folder(Of::Pinned(pin)))));
            }
            Node::Vmas(of) => {
                // The process may have executed a set-user-ID program since the mode bits were
                // checked.
                let who = caller.identify();
                let ranges = match self.snapshots.peek(of) {
                    Some(view) => view.permits(&who, of.pid()).map(|()| self.ranges(of))?,
                    None if who.is_as_mighty() => self.ranges(of),
                    None => {
                        rights::may_read(&who, &[of.pid()])?;
                        who.ask(|| self.ranges(of))?
                    }
                };
                let ranges = ranges.ok_or_else(|| no_entry(of.pid()))?;
                if of.pin().is_none() {
                    let known: HashSet<Range> = ranges.iter().copied().collect();
                    self.inodes.prune(|node| match node {
                        Node::Vma(owner, range) => owner != of || known.contains(&range),
                        _ => true,
                    });
                }
                children.extend(ranges.into_iter().map(|range| (range.to_string().into(), Node::Vma(of, range))));
            }
            _ => {}
        }
        let viewer = caller.viewer();
        let entry = |(name, node): (OsString, Node)| Entry {
            ino: self.inodes.number(node.seen_by(viewer)),
            directory: node.role() == Role::Directory,
            name,
        };
        Ok(children.into_iter().map(entry).collect())
    }

    /// The members, and the ended processes that have pinned snapshots, by pid.
    fn processes(&self) -> Result<Vec<(OsString, Node)>> {
        let mut ids = self.container.members()?;
        let pins = self.snapshots.pins();
        let left = pins.last_of_each().into_iter().map(|pin| pin.of);
        let left: Vec<ProcId> = left.filter(|id| ids.binary_search_by_key(&id.pid, |id| id.pid).is_err()).collect();
        ids.extend(left);
        ids.sort_unstable();
        let numbers: HashSet<Pid> = ids.iter().map(|id| id.pid).collect();
        let pinned: HashSet<PinId> = pins.all().into_iter().map(|pinned| pinned.pin).collect();
        // Whether it exists is asked outside of the lock of the table. A row that is made meanwhile
        // is not among them, and stays.
        let apart = self.inodes.all(|node| matches!(node.of(), Some(Of::Apart(_))));
        let gone: HashSet<Node> = apart.into_iter().filter(|node| !self.exists(*node)).collect();
        self.inodes.prune(|node| match node {
            Node::Snapshots(pid) => pid == ProcId::CONTAINER.pid || numbers.contains(&pid),
            node => match node.of() {
                None | Some(Of::CONTAINER) => true,
                Some(Of::Live(id)) => ids.binary_search(&id).is_ok(),
                Some(Of::Apart(_)) => !gone.contains(&node),
                Some(Of::Pinned(pin) | Of::Within(pin, _)) => pinned.contains(&pin),
            },
        });
        pins.prune(|pid| numbers.contains(&pid));
        self.freezer.forget_dead();
        Ok(ids.into_iter().map(|id| (name_of(id.pid), Node::Folder(Of::Live(id)))).collect())
    }

    /// The fixed entries of a directory. The root of a mount of an image has no control files.
    fn fixed_children(&self, node: Node) -> Vec<(&'static str, Node)> {
        match (node, self.stored) {
            (Node::Root, Some(pin)) => {
                vec![("image", Node::File(Of::Pinned(pin), File::Image)), ("status", Node::Status(Viewer::All))]
            }
            _ => node.fixed_children(),
        }
    }

    /// A folder for each process of the image that the whole mount shows. The folder of the root
    /// process has the image.
    fn processes_of(&self, pin: PinId) -> Vec<(OsString, Node)> {
        let view = self.snapshots.pins().view(pin);
        let of = |pid: Pid| if pid == pin.of.pid { Of::Pinned(pin) } else { Of::Within(pin, pid) };
        view.iter().flat_map(|view| view.pids()).map(|pid| (name_of(pid), Node::Folder(of(pid)))).collect()
    }

    /// The processes of a pinned snapshot that have folders of their own in it.
    fn others_of(&self, pin: PinId) -> Vec<Pid> {
        if self.stored == Some(pin) {
            return Vec::new();
        }
        let view = self.snapshots.pins().view(pin);
        view.iter().flat_map(|view| view.pids()).filter(|pid| *pid != pin.of.pid).collect()
    }

    /// Whether the node would be found by its path now.
    pub(super) fn exists(&self, node: Node) -> bool {
        let pins = self.snapshots.pins();
        let has_pins = |pid| pins.last_of(pid).is_some();
        match (node, node.of()) {
            (Node::Snapshots(pid), _) => {
                pid == ProcId::CONTAINER.pid || has_pins(pid) || self.container.find(pid).is_some()
            }
            (_, None | Some(Of::CONTAINER)) => true,
            (Node::Folder(_), Some(Of::Live(id))) => id.is_alive() || has_pins(id.pid),
            (_, Some(Of::Live(id))) => id.is_alive(),
            (_, Some(of @ Of::Apart(apart))) => self.sharing.is_reserved(apart) || self.snapshots.peek(of).is_some(),
            (_, Some(Of::Pinned(pin) | Of::Within(pin, _))) => pins.holds(pin),
        }
    }

    /// The entry `name` of directory `parent`, if it exists.
    pub(super) fn child(&self, parent: Node, name: &OsStr) -> Option<Node> {
        if let Some((_, node)) = self.fixed_children(parent).into_iter().find(|(known, _)| name == *known) {
            return self.exists(node).then_some(node);
        }
        let number = || {
            let name = name.to_str()?;
            name.parse::<Pid>().ok().filter(|pid| pid.to_string() == name)
        };
        match parent {
            Node::Root if self.stored.is_some() => {
                let all = self.stored.map(|pin| self.processes_of(pin)).unwrap_or_default();
                all.into_iter().find(|(known, _)| known == name).map(|(_, node)| node)
            }
            Node::Root => {
                let pid = number().filter(|pid| *pid > 0)?;
                let left = || self.snapshots.pins().last_of(pid).map(|pin| pin.of);
                self.container.find(pid).or_else(left).map(|id| Node::Folder(Of::Live(id)))
            }
            Node::Folder(Of::Pinned(pin)) => {
                let pid = number()?;
                self.others_of(pin).contains(&pid).then_some(Node::Folder(Of::Within(pin, pid)))
            }
            Node::Snapshots(pid) => self.snapshots.pins().find(pid, name).map(|pin| Node::Folder(Of::Pinned(pin))),
            Node::Vmas(of) => {
                let node = Node::Vma(of, Range::parse(name.to_str()?)?);
                // Reading all mappings for each of them would make `ls -l` quadratic. So a listed
                // mapping exists until the next listing, and an open checks it.
                let listed = self.inodes.knows(node) && self.exists(node);
                (listed || self.ranges(of)?.iter().any(|&range| Node::Vma(of, range) == node)).then_some(node)
            }
            _ => None,
        }
    }

    /// The entries of `vmas/`: the mappings of the instant that is pinned or open, otherwise the
    /// current ones.
    fn ranges(&self, of: Of) -> Option<Vec<Range>> {
        match (self.snapshots.peek(of).and_then(|view| view.mappings(of.pid()).ok()), of) {
            (Some(vmas), _) => Some(vmas.iter().map(|vma| Range { start: vma.start, end: vma.end }).collect()),
            (None, of) => of.live().and_then(|id| process::mappings(id.pid)),
        }
    }

    /// mkdir(2): takes a snapshot and pins it as `name`. Counts one lookup of it by the kernel.
    /// Blocks until the process continues.
    pub fn make_directory(&self, parent: u64, name: &OsStr, caller: Caller) -> Result<Attr> {
        let Node::Snapshots(pid) = self.node(parent)? else { return Err(refused(libc::EPERM, NOT_HERE)) };
        let id = if pid == ProcId::CONTAINER.pid { Some(ProcId::CONTAINER) } else { self.container.find(pid) };
        let who = caller.identify();
        let reader = process::process_of_thread(caller.thread);
        let pin = self.snapshots.pin(pid, id, name, reader, caller.uid)?;
        if let Some(Err(error)) = self.snapshots.pins().view(pin).map(|view| view.permits_all(&who)) {
            self.snapshots.unpin(pid, name)?;
            self.status.failed("pin", id.unwrap_or(ProcId::ended(pid)), &error);
            return Err(error);
        }
        let node = Node::Folder(Of::Pinned(pin));
        let attr = self.attr_of(node)?;
        self.inodes.look_up(node);
        Ok(attr)
    }

    /// rmdir(2): removes a pinned snapshot.
    pub fn remove_directory(&self, parent: u64, name: &OsStr) -> Result<()> {
        let Node::Snapshots(pid) = self.node(parent)? else { return Err(refused(libc::EPERM, NOT_HERE)) };
        let pin = self.snapshots.unpin(pid, name)?;
        self.inodes.prune(|node| node.of().and_then(Of::pin) != Some(pin));
        Ok(())
    }

    /// Renames a pinned snapshot. No other snapshot is ever replaced.
    pub fn rename(&self, parent: u64, name: &OsStr, new_parent: u64, new: &OsStr) -> Result<()> {
        match (self.node(parent)?, self.node(new_parent)?) {
            (Node::Snapshots(pid), Node::Snapshots(to)) if pid == to => self.snapshots.pins().rename(pid, name, new),
            _ => Err(refused(libc::EPERM, "a pinned snapshot can be renamed in its own directory only")),
        }
    }
}

const NOT_HERE: &str = "directories can be created and removed in snapshots/ only";

/// The name of the folder of a process.
fn name_of(pid: Pid) -> OsString {
    pid.to_string().into()
}
