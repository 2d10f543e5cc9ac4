//! The remaining time of a relative timeout that the freeze has interrupted: nanosleep,
//! clock_nanosleep, poll, futex wait.
//!
//! The kernel keeps the deadline in the restart block of the task and does not show it. It does
//! show every armed timer in /proc/timer_list, without an owner. A timer that is listed before the
//! tree is stopped and not after belongs to the tree. Each thread gets the latest of these timers
//! that its timeout allows, so that no sleep is cut short. With one sleeping thread the result is
//! exact. With several, a thread may sleep longer than its remaining time, but not longer than it
//! had asked for. An absolute timeout needs none of this, because the call is made again.

use std::collections::BTreeMap;

use crate::kind::attribute::RestartBlock;
use crate::sys::memory::{MemFile, RemotePtr};
use crate::sys::pid::Pid;
use crate::sys::ptrace::Regs;
use crate::sys::restarted_call::RestartedCall;
use crate::sys::{clock, proc};

const FUTEX_WAIT: u64 = 0;
const FUTEX_CMD: u64 = 0x7f;
/// The slack of a timer beyond its deadline, and the time from the entry of a call until its timer
/// is armed, in ns.
const MARGIN: u64 = 5_000_000;

/// What was recorded of sleeping threads before they were stopped.
#[derive(Debug, Default)]
pub struct SleepTimers {
    /// The deadlines (CLOCK_MONOTONIC, ns) of all armed timers that wake a task.
    deadlines: Vec<u64>,
    /// When the tree was stopped (CLOCK_MONOTONIC, ns). The remaining time counts from here,
    /// however late a thread is dumped.
    stopped_at: u64,
    /// The calls of threads that were stopped once before and sleep on in restart_syscall, which
    /// hides the number of the call.
    restarted: BTreeMap<Pid, RestartedCall>,
}

impl SleepTimers {
    /// Reads /proc/timer_list if a thread of these processes is in a call with a relative timeout.
    pub fn before(pids: &[Pid]) -> Self {
        let mut timers = Self::default();
        let mut sleeps = false;
        for pid in pids {
            for tid in proc::numbers(&format!("/proc/{pid}/task")).unwrap_or_default() {
                let call = proc::read_text(&format!("/proc/{pid}/task/{tid}/syscall")).unwrap_or_default();
                let mut words = call.split(' ');
                let nr = words.next().and_then(|nr| nr.parse::<i64>().ok());
                let timed_futex = words.nth(3).is_some_and(|timeout| timeout != "0x0");
                match nr {
                    Some(libc::SYS_nanosleep | libc::SYS_clock_nanosleep | libc::SYS_poll) => sleeps = true,
                    Some(libc::SYS_futex) => sleeps |= timed_futex,
                    Some(libc::SYS_restart_syscall) => {
                        sleeps = true;
                        timers.restarted.extend(RestartedCall::of(*pid, tid).map(|what| (tid, what)));
                    }
                    _ => {}
                }
            }
        }
        if sleeps {
            timers.deadlines = armed();
        }
        timers
    }

    /// Keeps only the timers that are gone now, with the tree stopped.
    pub fn gone(self) -> Self {
        let still = if self.deadlines.is_empty() { Vec::new() } else { armed() };
        let stopped_at = clock::clock_ns(libc::CLOCK_MONOTONIC);
        let gone = |deadline: &u64| *deadline > stopped_at && !still.contains(deadline);
        Self { deadlines: self.deadlines.into_iter().filter(gone).collect(), stopped_at, restarted: self.restarted }
    }

    /// The number of the call that a stopped thread was in, if it is known.
    pub fn number(&self, tid: Pid, regs: &Regs) -> Option<i64> {
        RestartedCall::number_of(self.restarted.get(&tid).copied(), regs)
    }

    /// How a thread with these registers continues, or `None` if that is unknown.
    pub fn of(&self, tid: Pid, regs: &Regs, mem: &MemFile) -> Option<RestartBlock> {
        let nr = self.number(tid, regs)?;
        let span = |at: u64| {
            let [seconds, nanoseconds] = mem.read_words::<2>(RemotePtr(at)).ok()?;
            seconds.checked_mul(1_000_000_000)?.checked_add(nanoseconds)
        };
        let asked = match nr {
            libc::SYS_nanosleep => span(regs.rdi)?,
            libc::SYS_clock_nanosleep => span(regs.rdx)?,
            libc::SYS_poll => match u64::try_from(regs.rdx as i32) {
                Ok(milliseconds) => milliseconds * 1_000_000,
                Err(_) => return Some(RestartBlock::SameCall(nr)),
            },
            libc::SYS_futex if regs.rsi & FUTEX_CMD == FUTEX_WAIT => span(regs.r10)?,
            libc::SYS_futex => return Some(RestartBlock::SameCall(nr)),
            _ => return None,
        };
        let latest = self.stopped_at.saturating_add(asked).saturating_add(MARGIN);
        let deadline = self.deadlines.iter().copied().filter(|deadline| *deadline <= latest).max();
        Some(RestartBlock::TimeLeft(
            nr,
            deadline.map_or(asked, |deadline| deadline.saturating_sub(self.stopped_at).max(1)),
        ))
    }
}

fn armed() -> Vec<u64> {
    parse(&proc::read_text("/proc/timer_list").unwrap_or_default())
}

/// Soft deadlines of the `hrtimer_wakeup` timers. Clock 0 is CLOCK_MONOTONIC. The list shows the
/// offset of other clocks to it.
fn parse(text: &str) -> Vec<u64> {
    let mut found = Vec::new();
    let (mut wakes, mut offset) = (false, 0_i64);
    for line in text.lines() {
        let line = line.trim();
        if let Some(value) = line.strip_prefix(".offset:") {
            offset = value.trim().trim_end_matches("nsecs").trim().parse().unwrap_or(0);
        } else if line.starts_with('#') && line.contains(">, ") {
            wakes = line.contains("hrtimer_wakeup");
        } else if let Some(times) = line.strip_prefix("# expires at ")
            && std::mem::take(&mut wakes)
            && let Some(soft) = times.split('-').next().and_then(|soft| soft.parse::<i64>().ok())
        {
            found.extend(u64::try_from(soft - offset));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    #[test]
    fn only_timers_that_wake_a_task_count() {
        let text = " clock 0:\n  .offset:     0 nsecs\nactive timers:\n #0: <00>, tick_nohz_handler, S:01\n \
                    # expires at 100-100 nsecs [in 1 to 1 nsecs]\n #1: <00>, hrtimer_wakeup, S:01\n \
                    # expires at 200-250 nsecs [in 1 to 1 nsecs]\n clock 1:\n  .offset:     1000 nsecs\n \
                    #0: <00>, hrtimer_wakeup, S:01\n # expires at 1300-1350 nsecs [in 1 to 1 nsecs]\n";
        assert_eq!(super::parse(text), [200, 300]);
    }
}
