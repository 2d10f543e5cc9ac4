//! The process that a restore makes: created under its old id, emptied, filled with descriptors and mappings, given its
//! threads, and let go. Dropped before that, it is killed and reaped.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::RawFd;
use std::time::Instant;

use crate::door::HOLE_LEN;
use crate::file::sharing::Table;
use crate::sys::clone;
use crate::sys::memory::RemotePtr;
use crate::sys::ptrace::{self, Running};
use crate::sys::query;
use crate::sys::remote::{Batch, Call, Owned, SCRATCH_LEN};
use crate::sys::scm::Channel;
use crate::sys::{errno, proc};
use crate::task::attribute::{Checked, Files, Resume};
use crate::task::tree::{self, Process};
use crate::task::vdso::{self, Vdso};
use crate::task::vma::Vma;
use crate::{Error, Kind, Pid, Result};

const PATIENCE: std::time::Duration = std::time::Duration::from_secs(10);
/// Where user space ends on x86-64 with four levels of page tables.
pub const TASK_SIZE: u64 = (1 << 47) - 4096;

/// The process, once it exists.
pub struct Made {
    /// Its first thread.
    pub leader: Owned,
    /// Where descriptors are pushed into it.
    pub channel: Channel,
    /// A `syscall` instruction in its vDSO, at its final place.
    pub syscall: RemotePtr,
    hole: RemotePtr,
    /// Its mappings so far, ascending.
    pub vmas: Vec<Vma>,
    mapped: BTreeMap<u32, i32>,
    /// Calls that wait to be made.
    pub calls: Checked,
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
                    let _ = query::wait_ended(tid, PATIENCE);
                }
            }
            let _ = query::wait_ended(self.0, PATIENCE);
        }
    }
}

/// Seizes a process that was just made. Whoever dumps everything that it sees may have been quicker: it lets go again soon.
fn seize(pid: Pid) -> Result<Running> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match ptrace::seize(pid, ptrace::options::EXITKILL | ptrace::options::SYSGOOD) {
            Err(error) if error.kind() == Kind::System(libc::EPERM) && Instant::now() < deadline => {
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            done => return done,
        }
    }
}

impl Made {
    /// An empty process with the vDSO in its place and nothing else but the stub.
    pub fn create(process: &Process, vdso: &Vdso, hole: RemotePtr) -> Result<Self> {
        let pid = process.pid;
        clone::spawn(pid)?;
        let guard = Unborn(pid);
        let running = seize(pid)?;
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
    pub fn place(&mut self, table: &Table, files: &dyn Files) -> Result<()> {
        let pid = table.tid;
        let ids: Vec<u32> = table.fds.iter().map(|(_, id, _)| *id).collect::<BTreeSet<_>>().into_iter().collect();
        let fds = ids.iter().map(|id| files.fd(*id)).collect::<Result<Vec<RawFd>>>()?;
        let received = self.channel.push(&mut self.leader, &fds)?;
        let wanted: BTreeSet<i32> = table.fds.iter().map(|(number, ..)| *number).collect();
        if wanted.len() != table.fds.len() || wanted.first().is_some_and(|first| *first < 0) {
            return Err(Error::damaged(format!("pid {pid}: a descriptor number is negative or occurs twice")));
        }
        // Numbers that nobody wants and that are not open: what stands in the way is moved there.
        let open: BTreeSet<i32> = received.iter().copied().chain([self.channel.number()]).collect();
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
    pub fn map(&mut self, vma: Vma, files: &dyn Files) -> Result<()> {
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
    pub fn finish_memory(&mut self) -> Result<()> {
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
    pub fn threads(&mut self, process: &Process) -> Result<Vec<Owned>> {
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
    pub fn close_helpers(&mut self) -> Result<()> {
        self.calls.call(libc::SYS_close, [self.channel.number() as u64], "closing the descriptor channel");
        self.calls.flush(&mut self.leader)
    }

    /// Takes the stub out and lets all threads go at once.
    pub fn let_go(self, process: &Process, threads: Vec<Owned>, resume: Vec<Resume>) -> Result<()> {
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
