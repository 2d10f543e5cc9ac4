//! Kernel -> records: the order of looking at a stopped tree.

use crate::dump::CollectedProcess;
use crate::dump::files::FileCollector;
use crate::dump::thread::ThreadCollector;
use crate::error::Result;
use crate::file::lock;
use crate::freeze::FrozenProcess;
use crate::freeze::entry::{self, Entry};
use crate::memory::vdso::Vdso;
use crate::memory::vm_flags::FlagsOnDemand;
use crate::memory::vma::Vma;
use crate::pstree::record::{self, Share, Tree};
use crate::sys::memory::RemotePtr;
use crate::sys::pid::Pid;
use crate::sys::ptrace::SIGINFO_LEN;
use crate::sys::remote::batch::Batch;
use crate::sys::remote::inject::Injected;
use crate::sysv::{table, undo};
use crate::task::cgroup::Membership;
use crate::task::restart_block::SleepTimers;

/// What looking at one process of a frozen tree needs.
pub struct ProcessCollector<'a> {
    /// The tree; what its parents know of stopped children is written into it.
    pub tree: &'a mut Tree,
    /// All open files of the tree.
    pub files: &'a mut FileCollector,
    /// What threads were asleep.
    pub timers: &'a SleepTimers,
    /// Semaphore sets and message queues.
    pub sysv: &'a table::IpcTables,
    /// Address space that no process of the tree uses.
    pub hole: RemotePtr,
}

impl ProcessCollector<'_> {
    /// Looks at one process through its injected stub. The records of a thread come in the order of the table.
    pub fn process(
        &mut self,
        process: &mut FrozenProcess,
        door: &Entry,
        injected: &mut Injected<'_>,
    ) -> Result<CollectedProcess> {
        let pid = process.pid;
        let told = self.tree.processes.iter().find(|it| it.pid == pid);
        let shares_memory = told.is_some_and(|told| told.shares(Share::Vm));
        let own_directories: Vec<Pid> = told
            .into_iter()
            .flat_map(|it| &it.own)
            .filter(|(_, what)| *what == Share::Fs)
            .map(|(tid, _)| *tid)
            .collect();
        let speaker = injected.task()?.tid();
        let mut records = vec![Vdso::of(pid, &door.maps, door.vdso_digest.clone()).record()?];
        if let Some(membership) = Membership::collect(pid)? {
            records.push(membership.record()?);
        }
        self.ask_for_stops(pid, injected)?;
        // The leader is inside the stub now; the others take their turns, and the leader gets it back last.
        let mut here = ThreadCollector {
            pid,
            representative: speaker,
            own_directories,
            entry: door,
            files: &mut *self.files,
            timers: self.timers,
            hole: self.hole,
            rseq: Vec::new(),
            waits: Vec::new(),
        };
        records.extend(here.thread(injected, speaker)?);
        let adjustments = undo::of_thread(self.sysv, injected, pid)?;
        for at in 0..process.threads.len() {
            let tid = entry::take_turns(injected, process, at)?;
            records.extend(here.thread(injected, tid)?);
            undo::refuse_own(self.sysv, injected, pid, speaker)?;
        }
        let ThreadCollector { mut rseq, waits, .. } = here;
        let mut mappings = Vec::new();
        let flags = FlagsOnDemand::of(speaker);
        for mapping in door.maps.iter().filter(|mapping| !mapping.is_special() && !shares_memory) {
            let mut vma = Vma::collect(speaker, mapping, &mut *self.files, &flags)?;
            vma.tid = pid;
            mappings.push((mapping.clone(), vma));
        }
        rseq.sort_unstable();
        let locked = lock::of_mappings(pid, speaker, &door.maps)?;
        Ok(CollectedProcess { pid, records, mappings, locked, rseq, waits, adjustments })
    }

    /// What a process has not asked yet about its children's stopping and going on: waitid(2) with WNOWAIT leaves it to be asked.
    fn ask_for_stops(&mut self, pid: Pid, injected: &mut Injected<'_>) -> Result<()> {
        let asked = |child: &&mut record::Process| child.ppid == pid && !child.threads.is_empty();
        for child in self.tree.processes.iter_mut().filter(asked) {
            let mut batch = Batch::new(injected.scratch());
            let how = libc::WSTOPPED | libc::WCONTINUED | libc::WNOHANG | libc::WNOWAIT | libc::__WALL;
            let info = batch.call_into(libc::SYS_waitid, [libc::P_PID as u64, child.pid as u64, 0, how as u64, 0], 2);
            let info: [u64; SIGINFO_LEN / 8] =
                injected.run(batch)?.get(info, || format!("pid {pid}: asking about pid {}", child.pid))?;
            // si_signo and si_errno, then si_code; nothing to tell leaves si_signo 0.
            let [first, second, ..] = info;
            let code = if first as u32 == 0 { 0 } else { second as u32 as i32 };
            child.stop_reported = code != libc::CLD_STOPPED;
            child.continued = code == libc::CLD_CONTINUED;
        }
        Ok(())
    }
}
