//! Makes the processes of a restore, each with its old id. This daemon makes the first with
//! clone3(2). Every other process is a fork of one that exists. A fork keeps its maker's memory if
//! the image says that it inherits pages; otherwise its memory is emptied first.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::memory::vdso::Vdso;
use crate::memory::vma::Vma;
use crate::pstree::record::{Process, Share};
use crate::restore::process::{NewProcess, TASK_SIZE, untouchable};
use crate::restore::rollback::KillOnDrop;
use crate::restore::time_namespace::TimeNamespace;
use crate::sys::clock::Deadline;
use crate::sys::memory::{MemFile, RemotePtr};
use crate::sys::pid::Pid;
use crate::sys::pid_in_use::{self, WantedPid};
use crate::sys::proc::maps;
use crate::sys::ptrace::{self, Running};
use crate::sys::remote::batch::{Batch, SCRATCH_LEN, Ticket};
use crate::sys::remote::checked::Checked;
use crate::sys::remote::gadget;
use crate::sys::remote::owned::Owned;
use crate::sys::remote::scm_rights::Channel;
use crate::sys::signal;
use crate::sys::{clone, errno};

/// How long a new task may take to stop, or another tracer to leave it. Both take microseconds on
/// an idle machine; this is for a very busy one.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// Seizes a new process. Another mount that dumps every process may have seized it first: that one
/// detaches again soon.
fn seize(pid: Pid) -> Result<Running> {
    let deadline = Deadline::after(STOP_TIMEOUT);
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
    /// Creates a process that leads a session, or only a group in that of the calling thread, as a
    /// child of that thread. Its address space holds the vDSO at its place, the stub and nothing
    /// else. It enters `time`.
    pub fn create(
        pid: Pid,
        leads_session: bool,
        vdso: Option<&Vdso>,
        hole: RemotePtr,
        time: Option<&mut TimeNamespace>,
        rollback: &mut KillOnDrop,
    ) -> Result<Self> {
        clone::spawn(pid)?;
        rollback.add(pid)?;
        let stopped = seize(pid)?.wait_or_release(Deadline::after(STOP_TIMEOUT))?;
        let maps = maps::maps(pid)?;
        let mem = MemFile::open(pid)?;
        let (code, syscall, _) = gadget::code(&maps, &mem, pid)?;
        let here = Vdso::of(pid, &maps, gadget::digest(&code));
        // One half of the hole is for the stub, the other to park the vDSO in. A half that the vDSO
        // already lies in can serve for neither.
        let half =
            |at: RemotePtr| (at, here.parts.iter().any(|(_, start, end)| *start < at.0 + SCRATCH_LEN && at.0 < *end));
        let (scratch, aside) = match (half(hole), half(hole.add(SCRATCH_LEN))) {
            ((low, false), (high, false)) => (low, high),
            _ => return Err(Error::os(format_args!("pid {pid}: the vDSO lies in the way at {hole}"), libc::EAGAIN)),
        };
        let mut leader = Owned::inject(stopped, syscall, scratch, pid)?;
        if let Some(time) = time {
            time.enter(pid, &mut leader)?;
        }
        Self::from_copy(pid, leader, EmptyProcess { here, syscall, hole, aside }, vdso, |calls| {
            if leads_session {
                calls.call(libc::SYS_setsid, [], format!("pid {pid}: setsid"));
            } else {
                calls.call(libc::SYS_setpgid, [0, 0], format!("pid {pid}: leading a group"));
            }
            shed_inheritance(pid, calls);
            // The daemon's own dispositions must not be inherited: a process of the image may have
            // to die of a signal.
            let default = calls.put(&[0; 32]);
            for signal in (1..=64).filter(|signal| ![libc::SIGKILL, libc::SIGSTOP].contains(signal)) {
                let doing = format!("pid {pid}: default action of {}", signal::name(signal));
                calls.call(libc::SYS_rt_sigaction, [signal as u64, default.0, 0, 8], doing);
            }
        })
    }

    /// Makes a new process of the copy of another one: unmaps everything but the stub and the vDSO,
    /// closes all descriptors, and makes the calls of `and`.
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

    /// The new process of `leader`, without mappings of the image so far.
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

    /// What a child of it begins with, apart from copies of mappings.
    fn empty(&self) -> EmptyProcess {
        EmptyProcess { here: self.vdso.clone(), syscall: self.syscall, hole: self.hole, aside: self.aside }
    }

    /// Forks this process as `process`, with CLONE_PARENT if `sibling`. `copied`: the mappings of
    /// this process, which the fork copies.
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
        let mut forked = Self::new(pid, leader, channel, calls, &empty, vdso, inherited);
        if !borrows_memory && vdso.parts != here.parts {
            for (name, start, end) in &vdso.parts {
                let doing = format!("pid {pid}: making room for {name}");
                forked.calls.call(libc::SYS_munmap, [*start, end.saturating_sub(*start)], doing);
            }
            vdso.move_from(here, empty.aside, &mut forked.calls)?;
            forked.calls.flush(&mut forked.leader)?;
        }
        Ok(forked)
    }

    /// Makes a child that only exists to fork another process, or to keep a process group alive.
    pub fn fork_helper(&mut self, rollback: &mut KillOnDrop) -> Result<Self> {
        let leader = self.clone_as(None, 0, libc::SIGCHLD, false, 0, rollback)?;
        let pid = leader.task()?.tid();
        let calls = Checked::new(leader.scratch());
        Ok(Self::new(pid, leader, Rc::clone(&self.channel), calls, &self.empty(), &self.vdso, Inherited::default()))
    }

    /// Makes the other threads, each stopped, under its old id. A second call does nothing.
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
                    return Err(pid_in_use::taken(&format!("pid {} task {tid}", process.pid), *tid));
                }
                answers.get(ticket, || format!("pid {}: creating task {tid}", process.pid))?;
                let stopped = Running::adopt(*tid).wait_or_release(Deadline::after(STOP_TIMEOUT))?;
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

    /// Makes a child, or a sibling, with one clone3(2) in a thread (0: in the leader). It is
    /// stopped before its first instruction.
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
        let doing = || format!("pid {}: forking pid {}", self.pid, pid.unwrap_or(0));
        let got = answers.get(forked, doing)? as Pid;
        rollback.add(got)?;
        let stopped = Running::adopt(got).wait_or_release(Deadline::after(STOP_TIMEOUT))?;
        Owned::adopt(stopped, scratch, got, got)
    }
}

/// Adds the calls by which a new process, and all that it forks, loses what it has from the daemon
/// and what no later step resets. What it cannot lose is refused before ([`attributes::compare`]).
///
/// [`attributes::compare`]: crate::restore::attributes::compare
fn shed_inheritance(pid: Pid, calls: &mut Checked) {
    // READ_IMPLIES_EXEC would give mappings another protection.
    calls.call(libc::SYS_personality, [0], format!("pid {pid}: the personality of an ordinary program"));
    // Memory that the kernel merges with equal memory (KSM). A kernel without it has no such
    // option.
    let merge = [libc::PR_SET_MEMORY_MERGE as u64, 0, 0, 0, 0];
    calls.call_or(libc::SYS_prctl, merge, libc::EINVAL, format!("pid {pid}: PR_SET_MEMORY_MERGE 0"));
    // Keys of the daemon's session (keyrings(7)) are not for a process of another user.
    let join = [KEYCTL_JOIN_SESSION_KEYRING, 0];
    calls.call_or(libc::SYS_keyctl, join, libc::ENOSYS, format!("pid {pid}: joining a session keyring of its own"));
}

/// include/uapi/linux/keyctl.h. Without a name it makes a new keyring.
const KEYCTL_JOIN_SESSION_KEYRING: u64 = 1;

/// What a new process has of the memory of its maker.
#[derive(Default)]
struct Inherited {
    /// Copies of its mappings, ascending.
    copied: Vec<Vma>,
    /// The address space itself (CLONE_VM).
    borrows_memory: bool,
}

/// What is in the address space of a process that has only just been made.
struct EmptyProcess {
    /// Its vDSO, where it lies now.
    here: Vdso,
    /// A `syscall` instruction in that.
    syscall: RemotePtr,
    /// As in [`NewProcess`].
    hole: RemotePtr,
    /// As in [`NewProcess`].
    aside: RemotePtr,
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
