//! Collects every record of a stopped tree.

use std::collections::BTreeMap;
use std::time::SystemTime;

use crate::cow::child;
use crate::dump::files::FileCollector;
use crate::dump::{CollectedProcess, CollectedTree, memory, process, pstree, unsupported};
use crate::error::Result;
use crate::freeze::entry::{self, Entry, Prelook};
use crate::freeze::{Frozen, snapshot_child};
use crate::memory::vm_flags::VmFlags;
use crate::options::Options;
use crate::pstree::record::{self, Share};
use crate::snapshot::source::Forks;
use crate::sys::clock;
use crate::sys::pid::Pid;
use crate::sys::ptrace::Stopped;
use crate::sysv::{self, table};
use crate::task::restart_block::SleepTimers;

/// What was seen of a stopped tree.
pub struct Collected {
    pub looked: CollectedTree,
    pub files: FileCollector,
    /// Flags of mappings of processes that have memory locked: a child of fork does not inherit that.
    pub locked: BTreeMap<Pid, VmFlags>,
    /// In ticks of the clock since boot.
    stopped_at: u64,
}

impl Collected {
    /// What others have a part in. That takes its time, and the tree may go on.
    pub fn settle(&mut self, options: &Options) -> Result<()> {
        pstree::refuse_sharing_outside(&self.looked.tree, self.stopped_at)?;
        self.files.settle(options.keep_external_pipes)
    }
}

/// Looks at everybody in a stopped tree, and forks everybody, if it is to go on.
pub fn see(
    frozen: &mut Frozen,
    mut premises: BTreeMap<Pid, Prelook>,
    timers: &SleepTimers,
    mut forks: Option<&mut Forks>,
    options: &Options,
) -> Result<Collected> {
    unsupported::refuse_what_is_not_supported(frozen)?;
    let mut tree = pstree::look(frozen)?;
    let (taken, stopped_at) = (SystemTime::now(), clock::boot_ticks());
    let mut doors = BTreeMap::new();
    let mut locked = BTreeMap::new();
    for process in frozen.processes.iter().filter(|process| !process.is_zombie) {
        let pid = process.pid;
        let speaker = process.threads.first().map_or(pid, Stopped::tid);
        doors.insert(pid, Entry::open(speaker, premises.remove(&pid))?);
        locked.extend(memory::locked_flags(speaker)?.map(|flags| (pid, flags)));
    }
    let hole = entry::share_hole(doors.values_mut())?;
    let sysv = table::IpcTables::read();
    let mut files = FileCollector::of(frozen.processes.iter().map(|process| process.pid).collect());
    let (mut processes, mut tables) = (Vec::new(), Vec::new());
    for process in frozen.processes.iter_mut().filter(|process| !process.is_zombie) {
        let pid = process.pid;
        let door = &doors[&pid];
        let shares = |what: Share| tree.processes.iter().any(|it| it.pid == pid && it.shares(what));
        let (has_memory, has_files) = (!shares(Share::Vm), !shares(Share::Files));
        let mut looking = process::ProcessCollector { tree: &mut tree, files: &mut files, timers, sysv: &sysv, hole };
        let looked = entry::inside(process, door, |injected, process| {
            let mut looked = looking.process(process, door, injected)?;
            child::reap_left_behind(injected, &snapshot_child::left_behind(pid))?;
            if let Some(forks) = forks.as_deref_mut()
                && has_memory
                && forks.failure.is_none()
            {
                forks.failure = forks.fork(injected, &mut looked, door).err();
            }
            Ok(looked)
        })?;
        processes.push(looked);
        let told = tree.processes.iter().find(|it| it.pid == pid);
        if has_files {
            tables.push(files.table(pid, told.map_or(pid, record::Process::representative))?);
        }
        for (tid, _) in told.into_iter().flat_map(|told| &told.own).filter(|(_, what)| *what == Share::Files) {
            tables.push(files.table(*tid, *tid)?);
        }
    }
    tree.validate()?;
    let users = sysv::IpcUsers {
        pids: tree.processes.iter().map(|process| process.pid).collect(),
        waits: processes.iter().flat_map(|process: &CollectedProcess| process.waits.iter().copied()).collect(),
        wants_owned: options.owned_sysv_ipc,
        adjustments: processes.iter().flat_map(|process| process.adjustments.iter().copied()).collect(),
    };
    let sysv = sysv::collect(&sysv, &users)?;
    Ok(Collected { looked: CollectedTree { tree, processes, tables, sysv, taken }, files, locked, stopped_at })
}
