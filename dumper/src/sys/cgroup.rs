//! Control groups, version 2 (Documentation/admin-guide/cgroup-v2.rst): who is in which, as this process sees the hierarchy.

use std::path::{Path, PathBuf};

use crate::sys::proc;
use crate::{Error, Kind, Pid, Result};

/// The path of a task in the hierarchy, `/proc/PID[/task/TID]/cgroup`; `None` where there is no version 2.
pub fn path_of(task: &str) -> Result<Option<String>> {
    Ok(parse_path(&proc::read_text(&format!("/proc/{task}/cgroup"))?).map(str::to_owned))
}

/// A line per hierarchy: "ID:CONTROLLERS:PATH"; that of version 2 is number 0 and has no controllers.
fn parse_path(text: &str) -> Option<&str> {
    text.lines().find_map(|line| line.strip_prefix("0::"))
}

/// The directory of a path in the hierarchy; `None` where no mount shows it. It need not exist.
pub fn directory(path: &str) -> Result<Option<PathBuf>> {
    Ok(parse_mounts(&proc::read_text("/proc/self/mountinfo")?, path))
}

/// Of all mounts of the hierarchy (proc_pid_mountinfo(5)) the first that holds `path`.
fn parse_mounts(text: &str, path: &str) -> Option<PathBuf> {
    text.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let mut words = before.split(' ').skip(3);
        let (root, mountpoint) = (words.next()?, words.next()?);
        let below = Path::new(path).strip_prefix(root).ok().filter(|_| after.starts_with("cgroup2 "))?;
        Some(Path::new(mountpoint).join(below))
    })
}

/// The processes of the cgroup at `dir` and of those below it, ascending.
///
/// # Errors
/// EOPNOTSUPP for a threaded cgroup, and for a process that this pid namespace does not number. A cgroup below that vanishes has nobody.
pub fn pids(dir: &Path) -> Result<Vec<Pid>> {
    let file = dir.join("cgroup.procs");
    let text = std::fs::read_to_string(&file)
        .map_err(|error| Error::io(format_args!("reading {}", file.display()), &error))?;
    let mut found = Vec::new();
    let mut dirs = vec![(dir.to_owned(), text)];
    while let Some((dir, text)) = dirs.pop() {
        for pid in text.lines().filter_map(|line| line.parse::<Pid>().ok()) {
            if pid == 0 {
                return Err(Error::unsupported(format!(
                    "cgroup {}: a process in it is of another pid namespace and cannot be checkpointed",
                    dir.display()
                )));
            }
            found.push(pid);
        }
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                // The processes of a threaded cgroup below are listed by the one above (EOPNOTSUPP here).
                let text = std::fs::read_to_string(entry.path().join("cgroup.procs")).unwrap_or_default();
                dirs.push((entry.path(), text));
            }
        }
    }
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

/// Whether the cgroup at `dir` is frozen or about to be, by itself or with one above; the top one never is.
pub fn is_frozen(dir: &Path) -> bool {
    let read = |name: &str| std::fs::read_to_string(dir.join(name)).unwrap_or_default();
    read("cgroup.events").lines().any(|line| line == "frozen 1") || read("cgroup.freeze").trim() == "1"
}

/// Whether a process is in the cgroup at `dir` or below it.
pub fn holds(dir: &Path, pid: Pid) -> bool {
    let of = path_of(&pid.to_string()).ok().flatten().and_then(|path| directory(&path).ok().flatten());
    of.is_some_and(|of| of.starts_with(dir))
}

/// Moves a process with all its threads to the cgroup at `path` in the hierarchy, if it is not there already.
///
/// # Errors
/// ENOENT names a cgroup that does not exist; EBUSY one that is frozen: nothing could be made there.
pub fn join(pid: Pid, path: &str) -> Result<()> {
    if path_of(&pid.to_string())?.as_deref() == Some(path) {
        return Ok(());
    }
    let gone = |what: &str| Error::new(Kind::NotFound, format!("pid {pid}: its cgroup {path} {what}"));
    let dir = directory(path)?.ok_or_else(|| gone("is in no cgroup v2 hierarchy that is mounted here"))?;
    if !dir.is_dir() {
        return Err(gone("does not exist"));
    }
    if is_frozen(&dir) {
        return Err(Error::new(Kind::Busy, format!("pid {pid}: its cgroup {path} is frozen")));
    }
    let file = dir.join("cgroup.procs");
    std::fs::write(&file, pid.to_string())
        .map_err(|error| Error::io(format_args!("pid {pid}: writing it to {}", file.display()), &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_of_version_2_among_others() {
        assert_eq!(parse_path("9:name=systemd:/\n4:memory:/a\n0::/b c/d:e\n"), Some("/b c/d:e"));
        assert_eq!(parse_path("4:memory:/a\n"), None);
    }

    #[test]
    fn the_mount_that_shows_a_path() {
        let mounts = "30 20 0:26 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n\
                      31 20 0:27 /a /mnt/part rw,nosuid shared:9 - cgroup2 cgroup2 rw\n\
                      32 20 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let of = |path| parse_mounts(mounts, path);
        assert_eq!(of("/a/b"), Some("/mnt/part/b".into()));
        assert_eq!(of("/ab"), Some("/sys/fs/cgroup/unified/ab".into()));
        assert_eq!(parse_mounts("", "/a"), None);
    }
}
