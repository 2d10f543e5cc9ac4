//! Facts about one process that come from several files of /proc.

use std::fs;
use std::os::unix::fs::MetadataExt;

use crate::sys::pid::Pid;
use crate::sys::proc;
use crate::sys::proc::stat::Stat;
use crate::sys::proc::status::Fields;

/// Whether the task `tid` (0: no task) runs the same program as this process.
pub fn runs_this_program(tid: u64) -> bool {
    let program = |pid: &str| {
        let exe = fs::metadata(format!("/proc/{pid}/exe")).ok()?;
        Some((exe.dev(), exe.ino()))
    };
    tid != 0 && program(&tid.to_string()).is_some_and(|exe| Some(exe) == program("self"))
}

/// How many characters of a command line a sentence shows.
const COMMAND_MOST: usize = 60;

/// The command line of a process for a sentence: on one line, and cut if it is long. A process
/// without one is shown by its name, as ps(1) shows it.
pub fn command(pid: Pid) -> String {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words = String::from_utf8_lossy(&line).trim_end_matches('\0').replace('\0', " ");
    let shown = match words.is_empty() {
        true => format!("[{}]", proc::read_text(&format!("/proc/{pid}/comm")).unwrap_or_default().trim_end()),
        false => words,
    };
    let mut shown: String = shown.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    if let Some((end, _)) = shown.char_indices().nth(COMMAND_MOST) {
        shown.truncate(end);
        shown.push_str("...");
    }
    shown
}

/// The process of a task; `None` if it is gone.
pub fn of_task(tid: Pid) -> Option<Pid> {
    Fields::read(&format!("/proc/{tid}/status")).ok().map(|status| status.number("Tgid") as Pid)
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_command_line_is_one_short_line() {
        let shown = |words: &[&str]| {
            let mut child =
                Command::new("sh").args(["-c", "read x"]).args(words).stdin(Stdio::piped()).spawn().unwrap();
            // Before it executes the program it has no command line.
            while fs::read(format!("/proc/{}/cmdline", child.id())).unwrap().is_empty() {
                std::thread::yield_now();
            }
            let shown = command(child.id() as Pid);
            child.kill().unwrap();
            child.wait().unwrap();
            shown
        };
        assert_eq!(shown(&["100", "0.5"]), "sh -c read x 100 0.5");
        let long = "1".repeat(200);
        assert_eq!(shown(&["1\n", &long]), format!("sh -c read x 1? {}...", "1".repeat(COMMAND_MOST - 16)));
    }
}
