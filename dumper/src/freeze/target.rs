//! Which processes to stop: the tree of a process, or all that are in a cgroup.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;

use crate::error::{Error, Kind, Result};
use crate::freeze::snapshot_child::is_snapshot_child;
use crate::sys::cgroup;
use crate::sys::pid::Pid;
use crate::sys::proc::process::{children, has_ended, parent};

/// A set of processes. Its members are listed anew each time.
#[derive(Clone, Debug)]
pub struct Target {
    roots: Vec<Pid>,
    cgroup: Option<PathBuf>,
}

impl Target {
    /// A process and its descendants.
    pub fn tree(root: Pid) -> Self {
        Self { roots: vec![root], cgroup: None }
    }

    /// Several processes and their descendants, and all members of a cgroup v2 directory and of
    /// those below it, wherever their parents are. A member's child in another cgroup does not
    /// belong to the set.
    pub fn set(roots: Vec<Pid>, cgroup: Option<PathBuf>) -> Self {
        Self { roots, cgroup }
    }

    /// The only root, if it is one tree.
    pub fn root(&self) -> Option<Pid> {
        match (&self.roots[..], &self.cgroup) {
            ([root], None) => Some(*root),
            _ => None,
        }
    }

    /// The processes that belong to it now: parents before children, without snapshot children. A
    /// child that has ended belongs with the parent that has not reaped it yet, in whatever cgroup
    /// it was.
    pub fn members(&self) -> Result<Vec<Pid>> {
        let mut found = Vec::new();
        let mut seen = BTreeSet::new();
        let mut add = |found: &mut Vec<Pid>, pid: Pid| {
            if seen.insert(pid) {
                found.push(pid);
            }
        };
        let mut at = 0;
        self.roots.iter().for_each(|root| add(&mut found, *root));
        while let Some(&pid) = found.get(at) {
            at += 1;
            children(pid)
                .into_iter()
                .filter(|child| !is_snapshot_child(*child))
                .for_each(|child| add(&mut found, child));
        }
        let Some(dir) = &self.cgroup else { return Ok(found) };
        let inside: BTreeSet<Pid> = cgroup::pids(dir)?.into_iter().filter(|pid| !is_snapshot_child(*pid)).collect();
        let is_root = |pid: &&Pid| !parent(**pid).is_some_and(|parent| inside.contains(&parent));
        inside.iter().filter(is_root).for_each(|pid| add(&mut found, *pid));
        while let Some(&pid) = found.get(at) {
            at += 1;
            let belongs = |child: &Pid| inside.contains(child) || !is_snapshot_child(*child) && has_ended(*child);
            children(pid).into_iter().filter(belongs).for_each(|child| add(&mut found, child));
        }
        // Processes that have lost their parent meanwhile.
        inside.iter().for_each(|pid| add(&mut found, *pid));
        Ok(found)
    }

    /// Refuses a member with a child that is not a member, because the parent would lose the child.
    /// All members must be stopped.
    pub fn refuse_lost_children(&self, members: &BTreeSet<Pid>) -> Result<()> {
        if self.cgroup.is_none() {
            return Ok(());
        }
        for pid in members {
            let lost = |child: &Pid| !members.contains(child) && !is_snapshot_child(*child);
            if let Some(child) = children(*pid).into_iter().find(lost) {
                let path = cgroup::path_of(&child.to_string()).ok().flatten().unwrap_or_default();
                return Err(Error::unsupported(format!(
                    "pid {pid}: its child, pid {child}, is in cgroup {}, outside of {self}, and would be lost",
                    path.display()
                )));
            }
        }
        Ok(())
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.roots[..], &self.cgroup) {
            (_, Some(dir)) => write!(f, "cgroup {}", dir.display()),
            ([], None) => write!(f, "nobody"),
            ([root], None) => write!(f, "pid {root}"),
            ([root, others @ ..], None) => write!(f, "pid {root} and {} others", others.len()),
        }
    }
}

/// Refuses a freeze of `reader`, the process that asks for it, or of this process.
///
/// # Errors
/// [`Kind::Deadlock`].
pub fn refuse_reader(target: &Target, members: &[Pid], reader: Option<Pid>) -> Result<()> {
    let daemon = Some(std::process::id() as Pid);
    let found = [("reader", reader), ("daemon", daemon)]
        .into_iter()
        .find_map(|(who, pid)| pid.filter(|pid| members.contains(pid)).map(|pid| (who, pid)));
    match found {
        Some((who, pid)) => Err(Error::new(
            Kind::Deadlock,
            format!("{target}: the {who} (pid {pid}) belongs to it and would freeze itself"),
        )),
        None => Ok(()),
    }
}
