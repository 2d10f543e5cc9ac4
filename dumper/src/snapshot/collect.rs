//! Frozen -> Collected: every record of a stopped tree.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use crate::cow::reap;
use crate::dump::files::FileCollector;
use crate::dump::process::ProcessCollector;
use crate::dump::{CollectedProcess, memory, pstree, sharing, unsupported};
use crate::error::Result;
use crate::file::mapped_lock;
use crate::freeze::entry::{self, Entry, Prelook};
use crate::freeze::frozen::{Frozen, FrozenProcess};
use crate::freeze::snapshot_child;
use crate::memory::vdso;
use crate::memory::vm_flags::VmFlags;
use crate::options::Options;
use crate::pstree::clocks::Clocks;
use crate::pstree::record::{Share, Tree};
use crate::refusals::Refusals;
use crate::snapshot::fork::Forks;
use crate::sys::clock;
use crate::sys::pid::Pid;
use crate::sys::proc::locks;
use crate::sys::ptrace::{Regs, Stopped};
use crate::sysv::{self, CollectedIpc, table};
use crate::task::restart_block::SleepTimers;

/// Everything about a stopped tree, apart from the contents of its memory.
pub struct Collected {
    /// Parents, groups, sessions and threads, in the order of the image.
    pub tree: Tree,
    /// The processes that have a task, in the same order.
    pub processes: Vec<CollectedProcess>,
    /// Open files.
    pub files: FileCollector,
    /// Semaphores and message queues that the tree uses.
    pub sysv: CollectedIpc,
    /// When it was collected.
    pub taken: SystemTime,
    /// How long the tree had been stopped when all was collected.
    pub stopped: Duration,
    /// When it was collected, in ticks of the clock since boot.
    stopped_at: u64,
}

impl Collected {
    /// Refuses resources that processes outside the tree have a part in, marks pipes as external,
    /// and looks into mapped files. This takes time, and the tree may run meanwhile.
    pub fn check_outside(&mut self) -> Result<()> {
        sharing::refuse_sharing_outside(&self.tree, self.stopped_at, &mut Refusals::first())?;
        let vmas = self.processes.iter().flat_map(|process| process.mappings.iter().map(|mapping| &mapping.vma));
        self.files.settle(vmas)
    }
}

/// What is needed to collect a stopped tree.
pub struct TreeCollector<'a> {
    /// What was found while the tree still ran.
    pub prelooks: BTreeMap<Pid, Prelook>,
    /// The timers that the stopped threads sleep on.
    pub timers: &'a SleepTimers,
    /// The options of the mount.
    pub options: &'a Options,
}

/// The way into a stopped process, and what only the process itself shows.
struct Opened {
    entry: Entry,
    mlock_flags: Option<VmFlags>,
}

impl TreeCollector<'_> {
    /// Collects a stopped tree. With `forks`, each process with memory of its own is forked while
    /// its stub is injected. Entering it once more would keep the tree stopped for longer.
    pub fn collect(self, frozen: &mut Frozen, mut forks: Option<&mut Forks>) -> Result<Collected> {
        unsupported::refuse_unsupported(frozen)?;
        let mut tree = pstree::collect(frozen)?;
        let (taken, stopped_at) = (SystemTime::now(), clock::boot_ticks());
        let mut opened = open(frozen, self.prelooks)?;
        let hole = entry::share_hole(opened.values_mut().map(|opened| &mut opened.entry))?;
        let (ipc, vdso) = (table::IpcTables::read(), vdso::own_shape()?);
        let locks = locks::read()?;
        let mut files =
            FileCollector::of(frozen.processes.iter().map(|process| process.pid).collect(), frozen.bound.clone());
        let bound = frozen.bound.clone();
        let sharers = tree.processes.iter().filter(|it| it.shares(Share::Vm)).map(|it| it.pid).collect::<BTreeSet<_>>();
        let mut collector = ProcessCollector {
            tree: &mut tree,
            files: &mut files,
            timers: self.timers,
            ipc: &ipc,
            locks: &locks::by_file(&locks),
            bound,
            hole,
            vdso,
        };
        let mut processes = Vec::new();
        for process in frozen.alive_mut() {
            let opened = &opened[&process.pid];
            let forks = forks.as_deref_mut().filter(|_| !sharers.contains(&process.pid));
            processes.push(collect_process(&mut collector, process, opened, forks)?);
        }
        files.relate(&mut Refusals::first())?;
        // After the timers, so that none of them expires before its time.
        let representative = tree.processes.iter().find(|process| !process.threads.is_empty());
        tree.clocks = representative.map(|process| Clocks::now_of(process.representative())).transpose()?;
        tree.validate()?;
        let mapped_locks = processes.iter().map(|process| &process.mapped_locks);
        mapped_lock::refuse_shown(mapped_locks, files.fd_states(), &mut Refusals::first())?;
        let sysv = collect_ipc(&ipc, &tree, &processes, self.options)?;
        let stopped = frozen.since.elapsed();
        Ok(Collected { tree, processes, files, sysv, taken, stopped, stopped_at })
    }
}

/// Opens the memory of every process, and finds a way into it.
fn open(frozen: &Frozen, mut prelooks: BTreeMap<Pid, Prelook>) -> Result<BTreeMap<Pid, Opened>> {
    let mut found = BTreeMap::new();
    for process in frozen.alive() {
        let pid = process.pid;
        frozen.bound.check(|| format!("pid {pid}: its memory"))?;
        let representative = process.threads.first().map_or(pid, Stopped::tid);
        let entry = Entry::open(representative, prelooks.remove(&pid))?;
        let mlock_flags = memory::mlock_flags(representative)?;
        found.insert(pid, Opened { entry, mlock_flags });
    }
    Ok(found)
}

/// Enters one process once, for everything that must be done inside: it collects the process, makes
/// it reap snapshot children that another daemon has left behind, and forks it with `forks`.
fn collect_process(
    collector: &mut ProcessCollector<'_>,
    process: &mut FrozenProcess,
    opened: &Opened,
    forks: Option<&mut Forks>,
) -> Result<CollectedProcess> {
    let pid = process.pid;
    let entry = &opened.entry;
    let timers = collector.timers;
    let call_of = |tid: Pid, regs: &Regs| timers.number(tid, regs);
    let mut collected = entry::inside(process, entry, &call_of, |injected, process| {
        let mut collected = collector.process(process, entry, injected)?;
        reap::reap_left_behind(injected, &snapshot_child::left_behind(pid))?;
        if let Some(forks) = forks {
            forks.fork(injected, &mut collected, entry);
        }
        Ok(collected)
    })?;
    collected.mlock_flags = opened.mlock_flags.clone();
    Ok(collected)
}

/// The semaphores and message queues that the tree uses.
fn collect_ipc(
    ipc: &table::IpcTables,
    tree: &Tree,
    processes: &[CollectedProcess],
    options: &Options,
) -> Result<CollectedIpc> {
    let users = sysv::IpcUsers {
        pids: tree.processes.iter().map(|process| process.pid).collect(),
        waits: processes.iter().flat_map(|process| process.waits.iter().copied()).collect(),
        wants_owned: options.owned_sysv_ipc,
        adjustments: processes.iter().flat_map(|process| process.adjustments.iter().copied()).collect(),
    };
    sysv::collect(ipc, &users)
}
