//! System V semaphores that the kernel puts right when a process ends (semop(2), SEM_UNDO): what is to be undone is shown to nobody,
//! and would be undone by the end of the process that was dumped. So whoever may have such a list is refused.
//!
//! kcmp(2) tells a process without a list (a child of fork never inherits one) from one that has it; every process with threads has
//! one, mostly empty (CLONE_SYSVSEM). There it counts whether the last operation on some semaphore was its own (sempid, semctl(2)).
//! Semaphores and queues themselves belong to no process: they are not in the image, and stay as they are.

use crate::sys::proc;
use crate::sys::query::{self, Kcmp};
use crate::{Error, Pid, Result};

/// Refuses `pid` if semaphores may change by its end; `child` is a copy of it that has nothing to undo. Without one, whoever has used a
/// semaphore last is taken to have a list.
pub fn refuse(pid: Pid, child: Option<Pid>) -> Result<()> {
    let sets = sets(&proc::read_text("/proc/sysvipc/sem").unwrap_or_default());
    if sets.is_empty() {
        return Ok(());
    }
    let tids = proc::numbers(&format!("/proc/{pid}/task"))?;
    for tid in &tids {
        let has_none = |child| query::kcmp(*tid, child, Kcmp::SemaphoreUndo, 0, 0);
        if child.map_or(Ok(false), has_none)? {
            continue;
        }
        let touched = |(id, count): &&(i32, i32)| (0..*count).any(|n| query::last_semaphore_user(*id, n) == Some(pid));
        let found = sets.iter().find(touched);
        if child.is_some() && tids.len() == 1 || found.is_some() {
            let which = found.map_or_else(String::new, |(id, _)| format!(" (set {id})"));
            return Err(Error::unsupported(format!(
                "pid {pid} task {tid}: System V semaphores{which} with operations to undo (SEM_UNDO) cannot be checkpointed"
            )));
        }
    }
    Ok(())
}

/// Id and size of each set in /proc/sysvipc/sem (sysvipc(7)): key, id, permissions, number of semaphores.
fn sets(text: &str) -> Vec<(i32, i32)> {
    let set = |line: &str| {
        let mut words = line.split_ascii_whitespace().skip(1);
        let id = words.next()?.parse().ok()?;
        Some((id, words.nth(1)?.parse().ok()?))
    };
    text.lines().skip(1).filter_map(set).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn sets_of_the_table() {
        let text = "       key      semid perms      nsems   uid   gid  cuid  cgid      otime      ctime\n\
                    -559038737      32769   600          3     0     0     0     0          0 1790000000\n";
        assert_eq!(super::sets(text), [(32769, 3)]);
        assert_eq!(super::sets(""), []);
    }
}
