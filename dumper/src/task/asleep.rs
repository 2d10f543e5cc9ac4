//! What is left of a relative timeout that the freeze interrupted: nanosleep, clock_nanosleep, poll, futex wait.
//!
//! The kernel keeps the deadline in the task's restart block and shows it to nobody. It does show every armed timer in
//! /proc/timer_list, without an owner: a timer that was there before the tree was stopped and is gone after was one of
//! the tree's. Of those the latest that the thread's own timeout allows is taken, so that no sleep is ever cut short: with one
//! sleeper that is exact, with several one may sleep longer than it had left, never longer than it had asked for.
//! Absolute timeouts need none of this: such a call is simply made again.

use crate::Pid;
use crate::sys::memory::{MemFile, RemotePtr};
use crate::sys::proc;
use crate::sys::ptrace::Regs;
use crate::sys::query;

const FUTEX_WAIT: u64 = 0;
const FUTEX_CMD: u64 = 0x7f;
/// Slack of a timer beyond its deadline, and the time between a call's entry and the arming of its timer, ns.
const MARGIN: u64 = 5_000_000;

/// How a thread that was interrupted with -ERESTART_RESTARTBLOCK goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asleep {
    /// The same call again, with its own arguments.
    Again(i64),
    /// The call with so many ns instead of its timeout.
    Left(i64, u64),
}

/// Deadlines (CLOCK_MONOTONIC, ns) of all armed timers that wake a task.
#[derive(Debug, Default)]
pub struct Timers(Vec<u64>);

impl Timers {
    /// Reads /proc/timer_list if a thread of these processes is in a call with a relative timeout.
    pub fn before(pids: &[Pid]) -> Self {
        let sleeps = |pid: &Pid| {
            proc::numbers(&format!("/proc/{pid}/task")).unwrap_or_default().into_iter().any(|tid| {
                let call = proc::read_text(&format!("/proc/{pid}/task/{tid}/syscall")).unwrap_or_default();
                let nr = call.split(' ').next().and_then(|nr| nr.parse::<i64>().ok());
                matches!(
                    nr,
                    Some(
                        libc::SYS_nanosleep
                            | libc::SYS_clock_nanosleep
                            | libc::SYS_poll
                            | libc::SYS_futex
                            | libc::SYS_restart_syscall
                    )
                )
            })
        };
        if pids.iter().any(sleeps) { Self::now() } else { Self::default() }
    }

    fn now() -> Self {
        Self(parse(&proc::read_text("/proc/timer_list").unwrap_or_default()))
    }

    /// Those that are gone by now, with the tree stopped.
    pub fn gone(self) -> Self {
        if self.0.is_empty() {
            return self;
        }
        let still = Self::now();
        let now = query::clock_ns(libc::CLOCK_MONOTONIC);
        Self(self.0.into_iter().filter(|deadline| *deadline > now && !still.0.contains(deadline)).collect())
    }

    /// How a thread with these registers goes on; `None` if nobody can tell.
    pub fn of(&self, regs: &Regs, mem: &MemFile) -> Option<Asleep> {
        let nr = match regs.orig_rax.cast_signed() {
            libc::SYS_restart_syscall => called_before(regs, mem)?,
            nr => nr,
        };
        let span = |at: u64| {
            let [seconds, nanoseconds] = mem.read_words::<2>(RemotePtr(at)).ok()?;
            seconds.checked_mul(1_000_000_000)?.checked_add(nanoseconds)
        };
        let asked = match nr {
            libc::SYS_nanosleep => span(regs.rdi)?,
            libc::SYS_clock_nanosleep => span(regs.rdx)?,
            libc::SYS_poll => match u64::try_from(regs.rdx as i32) {
                Ok(milliseconds) => milliseconds * 1_000_000,
                Err(_) => return Some(Asleep::Again(nr)),
            },
            libc::SYS_futex if regs.rsi & FUTEX_CMD == FUTEX_WAIT => span(regs.r10)?,
            libc::SYS_futex => return Some(Asleep::Again(nr)),
            _ => return None,
        };
        let now = query::clock_ns(libc::CLOCK_MONOTONIC);
        let latest = now.saturating_add(asked).saturating_add(MARGIN);
        let deadline = self.0.iter().copied().filter(|deadline| *deadline <= latest).max();
        Some(Asleep::Left(nr, deadline.map_or(asked, |deadline| deadline.saturating_sub(now).max(1))))
    }
}

/// The call that a thread in restart_syscall made first: the instruction before `syscall` loads its number in every C library
/// that has not put it behind a function of its own.
fn called_before(regs: &Regs, mem: &MemFile) -> Option<i64> {
    const BACK: usize = 48;
    let mut code = [0; BACK];
    mem.read(RemotePtr(regs.rip).sub(BACK as u64 + 2), &mut code).ok()?;
    code.windows(5).rev().find_map(|window| match window {
        [0xb8, nr, 0, 0, 0] => {
            let nr = i64::from(*nr);
            matches!(nr, libc::SYS_nanosleep | libc::SYS_clock_nanosleep | libc::SYS_poll | libc::SYS_futex)
                .then_some(nr)
        }
        _ => None,
    })
}

/// Soft deadlines of the `hrtimer_wakeup` timers. Clock 0 is CLOCK_MONOTONIC; other bases are told by their offset to it.
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
