//! Processes as `/proc` shows them (proc(5)). A process that ends while it is looked at is simply not there.

use std::fs;
use std::path::PathBuf;

use ckptfs_dumper::Pid;
use nix::sys::signal::Signal;

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

/// Every process, zombies too.
pub fn all() -> Vec<Pid> {
    let entries = fs::read_dir("/proc").expect("reading /proc");
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// The value of one line of `/proc/PID/status`, trimmed: `status(pid, "VmHWM")` gives "5120 kB".
pub fn status(pid: Pid, field: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find(|line| line.split(':').next() == Some(field))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// The user CPU time of a process in clock ticks, all threads together: it stands still while the process is stopped.
pub fn user_ticks(pid: Pid) -> Option<u64> {
    // The fields after the command name count from 3 (proc(5)); utime is 14.
    stat(pid)?.get(11)?.parse().ok()
}

/// Where a link of `/proc/PID` leads: `exe`, `cwd`, `root`.
pub fn link(pid: Pid, name: &str) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/{name}")).ok()
}

/// Sends a signal; a process that is gone already needs none.
pub fn kill(pid: Pid, signal: Signal) {
    let _gone = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal);
}

/// The fields of `/proc/PID/stat` behind the command name, which may hold spaces and parentheses itself.
fn stat(pid: Pid) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let behind = text.rsplit_once(')')?.1;
    Some(behind.split_whitespace().map(str::to_owned).collect())
}
