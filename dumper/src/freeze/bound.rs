//! The end of a stop, whatever the processes hold: a time limit, and the life of the process that
//! waits for the snapshot.
//!
//! A reader that is killed while it waits in open(2) sleeps until the open is answered: fuse(4)
//! waits for an answer that the daemon has begun to make. So the daemon asks from time to time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::error::{Error, Kind, Result};
use crate::sys::clock::Deadline;
use crate::sys::pid::Pid;
use crate::sys::proc;
use crate::sys::proc::stat::Stat;
use crate::sys::proc::status::Fields;

/// How often the reader is asked about. It costs some 20 us for each of its threads.
const ROUNDS: Duration = Duration::from_millis(10);

/// The limit of one stop. Cheap to clone.
#[derive(Clone, Debug)]
pub struct StopBound(Arc<Bound>);

#[derive(Debug)]
struct Bound {
    deadline: Deadline,
    limit: Duration,
    /// Whether processes are stopped meanwhile.
    stops: bool,
    reader: Option<Pid>,
    /// When the reader was asked about. A leaf lock.
    asked: Mutex<Instant>,
}

impl StopBound {
    /// A stop that begins now and lasts at most `limit`. It ends earlier if `reader`, which waits
    /// for the snapshot, is killed.
    pub fn new(limit: Duration, reader: Option<Pid>) -> Self {
        Self::with(limit, reader, true)
    }

    /// The same for a look at processes that go on.
    pub fn of_look(limit: Duration) -> Self {
        Self::with(limit, None, false)
    }

    fn with(limit: Duration, reader: Option<Pid>, stops: bool) -> Self {
        let (deadline, asked) = (Deadline::after(limit), Mutex::new(Instant::now()));
        Self(Arc::new(Bound { deadline, limit, stops, reader, asked }))
    }

    /// For waits that have an answer of their own when the time is up.
    pub fn deadline(&self) -> Deadline {
        self.0.deadline
    }

    /// Fails if the stop must end. It costs one reading of the clock, so loops over everything that
    /// a process can have many of call it in each round.
    ///
    /// # Errors
    /// [`Kind::TimedOut`], or [`Kind::Interrupted`] if the reader has been killed. `subject` is
    /// what was being examined.
    pub fn check<D: std::fmt::Display>(&self, subject: impl FnOnce() -> D) -> Result<()> {
        if self.0.deadline.is_over() {
            let which = if self.0.stops { " (freeze-timeout), and it runs on" } else { "" };
            let limit = self.0.limit.as_secs_f64();
            let sentence = format!("{}: not all of it could be examined within {limit} s{which}", subject());
            return Err(Error::new(Kind::TimedOut, sentence));
        }
        self.check_reader()
    }

    /// Fails if the reader has been killed.
    ///
    /// # Errors
    /// [`Kind::Interrupted`].
    pub fn check_reader(&self) -> Result<()> {
        let Some(reader) = self.0.reader else { return Ok(()) };
        let mut asked = self.0.asked.lock();
        if asked.elapsed() < ROUNDS {
            return Ok(());
        }
        *asked = Instant::now();
        if is_killed(reader) {
            let sentence = format!("pid {reader}, which waited for the snapshot, was killed");
            return Err(Error::new(Kind::Interrupted, sentence));
        }
        Ok(())
    }
}

/// Whether the process is gone or about to end. SIGKILL, and any other signal that ends a process
/// without a core file, is pending for each of its threads then (`complete_signal` in
/// kernel/signal.c).
fn is_killed(pid: Pid) -> bool {
    let Ok(tids) = proc::numbers(&format!("/proc/{pid}/task")) else { return true };
    let is_dying = |tid: Pid| {
        let dir = format!("/proc/{pid}/task/{tid}");
        let has_sigkill = |status: &Fields| status.hex("SigPnd") >> (libc::SIGKILL - 1) & 1 == 1;
        Fields::read(&format!("{dir}/status")).map_or(true, |status| has_sigkill(&status))
            || Stat::read(&format!("{dir}/stat")).map_or(true, |stat| stat.is_ended_task())
    };
    tids.into_iter().all(is_dying)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_stop_ends_when_its_time_is_up() {
        let bound = StopBound::new(Duration::ZERO, None);
        let error = bound.check(|| "pid 7").unwrap_err();
        assert_eq!(error.kind(), Kind::TimedOut);
        assert!(error.to_string().starts_with("pid 7: "), "{error}");
        let look = StopBound::of_look(Duration::ZERO).check(|| "pid 7").unwrap_err().to_string();
        assert!(look.ends_with(" s") && error.to_string().ends_with("it runs on"), "{look}");
        assert!(StopBound::new(Duration::MAX, None).check(|| "pid 7").is_ok());
    }

    #[test]
    fn a_stop_ends_with_its_reader() {
        let mut reader = Command::new("sleep").arg("60").spawn().unwrap();
        let bound = StopBound::new(Duration::MAX, Some(reader.id() as Pid));
        std::thread::sleep(ROUNDS);
        let lives = bound.check(|| "pid 7").map_err(|error| error.kind());
        reader.kill().unwrap();
        reader.wait().unwrap();
        std::thread::sleep(ROUNDS);
        let killed = bound.check(|| "pid 7").map_err(|error| error.kind());
        assert_eq!((lives, killed), (Ok(()), Err(Kind::Interrupted)));
    }
}
