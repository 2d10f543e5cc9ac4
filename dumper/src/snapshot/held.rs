//! The tracer thread of a tree that `freeze` holds stopped: its commands, and the snapshots of the
//! tree.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, unbounded};

use crate::cow::children::Children;
use crate::cow::reap;
use crate::error::{Error, Kind, Result};
use crate::freeze;
use crate::freeze::bound::StopBound;
use crate::freeze::frozen::Frozen;
use crate::options::SnapshotUse;
use crate::snapshot::job::TracerJob;
use crate::snapshot::lease::{Lease, Release};
use crate::snapshot::session::ROUNDS;
use crate::snapshot::{Snapshot, take};
use crate::sys::pid::Pid;
use crate::task::restart_block::SleepTimers;

/// What the thread is asked to do.
pub enum Command {
    /// Take a snapshot for this process, if it is known.
    Snapshot(SnapshotUse, Option<Pid>, Sender<Result<Snapshot>>),
    /// Resume the tree.
    Thaw(Sender<Result<()>>),
    /// Nothing. A caller sends it to learn whether the thread still takes commands.
    Ping,
}

/// Whether the tree is still held. If not, it has the answer that waits for the end of the hold.
type Next = ControlFlow<Option<Sender<Result<()>>>>;

/// A tree that is held.
struct HeldTree<'a> {
    job: &'a TracerJob,
    frozen: Frozen,
    timers: SleepTimers,
    snapshots: HeldSnapshots,
    /// For the leases of its snapshots.
    session: Sender<Release>,
    released: Receiver<Release>,
}

/// The life of a tree held by `freeze`, and of its pinned snapshots.
pub fn hold(job: &TracerJob, commands: Receiver<Command>, ready: &Sender<Result<()>>) {
    let mut held = match HeldTree::freeze(job) {
        Ok(held) => held,
        Err(error) => {
            let _ = ready.send(Err(error));
            return;
        }
    };
    let _ = ready.send(Ok(()));
    let thawed = held.serve(&commands);
    held.end(commands, thawed);
}

impl<'a> HeldTree<'a> {
    fn freeze(job: &'a TracerJob) -> Result<Self> {
        let timers = SleepTimers::before(&job.target.members().unwrap_or_default());
        let mut frozen = freeze::freeze(&job.target, &job.bound(), job.cgroup())?;
        let timers = timers.gone();
        frozen.turn = None;
        let (session, released) = unbounded();
        Ok(Self { job, frozen, timers, snapshots: HeldSnapshots::default(), session, released })
    }

    /// Executes commands until the tree is to be resumed.
    fn serve(&mut self, commands: &Receiver<Command>) -> Option<Sender<Result<()>>> {
        loop {
            let next = crossbeam::select! {
                default(ROUNDS) => self.reap_killed(),
                recv(self.released) -> release => {
                    release.into_iter().for_each(|release| self.release(release));
                    Next::Continue(())
                }
                recv(commands) -> command => match command {
                    Ok(Command::Snapshot(purpose, reader, answer)) => {
                        // The tree is stopped in any case. Only a killed reader ends the dump.
                        self.frozen.bound = StopBound::new(Duration::MAX, reader);
                        self.snapshot(purpose, &answer)
                    },
                    Ok(Command::Thaw(answer)) => self.thaw(answer),
                    Ok(Command::Ping) => Next::Continue(()),
                    // The last handle is gone.
                    Err(_) => self.wait_for_readers(),
                },
            };
            if let ControlFlow::Break(thawed) = next {
                return thawed;
            }
        }
    }

    /// Reaps tasks that were killed. If its root is gone, the tree is held only for images that are
    /// being read.
    fn reap_killed(&mut self) -> Next {
        let is_over = self.frozen.reap_killed() && self.snapshots.readers.is_empty();
        if is_over { Next::Break(None) } else { Next::Continue(()) }
    }

    fn release(&mut self, release: Release) {
        self.snapshots.release(release.snapshot);
        let _ = release.done.send(());
    }

    fn snapshot(&mut self, purpose: SnapshotUse, answer: &Sender<Result<Snapshot>>) -> Next {
        let threads = self.frozen.threads();
        let snapshot = self.take(purpose);
        let failed = snapshot.is_err();
        let _ = answer.send(snapshot);
        if failed && self.snapshots.readers.is_empty() && self.frozen.threads() != threads {
            log::warn!("{}: a thread could not be held any longer; the tree goes on", self.job.target);
            return Next::Break(None);
        }
        Next::Continue(())
    }

    fn take(&mut self, purpose: SnapshotUse) -> Result<Snapshot> {
        let (data, children) = match purpose {
            SnapshotUse::Stream => (take::stream_held(self.job, &mut self.frozen, &self.timers), Children::default()),
            SnapshotUse::Pin => take::pin_held(self.job, &mut self.frozen, &self.timers),
        };
        let number = self.snapshots.add(purpose, children, data.is_ok());
        Ok(Snapshot::new(data?, Lease { snapshot: number, session: self.session.clone() }))
    }

    fn thaw(&self, answer: Sender<Result<()>>) -> Next {
        if self.snapshots.readers.is_empty() {
            return Next::Break(Some(answer));
        }
        let busy = format!("{}: an image of the stopped tree is being read", self.job.target);
        let _ = answer.send(Err(Error::new(Kind::Busy, busy)));
        Next::Continue(())
    }

    /// Images that are still being read need the tree stopped.
    fn wait_for_readers(&mut self) -> Next {
        while !self.snapshots.readers.is_empty() {
            if let Ok(release) = self.released.recv() {
                self.release(release);
            }
        }
        Next::Break(None)
    }

    /// Resumes the tree, answers, and stays for the pinned snapshots.
    fn end(self, commands: Receiver<Command>, thawed: Option<Sender<Result<()>>>) {
        let Self { frozen, mut snapshots, session, released, .. } = self;
        let pids: Vec<Pid> = frozen.processes.iter().map(|process| process.pid).collect();
        drop(frozen);
        snapshots.reap();
        // Children of earlier snapshots, which were closed while the tree was held.
        for pid in pids {
            if let Err(error) = reap::reap_ended(pid) {
                log::debug!("pid {pid}: reaping snapshot children: {error}");
            }
        }
        if let Some(answer) = thawed {
            let _ = answer.send(Ok(()));
        }
        // From here on no tree is held. A caller that sends a command must learn that.
        drop((commands, session));
        while let (false, Ok(release)) = (snapshots.pinned.is_empty(), released.recv()) {
            // Answered when its children have ended.
            snapshots.release(release.snapshot);
            snapshots.reap();
            let _ = release.done.send(());
        }
    }
}

/// The snapshots of a tree that is held.
#[derive(Default)]
struct HeldSnapshots {
    last: u64,
    /// Those that are read from the stopped tree itself.
    readers: BTreeSet<u64>,
    /// The children of those that are pinned.
    pinned: BTreeMap<u64, Children>,
    /// Killed children. They are reaped when their parents run again.
    killed: Vec<Children>,
}

impl HeldSnapshots {
    /// Records a snapshot, or an attempt that failed. Returns its number.
    fn add(&mut self, purpose: SnapshotUse, children: Children, is_taken: bool) -> u64 {
        self.last += 1;
        match purpose {
            _ if !is_taken => self.kill(children),
            SnapshotUse::Stream => drop(self.readers.insert(self.last)),
            SnapshotUse::Pin => drop(self.pinned.insert(self.last, children)),
        }
        self.last
    }

    fn release(&mut self, number: u64) {
        self.readers.remove(&number);
        if let Some(children) = self.pinned.remove(&number) {
            self.kill(children);
        }
    }

    fn kill(&mut self, mut children: Children) {
        children.kill();
        self.killed.push(children);
    }

    /// Makes parents reap their killed children. The parents must run again.
    fn reap(&mut self) {
        self.killed.drain(..).for_each(Children::end);
    }
}
