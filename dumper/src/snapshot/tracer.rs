//! The handle for tracing one tree or container.
//!
//! ptrace belongs to the thread that attached, so every snapshot has a thread of its own, and so
//! has a tree held by `freeze`. The thread freezes, collects, forks, thaws, and then sleeps until
//! the snapshot is dropped. Then it makes the parents reap the children. If a task cannot be
//! stopped, the thread ends, and the kernel detaches whatever it held.

use std::sync::Arc;
use std::time::Duration;

use crossbeam::channel::{Sender, bounded, unbounded};
use parking_lot::Mutex;

use crate::dump::check;
use crate::error::{Error, Kind, Result};
use crate::freeze::bound::StopBound;
use crate::freeze::cgroup::{CgroupFreezer, Turn};
use crate::freeze::target::{self, Target};
use crate::options::{Options, SnapshotUse};
use crate::snapshot::Snapshot;
use crate::snapshot::held::{Command, hold};
use crate::snapshot::job::TracerJob;
use crate::snapshot::line::{InLine, Line};
use crate::snapshot::session::{self, answer, ended, spawn};
use crate::sys::pid::Pid;

/// The freezing and snapshots of one tree or container. It is cheap to clone. A tree held by
/// [`Tracer::freeze`] is resumed when the last clone is dropped.
#[derive(Clone)]
pub struct Tracer {
    job: TracerJob,
    /// Locked only while a command is handed over or a tree is being frozen.
    held: Arc<Mutex<Option<Sender<Command>>>>,
    /// One snapshot is taken at a time, and the others wait in line. Without it they would compete
    /// for the tasks, and some would find no gap before the freeze timeout.
    line: Arc<Line>,
}

/// How long a snapshot waits for those that were requested before it. The tree runs on between two
/// snapshots.
const TURN_TIMEOUT: Duration = Duration::from_secs(60);

/// How often a waiting snapshot asks whether its reader lives.
const READER_ASKED: Duration = Duration::from_millis(100);

impl Tracer {
    /// A tracer of `target`. It stops no process yet. `freezer` freezes the cgroup first, if the
    /// target is a cgroup.
    pub fn new(target: Target, options: Options, freezer: Option<CgroupFreezer>) -> Self {
        let (target, options) = (Arc::new(target), Arc::new(options));
        let job = TracerJob { target, reader: None, options, freezer, turn: Turn::Alone };
        Self { job, held: Arc::default(), line: Arc::default() }
    }

    /// The processes that it stops.
    pub fn target(&self) -> &Target {
        &self.job.target
    }

    /// The same tracer for a request that must not freeze the cgroup: the other processes in it are
    /// none of its business. A tree that grows all the time is not stopped then.
    #[must_use]
    pub fn without_cgroup_freeze(&self) -> Self {
        let mut tracer = self.clone();
        tracer.job.turn = Turn::Shared;
        tracer
    }

    /// Whether the tree is held.
    pub fn is_frozen(&self) -> bool {
        // A session that has ended (its tree was killed) holds no tree.
        self.held.lock().as_ref().is_some_and(|session| session.send(Command::Ping).is_ok())
    }

    /// Stops the whole tree and keeps it stopped until [`Tracer::thaw`]. Idempotent. `caller` is
    /// the process that asks for it, if known.
    ///
    /// # Errors
    /// [`crate::error::Kind::Deadlock`] if the caller belongs to the tree, because it would wait
    /// for itself. [`crate::error::Kind::Busy`] if the tree does not stop.
    pub fn freeze(&self, caller: Option<Pid>) -> Result<()> {
        target::refuse_reader(self.target(), &self.target().members()?, caller)?;
        let mut held = self.held.lock();
        if held.as_ref().is_none_or(|session| session.send(Command::Ping).is_err()) {
            // The caller may be in the cgroup: only a reader is left out of its freeze.
            let job = TracerJob { reader: caller, ..self.job_for(None) };
            let (ready, wait) = bounded(1);
            let (session, commands) = unbounded();
            let thread = spawn(self.target(), move || hold(&job, commands, &ready))?;
            answer(self.target(), &wait, Some(thread))?;
            *held = Some(session);
        }
        Ok(())
    }

    /// Resumes a held tree. Idempotent.
    ///
    /// # Errors
    /// [`crate::error::Kind::Busy`] while an image of the stopped tree is being read, because its
    /// memory is the image.
    pub fn thaw(&self) -> Result<()> {
        let mut held = self.held.lock();
        if let Some(session) = &*held {
            let (answer, wait) = bounded(1);
            if session.send(Command::Thaw(answer)).is_ok() {
                wait.recv().map_err(|_| ended(self.target()))??;
            }
            *held = None;
        }
        Ok(())
    }

    /// Everything that would refuse a snapshot for `reader`, as far as it shows while the tree
    /// runs. No process is stopped.
    ///
    /// # Errors
    /// [`crate::error::Kind::NoProcess`]: no process is left.
    pub fn check(&self, reader: Option<Pid>) -> Result<Vec<Error>> {
        let target = self.target();
        let refused = target::refuse_reader(target, &target.members()?, reader).err();
        Ok(refused.into_iter().chain(check::check(target)?).collect())
    }

    /// Takes a snapshot. `reader` is the process that asks for it, if known.
    ///
    /// # Errors
    /// [`crate::error::Kind::Deadlock`] if the reader belongs to the tree.
    /// [`crate::error::Kind::Unsupported`] names what cannot be checkpointed.
    /// [`crate::error::Kind::Busy`] if the tree does not stop, or if earlier snapshots take too
    /// long. EAGAIN or ENOMEM if a snapshot that is to be pinned can have no copy-on-write children
    /// (fork(2)). After an error the tree runs on as if nothing had happened.
    pub fn snapshot(&self, reader: Option<Pid>, purpose: SnapshotUse) -> Result<Snapshot> {
        let target = self.target();
        target::refuse_reader(target, &target.members()?, reader)?;
        let _turn = self.take_turn(reader)?;
        let (reply, wait) = bounded(1);
        let held = self.held.lock().clone();
        let thread = match held {
            Some(session) => {
                session.send(Command::Snapshot(purpose, reader, reply)).map_err(|_| ended(target))?;
                None
            }
            None => {
                let job = self.job_for(reader);
                Some(spawn(target, move || session::snapshot(&job, purpose, &reply))?)
            }
        };
        answer(target, &wait, thread)
    }

    /// Waits for the snapshots that were requested before, or until the reader is killed.
    fn take_turn(&self, reader: Option<Pid>) -> Result<InLine<'_>> {
        let bound = StopBound::new(TURN_TIMEOUT, reader);
        let place = self.line.join();
        while !place.has_turn_within(READER_ASKED) {
            if bound.deadline().is_over() {
                let busy = format!("{}: other snapshots of it are being taken all the time", self.target());
                return Err(Error::new(Kind::Busy, busy));
            }
            bound.check_reader()?;
        }
        Ok(place)
    }

    /// The job for `reader`. A reader that is in the cgroup and waits for the dump cannot be frozen
    /// with it, so then only ptrace stops the tasks, in a turn that is shared.
    fn job_for(&self, reader: Option<Pid>) -> TracerJob {
        let mut job = TracerJob { reader, ..self.job.clone() };
        if job.freezer.as_ref().is_some_and(|freezer| freezer.would_freeze(reader)) {
            job.turn = Turn::Shared;
        }
        job
    }
}
