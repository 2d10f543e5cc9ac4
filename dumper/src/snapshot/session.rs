//! The tracer thread: how it is started and answers, and the life of one snapshot of a running
//! tree.

use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, unbounded};

use crate::error::{Doing, Error, Kind, Result};
use crate::freeze::target::Target;
use crate::options::SnapshotUse;
use crate::snapshot::job::TracerJob;
use crate::snapshot::lease::{Lease, Release};
use crate::snapshot::source::SnapshotSource;
use crate::snapshot::{Snapshot, take};
use crate::sys::memory::give_back_freed;
use crate::sys::sched;

/// How often a tracer thread checks whether a process that it holds stopped was killed.
pub const ROUNDS: Duration = Duration::from_millis(20);

/// Starts a tracer thread.
pub fn spawn(target: &Target, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    let root = target.root().map_or_else(|| "all".to_owned(), |root| root.to_string());
    std::thread::Builder::new()
        .name(format!("tracer-{root}"))
        .spawn(|| {
            sched::sleep_exactly();
            work();
        })
        .doing(|| format!("{target}: starting a tracer thread"))
}

/// The first answer of a session. After a failure its thread is about to end. A task that could not
/// be stopped is traced until then, so this waits for the thread.
pub fn answer<T>(target: &Target, wait: &Receiver<Result<T>>, thread: Option<JoinHandle<()>>) -> Result<T> {
    let answer = wait.recv().map_err(|_| ended(target)).flatten();
    if let (Err(_), Some(thread)) = (&answer, thread) {
        // A thread that has panicked traces no task any more either.
        let _ = thread.join();
    }
    answer
}

/// The error if the thread ended without an answer.
pub fn ended(target: &Target) -> Error {
    Error::new(Kind::NoProcess, format!("{target}: its tracer thread has ended"))
}

/// The life of one snapshot of a running tree: takes it, and releases its source when it is
/// dropped.
pub fn snapshot(job: &TracerJob, purpose: SnapshotUse, answer: &Sender<Result<Snapshot>>) {
    let (data, mut source) = match take::take(job, purpose) {
        Ok(taken) => taken,
        Err(error) => {
            let _ = answer.send(Err(error));
            return;
        }
    };
    let is_large = data.has_large_records();
    if is_large {
        give_back_freed();
    }
    let (session, released) = unbounded();
    let _ = answer.send(Ok(Snapshot::new(data, Lease { snapshot: 0, session })));
    let release = wait_for_release(&mut source, &released);
    drop(source);
    if let Some(release) = release {
        let _ = release.done.send(());
    }
    if is_large {
        give_back_freed();
    }
}

/// Waits until the snapshot is dropped. If its tree is stopped, tasks that are killed meanwhile are
/// reaped.
fn wait_for_release(source: &mut SnapshotSource, released: &Receiver<Release>) -> Option<Release> {
    let Some(frozen) = source.frozen() else { return released.recv().ok() };
    loop {
        match released.recv_timeout(ROUNDS) {
            Err(error) if error.is_timeout() => drop(frozen.reap_killed()),
            released => return released.ok(),
        }
    }
}
