//! Threads for requests that block, so that the threads that answer the kernel stay free.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::process::caller::Viewer;

/// How many threads work for one user other than root at a time. The jobs beyond that wait.
const THREADS_OF_A_USER: usize = 64;

/// A job that waits.
type Job = Box<dyn FnOnce() + Send>;

/// The jobs in progress.
///
/// A dump may need an answer of this mount itself (a descriptor of the process may point here). If
/// dumps ran on the answering threads, no number of them would be enough.
#[derive(Default)]
pub struct Workers {
    /// A leaf lock: no other lock is taken while it is held.
    state: Mutex<WorkersState>,
    ended: Condvar,
}

#[derive(Default)]
struct WorkersState {
    /// How many threads run.
    running: usize,
    /// The users that have a thread.
    users: HashMap<u32, OfUser>,
}

#[derive(Default)]
struct OfUser {
    running: usize,
    waiting: VecDeque<Job>,
}

impl Workers {
    /// Runs `job`, a request of the user `uid`, on a thread of its own. If no thread can be started
    /// the job is dropped, and its reply then answers EIO.
    pub fn run(self: &Arc<Self>, uid: u32, job: impl FnOnce() + Send + 'static) {
        let user = (Viewer::of(uid) != Viewer::All).then_some(uid);
        let mut state = self.state.lock();
        if let Some(uid) = user {
            let of_user = state.users.entry(uid).or_default();
            if of_user.running >= THREADS_OF_A_USER {
                of_user.waiting.push_back(Box::new(job));
                return;
            }
            of_user.running += 1;
        }
        state.running += 1;
        drop(state);
        let mut running = RunningJob { workers: Arc::clone(self), user, counts_for_user: true };
        let thread = std::thread::Builder::new().name("job".into()).spawn(move || {
            job();
            while let Some(next) = running.next() {
                next();
            }
        });
        if let Err(error) = thread {
            log::error!("starting a thread: {error}");
        }
    }

    /// Waits until no job runs, at most for `timeout`. Returns whether none runs.
    pub fn wait(&self, timeout: Duration) -> bool {
        let mut state = self.state.lock();
        !self.ended.wait_while_for(&mut state, |state| state.running > 0, timeout).timed_out()
    }
}

/// Counts one thread as long as it lives.
struct RunningJob {
    workers: Arc<Workers>,
    user: Option<u32>,
    /// Whether it is one of the threads that its user may have.
    counts_for_user: bool,
}

impl RunningJob {
    /// The job of the same user that has waited longest. If there is none, the thread no longer
    /// counts for the user. Both happen under one lock: a job that came in between would wait for a
    /// thread that takes no more jobs.
    fn next(&mut self) -> Option<Job> {
        let mut state = self.workers.state.lock();
        let uid = self.user?;
        let next = state.users.get_mut(&uid)?.waiting.pop_front();
        if next.is_none() {
            self.counts_for_user = false;
            state.leave(uid);
        }
        next
    }
}

impl WorkersState {
    /// One thread less for the user. Returns the jobs that no thread is left for.
    fn leave(&mut self, uid: u32) -> Option<OfUser> {
        let of_user = self.users.get_mut(&uid)?;
        of_user.running -= 1;
        if of_user.running == 0 { self.users.remove(&uid) } else { None }
    }
}

impl Drop for RunningJob {
    fn drop(&mut self) {
        let mut state = self.workers.state.lock();
        state.running -= 1;
        // Jobs are left only if this thread has panicked, or could not be started.
        let left = self.user.filter(|_| self.counts_for_user).and_then(|uid| state.leave(uid));
        drop(state);
        drop(left);
        self.workers.ended.notify_all();
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
        workers.run(0, move || may_go.recv().unwrap());
        assert!(!workers.wait(Duration::from_millis(1)));
        go.send(()).unwrap();
        assert!(workers.wait(Duration::from_secs(60)));
    }

    #[test]
    fn a_user_takes_no_more_threads_than_it_may_and_nobody_waits_for_it() {
        let workers = Arc::new(Workers::default());
        let (started, starts) = std::sync::mpsc::channel();
        let gate = Arc::new((Mutex::new(false), Condvar::new()));
        let job = |uid: u32| {
            let (started, gate) = (started.clone(), Arc::clone(&gate));
            move || {
                started.send(uid).unwrap();
                let mut is_open = gate.0.lock();
                gate.1.wait_while(&mut is_open, |is_open| !*is_open);
            }
        };
        for _ in 0..2 * THREADS_OF_A_USER {
            workers.run(7, job(7));
        }
        let timeout = Duration::from_secs(60);
        assert!((0..THREADS_OF_A_USER).all(|_| starts.recv_timeout(timeout) == Ok(7)));
        for uid in [8, 0] {
            workers.run(uid, job(uid));
            assert_eq!(starts.recv_timeout(timeout), Ok(uid), "and none of the other user");
        }
        assert_eq!(workers.state.lock().running, THREADS_OF_A_USER + 2);
        *gate.0.lock() = true;
        gate.1.notify_all();
        assert!((0..THREADS_OF_A_USER).all(|_| starts.recv_timeout(timeout) == Ok(7)));
        assert!(workers.wait(timeout) && workers.state.lock().users.is_empty());
    }

    #[test]
    fn a_job_that_comes_when_a_thread_has_found_none_gets_a_thread() {
        let workers = Arc::new(Workers::default());
        {
            let mut state = workers.state.lock();
            state.running = 1;
            state.users.insert(7, OfUser { running: THREADS_OF_A_USER, waiting: VecDeque::new() });
        }
        let mut thread = RunningJob { workers: Arc::clone(&workers), user: Some(7), counts_for_user: true };
        assert!(thread.next().is_none());
        let (ran, runs) = std::sync::mpsc::channel();
        workers.run(7, move || ran.send(()).unwrap());
        assert_eq!(runs.recv_timeout(Duration::from_secs(60)), Ok(()), "it is not queued behind the one that ends");
    }
}
