//! Dumps one thread: the records of all its attributes, with one batch of calls.

use std::collections::BTreeSet;

use crate::dump::files::FileCollector;
use crate::error::Result;
use crate::freeze::entry::Entry;
use crate::image::frame::Record;
use crate::kind::attribute::{DumpedThread, ObservedTask, PendingRecord, Scope, UserContext};
use crate::sys::memory::RemotePtr;
use crate::sys::pid::Pid;
use crate::sys::proc::stat::Stat;
use crate::sys::proc::status::Fields;
use crate::sys::ptrace::Regs;
use crate::sys::remote::batch::Batch;
use crate::sys::remote::inject::Injected;
use crate::sys::sysvipc;
use crate::sysv::table;
use crate::task;
use crate::task::restart_block::SleepTimers;

/// Dumps the threads of one process, and collects what it finds on the way.
pub struct ThreadCollector<'a> {
    /// The process.
    pub pid: Pid,
    /// Its representative thread.
    pub representative: Pid,
    /// Threads with a root and working directory of their own.
    pub own_directories: BTreeSet<Pid>,
    /// The way into the process.
    pub entry: &'a Entry,
    /// The open files of the tree.
    pub files: &'a mut FileCollector,
    /// The timers of threads that slept when they were stopped.
    pub timers: &'a SleepTimers,
    /// Address space that no process of the tree uses.
    pub hole: RemotePtr,
    /// The rseq areas of the threads so far.
    pub rseq: Vec<u64>,
    /// System V objects that the threads so far wait on.
    pub waits: Vec<(sysvipc::ipc_kind::IpcKind, i32)>,
}

impl ThreadCollector<'_> {
    /// All records of the thread that is inside the stub, in the order of the table.
    pub fn thread(&mut self, injected: &mut Injected<'_>, tid: Pid) -> Result<Vec<Record>> {
        let is_representative = tid == self.representative;
        let has_record = |scope: Scope| match scope {
            Scope::Process => is_representative,
            Scope::Thread => true,
            Scope::Directories => is_representative || self.own_directories.contains(&tid),
        };
        let mut batch = Batch::new(injected.scratch());
        let kinds = task::KINDS.iter().filter(|kind| has_record(kind.scope()));
        let pending: Vec<PendingRecord<'_>> = kinds.map(|kind| kind.ask(self.pid, &mut batch)).collect();
        let dir = format!("/proc/{}/task/{tid}", self.pid);
        let status = Fields::read(&format!("{dir}/status"))?;
        // Fields of the whole process, such as start_stack, are the same in the stat of each
        // thread.
        let stat = Stat::read(&format!("{dir}/stat"))?;
        let (regs, mask): (Regs, u64) = (injected.regs()?, injected.mask()?);
        self.waits.extend(table::waits_for(&regs));
        let answers = injected.run(batch)?;
        let stopped = injected.task()?;
        let xstate = stopped.xstate()?;
        self.rseq.extend(Some(stopped.rseq()?.0).filter(|area| *area != 0));
        let restart_block = self.timers.of(tid, &regs, &self.entry.mem);
        let mut thread = DumpedThread {
            task: ObservedTask { pid: self.pid, tid, is_representative, status: &status, stat: &stat },
            stopped,
            context: UserContext { regs: &regs, mask, xstate: &xstate, restart_block },
            answers: &answers,
            hole: self.hole,
            files: &mut *self.files,
        };
        pending.into_iter().map(|record| record(&mut thread)).collect()
    }
}
