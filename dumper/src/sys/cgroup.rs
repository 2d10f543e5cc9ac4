//! Control groups, version 2 (Documentation/admin-guide/cgroup-v2.rst): the cgroup of each process
//! in the hierarchy that is visible to this process.

use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, fstatfs};

use crate::error::{Doing, Error, Kind, Result};
use crate::sys::pid::Pid;
use crate::sys::proc;
use crate::sys::proc::mountinfo::{self, Mount};

/// The path of a task in the hierarchy, `/proc/PID[/task/TID]/cgroup`. `None` if there is no
/// version 2.
pub fn path_of(task: &str) -> Result<Option<PathBuf>> {
    let text = proc::read(&format!("/proc/{task}/cgroup"))?;
    Ok(parse_path(&text).map(|path| OsStr::from_bytes(path).into()))
}

/// A line per hierarchy: "ID:CONTROLLERS:PATH". That of version 2 is number 0 and has no
/// controllers.
fn parse_path(text: &[u8]) -> Option<&[u8]> {
    text.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"0::"))
}

/// The directory of a path in the hierarchy. `None` if no mount shows it. It need not exist.
pub fn directory(path: &Path) -> Result<Option<PathBuf>> {
    Ok(shown_by(&mountinfo::mounts()?, path))
}

/// In the first of all mounts of the hierarchy that holds `path`.
fn shown_by(mounts: &[Mount], path: &Path) -> Option<PathBuf> {
    mounts.iter().filter(|mount| mount.kind == b"cgroup2").find_map(|mount| {
        let below = path.strip_prefix(&mount.root).ok()?;
        Some(mount.mountpoint.join(below))
    })
}

/// The cgroup at `dir` and those below it, each with the pids that its `cgroup.procs` lists. 0
/// stands for a process without a number in this pid namespace. A lower cgroup that vanishes
/// meanwhile has none.
///
/// # Errors
/// The list of the cgroup at `dir` itself cannot be read.
pub fn members(dir: &Path) -> Result<Vec<(PathBuf, Vec<Pid>)>> {
    let file = dir.join("cgroup.procs");
    let text = std::fs::read_to_string(&file).doing(|| format!("reading {}", file.display()))?;
    let mut found = Vec::new();
    let mut dirs = vec![(dir.to_owned(), text)];
    while let Some((dir, text)) = dirs.pop() {
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                // The upper cgroup lists the processes of a threaded cgroup below it (EOPNOTSUPP
                // here).
                let text = std::fs::read_to_string(entry.path().join("cgroup.procs")).unwrap_or_default();
                dirs.push((entry.path(), text));
            }
        }
        found.push((dir, text.lines().filter_map(|line| line.parse().ok()).collect()));
    }
    Ok(found)
}

/// The processes of the cgroup at `dir` and of those below it, ascending.
///
/// # Errors
/// EOPNOTSUPP for a threaded cgroup, and for a process without a number in this pid namespace.
pub fn pids(dir: &Path) -> Result<Vec<Pid>> {
    let mut found = Vec::new();
    for (dir, pids) in members(dir)? {
        if pids.contains(&0) {
            return Err(Error::unsupported(format!(
                "cgroup {}: a process in it is of another pid namespace and cannot be checkpointed",
                dir.display()
            )));
        }
        found.extend(pids);
    }
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

/// Whether the cgroup at `dir` is frozen or about to be, by itself or with one above. The top one
/// never is.
pub fn is_frozen(dir: &Path) -> bool {
    let read = |name: &str| std::fs::read_to_string(dir.join(name)).unwrap_or_default();
    read("cgroup.events").lines().any(|line| line == "frozen 1") || read("cgroup.freeze").trim() == "1"
}

/// Whether a process is in the cgroup at `dir` or below it.
pub fn holds(dir: &Path, pid: Pid) -> bool {
    let of = path_of(&pid.to_string()).ok().flatten().and_then(|path| directory(&path).ok().flatten());
    of.is_some_and(|of| of.starts_with(dir))
}

/// Moves a process with all its threads to the cgroup at `path` in the hierarchy, if it is not
/// there already.
///
/// # Errors
/// ENOENT: the cgroup does not exist. EBUSY: it is frozen, so no process could be made in it.
pub fn join(pid: Pid, path: &Path) -> Result<()> {
    if path_of(&pid.to_string())?.as_deref() == Some(path) {
        return Ok(());
    }
    let gone = |what: &str| Error::new(Kind::NotFound, format!("pid {pid}: its cgroup {} {what}", path.display()));
    // A path that the kernel shows has none of these.
    if path.components().any(|part| !matches!(part, Component::RootDir | Component::Normal(_))) {
        return Err(Error::damaged(format!("pid {pid}: {} is no path of a cgroup", path.display())));
    }
    let dir = directory(path)?.ok_or_else(|| gone("is in no cgroup v2 hierarchy that is mounted here"))?;
    if !dir.is_dir() {
        return Err(gone("does not exist"));
    }
    if is_frozen(&dir) {
        return Err(Error::new(Kind::Busy, format!("pid {pid}: its cgroup {} is frozen", path.display())));
    }
    let file = dir.join("cgroup.procs");
    let doing = || format!("pid {pid}: writing it to {}", file.display());
    let mut opened = std::fs::File::options().write(true).open(&file).doing(doing)?;
    // Something else may be mounted there, or on the way.
    if fstatfs(&opened).doing(doing)?.filesystem_type() != CGROUP2_SUPER_MAGIC {
        return Err(gone("is no cgroup: another filesystem is mounted there"));
    }
    opened.write_all(pid.to_string().as_bytes()).doing(doing)?;
    match path_of(&pid.to_string())? {
        Some(now) if now == path => Ok(()),
        now => Err(gone(&format!("took it, and yet it is in {}", now.unwrap_or_default().display()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_of_version_2_among_others() {
        assert_eq!(parse_path(b"9:name=systemd:/\n4:memory:/a\n0::/b c/d:\xff\n"), Some(&b"/b c/d:\xff"[..]));
        assert_eq!(parse_path(b"4:memory:/a\n"), None);
    }

    #[test]
    fn the_mount_that_shows_a_path() {
        let mounts = b"30 20 0:26 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n\
                      31 20 0:27 /a /mnt/a\\040part rw,nosuid shared:9 - cgroup2 cgroup2 rw\n\
                      32 20 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let of = |path| shown_by(&mountinfo::parse_mounts(mounts), Path::new(path));
        assert_eq!(of("/a/b"), Some("/mnt/a part/b".into()));
        assert_eq!(of("/ab"), Some("/sys/fs/cgroup/unified/ab".into()));
        assert_eq!(shown_by(&[], Path::new("/a")), None);
    }
}
