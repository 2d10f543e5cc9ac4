//! ptrace(2), with the state of a tracee in its type: no request compiles on a running task.
//!
//! [`Running`] and [`Stopped`] are moved by value into each other. Dropping either detaches the
//! task, which then runs on. This guard keeps a foreign process safe on every error path. Requests
//! must come from the thread that attached, so neither type is `Send`. PTRACE_SEIZE (never
//! PTRACE_ATTACH) keeps job control intact: a group-stop stays visible as such, and the kernel
//! reinstates it at detach (kernel/ptrace.c, `__ptrace_unlink`).

use std::marker::PhantomData;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use crate::error::{Doing, Error, Kind, Result};
use crate::sys::clock::{Deadline, Pauses};
use crate::sys::errno::restart;
use crate::sys::pid::Pid;
use crate::sys::proc::stat::Stat;
use crate::sys::proc::{self, process::thread_has_ended};
use crate::sys::wait::{self, Polled};

/// General registers, as the kernel's NT_PRSTATUS regset has them.
pub type Regs = libc::user_regs_struct;

/// Bytes of the kernel's siginfo_t (`__SI_MAX_SIZE`, include/uapi/asm-generic/siginfo.h).
pub const SIGINFO_LEN: usize = size_of::<libc::siginfo_t>();

/// A siginfo_t as the kernel has it, uninterpreted.
pub type Siginfo = [u8; SIGINFO_LEN];

/// Why a task has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// PTRACE_EVENT_STOP after our PTRACE_INTERRUPT, or a new task that was traced from birth.
    Interrupted,
    /// PTRACE_EVENT_STOP while the thread group is stopped by job control with this signal.
    Group(i32),
    /// A signal is about to be delivered.
    Signal(i32),
    /// Entry to or exit from a system call (PTRACE_SYSCALL).
    Syscall,
    /// Another PTRACE_EVENT_*.
    Event(i32),
}

/// Bits for PTRACE_SETOPTIONS that this project uses.
pub mod options {
    /// Bit 7 of the signal marks a syscall-stop, unlike a SIGTRAP.
    pub const SYSGOOD: i32 = libc::PTRACE_O_TRACESYSGOOD;
    /// The tracee dies with its tracer. Only for tasks that this daemon makes, never for foreign
    /// ones.
    pub const EXITKILL: i32 = libc::PTRACE_O_EXITKILL;
    /// The tracee's seccomp filters do not apply to its system calls. Needs CAP_SYS_ADMIN.
    pub const SUSPEND_SECCOMP: i32 = libc::PTRACE_O_SUSPEND_SECCOMP;
}

/// A traced task that runs (or is on its way to a stop).
#[derive(Debug)]
pub struct Running {
    tid: Pid,
    armed: bool,
    deferred: u64,
    _bound_to_thread: PhantomData<*const ()>,
}

/// A traced task that is stopped.
#[derive(Debug)]
pub struct Stopped {
    tid: Pid,
    stop: Stop,
    armed: bool,
    /// Signals that were taken from the task while it was worked on (bit n-1: signal n). They are
    /// sent again at detach.
    deferred: u64,
    _bound_to_thread: PhantomData<*const ()>,
}

/// The result of [`Running::wait`].
#[derive(Debug)]
pub enum Waited {
    /// The task has stopped.
    Stopped(Stopped),
    /// The task did not stop in time.
    Running(Running),
    /// The task has ended.
    Ended,
}

impl Waited {
    /// Waits on for a task that only waits for a processor: on a crowded machine that takes
    /// seconds. One that sleeps, in a call that hangs, is not waited for.
    ///
    /// # Errors
    /// Those of [`Running::wait`].
    pub fn or_given_a_processor(self) -> Result<Waited> {
        match self {
            Waited::Running(running) if running.state() == 'R' => running.wait(Deadline::after(CROWDED_LIMIT)),
            waited => Ok(waited),
        }
    }
}

/// How long a task may have to wait for a processor.
const CROWDED_LIMIT: Duration = Duration::from_secs(30);
/// How often a task that does not stop is looked for in /proc.
const ASKED_EVERY: Duration = Duration::from_millis(5);
/// How long a dropped task may take to stop, so that it can be detached.
const DETACH_LIMIT: Duration = Duration::from_millis(20);
/// How long to wait for the zombie of a task that was killed while it was stopped.
const ZOMBIE_LIMIT: Duration = Duration::from_millis(10);

pub(super) fn raw(request: libc::c_uint, tid: Pid, address: usize, data: usize) -> nix::Result<i64> {
    // SAFETY: `data` is either an integer or the address of a live local of the caller in this
    // file, of the size that the request writes or reads.
    Errno::result(unsafe { libc::ptrace(request, tid, address, data) })
}

/// A request with a sentence for its error. `what` names the request.
pub(super) fn request(what: &str, request: libc::c_uint, tid: Pid, address: usize, data: usize) -> Result<i64> {
    raw(request, tid, address, data).doing(|| format!("task {tid}: {what}")).map_err(Error::esrch_is_gone)
}

/// Attaches without stopping (PTRACE_SEIZE), with `options`, and asks the task to stop
/// (PTRACE_INTERRUPT).
///
/// # Errors
/// [`Kind::NoProcess`]: the task is gone or a zombie. EPERM: it is traced already, or this daemon
/// may not trace it.
pub fn seize(tid: Pid, options: i32) -> Result<Running> {
    request("PTRACE_SEIZE", libc::PTRACE_SEIZE, tid, 0, options as usize)?;
    let running = Running::adopt(tid);
    running.interrupt()?;
    Ok(running)
}

impl Running {
    /// A task that is traced by this thread already (traced from birth).
    pub fn adopt(tid: Pid) -> Self {
        Self { tid, armed: true, deferred: 0, _bound_to_thread: PhantomData }
    }

    /// The thread id.
    pub fn tid(&self) -> Pid {
        self.tid
    }

    /// PTRACE_INTERRUPT: the task will stop as soon as it can.
    pub fn interrupt(&self) -> Result<()> {
        request("PTRACE_INTERRUPT", libc::PTRACE_INTERRUPT, self.tid, 0, 0).map(drop)
    }

    /// Waits until the task stops, at most until `deadline`.
    ///
    /// It polls instead of blocking because waitpid(2) has no time limit. The first polls are close
    /// together: a stop takes some 30 us, and a wake-up of this thread about the same again.
    ///
    /// The end of a leader is not reported before its last thread is reaped, so /proc is asked as
    /// well.
    pub fn wait(mut self, deadline: Deadline) -> Result<Waited> {
        let pauses = Pauses::begin();
        let mut asked = Instant::now();
        loop {
            // Asked before the poll: this thread may have had no processor until the time was up.
            let is_over = deadline.is_over();
            match wait::poll(self.tid)? {
                Polled::Unchanged if is_over => return Ok(Waited::Running(self)),
                Polled::Unchanged if asked.elapsed() >= ASKED_EVERY => {
                    asked = Instant::now();
                    if thread_has_ended(self.tid, self.tid) {
                        self.armed = false;
                        return Ok(Waited::Ended);
                    }
                }
                Polled::Unchanged => pauses.pause(),
                Polled::Status(status) if libc::WIFSTOPPED(status) => {
                    self.armed = false;
                    return Ok(Waited::Stopped(Stopped {
                        tid: self.tid,
                        stop: classify(status),
                        armed: true,
                        deferred: self.deferred,
                        _bound_to_thread: PhantomData,
                    }));
                }
                Polled::Status(_) | Polled::NotOurs => {
                    self.armed = false;
                    return Ok(Waited::Ended);
                }
            }
        }
    }

    /// [`Running::wait`] for a task that must stop. A task that does not stop is released (detached
    /// as soon as it can be).
    ///
    /// # Errors
    /// [`Kind::Busy`]: it does not stop in time. [`Kind::NoProcess`]: it has ended.
    pub fn wait_or_release(self, deadline: Deadline) -> Result<Stopped> {
        let tid = self.tid;
        match self.wait(deadline)?.or_given_a_processor()? {
            Waited::Stopped(stopped) => Ok(stopped),
            Waited::Running(running) => Err(running.does_not_stop()),
            Waited::Ended => Err(has_ended(tid)),
        }
    }

    /// Its state, proc_pid_stat(5); ? if it has ended.
    fn state(&self) -> char {
        Stat::read(&format!("/proc/{}/stat", self.tid)).map_or('?', |stat| stat.state)
    }

    /// The error of a task that did not stop in time. It shows the state of the task and the kernel
    /// function in which it sleeps (proc_pid_wchan(5)), 0 if it does not sleep.
    pub fn does_not_stop(&self) -> Error {
        let (tid, state) = (self.tid, self.state());
        let at = proc::read_text(&format!("/proc/{tid}/wchan")).unwrap_or_default();
        Error::new(Kind::Busy, format!("task {tid} does not stop (state {state} in {at})"))
    }

    /// Releases the task without detaching: it has been sent SIGKILL, or its tracer is about to
    /// end.
    pub fn forget(mut self) {
        self.armed = false;
    }

    /// Detaches the task, which was interrupted, if it stops until `deadline`.
    ///
    /// PTRACE_DETACH works on a stopped task only. A task that does not stop in time is in
    /// uninterruptible sleep. It is released when the tracer thread ends, and the owner of that
    /// thread ends it after a failed freeze.
    fn release_until(self, deadline: Deadline) {
        match self.wait(deadline) {
            Ok(Waited::Stopped(stopped)) => {
                let signal = if let Stop::Signal(signal) = stopped.stop { signal } else { 0 };
                stopped.detach_with(signal);
            }
            Ok(Waited::Running(running)) => running.forget(),
            Ok(Waited::Ended) | Err(_) => {}
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.armed {
            return;
        }
        self.armed = false;
        let _ = raw(libc::PTRACE_INTERRUPT, self.tid, 0, 0);
        let mut again = Running::adopt(self.tid);
        again.deferred = self.deferred;
        again.release_until(Deadline::after(DETACH_LIMIT));
    }
}

/// Drops several tasks within the time that one of them may take.
pub fn release_all(tasks: Vec<Running>) {
    for task in &tasks {
        let _ = raw(libc::PTRACE_INTERRUPT, task.tid, 0, 0);
    }
    let deadline = Deadline::after(DETACH_LIMIT);
    tasks.into_iter().for_each(|task| task.release_until(deadline));
}

/// The error of a task that has ended while it was needed.
pub fn has_ended(tid: Pid) -> Error {
    Error::new(Kind::NoProcess, format!("task {tid} has ended"))
}

fn classify(status: i32) -> Stop {
    let signal = libc::WSTOPSIG(status);
    match status >> 16 {
        libc::PTRACE_EVENT_STOP => match signal {
            libc::SIGSTOP | libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU => Stop::Group(signal),
            _ => Stop::Interrupted,
        },
        0 if signal == libc::SIGTRAP | 0x80 => Stop::Syscall,
        0 => Stop::Signal(signal),
        event => Stop::Event(event),
    }
}

impl Stopped {
    /// The thread id.
    pub fn tid(&self) -> Pid {
        self.tid
    }

    /// Why it stopped.
    pub fn stop(&self) -> Stop {
        self.stop
    }

    /// PTRACE_INTERRUPT: the task will stop again as soon as it is resumed, or behind the call that
    /// it is about to make.
    pub fn interrupt(&self) -> Result<()> {
        request("PTRACE_INTERRUPT", libc::PTRACE_INTERRUPT, self.tid, 0, 0).map(drop)
    }

    fn resume(mut self, how: libc::c_uint, signal: i32) -> Result<Running> {
        request("resuming", how, self.tid, 0, signal as usize)?;
        self.armed = false;
        let mut running = Running::adopt(self.tid);
        running.deferred = self.deferred;
        Ok(running)
    }

    /// PTRACE_CONT, delivering `signal` (0: none).
    pub fn cont(self, signal: i32) -> Result<Running> {
        self.resume(libc::PTRACE_CONT, signal)
    }

    /// PTRACE_SYSCALL: until the next entry to or exit from a system call.
    pub fn cont_to_syscall(self) -> Result<Running> {
        self.resume(libc::PTRACE_SYSCALL, 0)
    }

    /// PTRACE_SETOPTIONS.
    pub fn set_options(&self, options: i32) -> Result<()> {
        request("PTRACE_SETOPTIONS", libc::PTRACE_SETOPTIONS, self.tid, 0, options as usize).map(drop)
    }

    /// Discards the signal of this signal-delivery-stop, which was sent for our own purposes.
    pub fn discard_signal(&mut self) {
        self.stop = Stop::Interrupted;
    }

    /// Keeps a signal that was taken from the task. The process gets it again at detach.
    pub fn defer_signal(&mut self, signal: i32) {
        self.deferred |= 1 << (signal - 1);
    }

    fn resend_deferred(&self) {
        let is_deferred = |signal: i32| self.deferred >> (signal - 1) & 1 == 1;
        for signal in (1..=64).filter(|signal| is_deferred(*signal)) {
            // A SIGCONT cancels the stop before it. If the SIGSTOP were still pending, the kernel
            // would have dropped it.
            let continued = |infos: Vec<Siginfo>| infos.iter().any(|info| i32::from(info[0]) == libc::SIGCONT);
            if signal == libc::SIGSTOP && self.pending(true).is_ok_and(continued) {
                continue;
            }
            // A thread's id names its process here.
            let _ = wait::kill(self.tid, signal);
        }
    }

    /// Undoes the effect of our interruption on a call that ends with EINTR for any wake-up, with
    /// or without a handler (signal(7)). A call without a timeout is made again, unless a handler
    /// runs.
    pub fn restart_interrupted_call(&self) {
        const EPOLL_PWAIT2: i64 = 441;
        let Ok(mut regs) = self.regs() else { return };
        if regs.rax.cast_signed() != -i64::from(libc::EINTR) {
            return;
        }
        let endless = match regs.orig_rax.cast_signed() {
            libc::SYS_epoll_wait | libc::SYS_epoll_pwait => (regs.r10 as i32) < 0,
            EPOLL_PWAIT2 => regs.r10 == 0,
            libc::SYS_rt_sigtimedwait => regs.rdx == 0,
            libc::SYS_semop => true,
            libc::SYS_semtimedop => regs.r10 == 0,
            libc::SYS_io_getevents => regs.r8 == 0,
            _ => false,
        };
        if endless {
            regs.rax = restart::NOHAND.cast_unsigned();
            // The task is stopped, so this fails only if the task is gone.
            let _ = self.set_regs(&regs);
        }
    }

    /// Detaches; the task runs on (or stays in its group-stop).
    pub fn detach(self) {
        self.detach_with(0);
    }

    /// Detaches, delivering `signal`; valid only in a signal-delivery-stop.
    pub fn detach_with(mut self, signal: i32) {
        self.release(signal);
    }

    fn release(&mut self, signal: i32) {
        self.armed = false;
        self.resend_deferred();
        if raw(libc::PTRACE_DETACH, self.tid, 0, signal as usize) == Err(Errno::ESRCH) {
            // The task was killed while it was stopped. It is a zombie that its parent cannot reap
            // before its tracer has. A leader is reported only after its last thread, which may be
            // one that is still to be detached. In that case the owner of the frozen tree asks
            // again.
            let _ = wait::wait_ended(self.tid, ZOMBIE_LIMIT);
        }
    }

    /// Releases the task without detaching: it has been sent SIGKILL.
    pub fn forget(mut self) {
        self.armed = false;
    }

    /// Returns the task, unless it has been killed. A killed task is reaped, as far as its tracer
    /// must do that.
    pub fn alive(mut self) -> Option<Self> {
        match wait::poll(self.tid) {
            Ok(Polled::Unchanged) => Some(self),
            Ok(Polled::Status(status)) if libc::WIFSTOPPED(status) => Some(self),
            Ok(Polled::Status(_) | Polled::NotOurs) | Err(_) => {
                self.armed = false;
                None
            }
        }
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        if self.armed {
            let signal = if let Stop::Signal(signal) = self.stop { signal } else { 0 };
            self.release(signal);
        }
    }
}
