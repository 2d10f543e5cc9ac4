//! What would refuse a dump, as far as /proc shows it of processes that run. No process is stopped,
//! and nothing is done inside one.
//!
//! The kinds refuse here with the sentences of the dump. What only the process itself or a stopped
//! task can tell is not found.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::dump::files::FileCollector;
use crate::dump::pstree::{self, FoundProcess};
use crate::dump::{sharing, unsupported};
use crate::error::{Error, Kind, Result};
use crate::file::mapped_lock::{self, MappedLock, MappedLocks};
use crate::freeze::bound::StopBound;
use crate::freeze::target::Target;
use crate::freeze::{cgroup, entry, tracing, vfork};
use crate::kind::attribute::{ObservedTask, Scope};
use crate::memory::vdso::{self, Vdso, VdsoShape};
use crate::memory::vm_flags::FlagsOnDemand;
use crate::memory::vma::Vma;
use crate::pstree::record::{Process, Share};
use crate::refusals::{Refusals, is_gone};
use crate::sys::clock;
use crate::sys::pid::Pid;
use crate::sys::proc::locks::{self, ByFile};
use crate::sys::proc::maps::Mapping;
use crate::sys::proc::process::{parent, runs_this_program};
use crate::sys::proc::stat::Stat;
use crate::sys::proc::status::Fields;
use crate::sys::proc::{self, maps};
use crate::task;
use crate::task::cgroup::Membership;
use crate::task::namespaces::Namespaces;

/// How often the processes are looked at if some of them end meanwhile.
const TRIES: u32 = 3;

/// How long a look may take. No process waits for it.
const LIMIT: Duration = Duration::from_secs(60);

/// Everything that would refuse a dump of `target` now. This process itself is not looked at.
///
/// # Errors
/// [`Kind::NoProcess`]: no process is left, or processes end all the time.
pub fn check(target: &Target) -> Result<Vec<Error>> {
    let mut tries = 0;
    loop {
        tries += 1;
        let mut refusals = Refusals::all();
        match look(target, &mut refusals) {
            Ok(()) if !refusals.has_missed() => return Ok(refusals.into_errors()),
            Ok(()) if tries == TRIES => {
                let mut found = refusals.into_errors();
                let sentence =
                    format!("{target}: its processes end, or close files, all the time: not all of it was examined");
                found.push(Error::new(Kind::Busy, sentence));
                return Ok(found);
            }
            Ok(()) => {}
            Err(error) if is_gone(&error) && tries < TRIES => {}
            Err(error) => return Err(error),
        }
    }
}

fn look(target: &Target, refusals: &mut Refusals) -> Result<()> {
    let found = find(target)?;
    let pids: BTreeSet<Pid> = found.iter().map(|process| process.pid).collect();
    refusals.sift(cgroup::refuse_frozen(&pids))?;
    refusals.sift(target.refuse_lost_children(&pids))?;
    let bound = StopBound::of_look(LIMIT);
    let tree = pstree::plan(&found, &bound, refusals)?;
    // Without a plan for the processes, its details say nothing.
    if refusals.is_empty() {
        refusals.sift(tree.validate())?;
    }
    let shared = sharing::refuse_sharing_outside(&tree, clock::boot_ticks(), refusals);
    refusals.sift(shared)?;
    let root = found.iter().find_map(|process| process.threads.first()).copied().unwrap_or(0);
    let (files, namespaces) = (FileCollector::that_checks(pids, bound.clone()), Namespaces::for_tree(root));
    let (vdso, locks) = (vdso::own_shape()?, locks::read()?);
    let locks = locks::by_file(&locks);
    let mut checker = Checker { files, namespaces, vdso, locks, bound, mapped_locks: Vec::new(), refusals };
    let records: BTreeMap<Pid, &Process> = tree.processes.iter().map(|record| (record.pid, record)).collect();
    for process in found.iter().filter(|process| !process.is_zombie) {
        if let Some(record) = records.get(&process.pid) {
            checker.process(process, record)?;
        }
    }
    let Checker { mut files, mapped_locks, refusals, .. } = checker;
    files.relate(refusals)?;
    mapped_lock::refuse_shown(mapped_locks.iter(), files.fd_states(), refusals)?;
    files.refuse_strangers(&tree, refusals)?;
    vfork::refuse_waiting(found.iter().flat_map(|process| process.threads.iter().copied()), refusals)
}

/// The processes of `target`, without roots that have ended.
fn find(target: &Target) -> Result<Vec<FoundProcess>> {
    let own = std::process::id() as Pid;
    let members = target.members()?.into_iter().filter(|pid| *pid != own);
    let mut found: Vec<FoundProcess> = members.filter_map(|pid| find_one(pid).ok()).collect();
    let pids: BTreeSet<Pid> = found.iter().map(|process| process.pid).collect();
    found.retain(|process| !process.is_zombie || parent(process.pid).is_some_and(|parent| pids.contains(&parent)));
    match target.root().is_none_or(|root| found.first().is_some_and(|first| first.pid == root)) {
        true if !found.is_empty() => Ok(found),
        _ => Err(Error::new(Kind::NoProcess, format!("{target}: no such process"))),
    }
}

fn find_one(pid: Pid) -> Result<FoundProcess> {
    let mut threads = proc::numbers(&format!("/proc/{pid}/task"))?;
    let has_ended = |tid: Pid| {
        let stat = Stat::read(&format!("/proc/{pid}/task/{tid}/stat"));
        stat.is_ok_and(|stat| stat.is_ended_task())
    };
    threads.retain(|tid| !has_ended(*tid));
    threads.sort_by_key(|tid| (*tid != pid, *tid));
    let is_zombie = threads.is_empty();
    let leader_is_zombie = !is_zombie && threads.first() != Some(&pid);
    // Only a stopped task tells the signal of a job that is stopped.
    Ok(FoundProcess { pid, threads, leader_is_zombie, is_zombie, group_stop: None })
}

struct Checker<'a> {
    files: FileCollector,
    namespaces: Namespaces,
    /// The parts that a vDSO has on this kernel.
    vdso: VdsoShape,
    /// The file locks of the machine, a moment ago.
    locks: ByFile<'a>,
    bound: StopBound,
    /// The locks that only mappings hold, so far.
    mapped_locks: Vec<MappedLocks>,
    refusals: &'a mut Refusals,
}

impl Checker<'_> {
    fn process(&mut self, process: &FoundProcess, record: &Process) -> Result<()> {
        let (pid, representative) = (process.pid, record.representative());
        let entered = entry::check(representative);
        let is_closed =
            entered.as_ref().is_err_and(|error| [libc::EACCES, libc::EPERM].map(Some).contains(&error.errno()));
        self.refusals.sift(entered)?;
        if is_closed {
            // Nothing else could be seen of it either.
            return Ok(());
        }
        unsupported::refuse_visible(pid, &process.threads, &self.namespaces, self.refusals)?;
        self.refusals.sift(Membership::collect(pid))?;
        for tid in &process.threads {
            let observed = self.task(record, *tid);
            self.refusals.sift(observed)?;
        }
        let mapped = self.memory(record);
        self.refusals.sift(mapped)?;
        if !record.shares(Share::Files) {
            let table = self.files.check_table(pid, representative, self.refusals);
            self.refusals.sift(table)?;
        }
        for (tid, _) in record.own.iter().filter(|(_, what)| *what == Share::Files) {
            let table = self.files.check_table(*tid, *tid, self.refusals);
            self.refusals.sift(table)?;
        }
        Ok(())
    }

    /// Everything that one thread has, in the order of the table of kinds.
    fn task(&mut self, record: &Process, tid: Pid) -> Result<()> {
        let (pid, is_representative) = (record.pid, tid == record.representative());
        let dir = format!("/proc/{pid}/task/{tid}");
        let (status, stat) = (Fields::read(&format!("{dir}/status"))?, Stat::read(&format!("{dir}/stat"))?);
        let tracer = status.number("TracerPid");
        // Another session of this program releases it soon.
        if tracer != 0 && !runs_this_program(tracer) {
            self.refusals.refuse(tracing::refusal(pid, tracer))?;
        }
        let task = ObservedTask { pid, tid, is_representative, status: &status, stat: &stat };
        let has = |scope: Scope| match scope {
            Scope::Process => is_representative,
            Scope::Thread => true,
            Scope::Directories => is_representative || record.owns(tid, Share::Fs),
        };
        task::KINDS
            .iter()
            .filter(|kind| has(kind.scope()))
            .try_for_each(|kind| kind.check(&task, &mut self.files, self.refusals))
    }

    fn memory(&mut self, record: &Process) -> Result<()> {
        let (pid, representative) = (record.pid, record.representative());
        let mappings = maps::maps(representative)?;
        let hidden = self.hidden_locks(pid, representative, &mappings);
        let hidden = self.refusals.sift(hidden)?.unwrap_or_default();
        if record.shares(Share::Vm) {
            return hidden.iter().try_for_each(|lock| self.refusals.refuse(lock.refuse_borrowed(pid)));
        }
        self.mapped_locks.push(MappedLocks { tid: pid, locks: hidden });
        let on_demand = FlagsOnDemand::of(representative);
        let flags = on_demand.all()?;
        for mapping in mappings.iter().filter(|mapping| !mapping.is_special()) {
            let vma = Vma::collect(representative, mapping, &mut self.files, &on_demand);
            if let Some(mut vma) = self.refusals.sift(vma)? {
                vma.tid = pid;
                self.refusals.sift(vma.add_flags(flags))?;
            }
        }
        let vdso = Vdso::of(pid, &mappings, String::new());
        self.refusals.sift(vdso.refuse_partial(&self.vdso)).map(drop)
    }

    /// The locks that only the mappings of a process hold. The list of the machine is read once for
    /// all processes, and once more if a lock is refused: it may be gone since.
    fn hidden_locks(&self, pid: Pid, representative: Pid, mappings: &[Mapping]) -> Result<Vec<MappedLock>> {
        let look = |locks: &ByFile<'_>| {
            mapped_lock::of_mappings(pid, representative, mappings, locks, &self.bound).map(|found| found.hidden)
        };
        look(&self.locks).or_else(|_| look(&locks::by_file(&locks::read()?)))
    }
}
