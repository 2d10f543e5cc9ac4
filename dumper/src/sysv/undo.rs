//! Operations on semaphores that the kernel undoes when a process ends (semop(2), SEM_UNDO).
//!
//! The kernel keeps one number (the adjustment) for each process and semaphore, and shows it
//! nowhere. But an operation that would move it out of its range fails (ERANGE). Several operations
//! of one call are made in turn. If a later one cannot be made, all are undone before any other
//! process can read them (`perform_atomic_semop_slow` in ipc/sem.c). So calls of the process
//! itself, each with a last operation that can never be made, show how far the adjustment is from
//! the end of its range.
//!
//! Such a call adds a (zeroed) entry to the list of adjustments of a process that has a list. Every
//! process that has had threads has a list (CLONE_SYSVSEM). A child of fork has none. A process
//! without a list makes no call, and no process makes one for a set on which no process has ever
//! operated.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::sys::kcmp::{self, Kcmp};
use crate::sys::pid::Pid;
use crate::sys::remote::batch::Batch;
use crate::sys::remote::inject::Injected;
use crate::sys::sysvipc::ipc_kind::IpcKind;
use crate::sys::sysvipc::sem::{self, NOWAIT, Op, UNDO};
use crate::sysv::table::{IpcEntry, IpcTables, is_gone};

/// The number that the kernel adds to one semaphore when a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Adjustment {
    /// The process.
    pub pid: Pid,
    /// The set.
    #[serde(skip)]
    pub set: i32,
    /// The semaphore.
    pub n: u16,
    /// -32768..=32767.
    pub add: i32,
}

/// The range of an adjustment, SEMAEM of include/uapi/linux/sem.h. The upper end is not included.
const RANGE: std::ops::Range<i32> = -32768..32768;
/// How much one operation adds. Each series begins at 0, so no value leaves its range.
const STEP: i32 = 16384;
/// How many calls are in one batch.
const AT_ONCE: usize = 500;
/// How often other processes may change a set while its adjustments are found.
const TRIES: usize = 5;

/// Operations with SEM_UNDO that add up to `sum`, and operations without it that cancel each. The
/// semaphore starts at 0 and stays there.
pub fn series(n: u16, sum: i32) -> Vec<Op> {
    let op = |add: i32, flags: i16| Op { n, add: add as i16, flags: flags | NOWAIT };
    let mut ops = Vec::new();
    let mut left = sum;
    while left != 0 {
        let add = left.clamp(-STEP, STEP);
        ops.extend(if add > 0 { [op(add, UNDO), op(-add, 0)] } else { [op(-add, 0), op(add, UNDO)] });
        left -= add;
    }
    ops
}

/// A semaphore with an adjustment that is not known yet.
struct Sought {
    set: i32,
    n: u16,
    value: u16,
    /// The range that contains the adjustment.
    range: std::ops::Range<i32>,
}

/// A question about an adjustment that one call answers.
#[derive(Clone, Copy)]
enum Question {
    /// Whether the adjustment is below this.
    Below(i32),
    /// Whether the adjustment is at least this.
    AtLeast(i32),
}

impl Question {
    /// Operations that leave the range if the answer is yes. They are undone in any case.
    fn ops(self, sought: &Sought) -> Vec<Op> {
        let sum = match self {
            Self::Below(bound) => bound - RANGE.start,
            Self::AtLeast(bound) => bound - RANGE.end,
        };
        let op = |add: i32| Op { n: sought.n, add: add as i16, flags: NOWAIT };
        // The semaphore is brought to 0 first, and the call fails unless it is 0. From another
        // value the operations could leave the range of values.
        let mut ops = vec![op(-i32::from(sought.value)), op(0)];
        ops.extend(series(sought.n, sum));
        // This operation can never be made, because no value is that large.
        ops.push(op(RANGE.start));
        ops
    }
}

/// Adjustments of the thread that is inside the stub, a thread of `pid`.
///
/// # Errors
/// EBUSY: other processes change a set faster than its adjustments are found.
/// [`crate::error::Kind::Unsupported`]: the process has used a set on which it may no longer
/// operate.
pub fn of_thread(tables: &IpcTables, injected: &mut Injected<'_>, pid: Pid) -> Result<Vec<Adjustment>> {
    let tid = injected.task()?.tid();
    let sets: Vec<&IpcEntry> = tables.0.iter().filter(|entry| entry.kind == IpcKind::Sem && entry.is_used).collect();
    if sets.is_empty() || !kcmp::has_undo_list(tid)? {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for entry in sets {
        match of_set(entry, injected, pid) {
            Err(error) if is_gone(&error) => {}
            adjustments => found.extend(adjustments?),
        }
    }
    Ok(found)
}

fn of_set(entry: &IpcEntry, injected: &mut Injected<'_>, pid: Pid) -> Result<Vec<Adjustment>> {
    let set = entry.name.id;
    for _ in 0..TRIES {
        let values = sem::values(set, entry.size)?;
        let sought = |(n, value): (usize, &u16)| Sought { set, n: n as u16, value: *value, range: RANGE };
        let mut all: Vec<Sought> = values.iter().enumerate().map(sought).collect();
        // Most are 0.
        let Some(is_zero) = are_exactly(&all, injected, pid, 0)? else {
            return refuse_if_used(entry, &values, pid);
        };
        let mut zero = is_zero.into_iter();
        all.retain(|_| zero.next() == Some(false));
        while let Some(widest) = all.iter().map(|sought| sought.range.len()).max().filter(|widest| *widest > 1) {
            log::debug!("pid {pid}: set {set}: {} adjustments within {widest}", all.len());
            let middle = |sought: &Sought| sought.range.start.midpoint(sought.range.end);
            let asked: Vec<_> = all.iter().map(|sought| (sought, Question::Below(middle(sought)))).collect();
            let Some(below) = ask(&asked, injected, pid)? else { return refuse_if_used(entry, &values, pid) };
            for (sought, below) in all.iter_mut().zip(below) {
                let middle = middle(sought);
                sought.range = if below { sought.range.start..middle } else { middle..sought.range.end };
            }
        }
        let mut is_certain = true;
        for sought in &all {
            let sure = are_exactly(std::slice::from_ref(sought), injected, pid, sought.range.start)?;
            is_certain &= sure.is_some_and(|sure| sure == [true]);
        }
        if is_certain {
            let adjustment = |it: &Sought| Adjustment { pid, set, n: it.n, add: it.range.start };
            return Ok(all.iter().map(adjustment).filter(|it| it.add != 0).collect());
        }
        // If the value of a semaphore has fallen meanwhile, the first operation would block
        // (EAGAIN). That shows nothing about the adjustment.
    }
    Err(Error::os(format!("pid {pid}: semaphore set {set} is changed by others too often to be read"), libc::EBUSY))
}

/// Whether the adjustment of each is exactly `value`. No other process can cause both answers.
fn are_exactly(all: &[Sought], injected: &mut Injected<'_>, pid: Pid, value: i32) -> Result<Option<Vec<bool>>> {
    let asked = |sought| [(sought, Question::Below(value + 1)), (sought, Question::AtLeast(value))];
    let answers = ask(&all.iter().flat_map(asked).collect::<Vec<_>>(), injected, pid)?;
    Ok(answers.map(|answers| answers.chunks(2).map(|pair| pair == [true, true]).collect()))
}

/// The answers, or `None` if the process may not operate on the set.
fn ask(asked: &[(&Sought, Question)], injected: &mut Injected<'_>, pid: Pid) -> Result<Option<Vec<bool>>> {
    let mut answers = Vec::new();
    for asked in asked.chunks(AT_ONCE) {
        let mut batch = Batch::new(injected.scratch());
        let mut tickets = Vec::with_capacity(asked.len());
        for (sought, question) in asked {
            let ops = question.ops(sought);
            let at = batch.put(&Op::bytes(&ops));
            let call = sem::operate(sought.set, at.0, ops.len());
            tickets.push(batch.call(call.nr, call.args));
        }
        let got = injected.run(batch)?;
        for (ticket, (sought, _)) in tickets.into_iter().zip(asked) {
            match -(got.raw(ticket) as i32) {
                libc::ERANGE => answers.push(true),
                libc::EAGAIN => answers.push(false),
                libc::EACCES => return Ok(None),
                errno => {
                    let doing = format!("pid {pid}: asking what is to be undone on semaphore set {}", sought.set);
                    return Err(Error::os(doing, errno));
                }
            }
        }
    }
    Ok(Some(answers))
}

/// Refuses a set that the process is known to have used. For any other set that it may not change,
/// assume that it has no adjustment.
fn refuse_if_used(entry: &IpcEntry, values: &[u16], pid: Pid) -> Result<Vec<Adjustment>> {
    let set = entry.name.id;
    for n in 0..values.len() {
        if sem::last_user(set, n as u16)? == pid {
            return Err(Error::unsupported(format!(
                "pid {pid}: semaphore set {set}, which it has used and may not change any more, cannot be checkpointed (SEM_UNDO)"
            )));
        }
    }
    Ok(Vec::new())
}

/// Refuses a thread with a list of its own (unshare(2), CLONE_SYSVSEM) and adjustments in it,
/// because a restore gives it no such list. The list of `representative` is recorded as the
/// process's.
pub fn refuse_own(tables: &IpcTables, injected: &mut Injected<'_>, pid: Pid, representative: Pid) -> Result<()> {
    let tid = injected.task()?.tid();
    if tables.0.is_empty() || kcmp::kcmp(tid, representative, Kcmp::SemaphoreUndo, 0, 0)? {
        return Ok(());
    }
    match of_thread(tables, injected, pid)?.first() {
        None => Ok(()),
        Some(found) => Err(Error::unsupported(format!(
            "pid {pid} task {tid}: operations to be undone (SEM_UNDO) of one thread alone, on semaphore set {}, cannot be checkpointed",
            found.set
        ))),
    }
}

/// Refuses processes that share one list (CLONE_SYSVSEM without CLONE_THREAD). After a restore each
/// of them would undo it.
pub fn refuse_shared(adjustments: &[Adjustment]) -> Result<()> {
    let mut pids: Vec<Pid> = adjustments.iter().map(|it| it.pid).collect();
    pids.dedup();
    for (at, one) in pids.iter().enumerate() {
        for other in &pids[at + 1..] {
            if kcmp::kcmp(*one, *other, Kcmp::SemaphoreUndo, 0, 0)? {
                return Err(Error::unsupported(format!(
                    "pid {one}: operations on semaphores to be undone (SEM_UNDO) that it shares with pid {other} cannot be checkpointed"
                )));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_adds_up_and_ends_where_it_began() {
        for sum in [1, -1, 16384, 16385, 32768, -32768, 65536, -65536] {
            let ops = series(3, sum);
            let total = |wanted: i16| -> i32 {
                ops.iter().filter(|op| op.flags & UNDO == wanted).map(|op| i32::from(op.add)).sum()
            };
            assert_eq!((total(UNDO), total(0)), (sum, -sum));
            let mut value = 0;
            for op in &ops {
                value += i32::from(op.add);
                assert!((0..=STEP).contains(&value));
            }
            assert_eq!(value, 0);
        }
        assert!(series(0, 0).is_empty());
    }
}
