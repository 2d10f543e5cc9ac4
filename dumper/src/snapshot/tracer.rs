//! Who may trace a tree: one thread for each snapshot, and one for a tree that is held.
//!
//! ptrace belongs to the thread that attached, so every snapshot has a thread of its own (as has a tree held by `freeze`): it
//! freezes, looks, forks, thaws, and then sleeps until the snapshot is dropped, when it reaps the child. If a task cannot be
//! stopped the thread ends, and the kernel detaches whatever it held.

use std::sync::Arc;

use crossbeam::channel::{Sender, bounded, unbounded};
use parking_lot::Mutex;

use crate::error::Result;
use crate::freeze::cgroup::CgroupFreezer;
use crate::freeze::target::{self, Target};
use crate::options::{Options, SnapshotUse};
use crate::snapshot::Snapshot;
use crate::snapshot::session::{Command, answer, ended, hold, session, spawn};
use crate::sys::pid::Pid;

/// The freezing and snapshots of one tree or container. Cheap to clone; a tree held by [`Tracer::freeze`] goes on when the last clone is gone.
#[derive(Clone)]
pub struct Tracer {
    target: Arc<Target>,
    options: Arc<Options>,
    /// Freezes the cgroup before its tasks are stopped, where the target is one.
    freezer: Option<CgroupFreezer>,
    /// Locked only for as long as a command is handed over or a tree is being frozen.
    held: Arc<Mutex<Option<Sender<Command>>>>,
}

impl Tracer {
    /// A tracer of `target`; it stops no process yet. `freezer`: freezes the cgroup first, where `target` is one.
    pub fn new(target: Target, options: Options, freezer: Option<CgroupFreezer>) -> Self {
        Self { target: Arc::new(target), options: Arc::new(options), freezer, held: Arc::default() }
    }

    /// Whom it stops.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Whether the tree is held.
    pub fn is_frozen(&self) -> bool {
        // A session that has ended (its tree was killed) holds nobody.
        self.held.lock().as_ref().is_some_and(|session| session.send(Command::Look).is_ok())
    }

    /// Stops the whole tree and keeps it stopped until [`Tracer::thaw`]. Idempotent. `asker` is the process that asks, if known.
    ///
    /// # Errors
    /// [`crate::Kind::Deadlock`] if it belongs to the tree: it would wait for itself.
    pub fn freeze(&self, asker: Option<Pid>) -> Result<()> {
        target::refuse_reader(&self.target, &self.target.members()?, asker)?;
        let mut held = self.held.lock();
        if held.as_ref().is_none_or(|session| session.send(Command::Look).is_err()) {
            let (target, options) = (Arc::clone(&self.target), Arc::clone(&self.options));
            let freezer = self.freezer_for(None);
            let (ready, wait) = bounded(1);
            let (session, commands) = unbounded();
            let thread = spawn(&self.target, move || hold(&target, &options, freezer.as_ref(), commands, &ready))?;
            answer(&self.target, &wait, Some(thread))?;
            *held = Some(session);
        }
        Ok(())
    }

    /// Lets a held tree go on. Idempotent.
    ///
    /// # Errors
    /// [`crate::Kind::Busy`] while an image of the stopped tree is being read: its memory is the image.
    pub fn thaw(&self) -> Result<()> {
        let mut held = self.held.lock();
        if let Some(session) = &*held {
            let (answer, wait) = bounded(1);
            if session.send(Command::Thaw(answer)).is_ok() {
                wait.recv().map_err(|_| ended(&self.target))??;
            }
            *held = None;
        }
        Ok(())
    }

    /// Takes a snapshot. `reader` is the process that asks, if known.
    ///
    /// # Errors
    /// [`crate::Kind::Deadlock`] if the reader belongs to the tree; [`crate::Kind::Unsupported`] names what cannot be checkpointed;
    /// [`crate::Kind::Busy`] if the tree does not stop; EAGAIN or ENOMEM if one that is to be kept can have no copy-on-write children
    /// (fork(2)). The tree then goes on as if nothing had been asked.
    pub fn snapshot(&self, reader: Option<Pid>, purpose: SnapshotUse) -> Result<Snapshot> {
        let target = &self.target;
        target::refuse_reader(target, &target.members()?, reader)?;
        let (reply, wait) = bounded(1);
        let held = self.held.lock().clone();
        let thread = match held {
            Some(session) => {
                session.send(Command::Snapshot(purpose, reply)).map_err(|_| ended(target))?;
                None
            }
            None => {
                let (of, options) = (Arc::clone(target), Arc::clone(&self.options));
                let freezer = self.freezer_for(reader);
                Some(spawn(target, move || session(&of, &options, freezer.as_ref(), purpose, &reply))?)
            }
        };
        answer(target, &wait, thread)
    }

    /// A reader that is part of the cgroup and waits for the dump cannot be frozen with it: ptrace
    /// alone has to do.
    fn freezer_for(&self, reader: Option<Pid>) -> Option<CgroupFreezer> {
        self.freezer.clone().filter(|freezer| !freezer.would_freeze(reader))
    }
}
