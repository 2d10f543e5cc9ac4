//! System calls made by another process on our behalf, in batches.
//!
//! [`Hijacked`] borrows the registers and signal mask of a stopped task; [`Injected`] is a hijacked task in whose process
//! the stub is mapped. Both are guards: giving back (or dropping) restores everything.
//!
//! At every instant the task's registers are such that, were the tracer killed now, running on leads home: during the
//! first call (made at an instruction of the vDSO) and the last the return address is a signal restorer with a frame at
//! the unused low end of the stack; in between it is the stub with a frame in its own pages. Only where a program has
//! neither a restorer nor an unused stack end are those two calls unguarded, some 50 us each.

use std::time::{Duration, Instant};

use super::errno;
use super::frame;
use super::memory::{MemFile, RemotePtr, words};
use super::ptrace::{Regs, Running, Stop, Stopped};
use super::stub;
use crate::{Error, Kind, Pid, Result};

/// What the kernel sends for a fault of the instruction itself.
const FAULTS: [i32; 6] = [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGTRAP, libc::SIGSYS];

/// How long a batch may take; every call in one is of the kind that does not sleep.
const PATIENCE: Duration = Duration::from_secs(10);

/// Bytes of a mapped scratch; pages that are not touched cost nothing.
pub const SCRATCH_LEN: u64 = 512 << 10;
const FRAME_AT: u64 = 4096;
const CALLS_AT: u64 = FRAME_AT + frame::FRAME_ROOM as u64;
const CALLS_MAX: usize = 1024;
const ARENA_AT: u64 = CALLS_AT + 64 * CALLS_MAX as u64;
const ARENA_LEN: usize = (SCRATCH_LEN - ARENA_AT) as usize;

/// One system call: number and arguments.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// SYS_*.
    pub nr: i64,
    /// rdi, rsi, rdx, r10, r8, r9.
    pub args: [u64; 6],
}

impl Call {
    /// A call with up to six arguments.
    pub fn new<const N: usize>(nr: i64, args: [u64; N]) -> Self {
        let mut all = [0; 6];
        all[..N].copy_from_slice(&args);
        Self { nr, args: all }
    }
}

/// Calls to be made one behind the other, and the memory that they read and write.
#[derive(Debug)]
pub struct Batch {
    arena_at: RemotePtr,
    arena: Vec<u8>,
    calls: Vec<Call>,
}

/// What a batch gave.
#[derive(Debug)]
pub struct Answers {
    arena_at: RemotePtr,
    arena: Vec<u8>,
    results: Vec<i64>,
}

impl Batch {
    /// A batch for the scratch at `scratch`.
    pub fn new(scratch: RemotePtr) -> Self {
        Self { arena_at: scratch.add(ARENA_AT), arena: Vec::new(), calls: Vec::new() }
    }

    /// Adds a call; its place in the answers.
    pub fn call<const N: usize>(&mut self, nr: i64, args: [u64; N]) -> usize {
        self.calls.push(Call::new(nr, args));
        self.calls.len() - 1
    }

    /// Places `bytes` where the calls can read them.
    pub fn put(&mut self, bytes: &[u8]) -> RemotePtr {
        self.arena.resize(self.arena.len().next_multiple_of(16), 0);
        let at = self.arena_at.add(self.arena.len() as u64);
        self.arena.extend_from_slice(bytes);
        at
    }

    /// Places a string, NUL-terminated.
    pub fn put_str(&mut self, text: &[u8]) -> RemotePtr {
        let at = self.put(text);
        self.arena.push(0);
        at
    }

    /// Makes room for `len` bytes of a result, zeroed.
    pub fn room(&mut self, len: usize) -> RemotePtr {
        self.put(&vec![0; len])
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// Whether `more` calls or `bytes` would no longer fit.
    pub fn is_full(&self, more: usize, bytes: usize) -> bool {
        self.calls.len() + more > CALLS_MAX || self.arena.len() + bytes + 64 > ARENA_LEN
    }
}

impl Answers {
    /// The raw result of a call.
    pub fn raw(&self, call: usize) -> i64 {
        self.results.get(call).copied().unwrap_or(-i64::from(libc::ENOSYS))
    }

    /// The result of a call; `doing` runs on failure only.
    pub fn get<D: std::fmt::Display>(&self, call: usize, doing: impl FnOnce() -> D) -> Result<u64> {
        errno::check(self.raw(call), doing)
    }

    /// What a call wrote at `at`.
    pub fn bytes(&self, at: RemotePtr, len: usize) -> &[u8] {
        let from = (at.0.wrapping_sub(self.arena_at.0)) as usize;
        self.arena.get(from..from.saturating_add(len)).unwrap_or_default()
    }

    /// Words that a call wrote at `at`.
    pub fn words<const N: usize>(&self, at: RemotePtr) -> [u64; N] {
        words(self.bytes(at, N * 8))
    }
}

/// Where a process can be entered without having anything injected.
#[derive(Clone, Debug)]
pub struct Entry {
    /// A `syscall` instruction (in the vDSO).
    pub syscall: RemotePtr,
    /// The way home while nothing is mapped: a restorer and unused (all-zero) stack of [`frame::FRAME_ROOM`] bytes.
    pub home: Option<(RemotePtr, RemotePtr)>,
    /// A signal that is ignored by default, not pending and preferably not caught.
    pub wake: i32,
    /// The process's id in its own pid namespace.
    pub tgid: Pid,
    /// [`SCRATCH_LEN`] bytes of address space that nothing touches.
    pub hole: RemotePtr,
}

/// A stopped task whose registers and signal mask are borrowed.
#[derive(Debug)]
pub struct Hijacked {
    task: Option<Stopped>,
    regs: Regs,
    mask: u64,
}

impl Hijacked {
    /// Borrows `task`. All signals but `wake` are blocked meanwhile.
    pub fn take(task: Stopped, mem: &MemFile, wake: i32) -> Result<Self> {
        let mut regs = task.regs()?;
        out_of_rseq(&task, mem, &mut regs)?;
        let mask = task.sigmask()?;
        task.set_sigmask(!(1 << (wake - 1)))?;
        Ok(Self { task: Some(task), regs, mask })
    }

    /// The registers that it will have again.
    pub fn regs(&self) -> &Regs {
        &self.regs
    }

    /// The signal mask that it will have again.
    pub fn mask(&self) -> u64 {
        self.mask
    }

    /// The task.
    pub fn task(&self) -> Result<&Stopped> {
        self.task.as_ref().ok_or_else(|| Error::new(Kind::NoProcess, "the task has ended"))
    }

    /// Gives registers and mask back.
    pub fn give_back(mut self) -> Result<Stopped> {
        let task = self.task.take().ok_or_else(|| Error::new(Kind::NoProcess, "the task has ended"))?;
        task.set_regs(&self.regs)?;
        task.set_sigmask(self.mask)?;
        Ok(task)
    }

    fn owe(&mut self, signal: i32) {
        if let Some(task) = &mut self.task {
            task.owe(signal);
        }
    }

    /// Lets the task run from `regs` until `done` says so of a stop. Signals that arrive are owed, not lost.
    fn run(&mut self, regs: &Regs, go: fn(Stopped) -> Result<Running>, done: impl Fn(&Stopped) -> bool) -> Result<()> {
        let task = self.task.take().ok_or_else(|| Error::new(Kind::NoProcess, "the task has ended"))?;
        if let Err(error) = task.set_regs(regs) {
            self.task = Some(task);
            return Err(error);
        }
        let deadline = Instant::now() + PATIENCE;
        let mut running = go(task)?;
        loop {
            let mut stopped = match running.wait(deadline) {
                Ok(stopped) => stopped,
                Err((Some(stuck), error)) => {
                    // Interrupt it so that the registers can be given back.
                    stuck.interrupt()?;
                    self.task = Some(stuck.wait_or_release(Instant::now() + Duration::from_secs(1))?);
                    return Err(error.on("a system call on behalf of a checkpoint hangs"));
                }
                Err((None, error)) => return Err(error),
            };
            if done(&stopped) {
                stopped.swallow_signal();
                self.task = Some(stopped);
                return Ok(());
            }
            if let Stop::Signal(signal) = stopped.stop() {
                if FAULTS.contains(&signal) {
                    // Our own doing; gone on with it would fault for ever.
                    let tid = stopped.tid();
                    stopped.swallow_signal();
                    self.task = Some(stopped);
                    let doing = format!("task {tid}: signal {signal} in a system call on behalf of a checkpoint");
                    return Err(Error::os(doing, libc::EFAULT));
                }
                // SIGSTOP, or a wake signal from elsewhere: the rest is blocked.
                stopped.owe(signal);
            }
            running = go(stopped)?;
        }
    }

    /// Makes one call at the `syscall` instruction `at`, with `stack` as the stack pointer while it lasts.
    pub fn call_at(&mut self, at: RemotePtr, stack: Option<RemotePtr>, call: &Call) -> Result<i64> {
        let mut regs = self.regs;
        regs.rip = at.0;
        regs.rsp = stack.map_or(regs.rsp, |stack| stack.0);
        regs.rax = call.nr as u64;
        regs.orig_rax = u64::MAX;
        [regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9] = call.args;
        self.run(&regs, Stopped::cont_to_syscall, |stopped| stopped.stop() == Stop::Syscall)?;
        // Interrupted from here on, the task stops again behind the call, in the kernel's signal handling: the only place
        // where it restarts a call by the registers that are put back. A syscall-exit-stop is not, and clears the request.
        let entered = self.task()?.regs()?;
        self.task()?.interrupt()?;
        self.run(
            &entered,
            |task| task.cont(0),
            |stopped| matches!(stopped.stop(), Stop::Interrupted | Stop::Group(_)),
        )?;
        Ok(self.task()?.regs()?.rax.cast_signed())
    }
}

/// Inside a restartable sequence (rseq(2)) a task must come back at its abort handler.
///
/// Running our code in it is what a preemption is: the kernel sees it outside the sequence and clears the descriptor without
/// an abort. So the descriptor is read before, and abort, which a sequence must expect at any instruction, is taken for it.
fn out_of_rseq(task: &Stopped, mem: &MemFile, regs: &mut Regs) -> Result<()> {
    let (area, _, _) = task.rseq()?;
    if area == 0 {
        return Ok(());
    }
    // struct rseq: cpu_id_start, cpu_id, rseq_cs. An area that is not readable is not in use.
    let Ok([descriptor]) = mem.read_words::<1>(RemotePtr(area).add(8)) else { return Ok(()) };
    if descriptor == 0 {
        return Ok(());
    }
    // struct rseq_cs: version and flags, start_ip, post_commit_offset, abort_ip.
    let Ok([_, start, len, abort]) = mem.read_words::<4>(RemotePtr(descriptor)) else { return Ok(()) };
    if regs.rip.wrapping_sub(start) < len {
        regs.rip = abort;
    }
    Ok(())
}

impl Drop for Hijacked {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            // Nothing more can be done if the task is gone.
            let _ = task.set_regs(&self.regs);
            let _ = task.set_sigmask(self.mask);
        }
    }
}

/// The signal frame at the low end of the stack while a task is outside the stub; zeros again on Drop.
struct StackFrame<'m> {
    mem: &'m MemFile,
    at: RemotePtr,
    len: usize,
}

impl<'m> StackFrame<'m> {
    fn lay(mem: &'m MemFile, entry: &Entry, task: &Hijacked) -> Result<Option<Self>> {
        let Some((restorer, at)) = entry.home else { return Ok(None) };
        let xstate = task.task()?.xstate()?;
        let bytes = frame::build(at, restorer.0, &task.regs, task.mask, &xstate);
        mem.write(at, &bytes)?;
        Ok(Some(Self { mem, at, len: bytes.len() }))
    }
}

impl Drop for StackFrame<'_> {
    fn drop(&mut self) {
        // The pages stay (all zero, as they read before); a process that is gone needs no cleaning.
        let _ = self.mem.write(self.at, &vec![0; self.len]);
    }
}

/// One call in `task` without injecting anything: registers, mask and stack are as before when it returns.
pub fn call_once(task: Stopped, mem: &MemFile, entry: &Entry, call: &Call) -> Result<(Stopped, i64)> {
    let mut task = Hijacked::take(task, mem, entry.wake)?;
    let frame = StackFrame::lay(mem, entry, &task)?;
    let result = task.call_at(entry.syscall, frame.as_ref().map(|frame| frame.at), call);
    let task = task.give_back();
    drop(frame);
    Ok((task?, result?))
}

/// A task in whose process the stub is mapped.
pub struct Injected<'m> {
    task: Option<Hijacked>,
    mem: &'m MemFile,
    entry: Entry,
    scratch: RemotePtr,
}

impl<'m> Injected<'m> {
    /// Maps the stub at `entry.hole` in the process of `task`.
    pub fn inject(task: Stopped, mem: &'m MemFile, entry: Entry) -> Result<Self> {
        let mut task = Hijacked::take(task, mem, entry.wake)?;
        let frame = StackFrame::lay(mem, &entry, &task)?;
        let map = |prot: i32, at: RemotePtr, len: u64| {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | MAP_FIXED_NOREPLACE;
            Call::new(libc::SYS_mmap, [at.0, len, prot as u64, flags as u64, u64::MAX, 0])
        };
        let stack = frame.as_ref().map(|frame| frame.at);
        let all = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
        let mut got = task.call_at(entry.syscall, stack, &map(all, entry.hole, SCRATCH_LEN))?;
        if matches!(errno::errno(got), Some(libc::EACCES | libc::EPERM)) {
            // PR_SET_MDWE and its like: no page writable and executable. Code apart; it is written through /proc.
            let code = libc::PROT_READ | libc::PROT_EXEC;
            got = task.call_at(entry.syscall, stack, &map(code, entry.hole, FRAME_AT))?;
            errno::check(got, || format!("task {}: mapping code", entry.tgid))?;
            let data = libc::PROT_READ | libc::PROT_WRITE;
            let data = map(data, entry.hole.add(FRAME_AT), SCRATCH_LEN - FRAME_AT);
            got = task.call_at(entry.syscall, stack, &data)?;
        }
        errno::check(got, || format!("pid {}: mapping a scratch page", entry.tgid))?;
        let mut injected = Self { task: Some(task), mem, scratch: entry.hole, entry };
        mem.write(injected.scratch, stub::code())?;
        // From here the way home is in the scratch; only then may the frame on the stack go.
        let regs = injected.stub_regs(0, 0)?;
        injected.hijacked()?.task()?.set_regs(&regs)?;
        drop(frame);
        Ok(injected)
    }

    /// The address of the scratch.
    pub fn scratch(&self) -> RemotePtr {
        self.scratch
    }

    fn hijacked(&mut self) -> Result<&mut Hijacked> {
        self.task.as_mut().ok_or_else(|| Error::new(Kind::NoProcess, "the task has ended"))
    }

    /// Lays the frame of the current task and gives the registers for entering the stub at `entry`.
    fn stub_regs(&mut self, entry: u64, count: usize) -> Result<Regs> {
        let (scratch, wake, tgid) = (self.scratch, self.entry.wake, self.entry.tgid);
        let frame_at = scratch.add(FRAME_AT);
        let mem = self.mem;
        let task = self.hijacked()?;
        let xstate = task.task()?.xstate()?;
        mem.write(frame_at, &frame::build(frame_at, 0, &task.regs, task.mask, &xstate))?;
        Ok(stub_regs(&task.regs, scratch, entry, count, wake, tgid, task.task()?.tid()))
    }

    /// Exchanges the task for another thread of the same process; the former is given back as it was.
    pub fn exchange(&mut self, other: Stopped) -> Result<Stopped> {
        let other = Hijacked::take(other, self.mem, self.entry.wake)?;
        let before = self.task.replace(other).ok_or_else(|| Error::new(Kind::NoProcess, "the task has ended"))?;
        before.give_back()
    }

    /// The registers that the current task will have again.
    pub fn regs(&mut self) -> Result<Regs> {
        Ok(*self.hijacked()?.regs())
    }

    /// The signal mask that the current task will have again.
    pub fn mask(&mut self) -> Result<u64> {
        Ok(self.hijacked()?.mask())
    }

    /// The current task, stopped.
    pub fn task(&mut self) -> Result<&Stopped> {
        self.hijacked()?.task()
    }

    /// Makes the calls of `batch` in the current task.
    pub fn run(&mut self, batch: Batch) -> Result<Answers> {
        self.enter(0, batch)
    }

    /// Makes one `clone` call whose child never runs a step unless told to: it exits should its tracer die.
    pub fn fork(&mut self, flags: u64) -> Result<i64> {
        let mut batch = Batch::new(self.scratch);
        batch.call(libc::SYS_clone, [flags]);
        Ok(self.enter(stub::fork_entry(), batch)?.raw(0))
    }

    fn enter(&mut self, entry: u64, batch: Batch) -> Result<Answers> {
        let regs = self.stub_regs(entry, batch.calls.len())?;
        let (scratch, wake, tgid, mem) = (self.scratch, self.entry.wake, self.entry.tgid, self.mem);
        run_batch(self.hijacked()?, mem, scratch, &regs, wake, tgid, batch)
    }

    /// Unmaps the stub and gives the task back.
    pub fn eject(mut self) -> Result<Stopped> {
        self.leave()
    }

    fn leave(&mut self) -> Result<Stopped> {
        let mut task = self.task.take().ok_or_else(|| Error::new(Kind::NoProcess, "the task has ended"))?;
        let frame = StackFrame::lay(self.mem, &self.entry, &task)?;
        let unmap = Call::new(libc::SYS_munmap, [self.scratch.0, SCRATCH_LEN]);
        let result = task.call_at(self.entry.syscall, frame.as_ref().map(|frame| frame.at), &unmap);
        let task = task.give_back();
        drop(frame);
        errno::check(result?, || "unmapping the scratch page")?;
        task
    }
}

impl Drop for Injected<'_> {
    fn drop(&mut self) {
        if self.task.is_some()
            && let Err(error) = self.leave()
        {
            log::warn!("pid {}: taking the scratch page out again: {error}", self.entry.tgid);
        }
    }
}

/// Registers for entering the stub.
fn stub_regs(of: &Regs, scratch: RemotePtr, entry: u64, count: usize, wake: i32, tgid: Pid, tid: Pid) -> Regs {
    let mut regs = *of;
    regs.rip = scratch.add(entry).0;
    regs.rbx = scratch.add(CALLS_AT).0;
    regs.r12 = count as u64;
    regs.r13 = scratch.add(FRAME_AT + 8).0;
    regs.r14 = tgid as u64;
    regs.r15 = tid as u64;
    regs.rbp = wake as u64;
    regs.rax = 0;
    regs.orig_rax = u64::MAX;
    regs.eflags &= !0x500; // direction and trap flag
    regs
}

fn run_batch(
    task: &mut Hijacked,
    mem: &MemFile,
    scratch: RemotePtr,
    regs: &Regs,
    wake: i32,
    tgid: Pid,
    batch: Batch,
) -> Result<Answers> {
    if batch.calls.len() > CALLS_MAX || batch.arena.len() > ARENA_LEN {
        return Err(Error::os("a batch of system calls is too large", libc::E2BIG));
    }
    let mut array = Vec::with_capacity(batch.calls.len() * 64);
    for call in &batch.calls {
        array.extend_from_slice(&call.nr.to_le_bytes());
        for arg in call.args {
            array.extend_from_slice(&arg.to_le_bytes());
        }
        // A call that is never reached must not look as if it had succeeded.
        array.extend_from_slice(&(-i64::from(libc::ENOSYS)).to_le_bytes());
    }
    mem.write(scratch.add(CALLS_AT), &array)?;
    if !batch.arena.is_empty() {
        mem.write(batch.arena_at, &batch.arena)?;
    }
    // The place, not the signal alone: anybody may send one, and a pending one may be put back by this very batch.
    let end = scratch.add(stub::done()).0;
    let ours = |stopped: &Stopped| stopped.signal_sender().is_ok_and(|(code, pid)| code == SI_TKILL && pid == tgid);
    let is_end =
        |stopped: &Stopped| stopped.stop() == Stop::Signal(wake) && stopped.regs().is_ok_and(|regs| regs.rip == end);
    let foreign = std::cell::Cell::new(false);
    task.run(
        regs,
        |task| task.cont(0),
        |stopped| {
            is_end(stopped) && {
                foreign.set(!ours(stopped));
                true
            }
        },
    )?;
    if foreign.get() {
        // One was pending when ours was sent, and the kernel keeps only the first.
        task.owe(wake);
    }
    mem.read(scratch.add(CALLS_AT), &mut array)?;
    let mut arena = batch.arena;
    mem.read(batch.arena_at, &mut arena)?;
    let results = array.chunks_exact(64).map(|call| words::<8>(call)[7].cast_signed()).collect();
    Ok(Answers { arena_at: batch.arena_at, arena, results })
}

/// A process of our own making, stopped and traced with EXITKILL: no way home is needed, its end is the undoing.
pub struct Owned {
    task: Hijacked,
    mem: MemFile,
    scratch: RemotePtr,
    tgid: Pid,
    tid: Pid,
}

/// The wake signal inside processes of our own making: one that nobody sends, because it must not be among the pending
/// signals that are put back.
const OWN_WAKE: i32 = libc::SIGSTKFLT;

impl Owned {
    /// A process in which the stub is mapped at `scratch` already: a copy-on-write child, or after [`Owned::inject`].
    pub fn adopt(task: Stopped, scratch: RemotePtr, tgid: Pid, tid: Pid) -> Result<Self> {
        let mem = MemFile::open(task.tid())?;
        Ok(Self { task: Hijacked::take(task, &mem, OWN_WAKE)?, mem, scratch, tgid, tid })
    }

    /// Maps the stub into a new process by a call at the instruction `syscall`, replacing what is there. The inherited rseq
    /// registration goes first: its area is about to vanish, and the kernel kills a task whose area is gone.
    pub fn inject(task: Stopped, syscall: RemotePtr, scratch: RemotePtr, tgid: Pid) -> Result<Self> {
        let (area, len, signature) = task.rseq()?;
        let mut owned = Self::adopt(task, scratch, tgid, tgid)?;
        if area != 0 {
            let unregister = [area, u64::from(len), RSEQ_FLAG_UNREGISTER, u64::from(signature)];
            let got = owned.task.call_at(syscall, None, &Call::new(libc::SYS_rseq, unregister))?;
            errno::check(got, || format!("pid {tgid}: unregistering rseq"))?;
        }
        let prot = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
        let map = Call::new(libc::SYS_mmap, [scratch.0, SCRATCH_LEN, prot as u64, flags as u64, u64::MAX, 0]);
        let got = owned.task.call_at(syscall, None, &map)?;
        errno::check(got, || format!("pid {tgid}: mapping a scratch page"))?;
        owned.mem.write(scratch, stub::code())?;
        Ok(owned)
    }

    /// The address of the scratch.
    pub fn scratch(&self) -> RemotePtr {
        self.scratch
    }

    /// Its memory.
    pub fn mem(&self) -> &MemFile {
        &self.mem
    }

    /// The task, stopped.
    pub fn task(&self) -> Result<&Stopped> {
        self.task.task()
    }

    /// Makes the calls of `batch`.
    pub fn run(&mut self, batch: Batch) -> Result<Answers> {
        let mut regs = stub_regs(&self.task.regs, self.scratch, 0, batch.calls.len(), OWN_WAKE, self.tgid, self.tid);
        // No way home: a process that is not complete must not go on, but die.
        regs.r13 = 0;
        run_batch(&mut self.task, &self.mem, self.scratch, &regs, OWN_WAKE, self.tgid, batch)
    }

    /// Starts a call that is expected to sleep at the `syscall` instruction `at`, interrupts it once it sleeps, and gives
    /// the registers at that stop: the kernel has then laid what `restart_syscall` needs.
    pub fn fall_asleep(&mut self, at: RemotePtr, call: &Call, asleep: impl Fn() -> bool) -> Result<Regs> {
        let task = self.task.task.take().ok_or_else(|| Error::new(Kind::NoProcess, "the task has ended"))?;
        let mut regs = self.task.regs;
        regs.rip = at.0;
        regs.rax = call.nr as u64;
        regs.orig_rax = u64::MAX;
        [regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9] = call.args;
        task.set_regs(&regs)?;
        let entered = task.cont_to_syscall()?.wait_or_release(Instant::now() + PATIENCE)?;
        let running = entered.cont(0)?;
        let deadline = Instant::now() + Duration::from_millis(200);
        while !asleep() && Instant::now() < deadline {
            std::thread::yield_now();
        }
        running.interrupt()?;
        let stopped = running.wait_or_release(Instant::now() + PATIENCE)?;
        let regs = stopped.regs()?;
        self.task.task = Some(stopped);
        Ok(regs)
    }

    /// Makes one call at the instruction `at`, without the stub: the one that takes the stub away.
    pub fn call_at(&mut self, at: RemotePtr, call: &Call) -> Result<i64> {
        self.task.call_at(at, None, call)
    }

    /// Gives the task back with `regs` and `mask` installed.
    pub fn release(mut self, regs: &Regs, mask: u64) -> Result<Stopped> {
        self.task.regs = *regs;
        self.task.mask = mask;
        self.task.give_back()
    }
}

const RSEQ_FLAG_UNREGISTER: u64 = 1;
/// si_code of tgkill(2), include/uapi/asm-generic/siginfo.h.
const SI_TKILL: i32 = -6;
const MAP_FIXED_NOREPLACE: i32 = libc::MAP_FIXED_NOREPLACE;
