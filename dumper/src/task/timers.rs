//! Interval timers (getitimer(2)) and POSIX timers (timer_create(2)) of a process, with the
//! remaining time.
//!
//! They are armed in the last phase of calls. PR_TIMER_CREATE_RESTORE_IDS (Linux 6.15) restores the
//! ids of POSIX timers.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::image::frame::Tag;
use crate::kind::attribute::{Attribute, DumpedThread, RestoredThread, Scope};
use crate::kind::phase::Phase;
use crate::sys::proc;
use crate::sys::remote::batch::{Batch, Ticket};

const PR_TIMER_CREATE_RESTORE_IDS: u64 = 77;
const SIGEV_THREAD_ID: u32 = 4;

/// Table row.
pub struct PosixTimers;

/// A POSIX timer.
#[derive(Serialize, Deserialize)]
struct PosixTimer {
    id: u32,
    clock: i64,
    signal: u32,
    value: u64,
    /// SIGEV_*.
    notify: u32,
    /// The thread that gets the signal, with SIGEV_THREAD_ID.
    tid: i32,
    /// Seconds and nanoseconds: the interval, then the remaining time.
    spec: [u64; 4],
}

/// The record.
#[derive(Serialize, Deserialize)]
pub struct PosixTimersBody {
    /// ITIMER_REAL, VIRTUAL, PROF: the interval and the remaining time, in seconds and
    /// microseconds.
    interval: [[u64; 4]; 3],
    posix: Vec<PosixTimer>,
}

/// How many POSIX timers can be dumped: those with the lowest ids. The calls are made before /proc
/// shows the ids of a process.
const MOST_TIMERS: usize = 32;

/// The calls that the process makes, which return the words of struct itimerval and of struct
/// itimerspec.
pub struct PosixTimersTickets {
    /// ITIMER_REAL, VIRTUAL, PROF.
    interval: [Ticket<[u64; 4]>; 3],
    /// By the timer's id.
    posix: [Ticket<[u64; 4]>; MOST_TIMERS],
}

impl Attribute for PosixTimers {
    type Body = PosixTimersBody;
    type Tickets = PosixTimersTickets;
    /// The interval timers and POSIX timers of a process, and the remaining time of each.
    const TAG: Tag = Tag(*b"TIMR");
    const SCOPE: Scope = Scope::Process;
    const PHASE: Phase = Phase::Arm;

    fn ask(&self, batch: &mut Batch) -> PosixTimersTickets {
        PosixTimersTickets {
            interval: std::array::from_fn(|which| batch.call_into(libc::SYS_getitimer, [which as u64, 0], 1)),
            posix: std::array::from_fn(|id| batch.call_into(libc::SYS_timer_gettime, [id as u64, 0], 1)),
        }
    }

    fn dump(&self, thread: &mut DumpedThread<'_>, asked: Self::Tickets) -> Result<(PosixTimersBody, Vec<u8>)> {
        let mut interval = [[0; 4]; 3];
        for (timer, ticket) in interval.iter_mut().zip(asked.interval) {
            *timer = thread.answer(ticket, "getitimer")?;
        }
        let mut posix = parse(&proc::read_text(&format!("/proc/{}/timers", thread.pid))?)
            .ok_or_else(|| Error::os(format_args!("pid {}: parsing its timers", thread.pid), libc::EIO))?;
        for timer in &mut posix {
            let ticket = asked.posix.get(timer.id as usize).ok_or_else(|| {
                Error::unsupported(format!(
                    "pid {}: POSIX timer {}: ids from {MOST_TIMERS} on cannot be checkpointed yet",
                    thread.pid, timer.id
                ))
            })?;
            timer.spec = thread.answer(*ticket, "timer_gettime")?;
        }
        Ok((PosixTimersBody { interval, posix }, Vec::new()))
    }

    fn restore(&self, body: PosixTimersBody, _blob: &[u8], thread: &mut RestoredThread<'_>) -> Result<()> {
        let pid = thread.pid;
        if !body.posix.is_empty() {
            let switch = |on: u64| [PR_TIMER_CREATE_RESTORE_IDS, on, 0, 0, 0];
            thread.call(libc::SYS_prctl, switch(1), format!("pid {pid}: choosing the ids of POSIX timers"));
            for timer in &body.posix {
                let mut event = Vec::new();
                event.extend_from_slice(&timer.value.to_le_bytes());
                event.extend_from_slice(&timer.signal.to_le_bytes());
                event.extend_from_slice(&timer.notify.to_le_bytes());
                event.extend_from_slice(&timer.tid.to_le_bytes());
                event.resize(64, 0);
                let event = thread.batch.put(&event);
                let id = thread.batch.put(&timer.id.to_le_bytes());
                let doing = format!("pid {pid}: creating POSIX timer {}", timer.id);
                thread.call(libc::SYS_timer_create, [timer.clock.cast_unsigned(), event.0, id.0], doing);
            }
            thread.call(libc::SYS_prctl, switch(0), format!("pid {pid}: timer ids as ever"));
        }
        for timer in &body.posix {
            let spec = thread.batch.put(&timer.spec.map(u64::to_le_bytes).concat());
            let doing = format!("pid {pid}: arming POSIX timer {}", timer.id);
            thread.call(libc::SYS_timer_settime, [u64::from(timer.id), 0, spec.0, 0], doing);
        }
        for (which, timer) in body.interval.into_iter().enumerate() {
            if timer == [0; 4] {
                continue;
            }
            let at = thread.batch.put(&timer.map(u64::to_le_bytes).concat());
            thread.call(libc::SYS_setitimer, [which as u64, at.0, 0], format!("pid {pid}: interval timer {which}"));
        }
        Ok(())
    }
}

/// `/proc/PID/timers`: for each timer the lines `ID:`, `signal: NR/VALUE`, `notify: HOW/KIND.ID`
/// and `ClockID:`.
fn parse(text: &str) -> Option<Vec<PosixTimer>> {
    let mut timers: Vec<PosixTimer> = Vec::new();
    for line in text.lines() {
        let (name, value) = line.split_once(": ")?;
        if name == "ID" {
            let id = value.trim().parse().ok()?;
            timers.push(PosixTimer { id, clock: 0, signal: 0, value: 0, notify: 0, tid: 0, spec: [0; 4] });
            continue;
        }
        let timer = timers.last_mut()?;
        match name {
            "signal" => {
                let (signal, pointer) = value.split_once('/')?;
                timer.signal = signal.trim().parse().ok()?;
                timer.value = u64::from_str_radix(pointer.trim().trim_start_matches("0x"), 16).unwrap_or(0);
            }
            "notify" => {
                let (how, target) = value.split_once('/')?;
                let (kind, id) = target.split_once('.')?;
                timer.notify = match how {
                    "signal" => 0,
                    "none" => 1,
                    "thread" => 2,
                    _ => return None,
                };
                if kind == "tid" {
                    timer.notify |= SIGEV_THREAD_ID;
                    timer.tid = id.trim().parse().ok()?;
                }
            }
            "ClockID" => timer.clock = value.trim().parse().ok()?,
            _ => {}
        }
    }
    timers.sort_by_key(|timer| timer.id);
    Some(timers)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn two_timers_are_read() {
        let text = "ID: 1\nsignal: 60/00007fff86e452a8\nnotify: signal/pid.2634\nClockID: 0\n\
                    ID: 0\nsignal: 14/0\nnotify: signal/tid.77\nClockID: -6\n";
        let timers = parse(text).unwrap();
        assert_eq!((timers[0].id, timers[0].notify, timers[0].tid, timers[0].clock), (0, 4, 77, -6));
        assert_eq!((timers[1].signal, timers[1].value, timers[1].notify), (60, 0x7fff_86e4_52a8, 0));
    }
}
