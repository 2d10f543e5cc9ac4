//! One process that a restore makes: created or forked under its old id, given its mappings,
//! descriptors and threads, and let go.

use std::collections::BTreeMap;
use std::os::fd::RawFd;
use std::os::unix::fs::MetadataExt;
use std::rc::Rc;
use std::time::Duration;

use crate::error::{Doing, Error, Kind, Result};
use crate::kind::attribute::Resume;
use crate::memory::vdso::Vdso;
use crate::memory::vma::Vma;
use crate::pstree::record::{Process, Share};
use crate::restore::rollback::KillOnDrop;
use crate::sys::clock::Deadline;
use crate::sys::memory::{MemFile, RemotePtr};
use crate::sys::pid::Pid;
use crate::sys::pid_in_use::WantedPid;
use crate::sys::proc::maps;
use crate::sys::proc::status::Fields;
use crate::sys::ptrace::{self, Running, Stopped};
use crate::sys::remote::batch::{Batch, Call, SCRATCH_LEN, Ticket};
use crate::sys::remote::checked::Checked;
use crate::sys::remote::gadget;
use crate::sys::remote::owned::Owned;
use crate::sys::remote::scm_rights::Channel;
use crate::sys::{clone, errno, wait};

pub const PATIENCE: Duration = Duration::from_secs(10);
/// Where user space ends on x86-64 with four levels of page tables.
pub const TASK_SIZE: u64 = (1 << 47) - 4096;

/// The process, once it exists. Dropped before it is let go it goes on untraced: whoever holds it
/// must have killed it before.
pub struct NewProcess {
    /// Its id.
    pub pid: Pid,
    /// Its first thread.
    pub leader: Owned,
    /// The others, in the order of the image.
    pub threads: Vec<Owned>,
    /// Where descriptors are pushed into it.
    pub channel: Rc<Channel>,
    /// The same for threads with a table of their own.
    pub own_channels: BTreeMap<Pid, Rc<Channel>>,
    /// A `syscall` instruction in its vDSO, at its final place.
    pub syscall: RemotePtr,
    /// Calls that wait to be made.
    pub calls: Checked,
    /// Its mappings so far, ascending.
    pub vmas: Vec<Vma>,
    pub hole: RemotePtr,
    /// Room to park a vDSO.
    aside: RemotePtr,
    vdso: Vdso,
    /// What came with the fork from its maker, ascending.
    pub copied: Vec<Vma>,
    /// Nothing of that is left below.
    pub cleared: u64,
    /// Numbers of mapped files in the process.
    pub mapped: BTreeMap<u32, i32>,
    /// Attached segments, by open file.
    pub segments: BTreeMap<u32, Attached>,
    /// The address space is its maker's.
    borrows_memory: bool,
}

/// Seizes a process that was just made. Whoever dumps everything that it sees may have been
/// quicker: it lets go again soon.
fn seize(pid: Pid) -> Result<Running> {
    let deadline = Deadline::after(PATIENCE);
    loop {
        match ptrace::seize(pid, ptrace::options::EXITKILL | ptrace::options::SYSGOOD) {
            Err(error) if error.errno() == Some(libc::EPERM) && !deadline.is_over() => {
                std::thread::sleep(Duration::from_millis(1));
            }
            done => return done,
        }
    }
}

impl NewProcess {
    /// A process of our own, a child of the calling thread, with the vDSO in its place and nothing
    /// else but the stub; it leads a session.
    pub fn create(pid: Pid, vdso: Option<&Vdso>, hole: RemotePtr, rollback: &mut KillOnDrop) -> Result<Self> {
        clone::spawn(pid)?;
        rollback.add(pid)?;
        let stopped = seize(pid)?.wait_or_release(Deadline::after(PATIENCE))?;
        let maps = maps::maps(pid)?;
        let mem = MemFile::open(pid)?;
        let (code, syscall, _) = gadget::code(&maps, &mem, pid)?;
        let here = Vdso::of(pid, &maps, gadget::digest(&code));
        // One half for the stub, the other to park the vDSO; the half that the vDSO is in now, if
        // any, is for neither at first.
        let half =
            |at: RemotePtr| (at, here.parts.iter().any(|(_, start, end)| *start < at.0 + SCRATCH_LEN && at.0 < *end));
        let (scratch, aside) = match (half(hole), half(hole.add(SCRATCH_LEN))) {
            ((low, false), (high, false)) => (low, high),
            _ => return Err(Error::os(format_args!("pid {pid}: the vDSO lies in the way at {hole}"), libc::EAGAIN)),
        };
        let leader = Owned::inject(stopped, syscall, scratch, pid)?;
        Self::from_copy(pid, leader, EmptyProcess { here, syscall, hole, aside }, vdso, |calls| {
            calls.call(libc::SYS_setsid, [], format!("pid {pid}: setsid"));
            // Those of this daemon are nobody's business; it and those that it forks may have to
            // die of a signal.
            let default = calls.put(&[0; 32]);
            for signal in (1..=64).filter(|signal| ![libc::SIGKILL, libc::SIGSTOP].contains(signal)) {
                let doing = format!("pid {pid}: default action of signal {signal}");
                calls.call(libc::SYS_rt_sigaction, [signal as u64, default.0, 0, 8], doing);
            }
        })
    }

    /// Empties a process that is the copy of another one.
    fn from_copy(
        pid: Pid,
        leader: Owned,
        empty: EmptyProcess,
        vdso: Option<&Vdso>,
        and: impl FnOnce(&mut Checked),
    ) -> Result<Self> {
        let (here, aside) = (&empty.here, empty.aside);
        let mut leader = leader;
        let scratch = leader.scratch();
        let mut calls = Checked::new(scratch);
        calls.call(libc::SYS_close_range, [0, u64::from(u32::MAX), 0], format!("pid {pid}: closing descriptors"));
        and(&mut calls);
        let vdso = vdso.unwrap_or(here);
        let mut from = 0;
        for (start, end) in untouchable(here, scratch).into_iter().chain([(TASK_SIZE, TASK_SIZE)]) {
            if start > from {
                calls.call(libc::SYS_munmap, [from, start - from], format!("pid {pid}: emptying the address space"));
            }
            from = end;
        }
        vdso.move_from(here, aside, &mut calls)?;
        calls.flush(&mut leader)?;
        let channel = Rc::new(Channel::open(&mut leader, pid)?);
        Ok(Self::new(pid, leader, channel, calls, &empty, vdso, Inherited::default()))
    }

    fn new(
        pid: Pid,
        leader: Owned,
        channel: Rc<Channel>,
        calls: Checked,
        empty: &EmptyProcess,
        vdso: &Vdso,
        inherited: Inherited,
    ) -> Self {
        Self {
            pid,
            syscall: vdso.moved(&empty.here, empty.syscall),
            leader,
            threads: Vec::new(),
            channel,
            own_channels: BTreeMap::new(),
            calls,
            vmas: Vec::new(),
            hole: empty.hole,
            aside: empty.aside,
            vdso: vdso.clone(),
            copied: inherited.copied,
            cleared: 0,
            mapped: BTreeMap::new(),
            segments: BTreeMap::new(),
            borrows_memory: inherited.borrows_memory,
        }
    }

    /// What a child of it begins with.
    fn empty(&self) -> EmptyProcess {
        EmptyProcess { here: self.vdso.clone(), syscall: self.syscall, hole: self.hole, aside: self.aside }
    }

    /// Forks this process as `process`, with CLONE_PARENT if `sibling`. `copied`: the mappings that
    /// come with it.
    pub fn fork(
        &mut self,
        process: &Process,
        vdso: Option<&Vdso>,
        sibling: bool,
        copied: Vec<Vma>,
        rollback: &mut KillOnDrop,
    ) -> Result<Self> {
        let pid = process.pid;
        let flags = Share::ALL
            .iter()
            .filter(|share| process.shares(**share))
            .fold(0, |flags, share| flags | share.clone_flag());
        let leader = self.clone_as(Some(pid), flags, process.exit_signal, sibling, process.maker.thread, rollback)?;
        let empty = self.empty();
        let borrows_memory = process.shares(Share::Vm);
        if !borrows_memory && !process.inherits && vdso.is_some() && !process.shares(Share::Files) {
            return Self::from_copy(pid, leader, empty, vdso, |_| {});
        }
        let mut leader = leader;
        let mut calls = Checked::new(leader.scratch());
        let channel = if process.shares(Share::Files) {
            Rc::clone(&self.channel)
        } else {
            let doing = format!("pid {pid}: closing descriptors");
            calls.call(libc::SYS_close_range, [0, u64::from(u32::MAX), 0], doing);
            calls.flush(&mut leader)?;
            Rc::new(Channel::open(&mut leader, pid)?)
        };
        let here = &empty.here;
        let vdso = vdso.unwrap_or(here);
        let inherited = Inherited { copied, borrows_memory };
        let mut made = Self::new(pid, leader, channel, calls, &empty, vdso, inherited);
        if !borrows_memory && vdso.parts != here.parts {
            for (name, start, end) in &vdso.parts {
                let doing = format!("pid {pid}: making room for {name}");
                made.calls.call(libc::SYS_munmap, [*start, end.saturating_sub(*start)], doing);
            }
            vdso.move_from(here, empty.aside, &mut made.calls)?;
            made.calls.flush(&mut made.leader)?;
        }
        Ok(made)
    }

    /// Makes a child (or a sibling) with one clone3(2) in the leader; stopped before its first
    /// instruction.
    fn clone_as(
        &mut self,
        pid: Option<Pid>,
        flags: i32,
        exit_signal: i32,
        sibling: bool,
        thread: Pid,
        rollback: &mut KillOnDrop,
    ) -> Result<Owned> {
        let scratch = self.leader.scratch();
        let maker = match self.threads.iter_mut().find(|owned| owned.tid() == thread) {
            Some(thread) => thread,
            None if thread == 0 => &mut self.leader,
            None => return Err(Error::damaged(format!("pid {}: no thread {thread}", self.pid))),
        };
        let (flags, exit_signal) = if sibling { (flags | libc::CLONE_PARENT, 0) } else { (flags, exit_signal) };
        let wanted = pid.map(WantedPid::new);
        let (forked, answers) = loop {
            let mut batch = Batch::new(scratch);
            let forked = clone3(&mut batch, flags | libc::CLONE_PTRACE, exit_signal, pid);
            let answers = maker.run(batch)?;
            match &wanted {
                Some(wanted) if errno::errno(answers.raw(forked)) == Some(libc::EEXIST) => wanted.wait()?,
                _ => break (forked, answers),
            }
        };
        let told = || format!("pid {}: forking pid {}", self.pid, pid.unwrap_or(0));
        let got = answers.get(forked, told)? as Pid;
        rollback.add(got)?;
        let stopped = Running::adopt(got).wait_or_release(Deadline::after(PATIENCE))?;
        Owned::adopt(stopped, scratch, got, got)
    }

    /// Address ranges that must stay as they are until the end, ascending.
    pub fn untouchable(&self) -> Vec<(u64, u64)> {
        untouchable(&self.vdso, self.leader.scratch())
    }

    /// Makes the other threads, each stopped, under its old id; once.
    pub fn make_threads(&mut self, process: &Process) -> Result<()> {
        if !self.threads.is_empty() {
            return Ok(());
        }
        let scratch = self.leader.scratch();
        for tids in process.threads.get(1..).unwrap_or_default().chunks(256) {
            let mut batch = Batch::new(scratch);
            let flags = libc::CLONE_VM | libc::CLONE_FS | libc::CLONE_FILES | libc::CLONE_SIGHAND;
            let flags = flags | libc::CLONE_THREAD | libc::CLONE_SYSVSEM | libc::CLONE_PTRACE;
            let mut created = Vec::with_capacity(tids.len());
            for tid in tids {
                let own = Share::ALL.iter().filter(|share| process.owns(*tid, **share));
                let own = own.fold(0, |own, share| own | share.clone_flag());
                created.push(clone3(&mut batch, flags & !own, 0, Some(*tid)));
            }
            let answers = self.leader.run(batch)?;
            for (ticket, tid) in created.into_iter().zip(tids) {
                if errno::errno(answers.raw(ticket)) == Some(libc::EEXIST) {
                    let taken = format!("pid {} task {tid}: the id is taken by another task", process.pid);
                    return Err(Error::new(Kind::PidTaken, taken));
                }
                answers.get(ticket, || format!("pid {}: creating task {tid}", process.pid))?;
                let stopped = Running::adopt(*tid).wait_or_release(Deadline::after(PATIENCE))?;
                let mut thread = Owned::adopt(stopped, scratch, process.pid, *tid)?;
                if process.owns(*tid, Share::Files) {
                    let mut calls = Checked::new(scratch);
                    let doing = format!("pid {} task {tid}: closing descriptors", process.pid);
                    calls.call(libc::SYS_close_range, [0, u64::from(u32::MAX), 0], doing);
                    calls.flush(&mut thread)?;
                    self.own_channels.insert(*tid, Rc::new(Channel::open(&mut thread, *tid)?));
                }
                self.threads.push(thread);
            }
        }
        Ok(())
    }

    /// A child with nothing of its own, to make another and end.
    pub fn fork_helper(&mut self, rollback: &mut KillOnDrop) -> Result<Self> {
        let leader = self.clone_as(None, 0, libc::SIGCHLD, false, 0, rollback)?;
        let pid = leader.task()?.tid();
        let calls = Checked::new(leader.scratch());
        Ok(Self::new(pid, leader, Rc::clone(&self.channel), calls, &self.empty(), &self.vdso, Inherited::default()))
    }

    /// Whether its address space is another's.
    pub fn borrows_memory(&self) -> bool {
        self.borrows_memory
    }

    /// One of its threads, and where descriptors are pushed into that.
    pub fn task(&mut self, tid: Pid) -> Result<(&mut Owned, &Channel)> {
        let Self { leader, threads, channel, own_channels, .. } = self;
        let channel = own_channels.get(&tid).unwrap_or(channel);
        if leader.tid() == tid {
            return Ok((leader, channel));
        }
        let thread = threads.iter_mut().find(|thread| thread.tid() == tid);
        thread.map(|thread| (thread, &**channel)).ok_or_else(|| Error::damaged(format!("task {tid} was not made")))
    }

    /// A call in the leader; `doing` names it on failure.
    pub fn call<const N: usize>(&mut self, nr: i64, args: [u64; N], doing: &str) -> Result<u64> {
        let mut batch = Batch::new(self.leader.scratch());
        let ticket = batch.call(nr, args);
        self.leader.run(batch)?.get(ticket, || format!("pid {}: {doing}", self.pid))
    }

    /// Takes the stub out and gives all threads their registers; they are still stopped.
    pub fn release(self, resume: Vec<Resume>) -> Result<Vec<Stopped>> {
        let pid = self.pid;
        let mut ready = Vec::new();
        self.release_into(&mut ready, resume).inspect_err(|_| {
            // Half of it may be gone already, and would run.
            let _ = wait::kill(pid, libc::SIGKILL);
        })?;
        Ok(ready)
    }

    fn release_into(self, ready: &mut Vec<Stopped>, resume: Vec<Resume>) -> Result<()> {
        let Self { pid, mut leader, threads, syscall, borrows_memory, .. } = self;
        if !borrows_memory {
            let unmap = Call::new(libc::SYS_munmap, [leader.scratch().0, SCRATCH_LEN]);
            let got = leader.call_at(syscall, &unmap)?;
            errno::check(got, || format!("pid {pid}: taking the stub out"))?;
        }
        for (owned, resume) in std::iter::once(leader).chain(threads).zip(resume) {
            let regs = resume.regs.ok_or_else(|| Error::damaged(format!("pid {pid}: no registers")))?;
            // Dies with us until it is detached, which ends that as well.
            ready.push(owned.release(&regs, resume.mask)?);
        }
        Ok(())
    }
}

/// What a new process has of the memory of the one that forked it.
#[derive(Default)]
struct Inherited {
    /// Copies of its mappings, ascending.
    copied: Vec<Vma>,
    /// The address space itself (CLONE_VM).
    borrows_memory: bool,
}

/// Where an empty process is.
struct EmptyProcess {
    here: Vdso,
    syscall: RemotePtr,
    hole: RemotePtr,
    aside: RemotePtr,
}

fn untouchable(vdso: &Vdso, scratch: RemotePtr) -> Vec<(u64, u64)> {
    let parts = vdso.parts.iter().map(|(_, start, end)| (*start, *end));
    let mut all: Vec<(u64, u64)> = parts.chain([(scratch.0, scratch.0 + SCRATCH_LEN)]).collect();
    all.sort_unstable();
    all
}

/// Adds a clone3(2) call, with a chosen id if there is one.
fn clone3(batch: &mut Batch, flags: i32, exit_signal: i32, pid: Option<Pid>) -> Ticket<u64> {
    let set_tid = pid.map(|pid| batch.put(&pid.to_le_bytes()));
    let (at, count) = set_tid.map_or((0, 0), |at| (at.0, 1));
    // struct clone_args: flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls,
    // set_tid, its size, cgroup.
    let args = [flags as u64, 0, 0, 0, exit_signal as u64, 0, 0, 0, at, count, 0];
    let args = batch.put(&args.map(u64::to_le_bytes).concat());
    batch.call(libc::SYS_clone3, [args.0, 88])
}

/// What is attached.
#[derive(Clone, Copy)]
pub struct Attached {
    pub id: u64,
    pub size: u64,
    pub read_only: bool,
}

impl Attached {
    /// By a descriptor of the segment's pages: the inode number is the id, the mode that of the
    /// attachment.
    pub fn look(fd: RawFd) -> Result<Self> {
        let flags = Fields::read(&format!("/proc/self/fdinfo/{fd}"))?.octal("flags") as i32;
        let stat = std::fs::metadata(format!("/proc/self/fd/{fd}"));
        let stat = stat.doing(|| "stat of shared memory")?;
        Ok(Self { id: stat.ino(), size: stat.size(), read_only: flags & libc::O_ACCMODE == libc::O_RDONLY })
    }
}
