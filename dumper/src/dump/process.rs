//! Collects one process: its records, thread by thread, and its mappings.

use std::collections::BTreeSet;

use crate::dump::files::FileCollector;
use crate::dump::thread::ThreadCollector;
use crate::dump::{CollectedMapping, CollectedProcess};
use crate::error::Result;
use crate::file::mapped_lock::{self, LocksOfMappings, MappedLocks};
use crate::freeze::bound::StopBound;
use crate::freeze::entry::{self, Entry};
use crate::freeze::frozen::FrozenProcess;
use crate::memory::vdso::{Vdso, VdsoShape};
use crate::memory::vm_flags::FlagsOnDemand;
use crate::memory::vma::Vma;
use crate::pstree::record::{self, Share, Tree};
use crate::sys::memory::RemotePtr;
use crate::sys::pid::Pid;
use crate::sys::proc::locks::ByFile;
use crate::sys::ptrace::SIGINFO_LEN;
use crate::sys::remote::batch::Batch;
use crate::sys::remote::inject::Injected;
use crate::sysv::{table, undo};
use crate::task::cgroup::Membership;
use crate::task::restart_block::SleepTimers;

/// What is needed to collect one process of a stopped tree.
pub struct ProcessCollector<'a> {
    /// The tree. What its parents have yet to learn of stopped children is written into it.
    pub tree: &'a mut Tree,
    /// All open files of the tree.
    pub files: &'a mut FileCollector,
    /// The timers that the stopped threads sleep on.
    pub timers: &'a SleepTimers,
    /// Semaphore sets and message queues.
    pub ipc: &'a table::IpcTables,
    /// The file locks of the machine.
    pub locks: &'a ByFile<'a>,
    /// The limit of the stop.
    pub bound: StopBound,
    /// Address space that no process of the tree uses.
    pub hole: RemotePtr,
    /// The parts that a vDSO has on this kernel.
    pub vdso: VdsoShape,
}

impl ProcessCollector<'_> {
    /// Collects one process through its injected stub. The records of a thread come in the order of
    /// the table of attributes.
    pub fn process(
        &mut self,
        process: &mut FrozenProcess,
        entry: &Entry,
        injected: &mut Injected<'_>,
    ) -> Result<CollectedProcess> {
        let pid = process.pid;
        let representative = injected.task()?.tid();
        let vdso = Vdso::of(pid, &entry.maps, entry.vdso_digest.clone());
        vdso.refuse_partial(&self.vdso)?;
        let mut records = vec![vdso.record()?];
        if let Some(membership) = Membership::collect(pid)? {
            records.push(membership.record()?);
        }
        let LocksOfMappings { ranges: lock_mappings, hidden } =
            mapped_lock::of_mappings(pid, representative, &entry.maps, self.locks, &self.bound)?;
        let mapped_locks = MappedLocks { tid: pid, locks: hidden };
        if !mapped_locks.locks.is_empty() {
            records.push(mapped_locks.record()?);
        }
        self.ask_for_stops(pid, injected)?;
        let (shared, own_directories, own_tables) = self.shares(pid);
        let shares = |what: Share| shared.contains(&what);
        // The leader is inside the stub now. The others take their turns, and the leader is last.
        let mut threads = ThreadCollector {
            pid,
            representative,
            own_directories,
            entry,
            files: &mut *self.files,
            timers: self.timers,
            hole: self.hole,
            rseq: Vec::new(),
            waits: Vec::new(),
        };
        let mut tables = Vec::new();
        records.extend(threads.thread(injected, representative)?);
        if !shares(Share::Files) {
            tables.push(threads.files.table(pid, injected)?);
        }
        let adjustments = undo::of_thread(self.ipc, injected, pid)?;
        for at in 0..process.threads.len() {
            self.bound.check(|| format!("pid {pid}: its threads"))?;
            let tid = entry::take_turns(injected, process, at)?;
            records.extend(threads.thread(injected, tid)?);
            if own_tables.contains(&tid) {
                tables.push(threads.files.table(tid, injected)?);
            }
            undo::refuse_own(self.ipc, injected, pid, representative)?;
        }
        let ThreadCollector { mut rseq, waits, .. } = threads;
        rseq.sort_unstable();
        let mappings = if shares(Share::Vm) { Vec::new() } else { self.mappings(pid, representative, entry)? };
        if let Some(lock) = mapped_locks.locks.first().filter(|_| shares(Share::Vm)) {
            return Err(lock.refuse_borrowed(pid));
        }
        let mlock_flags = None;
        Ok(CollectedProcess {
            pid,
            records,
            tables,
            mappings,
            lock_mappings,
            mapped_locks,
            mlock_flags,
            rseq,
            waits,
            adjustments,
        })
    }

    /// What the process shares with the one that made it, its threads with a root and working
    /// directory of their own, and those with a descriptor table of their own.
    fn shares(&self, pid: Pid) -> (Vec<Share>, BTreeSet<Pid>, BTreeSet<Pid>) {
        let Some(record) = self.tree.processes.iter().find(|it| it.pid == pid) else { return Default::default() };
        let own = |what| record.own.iter().filter(move |(_, own)| *own == what).map(|(tid, _)| *tid).collect();
        (record.shares.clone(), own(Share::Fs), own(Share::Files))
    }

    /// Its mappings.
    fn mappings(&mut self, pid: Pid, representative: Pid, entry: &Entry) -> Result<Vec<CollectedMapping>> {
        let flags = FlagsOnDemand::of(representative);
        let mut found = Vec::new();
        for mapping in entry.maps.iter().filter(|mapping| !mapping.is_special()) {
            self.bound.check(|| format!("pid {pid}: its mappings"))?;
            let mut vma = Vma::collect(representative, mapping, &mut *self.files, &flags)?;
            vma.tid = pid;
            found.push(CollectedMapping { mapping: mapping.clone(), vma, kept: None });
        }
        Ok(found)
    }

    /// Finds the stops and continuations of children that a process has not asked for yet.
    /// waitid(2) with WNOWAIT leaves them to be asked for.
    fn ask_for_stops(&mut self, pid: Pid, injected: &mut Injected<'_>) -> Result<()> {
        let asked = |child: &&mut record::Process| child.ppid == pid && !child.threads.is_empty();
        for child in self.tree.processes.iter_mut().filter(asked) {
            let mut batch = Batch::new(injected.scratch());
            let how = libc::WSTOPPED | libc::WCONTINUED | libc::WNOHANG | libc::WNOWAIT | libc::__WALL;
            let info = batch.call_into(libc::SYS_waitid, [libc::P_PID as u64, child.pid as u64, 0, how as u64, 0], 2);
            let info: [u64; SIGINFO_LEN / 8] =
                injected.run(batch)?.get(info, || format!("pid {pid}: asking about pid {}", child.pid))?;
            // si_signo and si_errno, then si_code. Without an answer si_signo stays 0.
            let [first, second, ..] = info;
            let code = if first as u32 == 0 { 0 } else { second as u32 as i32 };
            child.stop_reported = code != libc::CLD_STOPPED;
            child.continued = code == libc::CLD_CONTINUED;
        }
        Ok(())
    }
}
