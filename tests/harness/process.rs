//! Processes as `/proc` shows them (proc(5)). A process that ends during a read counts as missing.

use std::fs;
use std::path::{Path, PathBuf};

use ckptfs_dumper::Pid;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, waitpid};

/// The state letter of a process; `None` if there is no such process.
pub fn state(pid: Pid) -> Option<char> {
    stat(pid)?.first()?.chars().next()
}

/// Whether the process exists and is not a zombie. A process lives as long as one of its threads
/// does, even if the main thread has ended.
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

/// All children of `pid`, zombies too. It scans all processes, because `/proc/PID/task/*/children`
/// may miss some while the tree changes.
pub fn children(pid: Pid) -> Vec<Pid> {
    all().into_iter().filter(|child| parent(*child) == Some(pid)).collect()
}

/// `root` and all processes below it, parents before their children, then every other process with
/// its executable or working directory in `dir`. Zombies are included where their parent shows that
/// they belong here. Copy-on-write children are left out: they belong to the daemon that reads
/// them.
pub fn tree(root: Pid, dir: &Path) -> Vec<Pid> {
    let everybody: Vec<(Pid, Pid)> = all().into_iter().filter_map(|pid| Some((pid, parent(pid)?))).collect();
    let in_dir = |pid: Pid| ["cwd", "exe"].iter().any(|name| link(pid, name).is_some_and(|path| path.starts_with(dir)));
    // The exit signal marks a copy-on-write child only while its parent lives: an orphan has the
    // usual one. Its name still marks it.
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

/// All processes in a session or a process group with one of these ids, zombies too.
pub fn of_sessions(ids: &[Pid]) -> Vec<Pid> {
    let belongs = |pid: Pid| {
        let stat = stat(pid).unwrap_or_default();
        stat.iter().skip(2).take(2).filter_map(|id| id.parse().ok()).any(|id| ids.contains(&id))
    };
    all().into_iter().filter(|pid| belongs(*pid)).collect()
}

/// From now on, a process below this one that loses its parent becomes a child of this one, so that
/// [`is_free`] can wait for it. Init would take its time to reap it, and until then the pid of a
/// killed grandchild is not free (`PR_SET_CHILD_SUBREAPER`, prctl(2)).
pub fn adopt_orphans() {
    nix::sys::prctl::set_child_subreaper(true).expect("becoming a child subreaper");
}

/// Whether no process has this pid. A process that has ended and is our child is reaped here,
/// so this must not be called while a `std::process::Child` still waits for it.
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

/// Where a link of `/proc/PID` leads: `exe`, `cwd`, `root`. It reads the link of any thread,
/// because the first one may have ended.
pub fn link(pid: Pid, name: &str) -> Option<PathBuf> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    threads.into_iter().find_map(|thread| fs::read_link(thread.path().join(name)).ok())
}

/// Sends a signal. A process that does not exist any more is no error.
pub fn kill(pid: Pid, signal: Signal) {
    let _gone = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal);
}

/// A file of /proc that contains a program's name, which may be any bytes.
fn text(path: String) -> Option<String> {
    Some(String::from_utf8_lossy(&fs::read(path).ok()?).into_owned())
}

/// The fields of `/proc/PID/stat` after the command name, which may itself contain spaces and
/// parentheses.
fn stat(pid: Pid) -> Option<Vec<String>> {
    let text = text(format!("/proc/{pid}/stat"))?;
    let behind = text.rsplit_once(')')?.1;
    Some(behind.split_whitespace().map(str::to_owned).collect())
}
