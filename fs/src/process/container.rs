//! The container: which processes belong to the mount.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ckptfs_dumper::{Doing, Error, Kind, Pid, Result, cgroup, may_be_in_the_making};
use nix::sys::statfs::{CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC, statfs};
use parking_lot::Mutex;

use crate::process::{ProcId, Process, process_of_thread};

/// What the mount shows.
#[derive(Clone, Debug)]
pub enum MountTarget {
    /// Every process of the daemon's pid namespace.
    All,
    /// A process and its descendants.
    Tree(ProcId),
    /// The processes of a cgroup directory and of those below it.
    Cgroup(PathBuf),
    /// The processes of a stored image; no living process.
    Image(PathBuf),
}

impl MountTarget {
    /// The tree of `pid`, which must be alive.
    pub fn tree(pid: Pid) -> Result<MountTarget> {
        match Process::read(pid) {
            // /proc shows a thread like a process. But a thread is never a parent, so its tree
            // would be empty.
            Some(_) if let Some(leader) = process_of_thread(pid).filter(|leader| *leader != pid) => {
                let sentence = format!("--tree {pid}: a thread of process {leader}, not a process");
                Err(Error::new(Kind::NoProcess, sentence))
            }
            Some(process) if !process.ended => Ok(MountTarget::Tree(process.id)),
            _ => Err(Error::new(Kind::NoProcess, format!("--tree {pid}: no such process"))),
        }
    }

    /// The image in `file`.
    pub fn image(file: &Path) -> Result<MountTarget> {
        file.canonicalize().doing(|| format!("--image {}", file.display())).map(MountTarget::Image)
    }

    /// The cgroup at `dir`, which must be one.
    pub fn cgroup(dir: &Path) -> Result<MountTarget> {
        let doing = || format!("--cgroup {}", dir.display());
        let dir = dir.canonicalize().doing(doing)?;
        let filesystem = statfs(&dir).doing(doing)?.filesystem_type();
        // A directory of any filesystem may hold a file with the name cgroup.procs.
        if ![CGROUP2_SUPER_MAGIC, CGROUP_SUPER_MAGIC].contains(&filesystem) {
            return Err(Error::os(format!("{}: not a cgroup", doing()), libc::EINVAL));
        }
        std::fs::metadata(dir.join("cgroup.procs")).doing(|| format!("{}: not a cgroup: cgroup.procs", doing()))?;
        Ok(MountTarget::Cgroup(dir))
    }
}

impl fmt::Display for MountTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MountTarget::All => write!(f, "all"),
            MountTarget::Tree(root) => write!(f, "tree {}", root.pid),
            MountTarget::Cgroup(dir) => write!(f, "cgroup {}", dir.display()),
            MountTarget::Image(file) => write!(f, "image {}", file.display()),
        }
    }
}

/// Whether a pid is to be hidden: the copy-on-write child of a snapshot.
pub type Hidden = Box<dyn Fn(Pid) -> bool + Send + Sync>;

/// How long a list waits for snapshot children that are being created. After that, a process that
/// resembles one in everything but its name is listed.
const CREATION_TIMEOUT: Duration = Duration::from_millis(250);

/// Older processes are no snapshot children that were without a name a moment ago.
const CREATION_AGE: Duration = Duration::from_secs(2);

/// The processes of a mount. They are read from /proc each time, so no entry is stale.
pub struct Container {
    target: MountTarget,
    daemon: Pid,
    hidden: Hidden,
    /// The processes that this mount has restored. They belong to a tree or cgroup although their
    /// parent is the daemon. A leaf lock.
    restored: Mutex<Vec<ProcId>>,
}

impl Container {
    /// The processes of `target`, without this process and without those that are `hidden`.
    pub fn new(target: MountTarget, hidden: Hidden) -> Container {
        Container { target, daemon: std::process::id() as Pid, hidden, restored: Mutex::default() }
    }

    /// What the mount shows.
    pub fn target(&self) -> &MountTarget {
        &self.target
    }

    /// All members, ascending by pid.
    pub fn members(&self) -> Result<Vec<ProcId>> {
        let all = Process::all()?;
        let mut members: Vec<ProcId> = match &self.target {
            MountTarget::Image(_) => Vec::new(),
            MountTarget::All => all.iter().map(|process| process.id).collect(),
            MountTarget::Tree(root) => below(&all, self.roots(Some(*root))).into_iter().collect(),
            MountTarget::Cgroup(dir) => {
                let mut ids = below(&all, self.roots(None));
                let pids: HashSet<Pid> = cgroup_pids(dir).into_iter().collect();
                ids.extend(all.iter().map(|process| process.id).filter(|id| pids.contains(&id.pid)));
                ids.into_iter().collect()
            }
        };
        let known: HashMap<ProcId, &Process> = all.iter().map(|process| (process.id, process)).collect();
        members.retain(|id| known.get(id).is_some_and(|process| self.is_visible(process)));
        // A process that is listed now and hidden in a moment would be an entry without a folder.
        let end = Instant::now() + CREATION_TIMEOUT;
        while members.iter().any(|id| may_be_in_the_making(id.pid)) && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(1));
            members.retain(|id| id.is_alive() && !(self.hidden)(id.pid));
        }
        // One that was without a name above may have been named since, or have ended.
        members.retain(|id| !id.is_younger_than(CREATION_AGE) || id.is_alive() && !(self.hidden)(id.pid));
        members.sort_unstable();
        Ok(members)
    }

    /// The member with this pid, if there is one now.
    pub fn find(&self, pid: Pid) -> Option<ProcId> {
        let process = Process::read(pid).filter(|process| self.is_visible(process))?;
        let belongs = match &self.target {
            MountTarget::Image(_) => false,
            MountTarget::All => true,
            MountTarget::Tree(root) => is_below(process, &self.roots(Some(*root))),
            MountTarget::Cgroup(dir) => is_below(process, &self.roots(None)) || cgroup_pids(dir).contains(&pid),
        };
        belongs.then_some(process.id)
    }

    /// `root` and its descendants, without hidden ones. `root` is first. Empty once `root` has
    /// gone.
    pub fn tree_of(&self, root: ProcId) -> Result<Vec<ProcId>> {
        let all = Process::all()?;
        let visible = |id: &ProcId| !(self.hidden)(id.pid) && id.pid != self.daemon;
        let mut ids: Vec<ProcId> = below(&all, vec![root]).into_iter().filter(visible).collect();
        ids.sort_unstable_by_key(|id| (*id != root, *id));
        Ok(ids)
    }

    /// The whole container: the key of the tracer that stops it, and the target of that tracer. A
    /// container that is one tree has the tracer of the tree.
    pub fn whole(&self) -> Result<(ProcId, ckptfs_dumper::Target)> {
        let pids = match &self.target {
            MountTarget::All => {
                let sentence = format!(
                    "the container is the whole pid namespace: the dump would freeze the daemon (pid {}) and the reader too; mount \
                     with --cgroup or --tree",
                    self.daemon
                );
                return Err(Error::new(Kind::Deadlock, sentence));
            }
            MountTarget::Tree(_) | MountTarget::Image(_) => HashSet::new(),
            MountTarget::Cgroup(dir) => cgroup_pids(dir).into_iter().collect(),
        };
        if let (MountTarget::Tree(root), true) = (&self.target, self.restored.lock().is_empty()) {
            // No other process must be read.
            let exists =
                Process::read(root.pid).is_some_and(|process| process.id == *root && self.is_visible(&process));
            return if exists {
                Ok((*root, ckptfs_dumper::Target::tree(root.pid)))
            } else {
                Err(self.has_no_process())
            };
        }
        let all = Process::all()?;
        let root = match &self.target {
            MountTarget::Tree(root) => Some(*root),
            MountTarget::All | MountTarget::Cgroup(_) | MountTarget::Image(_) => None,
        };
        // A process that descends from another root is among its descendants already.
        let members = below(&all, self.roots(root));
        let known: HashSet<Pid> = members.iter().map(|id| id.pid).collect();
        let is_root = |process: &&Process| {
            members.contains(&process.id) && !known.contains(&process.parent) && self.is_visible(process)
        };
        let mut roots: Vec<ProcId> = all.iter().filter(is_root).map(|process| process.id).collect();
        roots.retain(|id| !pids.contains(&id.pid));
        roots.sort_unstable();
        let pids = |roots: &[ProcId]| roots.iter().map(|id| id.pid).collect();
        match (&self.target, &roots[..]) {
            (MountTarget::Cgroup(dir), roots) => {
                Ok((ProcId::CONTAINER, ckptfs_dumper::Target::set(pids(roots), Some(dir.clone()))))
            }
            (_, []) => Err(self.has_no_process()),
            (_, [root]) => Ok((*root, ckptfs_dumper::Target::tree(root.pid))),
            (_, roots) => Ok((ProcId::CONTAINER, ckptfs_dumper::Target::set(pids(roots), None))),
        }
    }

    fn has_no_process(&self) -> Error {
        Error::new(Kind::NoProcess, format!("{}: no process of it is left", self.target))
    }

    /// Makes these processes members from now on: this mount has restored them.
    pub fn adopt(&self, pids: &[Pid]) {
        let mut restored = self.restored.lock();
        restored.retain(|id| id.is_alive());
        restored.extend(pids.iter().filter_map(|&pid| Process::read(pid)).map(|process| process.id));
    }

    fn is_visible(&self, process: &Process) -> bool {
        !process.kernel && !process.ended && process.id.pid != self.daemon && !(self.hidden)(process.id.pid)
    }

    fn roots(&self, root: Option<ProcId>) -> Vec<ProcId> {
        root.into_iter().chain(self.restored.lock().iter().copied()).collect()
    }
}

/// The processes of `roots` that are in `all`, and their descendants.
fn below(all: &[Process], roots: Vec<ProcId>) -> HashSet<ProcId> {
    let mut children: HashMap<Pid, Vec<ProcId>> = HashMap::new();
    for process in all {
        children.entry(process.parent).or_default().push(process.id);
    }
    let present: HashSet<ProcId> = all.iter().map(|process| process.id).collect();
    let mut found = HashSet::new();
    let mut queue: Vec<ProcId> = roots.into_iter().filter(|id| present.contains(id)).collect();
    while let Some(id) = queue.pop() {
        if found.insert(id) {
            queue.extend(children.get(&id.pid).into_iter().flatten());
        }
    }
    found
}

/// Whether `process` is one of `roots` or descends from one. The chain of parents ends at pid 1 or
/// outside.
fn is_below(process: Process, roots: &[ProcId]) -> bool {
    let mut at = Some(process);
    while let Some(process) = at {
        if roots.contains(&process.id) {
            return true;
        }
        // Parents are read one after the other while processes start and end. A child is never
        // older than its parent: this check also prevents a circle through reused pids.
        at = Process::read(process.parent).filter(|parent| parent.id.pid != 0 && parent.id.start <= process.id.start);
        if at.is_some_and(|parent| parent.id == process.id) {
            return false;
        }
    }
    false
}

/// The pids of a cgroup and of the cgroups below it. A cgroup that vanishes meanwhile has none.
fn cgroup_pids(dir: &Path) -> Vec<Pid> {
    let groups = cgroup::members(dir).unwrap_or_default();
    // 0 stands for a process in a pid namespace outside the daemon's. The mount cannot show it, but
    // shows the others.
    groups.into_iter().flat_map(|(_, pids)| pids).filter(|pid| *pid > 0).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::testing::Sleeper;

    fn container(target: MountTarget) -> Container {
        Container::new(target, Box::new(|_| false))
    }

    #[test]
    fn a_tree_is_the_process_and_its_descendants_and_no_other() {
        let (parent, stranger) = (Sleeper::with_child(), Sleeper::new());
        let tree = container(MountTarget::tree(parent.pid()).unwrap());
        let pids: Vec<Pid> = tree.members().unwrap().iter().map(|id| id.pid).collect();
        assert_eq!(pids.len(), 2, "{pids:?}");
        assert!(pids.contains(&parent.pid()));
        for pid in pids {
            assert_eq!(tree.find(pid).unwrap().pid, pid);
        }
        assert_eq!(tree.find(stranger.pid()), None);
        assert_eq!(tree.find(std::process::id() as Pid), None);
        let root = tree.find(parent.pid()).unwrap();
        assert_eq!(tree.tree_of(root).unwrap()[0], root);
    }

    #[test]
    fn the_dead_and_zombies_are_gone_and_a_restored_process_comes_back() {
        let mut victim = Sleeper::new();
        let tree = container(MountTarget::tree(victim.pid()).unwrap());
        assert!(tree.find(victim.pid()).is_some());
        victim.kill_unreaped();
        assert_eq!(tree.find(victim.pid()), None, "a zombie is no member");
        assert!(tree.members().unwrap().is_empty());
        let restored = Sleeper::new();
        assert_eq!(tree.find(restored.pid()), None);
        tree.adopt(&[restored.pid()]);
        assert_eq!(tree.members().unwrap(), [tree.find(restored.pid()).unwrap()]);
    }

    #[test]
    fn all_means_all_but_the_daemon_the_kernel_and_the_hidden() {
        let (seen, unseen) = (Sleeper::new(), Sleeper::new());
        let hidden = unseen.pid();
        let all = Container::new(MountTarget::All, Box::new(move |pid| pid == hidden));
        let pids: Vec<Pid> = all.members().unwrap().iter().map(|id| id.pid).collect();
        assert!(pids.contains(&seen.pid()) && pids.is_sorted());
        assert!(!pids.contains(&hidden) && !pids.contains(&(std::process::id() as Pid)));
        assert!(all.find(seen.pid()).is_some() && all.find(hidden).is_none());
        let tree = Container::new(MountTarget::tree(hidden).unwrap(), Box::new(move |pid| pid == hidden));
        assert!(tree.members().unwrap().is_empty(), "hidden wins over the tree");
    }

    #[test]
    fn targets_that_are_not_there_are_refused_by_name() {
        let gone = Sleeper::new().into_dead();
        assert_eq!(MountTarget::tree(gone).unwrap_err().to_string(), format!("--tree {gone}: no such process"));
        let folder = tempfile::tempdir().unwrap();
        let text = MountTarget::cgroup(folder.path()).unwrap_err().to_string();
        assert!(text.contains("not a cgroup") && text.contains(folder.path().to_str().unwrap()), "{text}");
    }

    #[test]
    fn a_cgroup_is_read_with_those_below_it() {
        let (upper, lower, outside) = (Sleeper::new(), Sleeper::new(), Sleeper::new());
        // A directory that looks like a cgroup. The test checks how it is read.
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("sub")).unwrap();
        std::fs::write(folder.path().join("cgroup.procs"), format!("0\n{}\n", upper.pid())).unwrap();
        std::fs::write(folder.path().join("sub/cgroup.procs"), format!("{}\n", lower.pid())).unwrap();
        let group = container(MountTarget::Cgroup(folder.path().to_owned()));
        let mut pids: Vec<Pid> = group.members().unwrap().iter().map(|id| id.pid).collect();
        pids.sort_unstable();
        let mut wanted = [upper.pid(), lower.pid()];
        wanted.sort_unstable();
        assert_eq!(pids, wanted);
        assert!(group.find(lower.pid()).is_some() && group.find(outside.pid()).is_none());
    }
}
