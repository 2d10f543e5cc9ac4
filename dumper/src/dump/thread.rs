//! One thread: the records of all attributes, asked for in one batch.

use crate::dump::files::FileCollector;
use crate::error::Result;
use crate::freeze::entry::Entry;
use crate::image::frame::Record;
use crate::kind::attribute::{Look, PendingRecord, Scope};
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

pub struct ThreadCollector<'a> {
    pub pid: Pid,
    /// The thread that tells what belongs to the process.
    pub speaker: Pid,
    /// Threads with a root and working directory of their own.
    pub own_directories: Vec<Pid>,
    pub door: &'a Entry,
    pub files: &'a FileCollector,
    pub timers: &'a SleepTimers,
    pub hole: RemotePtr,
    pub rseq: Vec<u64>,
    pub waits: Vec<(sysvipc::IpcKind, i32)>,
}

impl ThreadCollector<'_> {
    /// All records of the thread that is inside the stub.
    pub fn thread(&mut self, injected: &mut Injected<'_>, tid: Pid) -> Result<Vec<Record>> {
        let speaks = tid == self.speaker;
        let has_it = |scope: Scope| match scope {
            Scope::Process => speaks,
            Scope::Thread => true,
            Scope::Directories => speaks || self.own_directories.contains(&tid),
        };
        let mut batch = Batch::new(injected.scratch());
        let kinds = task::KINDS.iter().filter(|kind| has_it(kind.scope()));
        let pending: Vec<PendingRecord<'_>> = kinds.map(|kind| kind.ask(&mut batch)).collect();
        let dir = format!("/proc/{}/task/{tid}", self.pid);
        let status = Fields::read(&format!("{dir}/status"))?;
        // The process-wide stat: start_stack and its like are the same for all threads.
        let stat = Stat::read(&format!("{dir}/stat"))?;
        let (regs, mask): (Regs, u64) = (injected.regs()?, injected.mask()?);
        self.waits.extend(table::waits_for(&regs));
        let answers = injected.run(batch)?;
        let task = injected.task()?;
        let xstate = task.xstate()?;
        self.rseq.extend(Some(task.rseq()?.0).filter(|area| *area != 0));
        let restart_block = self.timers.of(tid, &regs, &self.door.mem);
        let look = Look {
            pid: self.pid,
            tid,
            speaks,
            task,
            regs: &regs,
            mask,
            xstate: &xstate,
            status: &status,
            stat: &stat,
            answers: &answers,
            hole: self.hole,
            restart_block,
            files: self.files,
        };
        pending.into_iter().map(|record| record(&look)).collect()
    }
}
