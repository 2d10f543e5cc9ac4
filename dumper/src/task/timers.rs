//! Interval timers (getitimer(2)) and POSIX timers (timer_create(2)) of a process, with the
//! remaining time.
//!
//! They are armed in the last phase of calls. PR_TIMER_CREATE_RESTORE_IDS (Linux 6.15) restores the
//! ids of POSIX timers.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::image::frame::Tag;
use crate::kind::attribute::{Attribute, DumpedThread, ObservedTask, RestoredThread, Scope};
use crate::kind::phase::Phase;
use crate::kind::refs::FileIds;
use crate::refusals::Refusals;
use crate::sys::pid::Pid;
use crate::sys::proc;
use crate::sys::remote::batch::{Batch, Ticket};

const PR_TIMER_CREATE_RESTORE_IDS: u64 = 77;
const SIGEV_NONE: u32 = 1;
const SIGEV_THREAD_ID: u32 = 4;

/// The clock of the calling thread, as /proc/PID/timers shows it: THREAD_CLOCK in
/// kernel/time/posix-cpu-timers.c. Which thread has made the timer does not show.
const OWN_CLOCK: i64 = -2;

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

/// How many POSIX timers of a process can be dumped. Each needs two calls of one batch.
const MOST_TIMERS: usize = 300;

/// The calls that the process makes, which return the words of struct itimerval and of struct
/// itimerspec.
pub struct PosixTimersTickets {
    /// ITIMER_REAL, VIRTUAL, PROF.
    interval: [Ticket<[u64; 4]>; 3],
    posix: Result<Vec<AskedTimer>>,
}

/// A timer, and its remaining time, asked twice.
struct AskedTimer {
    timer: PosixTimer,
    spec: Ticket<[u64; 4]>,
    later: Ticket<[u64; 4]>,
}

/// The POSIX timers of a process, without their remaining times.
fn timers_of(pid: Pid) -> Result<Vec<PosixTimer>> {
    let timers = parse(&proc::read_text(&format!("/proc/{pid}/timers"))?)
        .ok_or_else(|| Error::os(format_args!("pid {pid}: parsing its timers"), libc::EIO))?;
    match timers.len() > MOST_TIMERS {
        true => Err(Error::unsupported(format!(
            "pid {pid}: {} POSIX timers, more than {MOST_TIMERS}, cannot be checkpointed",
            timers.len()
        ))),
        false => Ok(timers),
    }
}

impl PosixTimer {
    /// Names the thread whose clock [`OWN_CLOCK`] is. `spec` is the remaining time, and `later`
    /// that after another call: only the clock of the thread that makes the calls has gone on.
    fn find_clock(&mut self, later: [u64; 4], thread: &DumpedThread<'_>) -> Result<()> {
        if self.clock != OWN_CLOCK {
            return self.refuse_ended(thread.pid);
        }
        let is_armed = self.spec[2..] != [0, 0];
        let is_own = is_armed && self.spec[2..] != later[2..];
        // Nothing shows the clock of a timer that is not armed.
        let is_alone = !is_armed && thread.status.number("Threads") == 1;
        if !(is_own || is_alone) {
            return Err(Error::unsupported(format!(
                "pid {}: POSIX timer {}: it runs on the CPU clock of a thread that does not show, and cannot be checkpointed",
                thread.pid, self.id
            )));
        }
        if thread.tid != thread.pid {
            self.clock = clock_of_thread(thread.tid);
        }
        Ok(())
    }

    /// Refuses a timer on the CPU clock of a task that has ended. Such a timer never expires, and
    /// no restore could make it.
    fn refuse_ended(&self, pid: Pid) -> Result<()> {
        let task = !(self.clock >> 3);
        if self.clock >= 0 || task == 0 {
            return Ok(());
        }
        let path = if is_of_thread(self.clock) { format!("/proc/{pid}/task/{task}") } else { format!("/proc/{task}") };
        match Path::new(&path).exists() {
            true => Ok(()),
            false => Err(Error::unsupported(format!(
                "pid {pid}: POSIX timer {}: it runs on the CPU clock of task {task}, which has ended, and cannot be checkpointed",
                self.id
            ))),
        }
    }

    /// struct sigevent, for a timer of process `pid`.
    fn event(&self, pid: Pid) -> Vec<u8> {
        // A timer whose thread has ended signals nobody. The kernel makes none for such a thread.
        let is_mute =
            self.notify & SIGEV_THREAD_ID != 0 && !Path::new(&format!("/proc/{pid}/task/{}", self.tid)).exists();
        let (notify, tid) = if is_mute { (SIGEV_NONE, 0) } else { (self.notify, self.tid) };
        let mut event = Vec::with_capacity(64);
        event.extend_from_slice(&self.value.to_le_bytes());
        event.extend_from_slice(&self.signal.to_le_bytes());
        event.extend_from_slice(&notify.to_le_bytes());
        event.extend_from_slice(&tid.to_le_bytes());
        event.resize(64, 0);
        event
    }
}

/// Whether a CPU clock is that of one thread (CPUCLOCK_PERTHREAD_MASK).
fn is_of_thread(clock: i64) -> bool {
    clock & 4 != 0
}

/// The CPU clock of a thread, pthread_getcpuclockid(3).
fn clock_of_thread(tid: Pid) -> i64 {
    (!i64::from(tid) << 3) | 6
}

impl Attribute for PosixTimers {
    type Body = PosixTimersBody;
    type Tickets = PosixTimersTickets;
    /// The interval timers and POSIX timers of a process, and the remaining time of each.
    const TAG: Tag = Tag(*b"TIMR");
    const SCOPE: Scope = Scope::Process;
    const PHASE: Phase = Phase::Arm;

    fn ask(&self, pid: Pid, batch: &mut Batch) -> PosixTimersTickets {
        let interval = std::array::from_fn(|which| batch.call_into(libc::SYS_getitimer, [which as u64, 0], 1));
        let mut ask = |timer: PosixTimer| {
            let id = u64::from(timer.id);
            let [spec, later] = [0; 2].map(|_| batch.call_into(libc::SYS_timer_gettime, [id, 0], 1));
            AskedTimer { timer, spec, later }
        };
        let posix = timers_of(pid).map(|timers| timers.into_iter().map(&mut ask).collect());
        PosixTimersTickets { interval, posix }
    }

    fn check(task: &ObservedTask<'_>, _files: &mut dyn FileIds, refusals: &mut Refusals) -> Result<()> {
        for timer in refusals.sift(timers_of(task.pid))?.into_iter().flatten() {
            refusals.sift(timer.refuse_ended(task.pid))?;
        }
        Ok(())
    }

    fn dump(&self, thread: &mut DumpedThread<'_>, asked: Self::Tickets) -> Result<(PosixTimersBody, Vec<u8>)> {
        let mut interval = [[0; 4]; 3];
        for (timer, ticket) in interval.iter_mut().zip(asked.interval) {
            *timer = thread.answer(ticket, "getitimer")?;
        }
        let mut posix = Vec::new();
        for AskedTimer { mut timer, spec, later } in asked.posix? {
            timer.spec = thread.answer(spec, "timer_gettime")?;
            timer.find_clock(thread.answer(later, "timer_gettime")?, thread)?;
            posix.push(timer);
        }
        Ok((PosixTimersBody { interval, posix }, Vec::new()))
    }

    fn restore(&self, body: PosixTimersBody, _blob: &[u8], thread: &mut RestoredThread<'_>) -> Result<()> {
        let pid = thread.pid;
        if !body.posix.is_empty() {
            let switch = |on: u64| [PR_TIMER_CREATE_RESTORE_IDS, on, 0, 0, 0];
            thread.call(libc::SYS_prctl, switch(1), format!("pid {pid}: choosing the ids of POSIX timers"));
            for timer in &body.posix {
                let event = thread.batch.put(&timer.event(pid));
                let id = thread.batch.put(&timer.id.to_le_bytes());
                let doing = format!("pid {pid}: creating POSIX timer {} on clock {}", timer.id, timer.clock);
                thread.call(libc::SYS_timer_create, [timer.clock.cast_unsigned(), event.0, id.0], doing);
                if thread.batch.is_full(0) {
                    thread.flush()?;
                }
            }
            thread.call(libc::SYS_prctl, switch(0), format!("pid {pid}: timer ids as ever"));
        }
        for timer in &body.posix {
            let spec = thread.batch.put(&timer.spec.map(u64::to_le_bytes).concat());
            let doing = format!("pid {pid}: arming POSIX timer {}", timer.id);
            thread.call(libc::SYS_timer_settime, [u64::from(timer.id), 0, spec.0, 0], doing);
            if thread.batch.is_full(0) {
                thread.flush()?;
            }
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
        assert!(is_of_thread(clock_of_thread(77)) && !(clock_of_thread(77) >> 3) == 77);
        assert_eq!((timers[1].signal, timers[1].value, timers[1].notify), (60, 0x7fff_86e4_52a8, 0));
    }
}
