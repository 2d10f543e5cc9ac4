//! Facts about one process that come from several files of /proc.

use std::fs;
use std::os::unix::fs::MetadataExt;

use crate::sys::pid::Pid;
use crate::sys::proc;
use crate::sys::proc::stat::Stat;

/// Whether the task `tid` (0: no task) runs the same program as this process.
pub fn runs_this_program(tid: u64) -> bool {
    let program = |pid: &str| {
        let exe = fs::metadata(format!("/proc/{pid}/exe")).ok()?;
        Some((exe.dev(), exe.ino()))
    };
    tid != 0 && program(&tid.to_string()).is_some_and(|exe| Some(exe) == program("self"))
}

/// The parent of a process; `None` if it is gone.
pub fn parent(pid: Pid) -> Option<Pid> {
    Stat::read(&format!("/proc/{pid}/stat")).ok().map(|stat| stat.ppid())
}

/// Whether a process has ended with all its threads and waits to be reaped.
pub fn has_ended(pid: Pid) -> bool {
    Stat::read(&format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.is_zombie_process())
}

/// Whether one thread of a process has ended, or is gone.
pub fn thread_has_ended(pid: Pid, tid: Pid) -> bool {
    !Stat::read(&format!("/proc/{pid}/task/{tid}/stat")).is_ok_and(|stat| !stat.is_ended_task())
}

/// All children of a process, snapshot children included. The kernel lists them by the thread that
/// made them.
pub fn children(pid: Pid) -> Vec<Pid> {
    let mut found = Vec::new();
    for tid in proc::numbers(&format!("/proc/{pid}/task")).unwrap_or_default() {
        let children = proc::read_text(&format!("/proc/{pid}/task/{tid}/children")).unwrap_or_default();
        found.extend(children.split_ascii_whitespace().filter_map(|word| word.parse::<Pid>().ok()));
    }
    found
}
