//! What a task *has*. One file for each kind holds its record, its dump and its restore.
//!
//! A kind implements [`Attribute`]. The table in `task/mod.rs` holds it as a [`DynAttribute`]. A
//! dump has two steps, so that the system calls of all kinds go into one batch for each thread:
//! [`Attribute::ask`] adds calls and returns a [`Ticket`] for each, [`Attribute::dump`] reads the
//! answers with the tickets. A restore adds checked calls to the batch of the kind's [`Phase`].

use std::ops::Deref;
use std::os::fd::RawFd;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::image::frame::{Record, Tag};
use crate::image::record_set::RecordView;
use crate::kind::inheritance::Inheritance;
use crate::kind::phase::Phase;
use crate::kind::record_sort::{RecordSort, Role, Shown, ShownTask};
use crate::kind::refs::{FileIds, Files};
use crate::refusals::Refusals;
use crate::sys::memory::RemotePtr;
use crate::sys::pid::Pid;
use crate::sys::proc::stat::Stat;
use crate::sys::proc::status::Fields;
use crate::sys::ptrace::{Regs, Stopped};
use crate::sys::remote::batch::{Answer, Answers, Batch, Ticket};
use crate::sys::remote::checked::Checked;
use crate::sys::remote::owned::Owned;
use crate::sys::remote::scm_rights::Channel;

/// What the attribute belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// One record for each process, collected through its leader, because its threads share it.
    Process,
    /// One record for each thread.
    Thread,
    /// One record for each process, and for each thread that has unshared its root and working
    /// directory (CLONE_FS).
    Directories,
}

/// A thread as /proc shows it, running or stopped.
pub struct ObservedTask<'a> {
    /// The process.
    pub pid: Pid,
    /// The thread.
    pub tid: Pid,
    /// Whether it represents its process. What belongs to the whole process is observed through it.
    pub is_representative: bool,
    /// `/proc/PID/task/TID/status`.
    pub status: &'a Fields,
    /// `/proc/PID/task/TID/stat`.
    pub stat: &'a Stat,
}

/// A stopped thread with attributes that are dumped.
pub struct DumpedThread<'a> {
    /// The thread as /proc shows it.
    pub task: ObservedTask<'a>,
    /// The thread. Its registers are those of the stub now. Its own are in `context`.
    pub stopped: &'a Stopped,
    /// Its state in the processor when it was stopped.
    pub context: UserContext<'a>,
    /// The answers of its calls.
    pub answers: &'a Answers,
    /// Address space without any mapping. A restore uses it.
    pub hole: RemotePtr,
    /// Gives an id to files that are not in a descriptor table.
    pub files: &'a mut dyn FileIds,
}

/// The state of a thread in the processor before it was stopped.
pub struct UserContext<'a> {
    /// Its general registers.
    pub regs: &'a Regs,
    /// Its signal mask.
    pub mask: u64,
    /// Its extended state.
    pub xstate: &'a [u8],
    /// How an interrupted system call with a timeout continues after the freeze.
    pub restart_block: Option<RestartBlock>,
}

impl ObservedTask<'_> {
    /// "pid 812" or "pid 812 task 815": the subject of an error.
    pub fn subject(&self) -> String {
        if self.pid == self.tid { format!("pid {}", self.pid) } else { format!("pid {} task {}", self.pid, self.tid) }
    }

    /// The path of a file of this thread in /proc.
    pub fn proc(&self, name: &str) -> String {
        format!("/proc/{}/task/{}/{name}", self.pid, self.tid)
    }
}

impl<'a> Deref for DumpedThread<'a> {
    type Target = ObservedTask<'a>;
    fn deref(&self) -> &ObservedTask<'a> {
        &self.task
    }
}

impl DumpedThread<'_> {
    /// The answer of a call. `doing` names the call if it failed.
    pub fn answer<T: Answer>(&self, ticket: Ticket<T>, doing: &str) -> Result<T> {
        self.answers.get(ticket, || format!("{}: {doing}", self.subject()))
    }

    /// The raw result of a call, for one that may fail.
    pub fn raw<T>(&self, ticket: Ticket<T>) -> i64 {
        self.answers.raw(ticket)
    }
}

/// A stopped thread of a new process. Its attributes are being restored.
pub struct RestoredThread<'a> {
    /// The process.
    pub pid: Pid,
    /// The thread.
    pub tid: Pid,
    /// The thread, stopped.
    pub owned: &'a mut Owned,
    /// The open files of the image by id.
    pub files: &'a dyn Files,
    /// Pushes descriptors into the process.
    pub channel: &'a Channel,
    /// Whether it shares the address space of its maker, which has its fields already.
    pub borrows_memory: bool,
    /// A `syscall` instruction outside the scratch: the one of the vDSO.
    pub syscall: RemotePtr,
    /// The calls of this phase so far.
    pub batch: &'a mut Checked,
    /// The registers and mask to resume the thread with. [`Phase::Resume`] decides them.
    pub resume: &'a mut Resume,
}

/// The registers and mask to resume a restored thread with.
#[derive(Debug, Default)]
pub struct Resume {
    /// Its registers.
    pub regs: Option<Regs>,
    /// Its signal mask.
    pub mask: u64,
}

impl RestoredThread<'_> {
    /// "pid 812 task 815": the subject of an error.
    pub fn subject(&self) -> String {
        format!("pid {} task {}", self.pid, self.tid)
    }

    /// Adds a checked call to the batch of this phase.
    pub fn call<const N: usize>(&mut self, nr: i64, args: [u64; N], doing: impl Into<String>) {
        self.batch.call(nr, args, doing);
    }

    /// Pushes `fds` into the process now. Returns their numbers there.
    pub fn push(&mut self, fds: &[RawFd]) -> Result<Vec<i32>> {
        self.channel.push(self.owned, fds)
    }

    /// Makes the calls so far, now.
    pub fn flush(&mut self) -> Result<()> {
        self.batch.flush(self.owned)
    }
}

/// A kind of thing that a task has.
pub trait Attribute: Sync {
    /// The record's body: its field names are the format.
    type Body: Serialize + DeserializeOwned;
    /// A ticket for each call of [`Attribute::ask`].
    type Tickets;
    /// The record's tag.
    const TAG: Tag;
    /// What it belongs to.
    const SCOPE: Scope;
    /// When it is restored.
    const PHASE: Phase;

    /// Adds the system calls that [`Attribute::dump`] needs, for a thread of process `pid`.
    fn ask(&self, pid: Pid, batch: &mut Batch) -> Self::Tickets;
    /// Notes everything that /proc shows of a task, also of one that runs, and that
    /// [`Attribute::dump`] would refuse.
    fn check(_task: &ObservedTask<'_>, _files: &mut dyn FileIds, _refusals: &mut Refusals) -> Result<()> {
        Ok(())
    }
    /// The record's body and its blob, which is empty for most kinds.
    fn dump(&self, thread: &mut DumpedThread<'_>, asked: Self::Tickets) -> Result<(Self::Body, Vec<u8>)>;
    /// Refuses a record that contradicts what a process inherits from this program and cannot lose.
    /// It is called before anything is made.
    fn compare(_body: impl FnOnce() -> Result<Self::Body>, _subject: &str, _own: &Inheritance) -> Result<()> {
        Ok(())
    }
    /// Restores what a record holds.
    fn restore(&self, body: Self::Body, blob: &[u8], thread: &mut RestoredThread<'_>) -> Result<()>;
    /// What the record shows to a reader that restores nothing, in addition to its task.
    fn show(_record: &RecordView<'_>) -> Result<ShownTask> {
        Ok(ShownTask::default())
    }
}

#[derive(Serialize, Deserialize)]
struct TaggedAttribute<T> {
    /// The thread that it belongs to, or the process.
    tid: Pid,
    #[serde(flatten)]
    body: T,
}

/// The thread that a task record belongs to.
pub fn tid_of(record: &Record) -> Result<Pid> {
    #[derive(Deserialize)]
    struct Tid {
        tid: Pid,
    }
    Ok(record.body::<Tid>()?.tid)
}

/// An attribute with calls in a batch. After the batch has run, calling this makes the record from
/// the answers.
pub type PendingRecord<'a> = Box<dyn FnOnce(&mut DumpedThread<'_>) -> Result<Record> + 'a>;

fn show<A: Attribute>(record: &RecordView<'_>) -> Result<Shown> {
    #[derive(Deserialize)]
    struct Head {
        tid: Pid,
    }
    let Head { tid } = record.body()?;
    Ok(Shown::Task(ShownTask { tid, ..A::show(record)? }))
}

/// An [`Attribute`] in a table.
pub trait DynAttribute: Sync {
    /// See [`Attribute::TAG`].
    fn tag(&self) -> Tag;
    /// Its row in the table of records.
    fn sort(&self) -> RecordSort;
    /// See [`Attribute::SCOPE`].
    fn scope(&self) -> Scope;
    /// See [`Attribute::PHASE`].
    fn phase(&self) -> Phase;
    /// Calls [`Attribute::ask`] now. The result calls [`Attribute::dump`] when there are answers.
    fn ask(&self, pid: Pid, batch: &mut Batch) -> PendingRecord<'_>;
    /// See [`Attribute::check`].
    fn check(&self, task: &ObservedTask<'_>, files: &mut dyn FileIds, refusals: &mut Refusals) -> Result<()>;
    /// See [`Attribute::compare`].
    fn compare(&self, record: &Record, subject: &str, own: &Inheritance) -> Result<()>;
    /// See [`Attribute::restore`].
    fn restore(&self, record: &Record, thread: &mut RestoredThread<'_>) -> Result<()>;
}

impl<A: Attribute> DynAttribute for A {
    fn tag(&self) -> Tag {
        A::TAG
    }

    fn sort(&self) -> RecordSort {
        RecordSort { tag: A::TAG, role: Role::Task, show: show::<A> }
    }

    fn scope(&self) -> Scope {
        A::SCOPE
    }

    fn phase(&self) -> Phase {
        A::PHASE
    }

    fn ask(&self, pid: Pid, batch: &mut Batch) -> PendingRecord<'_> {
        let asked = Attribute::ask(self, pid, batch);
        Box::new(move |thread| {
            let (body, blob) = self.dump(thread, asked)?;
            Ok(Record::new(A::TAG, &TaggedAttribute { tid: thread.tid, body })?.with_blob(blob))
        })
    }

    fn check(&self, task: &ObservedTask<'_>, files: &mut dyn FileIds, refusals: &mut Refusals) -> Result<()> {
        A::check(task, files, refusals)
    }

    fn compare(&self, record: &Record, subject: &str, own: &Inheritance) -> Result<()> {
        A::compare(|| Ok(record.body::<TaggedAttribute<A::Body>>()?.body), subject, own)
    }

    fn restore(&self, record: &Record, thread: &mut RestoredThread<'_>) -> Result<()> {
        let TaggedAttribute { body, .. } = record.body::<TaggedAttribute<A::Body>>()?;
        Attribute::restore(self, body, &record.blob, thread)
    }
}

/// How a thread continues after its system call was interrupted with -ERESTART_RESTARTBLOCK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestartBlock {
    /// The call with this number is made again with its own arguments.
    SameCall(i64),
    /// The call with this number is made again with this many ns instead of its timeout.
    TimeLeft(i64, u64),
}
