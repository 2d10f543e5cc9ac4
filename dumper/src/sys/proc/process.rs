//! What several files of /proc tell of one process.

use std::fs;
use std::os::unix::fs::MetadataExt;

use crate::sys::pid::Pid;
use crate::sys::proc;
use crate::sys::proc::stat::Stat;

/// Whether the task `tid` (0: none) runs this same program.
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

pub fn has_ended(pid: Pid) -> bool {
    let threads = || crate::sys::proc::numbers(&format!("/proc/{pid}/task")).map_or(0, |tids| tids.len());
    Stat::read(&format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.state == 'Z') && threads() == 1
}

/// All children of a process: the kernel keeps them by the thread that made them.
pub fn children(pid: Pid) -> Vec<Pid> {
    let mut found = Vec::new();
    for tid in proc::numbers(&format!("/proc/{pid}/task")).unwrap_or_default() {
        let children = proc::read_text(&format!("/proc/{pid}/task/{tid}/children")).unwrap_or_default();
        found.extend(children.split_ascii_whitespace().filter_map(|word| word.parse::<Pid>().ok()));
    }
    found
}
