//! A process that this daemon made. Its calls need no way back to a program: if anything fails, it
//! dies.

use std::time::Duration;

use crate::error::{Error, Result};
use crate::sys::clock::Deadline;
use crate::sys::memory::{MemFile, RemotePtr};
use crate::sys::pid::Pid;
use crate::sys::ptrace::{self, Regs, Stop, Stopped};
use crate::sys::remote::batch::{Answers, Batch, Call, SCRATCH_LEN};
use crate::sys::remote::hijack::{Failed, Hijacked};
use crate::sys::remote::run::{run_batch, stub_regs};
use crate::sys::remote::stub;
use crate::sys::signal;
use crate::sys::{errno, wait};

const RSEQ_FLAG_UNREGISTER: u64 = 1;
/// How long the process may take to stop by a signal or to end. Only load delays either.
const LIMIT: Duration = Duration::from_secs(10);

/// A process that this daemon made, stopped and traced with EXITKILL: its death is the rollback.
pub struct Owned {
    task: Hijacked,
    mem: MemFile,
    scratch: RemotePtr,
    tgid: Pid,
    tid: Pid,
}

/// The wake signal inside processes that this daemon made. No program sends this signal, so it is
/// never among the pending signals that are restored.
const OWN_WAKE: i32 = libc::SIGSTKFLT;

impl Owned {
    /// Takes a process with the stub mapped at `scratch` already: a copy-on-write child, or one
    /// after [`Owned::inject`].
    pub fn adopt(task: Stopped, scratch: RemotePtr, tgid: Pid, tid: Pid) -> Result<Self> {
        let mem = MemFile::open(task.tid())?;
        Ok(Self { task: Hijacked::take(task, &mem, OWN_WAKE).map_err(Failed::let_go)?, mem, scratch, tgid, tid })
    }

    /// Maps the stub into a new process by a call at the instruction `syscall`, and replaces what
    /// is mapped there. The inherited rseq registration is removed first: its area is about to be
    /// unmapped, and the kernel kills a registered task without its area.
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

    /// Its thread id.
    pub fn tid(&self) -> Pid {
        self.tid
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
        let mut regs = stub_regs(&self.task.regs, self.scratch, batch.calls.len(), OWN_WAKE, self.tgid, self.tid);
        // No signal frame: an incomplete process must die and not run on.
        regs.r13 = 0;
        run_batch(&mut self.task, &self.mem, self.scratch, &regs, OWN_WAKE, self.tgid, batch)
    }

    /// Makes a call that would sleep, at the `syscall` instruction `at`. It is interrupted from its
    /// entry on. Returns the registers behind the call. By then the kernel has set up what
    /// `restart_syscall` needs, or the call had its result at once.
    pub fn fall_asleep(&mut self, at: RemotePtr, call: &Call) -> Result<Regs> {
        self.task.call_at(at, None, call)?;
        self.task.task()?.regs()
    }

    /// Makes one call at the instruction `at`, without the stub: the call that unmaps the stub.
    pub fn call_at(&mut self, at: RemotePtr, call: &Call) -> Result<i64> {
        self.task.call_at(at, None, call)
    }

    /// Ends the process by exit_group(2) at the `syscall` instruction `at`. Returns the status of
    /// wait(2). Its parent must still reap it.
    pub fn exit(mut self, at: RemotePtr, code: i32) -> Result<i32> {
        let regs = self.call_regs(at, libc::SYS_exit_group, code as u64);
        let task = self.take()?;
        task.set_regs(&regs)?;
        task.cont(0)?.forget();
        self.ended()
    }

    /// Ends the process by a signal, which must have its default action.
    pub fn die(mut self, at: RemotePtr, signal: i32) -> Result<i32> {
        let task = self.deliver(at, signal)?;
        if let Some(task) = task {
            task.cont(signal)?.forget();
        }
        self.ended()
    }

    /// Stops the process by job control with `signal`, which must have its default action. Returns
    /// when this thread has stopped.
    pub fn stop_by(&mut self, at: RemotePtr, signal: i32) -> Result<()> {
        let task = self.deliver(at, signal)?;
        let gone = || ptrace::has_ended(self.tid);
        let stopped = task.ok_or_else(gone)?.cont(signal)?.wait_or_release(Deadline::after(LIMIT))?;
        let stop = stopped.stop();
        stopped.set_sigmask(!(1 << (OWN_WAKE - 1)))?;
        self.task.task = Some(stopped);
        if stop == Stop::Group(signal) {
            return Ok(());
        }
        let doing = format!("pid {}: it does not stop by {}: its group is orphaned", self.tgid, signal::name(signal));
        Err(Error::os(doing, libc::EOPNOTSUPP))
    }

    /// Brings the task to the delivery stop of `signal`. `None` for SIGKILL, which has no such
    /// stop.
    fn deliver(&mut self, at: RemotePtr, signal: i32) -> Result<Option<Stopped>> {
        let regs = self.call_regs(at, libc::SYS_pause, 0);
        let task = self.take()?;
        task.set_regs(&regs)?;
        task.set_sigmask(!(1 << (signal - 1)))?;
        let tid = self.tid;
        wait::kill(tid, signal)?;
        if signal == libc::SIGKILL {
            task.forget();
            return Ok(None);
        }
        let stopped = task.cont(0)?.wait_or_release(Deadline::after(LIMIT))?;
        if stopped.stop() != Stop::Signal(signal) {
            return Err(Error::os(
                format_args!("pid {tid}: {:?} instead of {}", stopped.stop(), signal::name(signal)),
                libc::EBUSY,
            ));
        }
        Ok(Some(stopped))
    }

    /// Registers with which the task makes one call, at the `syscall` instruction `at`, as soon as
    /// it runs.
    pub fn call_regs(&self, at: RemotePtr, nr: i64, argument: u64) -> Regs {
        let mut regs = self.task.regs;
        (regs.rip, regs.rax, regs.rdi, regs.orig_rax) = (at.0, nr as u64, argument, u64::MAX);
        regs
    }

    fn take(&mut self) -> Result<Stopped> {
        self.task.task.take().ok_or_else(|| ptrace::has_ended(self.tid))
    }

    fn ended(&self) -> Result<i32> {
        let doing = || Error::os(format_args!("pid {}: waiting for its end", self.tgid), libc::ECHILD);
        wait::wait_ended(self.tid, LIMIT)?.ok_or_else(doing)
    }

    /// Gives the task back with `regs` and `mask` installed.
    pub fn release(mut self, regs: &Regs, mask: u64) -> Result<Stopped> {
        self.task.regs = *regs;
        self.task.mask = mask;
        self.task.give_back()
    }
}
