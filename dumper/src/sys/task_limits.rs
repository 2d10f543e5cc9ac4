//! The limits on the number of tasks that a process may have beside it: the pids controller of its
//! cgroup and of those above it (Documentation/admin-guide/cgroup-v1/pids.rst, cgroup-v2.rst), and
//! RLIMIT_NPROC of its user (setrlimit(2)).

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::error::Result;
use crate::sys::pid::Pid;
use crate::sys::proc;
use crate::sys::proc::mountinfo::Mount;
use crate::sys::proc::status::Fields;

/// A limit on the number of tasks, and how many of them are in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskLimit {
    /// What sets the limit, for a person.
    pub name: String,
    /// Tasks that are in use, or that have been at the same time before.
    pub used: u64,
    /// Tasks that may be in use.
    pub most: u64,
}

/// The limits of the pids controller for a process with this text in /proc/PID/cgroup, as far as
/// `mounts` shows them.
pub fn of_cgroups(text: &[u8], mounts: &[Mount]) -> Vec<TaskLimit> {
    let Some((top, dir)) = pids_directory(text, mounts) else { return Vec::new() };
    dir.ancestors().take_while(|dir| dir.starts_with(&top)).filter_map(limit_of_cgroup).collect()
}

/// The directory of a process in the hierarchy that has the pids controller, and the mount point of
/// that hierarchy. `text` is /proc/PID/cgroup.
fn pids_directory(text: &[u8], mounts: &[Mount]) -> Option<(PathBuf, PathBuf)> {
    let has_pids = |list: &[u8]| list.split(|byte| *byte == b',').any(|word| word == b"pids");
    let lines = text.split(|byte| *byte == b'\n').filter_map(|line| {
        let mut parts = line.splitn(3, |byte| *byte == b':').skip(1);
        Some((parts.next()?, Path::new(OsStr::from_bytes(parts.next()?))))
    });
    // A controller is in one hierarchy only. Version 2 has no list of controllers here, so a
    // hierarchy of version 1 comes first.
    let (mut first, mut second) = (None, None);
    for (controllers, path) in lines {
        let is_ours = |mount: &&Mount| match controllers {
            b"" => mount.kind == b"cgroup2",
            _ => has_pids(controllers) && mount.kind == b"cgroup" && has_pids(&mount.options),
        };
        let found = mounts.iter().filter(is_ours).find_map(|mount| {
            let below = path.strip_prefix(&mount.root).ok()?;
            Some((mount.mountpoint.clone(), mount.mountpoint.join(below)))
        });
        if controllers.is_empty() { second = second.or(found) } else { first = first.or(found) }
    }
    first.or(second)
}

/// The limit that one cgroup sets, if it sets one.
fn limit_of_cgroup(dir: &Path) -> Option<TaskLimit> {
    let number = |name: &str| std::fs::read_to_string(dir.join(name)).ok()?.trim().parse::<u64>().ok();
    // Without a limit the file holds "max".
    let most = number("pids.max")?;
    let used = number("pids.current")?.max(number("pids.peak").unwrap_or(0));
    Some(TaskLimit { name: format!("pids.max of cgroup {}", dir.display()), used, most })
}

/// All tasks of the machine.
pub fn all_tasks() -> u64 {
    // "0.20 0.18 0.12 1/80 11206"
    let total = |text: String| text.split_ascii_whitespace().nth(3)?.split_once('/')?.1.parse().ok();
    proc::read_text("/proc/loadavg").ok().and_then(total).unwrap_or(u64::MAX)
}

/// The limit of RLIMIT_NPROC for a process. `None` if it has none, or one that is far above `all`,
/// the tasks of all users: to count the tasks of one user takes long. `counted` has the users whose
/// tasks were counted before.
pub fn of_user(pid: Pid, all: u64, counted: &mut BTreeMap<u64, u64>) -> Result<Option<TaskLimit>> {
    let Some(most) = soft_nproc(&proc::read_text(&format!("/proc/{pid}/limits"))?) else { return Ok(None) };
    if all < most / 4 {
        return Ok(None);
    }
    let status = Fields::read(&format!("/proc/{pid}/status"))?;
    let uid = status.number("Uid");
    if is_exempt(pid, uid, status.hex("CapEff")) {
        return Ok(None);
    }
    let used = match counted.get(&uid) {
        Some(used) => *used,
        None => *counted.entry(uid).or_insert(tasks_of(uid)?),
    };
    Ok(Some(TaskLimit { name: format!("RLIMIT_NPROC of user {uid}"), used, most }))
}

/// The soft limit in /proc/PID/limits.
fn soft_nproc(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("Max processes"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// The kernel does not hold this limit against root, nor against a process with one of two
/// capabilities in the first user namespace (copy_process in kernel/fork.c).
fn is_exempt(pid: Pid, uid: u64, capabilities: u64) -> bool {
    use std::os::unix::fs::MetadataExt;
    /// PROC_USER_INIT_INO, include/linux/proc_ns.h.
    const FIRST_USER_NAMESPACE: u64 = 0xefff_fffd;
    const CAP_SYS_ADMIN: u64 = 1 << 21;
    const CAP_SYS_RESOURCE: u64 = 1 << 24;
    let is_first = std::fs::metadata(format!("/proc/{pid}/ns/user")).is_ok_and(|it| it.ino() == FIRST_USER_NAMESPACE);
    is_first && (uid == 0 || capabilities & (CAP_SYS_ADMIN | CAP_SYS_RESOURCE) != 0)
}

/// The tasks of a user.
fn tasks_of(uid: u64) -> Result<u64> {
    let status = |pid: Pid| Fields::read(&format!("/proc/{pid}/status")).ok();
    let all = proc::numbers("/proc")?.into_iter().filter_map(status);
    Ok(all
        .filter(|status| status.has("Uid") && status.number("Uid") == uid)
        .map(|it| it.number("Threads").max(1))
        .sum())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::sys::proc::mountinfo::parse_mounts;

    #[test]
    fn a_hierarchy_of_version_1_comes_first() {
        let mounts = parse_mounts(
            b"30 20 0:26 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n\
              31 20 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
              32 20 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
        );
        let of = |text: &[u8]| pids_directory(text, &mounts).map(|(_, dir)| dir);
        let both = b"3:cpu:/x\n2:pids:/a\n0::/b\n";
        assert_eq!(of(both), Some("/sys/fs/cgroup/pids/a".into()));
        assert_eq!(of(b"0::/b\n"), Some("/sys/fs/cgroup/unified/b".into()));
        assert_eq!(of(b"3:cpu:/x\n"), None);
    }

    #[test]
    fn limits_are_read_where_they_are_set() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        assert_eq!(limit_of_cgroup(dir.path()), None);
        write("pids.current", "3\n");
        write("pids.max", "max\n");
        assert_eq!(limit_of_cgroup(dir.path()), None);
        write("pids.max", "10\n");
        assert_eq!(limit_of_cgroup(dir.path()).map(|it| (it.used, it.most)), Some((3, 10)));
        write("pids.peak", "7\n");
        assert_eq!(limit_of_cgroup(dir.path()).map(|it| (it.used, it.most)), Some((7, 10)));
    }

    #[test]
    fn the_texts_of_proc() {
        assert_eq!(soft_nproc("Limit  Soft Limit\nMax processes             128  96364  processes\n"), Some(128));
        assert_eq!(soft_nproc("Max processes             unlimited  unlimited  processes\n"), None);
    }

    #[test]
    fn the_tasks_of_a_user_are_counted() {
        let uid = u64::from(nix::unistd::getuid().as_raw());
        assert!((1..=all_tasks() + 100).contains(&tasks_of(uid).unwrap()));
        assert_eq!(tasks_of(0xdead_beef).unwrap(), 0);
    }
}
