//! Threads for what takes its time, so that the threads that answer the kernel stay free.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// The jobs that run.
///
/// A dump may need an answer of this very mount (a descriptor of the process that points here), so no number of
/// answering threads would be enough if dumps ran on them.
#[derive(Default)]
pub struct Workers {
    /// A leaf lock.
    running: Mutex<usize>,
    ended: Condvar,
}

impl Workers {
    /// Runs `job` on a thread of its own. Where none can be had it is dropped: its reply then answers EIO by itself.
    pub fn run(self: &Arc<Self>, job: impl FnOnce() + Send + 'static) {
        let ticket = Ticket::new(self);
        let thread = std::thread::Builder::new().name("job".into()).spawn(move || {
            job();
            drop(ticket);
        });
        if let Err(error) = thread {
            log::error!("starting a thread: {error}");
        }
    }

    /// Waits until none runs, or for `patience`; whether none does.
    pub fn wait(&self, patience: Duration) -> bool {
        let mut running = self.running.lock();
        !self.ended.wait_while_for(&mut running, |running| *running > 0, patience).timed_out()
    }
}

struct Ticket(Arc<Workers>);

impl Ticket {
    fn new(jobs: &Arc<Workers>) -> Ticket {
        *jobs.running.lock() += 1;
        Ticket(Arc::clone(jobs))
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        *self.0.running.lock() -= 1;
        self.0.ended.notify_all();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn waits_for_those_that_run() {
        let jobs = Arc::new(Workers::default());
        assert!(jobs.wait(Duration::ZERO));
        let (go, may_go) = std::sync::mpsc::channel::<()>();
        jobs.run(move || may_go.recv().unwrap());
        assert!(!jobs.wait(Duration::from_millis(1)));
        go.send(()).unwrap();
        assert!(jobs.wait(Duration::from_secs(60)));
    }
}
