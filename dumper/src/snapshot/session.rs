//! The tracer thread of one snapshot, or of a tree that is held: the life of each, and the commands that it takes.

use std::collections::{BTreeMap, BTreeSet};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, unbounded};

use crate::cow::child;
use crate::cow::children::Children;
use crate::error::{Doing, Error, Kind, Result};
use crate::freeze;
use crate::freeze::cgroup::CgroupFreezer;
use crate::freeze::target::Target;
use crate::options::{Options, SnapshotUse};
use crate::snapshot::lease::{Lease, Release};
use crate::snapshot::source::SnapshotSource;
use crate::snapshot::{Snapshot, take};
use crate::sys::pid::Pid;
use crate::task::restart_block::SleepTimers;

pub enum Command {
    Snapshot(SnapshotUse, Sender<Result<Snapshot>>),
    Thaw(Sender<Result<()>>),
    /// Only to see whether the session lives.
    Look,
}

/// A session's first word. If that is a failure its thread is about to end; only then is a task that could not be stopped no longer
/// traced, so that is waited for.
pub fn answer<T>(target: &Target, wait: &Receiver<Result<T>>, thread: Option<JoinHandle<()>>) -> Result<T> {
    let answer = wait.recv().map_err(|_| ended(target)).flatten();
    if let (Err(_), Some(thread)) = (&answer, thread) {
        // A thread that has panicked has let go as well.
        let _ = thread.join();
    }
    answer
}

/// The thread that should have answered has ended.
pub fn ended(target: &Target) -> Error {
    Error::new(Kind::NoProcess, format!("{target}: its tracer thread has ended"))
}

pub fn spawn(target: &Target, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    let root = target.root().map_or_else(|| "all".to_owned(), |root| root.to_string());
    std::thread::Builder::new()
        .name(format!("tracer-{root}"))
        .spawn(work)
        .doing(|| format!("{target}: starting a tracer thread"))
}

/// The life of one snapshot of a running tree.
pub fn session(
    target: &Target,
    options: &Options,
    freezer: Option<&CgroupFreezer>,
    purpose: SnapshotUse,
    answer: &Sender<Result<Snapshot>>,
) {
    match take::take(target, options, freezer, purpose) {
        Err(error) => {
            let _ = answer.send(Err(error));
        }
        Ok((instant, mut source)) => {
            let (release, inbox) = unbounded();
            let _ = answer.send(Ok(Snapshot::new(instant, Lease(0, release))));
            let released = match &mut source {
                SnapshotSource::Children(_) => inbox.recv().ok(),
                SnapshotSource::Tree(frozen, _) => loop {
                    match inbox.recv_timeout(ROUNDS) {
                        Err(error) if error.is_timeout() => {
                            frozen.bury_the_dead();
                        }
                        released => break released.ok(),
                    }
                },
            };
            source.let_go();
            if let Some(Release(_, done)) = released {
                let _ = done.send(());
            }
        }
    }
}

/// How often a tracer thread looks whether somebody has killed what it holds stopped.
pub const ROUNDS: Duration = Duration::from_millis(20);

/// The life of a tree held by `freeze`, and of the snapshots of it that are kept.
pub fn hold(
    target: &Target,
    options: &Options,
    freezer: Option<&CgroupFreezer>,
    commands: Receiver<Command>,
    ready: &Sender<Result<()>>,
) {
    let timers = SleepTimers::before(&target.members().unwrap_or_default());
    let mut frozen = match freeze::freeze(target, options.freeze_timeout, freezer) {
        Ok(frozen) => frozen,
        Err(error) => {
            let _ = ready.send(Err(error));
            return;
        }
    };
    let timers = timers.gone();
    frozen.turn = None;
    let _ = ready.send(Ok(()));
    let (release, released) = unbounded();
    let mut taken = HeldSnapshots::default();
    let thawed = loop {
        crossbeam::select! {
            default(ROUNDS) => {
                if frozen.bury_the_dead() && taken.readers.is_empty() {
                    break None;
                }
            }
            recv(released) -> release => {
                if let Ok(Release(number, done)) = release {
                    taken.release(number);
                    let _ = done.send(());
                }
            }
            recv(commands) -> command => match command {
                Ok(Command::Snapshot(purpose, answer)) => {
                    let before = frozen.threads();
                    let made = taken.take(purpose, |purpose| match purpose {
                        SnapshotUse::Stream => {
                            (take::take_of_held(target, &mut frozen, &timers, options), Children::default())
                        }
                        SnapshotUse::Pin => take::keep_of_held(target, &mut frozen, &timers, options),
                    });
                    let made = made.map(|(number, instant)| Snapshot::new(instant, Lease(number, release.clone())));
                    let failed = made.is_err();
                    let _ = answer.send(made);
                    if failed && taken.readers.is_empty() && frozen.threads() != before {
                        log::warn!("{target}: a thread could not be held any longer; the tree goes on");
                        break None;
                    }
                }
                Ok(Command::Thaw(answer)) if !taken.readers.is_empty() => {
                    let busy = format!("{target}: an image of the stopped tree is being read");
                    let _ = answer.send(Err(Error::new(Kind::Busy, busy)));
                }
                Ok(Command::Thaw(answer)) => break Some(answer),
                Ok(Command::Look) => {}
                // The last handle is gone. Images that are still being read need the tree stopped: wait for them.
                Err(_) => {
                    while !taken.readers.is_empty() {
                        if let Ok(Release(number, done)) = released.recv() {
                            taken.release(number);
                            let _ = done.send(());
                        }
                    }
                    break None;
                }
            },
        }
    };
    let pids: Vec<Pid> = frozen.processes.iter().map(|process| process.pid).collect();
    drop(frozen);
    taken.reap();
    // Children of snapshots of before, which were closed meanwhile.
    for pid in pids {
        if let Err(error) = child::reap_ended(pid) {
            log::debug!("pid {pid}: reaping snapshot children: {error}");
        }
    }
    if let Some(answer) = thawed {
        let _ = answer.send(Ok(()));
    }
    // From here on nobody is held: who asks is to hear that.
    drop((commands, release));
    while let (false, Ok(Release(number, done))) = (taken.kept.is_empty(), released.recv()) {
        // Answered when nothing is left of it.
        taken.release(number);
        taken.reap();
        let _ = done.send(());
    }
}

/// The snapshots of a tree that is held.
#[derive(Default)]
pub struct HeldSnapshots {
    next: u64,
    /// Those that are read from the stopped tree itself.
    readers: BTreeSet<u64>,
    /// The children of those that are kept.
    kept: BTreeMap<u64, Children>,
    /// Killed, and reaped when their parents go on.
    ended: Vec<Children>,
}

impl HeldSnapshots {
    fn take<T>(
        &mut self,
        purpose: SnapshotUse,
        make: impl FnOnce(SnapshotUse) -> (Result<T>, Children),
    ) -> Result<(u64, T)> {
        let (made, mut children) = make(purpose);
        self.next += 1;
        match (&made, purpose) {
            (Ok(_), SnapshotUse::Stream) => drop(self.readers.insert(self.next)),
            (Ok(_), SnapshotUse::Pin) => drop(self.kept.insert(self.next, children)),
            (Err(_), _) => {
                children.kill();
                self.ended.push(children);
            }
        }
        Ok((self.next, made?))
    }

    fn release(&mut self, number: u64) {
        self.readers.remove(&number);
        if let Some(mut children) = self.kept.remove(&number) {
            children.kill();
            self.ended.push(children);
        }
    }

    fn reap(&mut self) {
        self.ended.drain(..).for_each(Children::end);
    }
}
