//! Kernel -> records: the order of looking at a stopped tree.

use std::collections::BTreeMap;
use std::time::SystemTime;

use crate::dump::files::Collector;
use crate::error::{Error, Kind, Result};
use crate::file::lock;
use crate::freeze::entry::{self, Door};
use crate::freeze::target::Target;
use crate::freeze::{Frozen, FrozenProcess};
use crate::image::frame::Record;
use crate::image::page_runs::PageRuns;
use crate::kind::attribute::{Asked, Look, Row, Scope};
use crate::memory::page_set;
use crate::memory::source::Kept;
use crate::memory::vma::{self, Flags, FlagsOnDemand, Vma};
use crate::pstree::record::{self, Share, Tree};
use crate::sys::memory::{PAGE, RemotePtr};
use crate::sys::pagemap::Pagemap;
use crate::sys::pid::Pid;
use crate::sys::proc::maps::{self, Mapping};
use crate::sys::proc::stat::Stat;
use crate::sys::proc::status::Fields;
use crate::sys::ptrace::{Regs, Stopped};
use crate::sys::remote::batch::Batch;
use crate::sys::remote::inject::Injected;
use crate::sys::sysvipc;
use crate::sysv::table;
use crate::sysv::undo::{self, Adjustment};
use crate::task;
use crate::task::cgroup::Membership;
use crate::task::namespaces::Namespaces;
use crate::task::restart_block::Timers;

/// All that is known of a stopped tree, but for the contents of its memory.
pub struct Looked {
    /// Who is there, in the order of the image.
    pub tree: Tree,
    /// Those that have a task, in the same order.
    pub processes: Vec<LookedProcess>,
    /// Descriptor tables.
    pub tables: Vec<Record>,
    /// Semaphores and message queues that it uses.
    pub sysv: Vec<Record>,
    /// When.
    pub taken: SystemTime,
}

impl Looked {
    /// For each process the thread that is asked for what belongs to all of them.
    pub fn speakers(&self) -> BTreeMap<Pid, Pid> {
        self.tree.processes.iter().map(|process| (process.pid, process.speaker())).collect()
    }
}

/// One process.
pub struct LookedProcess {
    /// Its id.
    pub pid: Pid,
    /// Records of its tasks, in the order of the image.
    pub records: Vec<Record>,
    /// Its mappings, ascending, as far as they are in the image; none if the memory is its maker's.
    pub mappings: Vec<(Mapping, Vma)>,
    /// Those that a copy of the process must not have.
    pub locked: Vec<(u64, u64)>,
    /// Addresses of its threads' rseq areas, ascending.
    pub rseq: Vec<u64>,
    /// Semaphore sets and message queues that its threads wait for.
    pub waits: Vec<(sysvipc::Kind, i32)>,
    /// Semaphore operations that its end undoes.
    pub adjustments: Vec<Adjustment>,
}

impl LookedProcess {
    /// Mappings whose contents are not the process's own, and that a copy of it may have until they are known.
    pub fn shared_mappings(&self) -> Vec<(u64, u64)> {
        let shared = self.mappings.iter().filter(|(mapping, vma)| mapping.shared && !vma.holds_pages());
        shared.map(|(mapping, _)| (mapping.start, mapping.end)).filter(|range| !self.locked.contains(range)).collect()
    }
}

/// Refuses trees that cannot be restored yet, by name.
pub fn refuse_what_is_not_supported(frozen: &Frozen) -> Result<()> {
    let namespaces = Namespaces::own();
    for process in frozen.processes.iter().filter(|process| !process.is_zombie) {
        refuse_one(process, &namespaces)?;
    }
    Ok(())
}

fn refuse_one(process: &FrozenProcess, namespaces: &Namespaces) -> Result<()> {
    let root = process.pid;
    namespaces.refuse_others(root, process.threads.iter().map(Stopped::tid))?;
    let speaker = process.threads.first().map_or(root, Stopped::tid);
    // A confined process would come back with the daemon's own label: with more rights than it had.
    let label = |pid: &str| std::fs::read(format!("/proc/{pid}/attr/current")).ok();
    let (its, ours) = (label(&speaker.to_string()), label("self"));
    if its != ours {
        let shown = its.unwrap_or_default();
        let shown = String::from_utf8_lossy(&shown);
        return Err(Error::unsupported(format!(
            "pid {root}: security label {} is not the daemon's and cannot be checkpointed yet",
            shown.trim_end_matches(['\n', '\0'])
        )));
    }
    // Known before the first call is made inside: a filter would meet that call, and may kill.
    for thread in &process.threads {
        let tid = thread.tid();
        if Fields::read(&format!("/proc/{root}/task/{tid}/status"))?.number("Seccomp") != 0 {
            return Err(Error::unsupported(format!("pid {root} task {tid}: seccomp cannot be checkpointed yet")));
        }
        if thread.syscall_user_dispatch()? {
            return Err(Error::unsupported(format!(
                "pid {root} task {tid}: syscall user dispatch cannot be checkpointed"
            )));
        }
    }
    Ok(())
}

/// What looking at one process of a frozen tree needs.
pub struct Looking<'a> {
    /// The tree; what its parents know of stopped children is written into it.
    pub tree: &'a mut Tree,
    /// All open files of the tree.
    pub files: &'a Collector,
    /// What threads were asleep.
    pub timers: &'a Timers,
    /// Semaphore sets and message queues.
    pub sysv: &'a table::There,
    /// Address space that no process of the tree uses.
    pub hole: RemotePtr,
}

impl Looking<'_> {
    /// Looks at one process through its injected stub. The records of a thread come in the order of the table.
    pub fn process(
        &mut self,
        process: &mut FrozenProcess,
        door: &Door,
        injected: &mut Injected<'_>,
    ) -> Result<LookedProcess> {
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
        let mut records = vec![door.vdso.record()?];
        if let Some(membership) = Membership::look(pid)? {
            records.push(membership.record()?);
        }
        self.ask_for_stops(pid, injected)?;
        // The leader is inside the stub now; the others take their turns, and the leader gets it back last.
        let mut here = LookHere {
            pid,
            speaker,
            own_directories,
            door,
            files: self.files,
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
        let mut mappings = Vec::new();
        let flags = FlagsOnDemand::of(speaker);
        for mapping in door.maps.iter().filter(|mapping| !mapping.is_special() && !shares_memory) {
            let mut vma = Vma::look(speaker, mapping, self.files, &flags)?;
            vma.tid = pid;
            mappings.push((mapping.clone(), vma));
        }
        let LookHere { mut rseq, waits, .. } = here;
        rseq.sort_unstable();
        let locked = lock::of_mappings(pid, speaker, &door.maps)?;
        Ok(LookedProcess { pid, records, mappings, locked, rseq, waits, adjustments })
    }

    /// What a process has not asked yet about its children's stopping and going on: waitid(2) with WNOWAIT leaves it to be asked.
    fn ask_for_stops(&mut self, pid: Pid, injected: &mut Injected<'_>) -> Result<()> {
        let asked = |child: &&mut record::Process| child.ppid == pid && !child.threads.is_empty();
        for child in self.tree.processes.iter_mut().filter(asked) {
            let mut batch = Batch::new(injected.scratch());
            let info = batch.room(SIGINFO_LEN);
            let how = libc::WSTOPPED | libc::WCONTINUED | libc::WNOHANG | libc::WNOWAIT | libc::__WALL;
            batch.call(libc::SYS_waitid, [libc::P_PID as u64, child.pid as u64, info.0, how as u64, 0]);
            let answers = injected.run(batch)?;
            answers.get(0, || format!("pid {pid}: asking about pid {}", child.pid))?;
            // si_signo and si_errno, then si_code; nothing to tell leaves si_signo 0.
            let [first, second] = answers.words::<2>(info);
            let code = if first as u32 == 0 { 0 } else { second as u32 as i32 };
            child.stop_told = code != libc::CLD_STOPPED;
            child.continued = code == libc::CLD_CONTINUED;
        }
        Ok(())
    }
}

/// sizeof(siginfo_t).
const SIGINFO_LEN: usize = 128;

struct LookHere<'a> {
    pid: Pid,
    /// The thread that tells what belongs to the process.
    speaker: Pid,
    /// Threads with a root and working directory of their own.
    own_directories: Vec<Pid>,
    door: &'a Door,
    files: &'a Collector,
    timers: &'a Timers,
    hole: RemotePtr,
    rseq: Vec<u64>,
    waits: Vec<(sysvipc::Kind, i32)>,
}

impl LookHere<'_> {
    /// All records of the thread that is inside the stub.
    fn thread(&mut self, injected: &mut Injected<'_>, tid: Pid) -> Result<Vec<Record>> {
        let speaks = tid == self.speaker;
        let has_it = |scope: Scope| match scope {
            Scope::Process => speaks,
            Scope::Thread => true,
            Scope::Directories => speaks || self.own_directories.contains(&tid),
        };
        let kinds: Vec<&dyn Row> = task::KINDS.iter().copied().filter(|kind| has_it(kind.scope())).collect();
        let mut batch = Batch::new(injected.scratch());
        let asked: Vec<Asked> = kinds.iter().map(|kind| kind.ask(&mut batch)).collect();
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
        let asleep = self.timers.of(tid, &regs, &self.door.mem);
        kinds
            .iter()
            .zip(&asked)
            .map(|(kind, asked)| {
                kind.dump(&Look {
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
                    asked,
                    hole: self.hole,
                    asleep,
                    files: self.files,
                })
            })
            .collect()
    }
}

/// Attachments of System V shared memory that fork(2) would copy. The kernel counts and times each (shm_open and shm_close in ipc/shm.c),
/// and remembers who was the last: a copy of the process must not have them.
pub fn attachments(looked: &mut LookedProcess) -> Result<Vec<(u64, u64)>> {
    let mut found: Vec<&mut Vma> = Vec::new();
    found.extend(looked.mappings.iter_mut().map(|(_, vma)| vma).filter(|vma| vma.kind == vma::Type::IpcShm));
    if found.is_empty() {
        return Ok(Vec::new());
    }
    let flags = maps::vm_flags(looked.pid)?;
    for vma in &mut found {
        vma.take_flags(&flags)?;
    }
    Ok(found.iter().filter(|vma| !vma.is_not_forked()).map(|vma| (vma.start, vma.end)).collect())
}

/// What fork does not copy, contents and guard pages: known by comparing what has pages here with what has pages in the child.
///
/// `budget`: bytes that may be kept in the daemon, for the whole tree.
pub fn keep_what_fork_drops(
    looked: &mut LookedProcess,
    door: &Door,
    child: Pid,
    budget: &mut u64,
) -> Result<BTreeMap<u64, Kept>> {
    let childs: BTreeMap<u64, u64> = maps::maps(child)?.into_iter().map(|m| (m.start, m.end)).collect();
    let (ours, theirs) = (Pagemap::open(door.pid)?, Pagemap::open(child)?);
    let mut kept = BTreeMap::new();
    let mut flags = None;
    for (_, vma) in &mut looked.mappings {
        if vma.kind == vma::Type::IpcShm {
            kept.insert(vma.start, Kept::copy(&door.mem, page_set::page_set(&ours, vma)?)?);
            continue;
        }
        let missing = childs.get(&vma.start) != Some(&vma.end);
        let private = vma.kind == vma::Type::Anon || missing;
        if !private || !(missing || page_set::has_pages(&ours, vma)? && !page_set::has_pages(&theirs, vma)?) {
            continue;
        }
        // Its flags can be asked of the process only while it is stopped; rare enough to pay for smaps here.
        let flags = match &mut flags {
            Some(flags) => flags,
            none => none.insert(maps::vm_flags(door.pid)?),
        };
        vma.take_flags(flags)?;
        let runs = page_set::page_set(&ours, vma)?;
        let too_large = || Error::os("memory that fork does not copy is too large to keep", libc::ENOMEM);
        *budget = budget.checked_sub(runs.pages() * PAGE).ok_or_else(too_large)?;
        kept.insert(vma.start, Kept::copy(&door.mem, runs)?);
    }
    Ok(kept)
}

/// Bytes that may be kept in the daemon; a process with more is read while it is stopped.
pub const KEPT_MOST: u64 = 24 << 20;

/// Bytes of address space from which on flags and pages are looked for at the same time: the kernel walks all page tables for
/// either, and a thread costs as much as the walk of some 50 MiB.
const SIDE_BY_SIDE: u64 = 64 << 20;

/// Flags and pages of every mapping of a process, from the address space of `source` (a child, or the stopped process).
pub fn complete<'k>(
    mappings: &mut [(Mapping, Vma)],
    source: Pid,
    kept: impl Fn(u64) -> Option<&'k PageRuns>,
    locked: Option<&Flags>,
) -> Result<Vec<PageRuns>> {
    if mappings.is_empty() {
        return Ok(Vec::new());
    }
    let pagemap = Pagemap::open(source)?;
    let read_flags = || maps::vm_flags(source);
    let large = mappings.iter().map(|(_, vma)| vma.len()).sum::<u64>() > SIDE_BY_SIDE;
    let (flags, sets) = std::thread::scope(|scope| {
        let flags = large.then(|| scope.spawn(read_flags));
        let sets: Result<Vec<_>> = mappings
            .iter_mut()
            .map(|(_, vma)| match kept(vma.start) {
                Some(runs) => Ok(runs.clone()),
                None => page_set::page_set(&pagemap, vma),
            })
            .collect();
        (flags.map(|thread| thread.join()), sets)
    });
    let gone = |_| Error::new(Kind::SnapshotLost, format!("pid {source}: the thread that read its flags has ended"));
    let flags = flags.map_or_else(read_flags, |joined| joined.map_err(gone)?)?;
    let mut sets = sets?;
    for ((_, vma), runs) in mappings.iter_mut().zip(&mut sets) {
        vma.take_flags(&flags)?;
        if let Some(locked) = locked {
            vma.take_flags(locked)?;
        }
        if !vma.holds_pages() {
            *runs = PageRuns::new();
        }
        vma.pages = runs.pages();
    }
    Ok(sets)
}

/// VmFlags of the stopped process itself, where memory is locked: a child of fork does not inherit that.
pub fn locked_flags(pid: Pid) -> Result<Option<Flags>> {
    let locked = Fields::read(&format!("/proc/{pid}/status"))?.number("VmLck") != 0;
    locked.then(|| maps::vm_flags(pid)).transpose()
}

/// Whether `reader` or this process belongs to what would be frozen.
pub fn refuse_reader(target: &Target, members: &[Pid], reader: Option<Pid>) -> Result<()> {
    let daemon = Some(std::process::id() as Pid);
    let found = [("reader", reader), ("daemon", daemon)]
        .into_iter()
        .find_map(|(who, pid)| pid.filter(|pid| members.contains(pid)).map(|pid| (who, pid)));
    match found {
        Some((who, pid)) => Err(Error::new(
            Kind::Deadlock,
            format!("{target}: the {who} (pid {pid}) belongs to it and would freeze itself"),
        )),
        None => Ok(()),
    }
}

/// Nanoseconds since the epoch.
pub fn epoch_ns(time: SystemTime) -> i64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_nanos() as i64)
}
