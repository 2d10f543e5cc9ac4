//! Processes as `/proc` shows them (proc(5)). A process that ends while it is looked at is simply not there.

use std::fs;
use std::path::{Path, PathBuf};

use ckptfs_dumper::Pid;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, waitpid};

/// The state letter of a process; `None` if there is no such process.
pub fn state(pid: Pid) -> Option<char> {
    stat(pid)?.first()?.chars().next()
}

/// Whether the process exists and is no zombie. One whose main thread alone has ended lives.
pub fn is_alive(pid: Pid) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    threads
        .filter_map(|thread| thread.file_name().to_str()?.parse().ok())
        .any(|tid| state(tid).is_some_and(|state| !matches!(state, 'Z' | 'X')))
}

/// The parent's pid.
pub fn parent(pid: Pid) -> Option<Pid> {
    stat(pid)?.get(1)?.parse().ok()
}

/// Everybody whose parent is `pid`, zombies too. A scan of all processes: `/proc/PID/task/*/children` may leave some out
/// while the tree changes.
pub fn children(pid: Pid) -> Vec<Pid> {
    all().into_iter().filter(|child| parent(*child) == Some(pid)).collect()
}

/// `root` and everybody below it, parents before their children, and whoever else has its executable or its working directory in `dir`;
/// zombies too, as far as a parent tells whose they are. Copy-on-write children belong to the daemon that reads them, and are left out.
pub fn tree(root: Pid, dir: &Path) -> Vec<Pid> {
    let everybody: Vec<(Pid, Pid)> = all().into_iter().filter_map(|pid| Some((pid, parent(pid)?))).collect();
    let in_dir = |pid: Pid| ["cwd", "exe"].iter().any(|name| link(pid, name).is_some_and(|path| path.starts_with(dir)));
    // One whose process has died has the exit signal of any other orphan; its name is left.
    let ours =
        |pid: Pid| !ckptfs_dumper::is_snapshot_child(pid) && status(pid, "Name").as_deref() != Some("ckptfs-snapshot");
    let mut found: Vec<Pid> = everybody.iter().map(|(pid, _)| *pid).filter(|pid| *pid == root).collect();
    let mut others = everybody.iter().map(|(pid, _)| *pid).filter(|pid| in_dir(*pid));
    let mut looked_below = 0;
    loop {
        if let Some(parent) = found.get(looked_below).copied() {
            found.extend(everybody.iter().filter(|(pid, above)| *above == parent && ours(*pid)).map(|(pid, _)| *pid));
            looked_below += 1;
        } else if let Some(other) = others.next() {
            found.extend((!found.contains(&other) && ours(other)).then_some(other));
        } else {
            return found;
        }
    }
}

/// Whoever is in a session or a process group of one of these ids, zombies too.
pub fn of_sessions(ids: &[Pid]) -> Vec<Pid> {
    let belongs = |pid: Pid| {
        let stat = stat(pid).unwrap_or_default();
        stat.iter().skip(2).take(2).filter_map(|id| id.parse().ok()).any(|id| ids.contains(&id))
    };
    all().into_iter().filter(|pid| belongs(*pid)).collect()
}

/// From now on whoever loses its parent below this process becomes its child, to be waited for by [`is_free`]: init takes its time, and until
/// then the pid of a killed grandchild is not free (`PR_SET_CHILD_SUBREAPER`, prctl(2)).
pub fn adopt_orphans() {
    nix::sys::prctl::set_child_subreaper(true).expect("becoming a child subreaper");
}

/// Whether no process has this pid. One that has ended and came to us is waited for, if the standard library does not know it.
pub fn is_free(pid: Pid) -> bool {
    let flags = WaitPidFlag::WNOHANG | WaitPidFlag::__WALL;
    let _not_ours = waitpid(nix::unistd::Pid::from_raw(pid), Some(flags));
    state(pid).is_none()
}

/// Every process, zombies too.
pub fn all() -> Vec<Pid> {
    let entries = fs::read_dir("/proc").expect("reading /proc");
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// The value of one line of `/proc/PID/status`, trimmed: `status(pid, "VmHWM")` gives "5120 kB".
pub fn status(pid: Pid, field: &str) -> Option<String> {
    let text = text(format!("/proc/{pid}/status"))?;
    let line = text.lines().find(|line| line.split(':').next() == Some(field))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// Where a link of `/proc/PID` leads: `exe`, `cwd`, `root`; by any of its threads, since the first may have ended.
pub fn link(pid: Pid, name: &str) -> Option<PathBuf> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    threads.into_iter().find_map(|thread| fs::read_link(thread.path().join(name)).ok())
}

/// Sends a signal; a process that is gone already needs none.
pub fn kill(pid: Pid, signal: Signal) {
    let _gone = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal);
}

/// A file of /proc that holds a program's name, which may be any bytes.
fn text(path: String) -> Option<String> {
    Some(String::from_utf8_lossy(&fs::read(path).ok()?).into_owned())
}

/// The fields of `/proc/PID/stat` behind the command name, which may hold spaces and parentheses itself.
fn stat(pid: Pid) -> Option<Vec<String>> {
    let text = text(format!("/proc/{pid}/stat"))?;
    let behind = text.rsplit_once(')')?.1;
    Some(behind.split_whitespace().map(str::to_owned).collect())
}
