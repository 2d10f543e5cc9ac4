//! Threads for requests that block, so that the threads that answer the kernel stay free.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// The jobs in progress.
///
/// A dump may need an answer of this mount itself (a descriptor of the process may point here). If
/// dumps ran on the answering threads, no number of them would be enough.
#[derive(Default)]
pub struct Workers {
    /// A leaf lock: no other lock is taken while it is held.
    running: Mutex<usize>,
    ended: Condvar,
}

impl Workers {
    /// Runs `job` on a thread of its own. If no thread can be started the job is dropped, and its
    /// reply then answers EIO.
    pub fn run(self: &Arc<Self>, job: impl FnOnce() + Send + 'static) {
        let running = RunningJob::new(self);
        let thread = std::thread::Builder::new().name("job".into()).spawn(move || {
            job();
            drop(running);
        });
        if let Err(error) = thread {
            log::error!("starting a thread: {error}");
        }
    }

    /// Waits until no job runs, at most for `timeout`. Returns whether none runs.
    pub fn wait(&self, timeout: Duration) -> bool {
        let mut running = self.running.lock();
        !self.ended.wait_while_for(&mut running, |running| *running > 0, timeout).timed_out()
    }
}

/// Counts one job as long as it lives.
struct RunningJob(Arc<Workers>);

impl RunningJob {
    fn new(workers: &Arc<Workers>) -> RunningJob {
        *workers.running.lock() += 1;
        RunningJob(Arc::clone(workers))
    }
}

impl Drop for RunningJob {
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
    fn waits_for_running_jobs() {
        let workers = Arc::new(Workers::default());
        assert!(workers.wait(Duration::ZERO));
        let (go, may_go) = std::sync::mpsc::channel::<()>();
        workers.run(move || may_go.recv().unwrap());
        assert!(!workers.wait(Duration::from_millis(1)));
        go.send(()).unwrap();
        assert!(workers.wait(Duration::from_secs(60)));
    }
}
