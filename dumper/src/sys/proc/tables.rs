//! The descriptor tables of a process.

use crate::sys::kcmp::{self, Kcmp};
use crate::sys::pid::Pid;
use crate::sys::proc;

/// The directories of tasks in /proc that show the descriptor tables of a process, each once. A
/// thread may have its own (unshare(2), CLONE_FILES), and a main thread that has ended has none.
pub fn descriptor_tables(pid: Pid) -> Vec<String> {
    let mut dirs = vec![format!("/proc/{pid}")];
    for tid in proc::numbers(&format!("/proc/{pid}/task")).unwrap_or_default() {
        if tid != pid && !kcmp::kcmp(pid, tid, Kcmp::Files, 0, 0).unwrap_or(false) {
            dirs.push(format!("/proc/{pid}/task/{tid}"));
        }
    }
    dirs
}
