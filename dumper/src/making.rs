//! A process in the making: created under its old id, emptied, filled with memory and files, dressed in its attributes
//! phase by phase, and let go. Dropped before that, it is killed and reaped.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::Instant;

use crate::door::HOLE_LEN;
use crate::file::sharing::{TABLE, Table};
use crate::file::{self, open_file};
use crate::image::{Record, Tag};
use crate::restore::Restored;
use crate::sys::clone;
use crate::sys::memory::RemotePtr;
use crate::sys::ptrace::{self, Running};
use crate::sys::query;
use crate::sys::remote::{Batch, Call, Owned, SCRATCH_LEN};
use crate::sys::scm::Channel;
use crate::sys::{errno, proc};
use crate::task::attribute::{Checked, Files, Make, PHASES, Phase, Resume, Scope, tid_of};
use crate::task::tree::{self, Process, Tree};
use crate::task::vdso::{self, Vdso};
use crate::task::vma::{self, Vma};
use crate::task::{self, mm};
use crate::{Error, Kind, Pid, Result};

const PATIENCE: std::time::Duration = std::time::Duration::from_secs(10);
/// Where user space ends on x86-64 with four levels of page tables.
const TASK_SIZE: u64 = (1 << 47) - 4096;

/// An image being restored.
pub struct Making {
    begun: Instant,
    tree: Option<Tree>,
    /// Every thread of the tree.
    tasks: BTreeSet<Pid>,
    vdso: Option<Vdso>,
    attributes: BTreeMap<(Pid, Tag), Record>,
    files: OpenFiles,
    made: Option<Made>,
}

/// The open files of the image, by id.
#[derive(Default)]
struct OpenFiles(BTreeMap<u32, OwnedFd>);

impl Files for OpenFiles {
    fn fd(&self, id: u32) -> Result<RawFd> {
        self.0
            .get(&id)
            .map(AsRawFd::as_raw_fd)
            .ok_or_else(|| Error::damaged(format!("open file {id} is not in the image")))
    }
}

/// The process, once it exists.
struct Made {
    leader: Owned,
    channel: Channel,
    /// A `syscall` instruction in its vDSO, at its final place.
    syscall: RemotePtr,
    hole: RemotePtr,
    vmas: Vec<Vma>,
    mapped: BTreeMap<u32, i32>,
    calls: Checked,
    /// Declared last, dropped last.
    _guard: Unborn,
}

/// Kills and reaps a process that is not to be.
struct Unborn(Pid);

impl Drop for Unborn {
    fn drop(&mut self) {
        if self.0 != 0 {
            let _ = query::kill(self.0, libc::SIGKILL);
            // A thread that was traced from birth and never adopted is a zombie of ours, and the leader's end is not told
            // before its own; one that is not ours gives ECHILD.
            for tid in proc::numbers(&format!("/proc/{}/task", self.0)).unwrap_or_default() {
                if tid != self.0 {
                    let _ = query::wait_ended(tid);
                }
            }
            let _ = query::wait_ended(self.0);
        }
    }
}

impl Making {
    /// Nothing is made before the first record that needs a process.
    pub fn new(begun: Instant) -> Self {
        Self {
            begun,
            tree: None,
            tasks: BTreeSet::new(),
            vdso: None,
            attributes: BTreeMap::new(),
            files: OpenFiles::default(),
            made: None,
        }
    }

    /// The next record, in the order tree, tasks, open files, memory.
    pub fn record(&mut self, record: Record) -> Result<()> {
        match record.tag {
            tree::TAG if self.tree.is_none() => {
                let tree = Tree::parse(&record)?;
                self.tasks = tree.processes.iter().flat_map(|process| process.threads.iter().copied()).collect();
                self.tree = Some(tree);
            }
            vdso::TAG if self.vdso.is_none() => self.vdso = Some(record.body()?),
            tag if task::KINDS.iter().any(|kind| kind.tag() == tag) => {
                let tid = tid_of(&record)?;
                if !self.tasks.contains(&tid) {
                    return Err(Error::damaged(format!("record {tag} of task {tid}, which is not in the tree")));
                }
                if self.attributes.insert((tid, tag), record).is_some() {
                    return Err(Error::damaged(format!("record {tag} occurs twice for one task")));
                }
            }
            open_file::TAG => {
                let (id, name) = open_file::id_and_kind(&record)?;
                let kind = file::KINDS.iter().find(|kind| kind.kind() == name);
                let kind = kind.ok_or_else(|| Error::damaged(format!("open file {id}: unknown kind {name}")))?;
                self.files.0.insert(id, kind.restore(&record)?);
            }
            TABLE => {
                let table: Table = record.body()?;
                self.begin()?;
                if let Some(made) = &mut self.made {
                    made.place(&table, &self.files)?;
                }
            }
            vma::TAG => {
                let vma = Vma::parse(&record)?;
                self.begin()?;
                if let Some(made) = &mut self.made {
                    made.map(vma, &self.files)?;
                }
            }
            _ if record.optional => {}
            tag => return Err(Error::damaged(format!("record {tag} is not known here, or not in its place"))),
        }
        Ok(())
    }

    /// Pages of the mapping that came last.
    pub fn pages(&mut self, address: u64, bytes: &[u8]) -> Result<()> {
        let made = self.made.as_mut().ok_or_else(|| Error::damaged("pages without a mapping"))?;
        made.calls.flush(&mut made.leader)?;
        let vma = made.vmas.last().ok_or_else(|| Error::damaged("pages without a mapping"))?;
        let inside = address >= vma.start && address.checked_add(bytes.len() as u64).is_some_and(|end| end <= vma.end);
        if !inside || vma.pages == 0 || !vma.holds_pages() {
            return Err(Error::damaged(format!("pages at {address:#x} outside mapping {:x}-{:x}", vma.start, vma.end)));
        }
        made.leader.mem().fill(RemotePtr(address), bytes)
    }

    fn process(&self) -> Result<&Process> {
        let first = self.tree.as_ref().and_then(|tree| tree.processes.first());
        first.ok_or_else(|| Error::damaged("the image does not begin with its tree"))
    }

    /// Creates the process, once the records of its tasks are there.
    fn begin(&mut self) -> Result<()> {
        if self.made.is_some() {
            return Ok(());
        }
        let process = self.process()?.clone();
        let missing = |tag: &str| Error::damaged(format!("pid {}: record {tag} is missing", process.pid));
        let vdso = self.vdso.clone().ok_or_else(|| missing("VDSO"))?;
        let hole = mm::hole(self.attributes.get(&(process.pid, mm::TAG)).ok_or_else(|| missing("MMAP"))?)?;
        if !hole.0.is_multiple_of(4096) || hole.0 < 0x1_0000 || hole.0 > TASK_SIZE - HOLE_LEN {
            return Err(Error::damaged(format!("pid {}: no room at {hole}", process.pid)));
        }
        self.made = Some(Made::create(&process, &vdso, hole)?);
        Ok(())
    }

    /// The trailer is verified: dresses the process and lets it go.
    pub fn finish(mut self, total: u64) -> Result<Restored> {
        self.begin()?;
        let process = self.process()?.clone();
        let Making { begun, attributes, files, made, .. } = self;
        let mut made = made.ok_or_else(|| Error::damaged("an image without a process"))?;
        made.finish_memory()?;
        let mut threads = made.threads(&process)?;
        let mut last = Vec::new();
        for phase in PHASES {
            if phase == Phase::Resume {
                made.close_helpers()?;
            }
            for at in 0..process.threads.len() {
                let tid = process.threads[at];
                let owned = if at == 0 { &mut made.leader } else { &mut threads[at - 1] };
                let mut resume = Resume::default();
                let mut batch = Checked::new(owned.scratch());
                let mut make = Make {
                    pid: process.pid,
                    tid,
                    owned,
                    files: &files,
                    channel: &made.channel,
                    syscall: made.syscall,
                    batch: &mut batch,
                    resume: &mut resume,
                };
                for kind in task::KINDS.iter().filter(|kind| kind.phase() == phase) {
                    if at != 0 && kind.scope() == Scope::Process {
                        continue;
                    }
                    let record = attributes.get(&(tid, kind.tag()));
                    let record = record.ok_or_else(|| {
                        Error::damaged(format!("pid {} task {tid}: record {} is missing", process.pid, kind.tag()))
                    })?;
                    kind.restore(record, &mut make)?;
                    if make.batch.is_full(16 << 10) {
                        make.flush()?;
                    }
                }
                make.flush()?;
                if phase == Phase::Resume {
                    last.push(resume);
                }
            }
        }
        made.let_go(&process, threads, last)?;
        Ok(Restored { root: process.pid, pids: vec![process.pid], bytes: total, elapsed: begun.elapsed() })
    }
}

impl Made {
    /// An empty process with the vDSO in its place and nothing else but the stub.
    fn create(process: &Process, vdso: &Vdso, hole: RemotePtr) -> Result<Self> {
        let pid = process.pid;
        clone::spawn(pid)?;
        let guard = Unborn(pid);
        let running: Running = ptrace::seize(pid, ptrace::options::EXITKILL | ptrace::options::SYSGOOD)?;
        let stopped = running.wait_or_release(Instant::now() + PATIENCE)?;
        let maps = proc::maps(pid)?;
        let mem = crate::sys::memory::MemFile::open(pid)?;
        let (code, syscall, _) = vdso::code(&maps, &mem, pid)?;
        let here = Vdso::look(pid, &maps, &code);
        // One half for the stub, the other to park the vDSO; the half that the vDSO is in now, if any, is for neither at first.
        let half =
            |at: RemotePtr| (at, here.parts.iter().any(|(_, start, end)| *start < at.0 + SCRATCH_LEN && at.0 < *end));
        let (scratch, aside) = match (half(hole), half(hole.add(SCRATCH_LEN))) {
            ((low, false), (high, false)) => (low, high),
            _ => return Err(Error::os(format_args!("pid {pid}: the vDSO lies in the way at {hole}"), libc::EAGAIN)),
        };
        let mut leader = Owned::inject(stopped, syscall, scratch, pid)?;
        let mut calls = Checked::new(scratch);
        calls.call(libc::SYS_close_range, [0, u64::from(u32::MAX), 0], format!("pid {pid}: closing descriptors"));
        let mut from = 0;
        let keep =
            here.parts.iter().map(|(_, start, end)| (*start, *end)).chain([(scratch.0, scratch.0 + SCRATCH_LEN)]);
        let mut keep: Vec<(u64, u64)> = keep.collect();
        keep.sort_unstable();
        keep.push((TASK_SIZE, TASK_SIZE));
        for (start, end) in keep {
            if start > from {
                calls.call(libc::SYS_munmap, [from, start - from], format!("pid {pid}: emptying the address space"));
            }
            from = end;
        }
        calls.call(libc::SYS_setsid, [], format!("pid {pid}: setsid"));
        vdso.move_from(&here, aside, &mut calls)?;
        calls.flush(&mut leader)?;
        let channel = Channel::open(&mut leader, pid)?;
        if let Some(terminal) = process.terminal {
            tree::take_terminal(pid, terminal, &channel, &mut leader)?;
        }
        Ok(Self {
            syscall: vdso.moved(&here, syscall),
            leader,
            channel,
            hole,
            vmas: Vec::new(),
            mapped: BTreeMap::new(),
            calls,
            _guard: guard,
        })
    }

    /// Gives the process its descriptors, each at its number.
    fn place(&mut self, table: &Table, files: &OpenFiles) -> Result<()> {
        let pid = table.tid;
        let ids: Vec<u32> =
            table.fds.iter().map(|(_, id, _)| *id).collect::<std::collections::BTreeSet<_>>().into_iter().collect();
        let fds = ids.iter().map(|id| files.fd(*id)).collect::<Result<Vec<RawFd>>>()?;
        let received = self.channel.push(&mut self.leader, &fds)?;
        let wanted: std::collections::BTreeSet<i32> = table.fds.iter().map(|(number, ..)| *number).collect();
        if wanted.len() != table.fds.len() || wanted.first().is_some_and(|first| *first < 0) {
            return Err(Error::damaged(format!("pid {pid}: a descriptor number is negative or occurs twice")));
        }
        // Numbers that nobody wants and that are not open: what stands in the way is moved there.
        let open: std::collections::BTreeSet<i32> = received.iter().copied().chain([self.channel.number()]).collect();
        let mut spare = (0..).filter(|number| !wanted.contains(number) && !open.contains(number));
        let calls = &mut self.calls;
        let cloexec = libc::O_CLOEXEC as u64;
        let mut out_of_the_way = |number: i32, calls: &mut Checked| -> i32 {
            if !wanted.contains(&number) {
                return number;
            }
            let to = spare.next().unwrap_or(i32::MAX);
            let doing = format!("pid {pid} fd {number}: moving it to {to}");
            calls.call(libc::SYS_dup3, [number as u64, to as u64, cloexec], doing);
            calls.call(libc::SYS_close, [number as u64], format!("pid {pid} fd {number}: closing"));
            to
        };
        self.channel.moved(out_of_the_way(self.channel.number(), calls));
        let mut at = BTreeMap::new();
        for (id, number) in ids.iter().zip(received) {
            at.insert(*id, out_of_the_way(number, calls));
            if calls.is_full(0) {
                calls.flush(&mut self.leader)?;
            }
        }
        for (number, id, close_on_exec) in &table.fds {
            let from = at.get(id).copied().unwrap_or(-1);
            let flags = if *close_on_exec { cloexec } else { 0 };
            calls.call(libc::SYS_dup3, [from as u64, *number as u64, flags], format!("pid {pid} fd {number}: placing"));
            if calls.is_full(0) {
                calls.flush(&mut self.leader)?;
            }
        }
        for number in at.into_values() {
            calls.call(libc::SYS_close, [number as u64], format!("pid {pid} fd {number}: closing"));
            if calls.is_full(0) {
                calls.flush(&mut self.leader)?;
            }
        }
        calls.flush(&mut self.leader)
    }

    /// Makes a mapping (its call waits in the batch until pages or the end need it).
    fn map(&mut self, vma: Vma, files: &OpenFiles) -> Result<()> {
        let free_from = self.vmas.last().map_or(0, |last| last.end);
        let hole = (self.hole.0, self.hole.0 + HOLE_LEN);
        if vma.start < free_from || vma.start < hole.1 && hole.0 < vma.end {
            return Err(Error::damaged(format!("mapping {:x}-{:x} overlaps", vma.start, vma.end)));
        }
        let fd = match vma.file {
            None => None,
            Some(id) => Some(match self.mapped.get(&id) {
                Some(fd) => *fd,
                None => {
                    let pushed = self.channel.push(&mut self.leader, &[files.fd(id)?])?;
                    let fd = pushed.first().copied().unwrap_or(-1);
                    self.mapped.insert(id, fd);
                    fd
                }
            }),
        };
        if self.calls.is_full(0) {
            self.calls.flush(&mut self.leader)?;
        }
        vma.map(fd, &mut self.calls);
        self.vmas.push(vma);
        Ok(())
    }

    /// Every page is in: protections, advice, locks.
    fn finish_memory(&mut self) -> Result<()> {
        for number in std::mem::take(&mut self.mapped).into_values() {
            self.calls.call(libc::SYS_close, [number as u64], "closing a mapped file");
            if self.calls.is_full(0) {
                self.calls.flush(&mut self.leader)?;
            }
        }
        for vma in &self.vmas {
            vma.finish(&mut self.calls);
            if self.calls.is_full(0) {
                self.calls.flush(&mut self.leader)?;
            }
        }
        self.calls.flush(&mut self.leader)
    }

    /// Makes the other threads, each stopped, under its old id.
    fn threads(&mut self, process: &Process) -> Result<Vec<Owned>> {
        let mut threads = Vec::new();
        let scratch = self.leader.scratch();
        for tids in process.threads[1..].chunks(256) {
            let mut batch = Batch::new(scratch);
            for tid in tids {
                let set_tid = batch.put(&tid.to_le_bytes());
                let flags = libc::CLONE_VM | libc::CLONE_FS | libc::CLONE_FILES | libc::CLONE_SIGHAND;
                let flags = flags | libc::CLONE_THREAD | libc::CLONE_SYSVSEM | libc::CLONE_PTRACE;
                // struct clone_args: flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, its size, cgroup.
                let args = [flags as u64, 0, 0, 0, 0, 0, 0, 0, set_tid.0, 1, 0];
                let args = batch.put(&args.map(u64::to_le_bytes).concat());
                batch.call(libc::SYS_clone3, [args.0, 88]);
            }
            let answers = self.leader.run(batch)?;
            for (n, tid) in tids.iter().enumerate() {
                if errno::errno(answers.raw(n)) == Some(libc::EEXIST) {
                    let taken = format!("pid {} task {tid}: the id is taken by another task", process.pid);
                    return Err(Error::new(Kind::PidTaken, taken));
                }
                answers.get(n, || format!("pid {}: creating task {tid}", process.pid))?;
                let stopped = Running::adopt(*tid).wait_or_release(Instant::now() + PATIENCE)?;
                threads.push(Owned::adopt(stopped, scratch, process.pid, *tid)?);
            }
        }
        Ok(threads)
    }

    /// The channel is needed no more.
    fn close_helpers(&mut self) -> Result<()> {
        self.calls.call(libc::SYS_close, [self.channel.number() as u64], "closing the descriptor channel");
        self.calls.flush(&mut self.leader)
    }

    /// Takes the stub out and lets all threads go at once.
    fn let_go(self, process: &Process, threads: Vec<Owned>, resume: Vec<Resume>) -> Result<()> {
        let Self { mut leader, syscall, mut _guard, .. } = self;
        let unmap = Call::new(libc::SYS_munmap, [leader.scratch().0, SCRATCH_LEN]);
        let got = leader.call_at(syscall, &unmap)?;
        errno::check(got, || format!("pid {}: taking the stub out", process.pid))?;
        let mut ready = Vec::new();
        for (owned, resume) in std::iter::once(leader).chain(threads).zip(resume) {
            let regs = resume.regs.ok_or_else(|| Error::damaged(format!("pid {}: no registers", process.pid)))?;
            let task = owned.release(&regs, resume.mask)?;
            task.set_options(0)?;
            ready.push(task);
        }
        if process.stopped_by.is_some() {
            query::kill(process.pid, libc::SIGSTOP).map_err(|errno| Error::os("stopping it as it was", errno))?;
        }
        _guard.0 = 0;
        for task in ready {
            task.detach();
        }
        Ok(())
    }
}
