//! What a task *has*, as a kind: its record, how it is looked at, how it is put back, all in one file per kind.
//!
//! A kind implements [`Attribute`]; the table in `mod.rs` holds it as a [`DynAttribute`]. Looking happens in two steps, so that the
//! system calls of all kinds go into one batch per thread: [`Attribute::ask`] adds calls, [`Attribute::dump`] reads what
//! they gave. Putting back adds checked calls to the batch of its [`Phase`].

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::image::frame::{Record, Tag};
use crate::image::record_set::RecordView;
use crate::kind::phase::Phase;
use crate::kind::record_sort::{RecordSort, Role, Shown, ShownTask};
use crate::kind::refs::{FileIds, Files};
use crate::sys::memory::RemotePtr;
use crate::sys::pid::Pid;
use crate::sys::proc::stat::Stat;
use crate::sys::proc::status::Fields;
use crate::sys::ptrace::{Regs, Stopped};
use crate::sys::remote::batch::{Answer, Answers, Batch, Ticket};
use crate::sys::remote::checked::Checked;
use crate::sys::remote::owned::Owned;

/// Whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Shared by all threads: one record, looked at through the leader.
    Process,
    /// Each thread's own.
    Thread,
    /// As [`Scope::Process`], until a thread unshares its root and working directory (CLONE_FS).
    Directories,
}

/// One stopped thread, while it is looked at.
pub struct Look<'a> {
    /// The process.
    pub pid: Pid,
    /// The thread.
    pub tid: Pid,
    /// It tells what belongs to the whole process.
    pub speaks: bool,
    /// The thread, stopped (its registers at the moment are ours; the true ones are in `regs`).
    pub task: &'a Stopped,
    /// Its true registers.
    pub regs: &'a Regs,
    /// Its true signal mask.
    pub mask: u64,
    /// Its extended state.
    pub xstate: &'a [u8],
    /// `/proc/PID/task/TID/status`.
    pub status: &'a Fields,
    /// `/proc/PID/task/TID/stat`.
    pub stat: &'a Stat,
    /// What the calls gave.
    pub answers: &'a Answers,
    /// Address space that nothing touches, for whoever rebuilds the process.
    pub hole: RemotePtr,
    /// How a timed sleep that the freeze interrupted goes on.
    pub restart_block: Option<RestartBlock>,
    /// Names files that are not in a descriptor table.
    pub files: &'a dyn FileIds,
}

impl Look<'_> {
    /// "pid 812" or "pid 812 task 815": the subject of an error.
    pub fn subject(&self) -> String {
        if self.pid == self.tid { format!("pid {}", self.pid) } else { format!("pid {} task {}", self.pid, self.tid) }
    }

    /// What a call gave; `doing` names the call if it failed.
    pub fn answer<T: Answer>(&self, ticket: Ticket<T>, doing: &str) -> Result<T> {
        self.answers.get(ticket, || format!("{}: {doing}", self.subject()))
    }

    /// The raw result of a call, for one that may fail.
    pub fn raw<T>(&self, ticket: Ticket<T>) -> i64 {
        self.answers.raw(ticket)
    }

    /// The path of a file of this thread in /proc.
    pub fn proc(&self, name: &str) -> String {
        format!("/proc/{}/task/{}/{name}", self.pid, self.tid)
    }
}

/// One thread of a process that is being made.
pub struct Make<'a> {
    /// The process.
    pub pid: Pid,
    /// The thread.
    pub tid: Pid,
    /// The thread, stopped.
    pub owned: &'a mut Owned,
    /// Open files of the image by id.
    pub files: &'a dyn Files,
    /// Where a descriptor for this process may be pushed.
    pub channel: &'a crate::sys::remote::scm_rights::Channel,
    /// The address space is its maker's, which has been given its fields already.
    pub borrows_memory: bool,
    /// A `syscall` instruction outside the scratch (the vDSO's).
    pub syscall: RemotePtr,
    /// The calls of this phase so far.
    pub batch: &'a mut Checked,
    /// What [`Phase::Resume`] decides.
    pub resume: &'a mut Resume,
}

/// How a thread goes on.
#[derive(Debug, Default)]
pub struct Resume {
    /// Its registers.
    pub regs: Option<Regs>,
    /// Its signal mask.
    pub mask: u64,
}

impl Make<'_> {
    /// Adds a checked call to the batch of this phase.
    pub fn call<const N: usize>(&mut self, nr: i64, args: [u64; N], doing: impl Into<String>) {
        self.batch.call(nr, args, doing);
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
    /// What [`Attribute::ask`] has asked: a ticket for each call.
    type Tickets;
    /// The record's tag.
    const TAG: Tag;
    /// Whose it is.
    const SCOPE: Scope;
    /// When it is put back.
    const PHASE: Phase;

    /// Adds the system calls that [`Attribute::dump`] needs.
    fn ask(&self, batch: &mut Batch) -> Self::Tickets;
    /// Looks; the blob is empty for most.
    fn dump(&self, look: &Look<'_>, asked: Self::Tickets) -> Result<(Self::Body, Vec<u8>)>;
    /// Puts it back.
    fn restore(&self, body: Self::Body, blob: &[u8], make: &mut Make<'_>) -> Result<()>;
    /// What a record says to a reader that restores nothing, beside its task.
    fn show(_record: &RecordView<'_>) -> Result<ShownTask> {
        Ok(ShownTask::default())
    }
}

#[derive(Serialize, Deserialize)]
struct TaggedAttribute<T> {
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

/// An attribute whose calls are in a batch. Once the batch has run, it is called to make the record of their answers.
pub type PendingRecord<'a> = Box<dyn FnOnce(&Look<'_>) -> Result<Record> + 'a>;

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
    /// [`Attribute::ask`] now, [`Attribute::dump`] when there are answers.
    fn ask(&self, batch: &mut Batch) -> PendingRecord<'_>;
    /// See [`Attribute::restore`].
    fn restore(&self, record: &Record, make: &mut Make<'_>) -> Result<()>;
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

    fn ask(&self, batch: &mut Batch) -> PendingRecord<'_> {
        let asked = Attribute::ask(self, batch);
        Box::new(move |look| {
            let (body, blob) = self.dump(look, asked)?;
            Ok(Record::new(A::TAG, &TaggedAttribute { tid: look.tid, body })?.with_blob(blob))
        })
    }

    fn restore(&self, record: &Record, make: &mut Make<'_>) -> Result<()> {
        let TaggedAttribute { body, .. } = record.body::<TaggedAttribute<A::Body>>()?;
        Attribute::restore(self, body, &record.blob, make)
    }
}

/// How a thread goes on whose system call was interrupted with -ERESTART_RESTARTBLOCK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestartBlock {
    /// The call with this number is made again with its own arguments.
    SameCall(i64),
    /// The call with this number is made again with so many ns instead of its timeout.
    TimeLeft(i64, u64),
}
