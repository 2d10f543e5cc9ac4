//! A stopped task with borrowed registers and signal mask, for one call at an instruction that its
//! process has already.

use std::time::Duration;

use crate::error::{Error, Kind, Result};
use crate::sys::clock::Deadline;
use crate::sys::memory::{MemFile, RemotePtr};
use crate::sys::pid::Pid;
use crate::sys::ptrace::{self, Regs, Running, Stop, Stopped, Waited};
use crate::sys::remote::batch::Call;
use crate::sys::remote::sigframe;
use crate::sys::signal;

/// The signals of a fault of the instruction itself.
const FAULTS: [i32; 6] = [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGTRAP, libc::SIGSYS];

/// How long a batch may take. No call in a batch sleeps, so only a machine under heavy load comes
/// near it.
const BATCH_LIMIT: Duration = Duration::from_secs(10);
/// How long a task may take to stop after an interrupt if its call hangs.
const INTERRUPT_LIMIT: Duration = Duration::from_secs(1);

/// Where a process can be entered before anything is injected.
#[derive(Clone, Debug)]
pub struct EntryPoint {
    /// A `syscall` instruction (in the vDSO).
    pub syscall: RemotePtr,
    /// The way back to the program if this daemon dies: a signal restorer, and an unused (all-zero)
    /// stack of [`crate::sys::remote::way_home::HOME_ROOM`] bytes.
    pub home: Option<(RemotePtr, RemotePtr)>,
    /// A signal that is ignored by default, not pending and preferably not caught.
    pub wake: i32,
    /// The process's id in its own pid namespace.
    pub tgid: Pid,
    /// [`crate::sys::remote::batch::SCRATCH_LEN`] bytes of address space without any mapping.
    pub hole: RemotePtr,
}

/// A stopped task with borrowed registers and signal mask. They are restored when it is given back
/// or dropped.
///
/// The mask is set after the registers and given back before them. So the mask of the program is
/// in place whenever its registers are, and a task that this daemon can no longer give back gets
/// its mask from the signal frame that it returns through.
#[derive(Debug)]
pub struct Hijacked {
    pub(super) task: Option<Stopped>,
    pub(super) regs: Regs,
    pub(super) mask: u64,
    /// The number of the call that it was stopped in, if that is known.
    call: Option<i64>,
    /// The mask while it works.
    working: u64,
    /// Whether the mask is that while it works.
    is_masked: bool,
}

/// Why a task could not be used. The task is still held unless it is gone, so that the holder of a
/// whole tree can continue to hold it.
#[derive(Debug)]
pub struct Failed {
    /// The task, as it was.
    pub task: Option<Stopped>,
    /// The reason.
    pub error: Error,
}

impl Failed {
    /// Detaches the task and returns the reason.
    pub fn let_go(self) -> Error {
        self.error
    }
}

impl Hijacked {
    /// Borrows `task`. All signals but `wake` are blocked while it works.
    pub fn take(task: Stopped, mem: &MemFile, wake: i32) -> std::result::Result<Self, Failed> {
        let look = || {
            let mut regs = task.regs()?;
            out_of_rseq(&task, mem, &mut regs)?;
            Ok((regs, task.sigmask()?))
        };
        let working = !(1 << (wake - 1));
        match look() {
            Ok((regs, mask)) => Ok(Self { task: Some(task), regs, mask, call: None, working, is_masked: false }),
            Err(error) => Err(Failed { task: Some(task), error }),
        }
    }

    /// Records the number of the call that it was stopped in.
    pub(super) fn was_in(&mut self, call: Option<i64>) {
        self.call = call;
    }

    /// The registers with which it goes on if it returns through a signal frame.
    pub(super) fn resume(&self) -> Regs {
        sigframe::settled(&self.regs, self.call)
    }

    /// Gives the task back after a failure.
    pub(super) fn fail(self, error: Error) -> Failed {
        Failed { task: self.give_back().ok(), error }
    }

    /// The registers that the task gets back.
    pub fn regs(&self) -> &Regs {
        &self.regs
    }

    /// The signal mask that the task gets back.
    pub fn mask(&self) -> u64 {
        self.mask
    }

    /// The task.
    pub fn task(&self) -> Result<&Stopped> {
        self.task.as_ref().ok_or_else(|| Error::new(Kind::NoProcess, "the task has ended"))
    }

    /// Restores registers and mask and returns the task.
    pub fn give_back(mut self) -> Result<Stopped> {
        let task = self.task.take().ok_or_else(|| Error::new(Kind::NoProcess, "the task has ended"))?;
        task.set_sigmask(self.mask)?;
        task.set_regs(&self.regs)?;
        Ok(task)
    }

    /// Installs registers for work.
    pub(super) fn park(&mut self, regs: &Regs) -> Result<()> {
        let task = self.task()?;
        task.set_regs(regs)?;
        if !self.is_masked {
            task.set_sigmask(self.working)?;
            self.is_masked = true;
        }
        Ok(())
    }

    pub(super) fn defer_signal(&mut self, signal: i32) {
        if let Some(task) = &mut self.task {
            task.defer_signal(signal);
        }
    }

    /// Runs the task from `regs` until `done` accepts a stop. Signals that arrive meanwhile are
    /// sent again at detach.
    pub(super) fn run(
        &mut self,
        regs: &Regs,
        go: fn(Stopped) -> Result<Running>,
        done: impl Fn(&Stopped) -> bool,
    ) -> Result<()> {
        self.park(regs)?;
        let task = self.task.take().ok_or_else(|| Error::new(Kind::NoProcess, "the task has ended"))?;
        let deadline = Deadline::after(BATCH_LIMIT);
        let tid = task.tid();
        let mut running = go(task)?;
        loop {
            let mut stopped = match running.wait(deadline)?.or_given_a_processor()? {
                Waited::Stopped(stopped) => stopped,
                Waited::Running(hanging) => {
                    let error = hanging.does_not_stop();
                    // Interrupt it so that the registers can be given back.
                    hanging.interrupt()?;
                    let error = error.on("a system call on behalf of a checkpoint hangs");
                    self.task =
                        Some(hanging.wait_or_release(Deadline::after(INTERRUPT_LIMIT)).map_err(|_| error.clone())?);
                    return Err(error);
                }
                Waited::Ended => return Err(ptrace::has_ended(tid)),
            };
            if done(&stopped) {
                stopped.discard_signal();
                self.task = Some(stopped);
                return Ok(());
            }
            if let Stop::Signal(signal) = stopped.stop() {
                if FAULTS.contains(&signal) {
                    // The injected call itself faults, and would fault again for ever.
                    stopped.discard_signal();
                    self.task = Some(stopped);
                    let doing =
                        format!("task {tid}: {} in a system call on behalf of a checkpoint", signal::name(signal));
                    return Err(Error::os(doing, libc::EFAULT));
                }
                // SIGSTOP, or a wake signal from another sender: all other signals are blocked.
                stopped.defer_signal(signal);
            }
            running = go(stopped)?;
        }
    }

    /// Makes one call at the `syscall` instruction `at`, with `stack` as the stack pointer during
    /// the call.
    pub fn call_at(&mut self, at: RemotePtr, stack: Option<RemotePtr>, call: &Call) -> Result<i64> {
        let mut regs = self.regs;
        regs.rip = at.0;
        regs.rsp = stack.map_or(regs.rsp, |stack| stack.0);
        regs.rax = call.nr as u64;
        regs.orig_rax = u64::MAX;
        [regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9] = call.args;
        self.run(&regs, Stopped::cont_to_syscall, |stopped| stopped.stop() == Stop::Syscall)?;
        // The interrupt makes the task stop again behind the call, in the kernel's signal handling.
        // Only there the kernel restarts a call by the restored registers. In a syscall-exit-stop
        // it does not, and it clears the request to restart.
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

/// Moves a task inside a restartable sequence (rseq(2)) to the abort handler of the sequence.
///
/// Running our code there amounts to a preemption: the kernel finds the task outside the sequence
/// and clears the descriptor without an abort. So the descriptor is read before, and the task
/// returns at the abort handler, which a sequence must expect at any instruction.
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
            let _ = task.set_sigmask(self.mask);
            let _ = task.set_regs(&self.regs);
        }
    }
}
