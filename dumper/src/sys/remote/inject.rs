//! System calls made by another process on our behalf, in batches.
//!
//! [`Hijacked`] borrows the registers and signal mask of a stopped task. [`Injected`] is a hijacked
//! task with the stub mapped in its process. Both are guards: giving back (or dropping) restores
//! everything.
//!
//! The tracer may be killed at any instant. So the task's registers always let the task return to
//! its program by itself. During the first call (made at an instruction of the vDSO) and the last
//! one the return address is a signal restorer with a frame at the unused low end of the stack. In
//! between the task is in the stub, with a frame in the stub's own pages. If a program has neither
//! a restorer nor an unused stack end, those two calls are unguarded, some 50 us each.

use crate::error::{Error, Kind, Result};
use crate::sys::errno;
use crate::sys::memory::{MemFile, RemotePtr};
use crate::sys::ptrace::{Regs, Stopped};
use crate::sys::remote::batch::{Answers, Batch, Call, FRAME_AT, SCRATCH_LEN};
use crate::sys::remote::hijack::{EntryPoint, Failed, Hijacked, StackFrame};
use crate::sys::remote::run::{run_batch, stub_regs};
use crate::sys::remote::{sigframe, stub};

/// A task with the stub mapped in its process.
pub struct Injected<'m> {
    task: Option<Hijacked>,
    mem: &'m MemFile,
    entry: EntryPoint,
    scratch: RemotePtr,
}

impl<'m> Injected<'m> {
    /// Maps the stub at `entry.hole` in the process of `task`.
    pub fn inject(task: Stopped, mem: &'m MemFile, entry: EntryPoint) -> std::result::Result<Self, Failed> {
        let mut task = Hijacked::take(task, mem, entry.wake)?;
        let frame = match map(&mut task, mem, &entry) {
            Ok(frame) => frame,
            Err(error) => return Err(task.fail(error)),
        };
        let mut injected = Self { task: Some(task), mem, scratch: entry.hole, entry };
        // From here on the frame in the scratch leads back to the program. Only now may the frame
        // on the stack be removed.
        let entered = injected.enter_scratch();
        drop(frame);
        match entered {
            Ok(()) => Ok(injected),
            Err(error) => Err(Failed { task: injected.leave().map_or_else(|failed| failed.task, Some), error }),
        }
    }

    fn enter_scratch(&mut self) -> Result<()> {
        self.mem.write(self.scratch, stub::code())?;
        let regs = self.stub_regs(0)?;
        self.hijacked()?.task()?.set_regs(&regs)
    }

    /// The address of the scratch.
    pub fn scratch(&self) -> RemotePtr {
        self.scratch
    }

    fn hijacked(&mut self) -> Result<&mut Hijacked> {
        self.task.as_mut().ok_or_else(|| Error::new(Kind::NoProcess, "the task has ended"))
    }

    /// Writes the frame of the current task and returns the registers for entering the stub.
    fn stub_regs(&mut self, count: usize) -> Result<Regs> {
        let (scratch, wake, tgid) = (self.scratch, self.entry.wake, self.entry.tgid);
        let frame_at = scratch.add(FRAME_AT);
        let mem = self.mem;
        let task = self.hijacked()?;
        let xstate = task.task()?.xstate()?;
        mem.write(frame_at, &sigframe::build(frame_at, 0, &task.regs, task.mask, &xstate))?;
        Ok(stub_regs(&task.regs, scratch, count, wake, tgid, task.task()?.tid()))
    }

    /// Exchanges the task for another thread of the same process. Returns the former one as it was.
    pub fn exchange(&mut self, other: Stopped) -> std::result::Result<Stopped, Failed> {
        let other = Hijacked::take(other, self.mem, self.entry.wake)?;
        let before = self.task.replace(other).ok_or_else(|| Error::new(Kind::NoProcess, "the task has ended"));
        before.and_then(Hijacked::give_back).map_err(|error| Failed { task: None, error })
    }

    /// The registers that the current task gets back.
    pub fn regs(&mut self) -> Result<Regs> {
        Ok(*self.hijacked()?.regs())
    }

    /// The signal mask that the current task gets back.
    pub fn mask(&mut self) -> Result<u64> {
        Ok(self.hijacked()?.mask())
    }

    /// The current task, stopped.
    pub fn task(&mut self) -> Result<&Stopped> {
        self.hijacked()?.task()
    }

    /// Makes the calls of `batch` in the current task.
    pub fn run(&mut self, batch: Batch) -> Result<Answers> {
        self.enter(batch)
    }

    /// Makes one `clone` call. The child runs no step of the program: it stays in the stub, and it
    /// exits if its tracer dies. The child does not get the mappings `without`, because fork(2)
    /// would copy all of their pages.
    pub fn fork(&mut self, flags: u64, without: &[(u64, u64)]) -> Result<i64> {
        let mut batch = Batch::new(self.scratch);
        let advise = |batch: &mut Batch, advice: i32| {
            for (start, end) in without {
                batch.call(libc::SYS_madvise, [*start, end - start, advice as u64]);
            }
        };
        // One batch, because the task completes it even if this daemon dies meanwhile. So the
        // advice is undone in any case.
        advise(&mut batch, libc::MADV_DONTFORK);
        let call = batch.call(libc::SYS_clone, [flags]);
        advise(&mut batch, libc::MADV_DOFORK);
        Ok(self.enter(batch)?.raw(call))
    }

    fn enter(&mut self, batch: Batch) -> Result<Answers> {
        let regs = self.stub_regs(batch.calls.len())?;
        let (scratch, wake, tgid, mem) = (self.scratch, self.entry.wake, self.entry.tgid, self.mem);
        run_batch(self.hijacked()?, mem, scratch, &regs, wake, tgid, batch)
    }

    /// Unmaps the stub and gives the task back.
    pub fn eject(mut self) -> std::result::Result<Stopped, Failed> {
        self.leave()
    }

    fn leave(&mut self) -> std::result::Result<Stopped, Failed> {
        let gone = || Failed { task: None, error: Error::new(Kind::NoProcess, "the task has ended") };
        let mut task = self.task.take().ok_or_else(gone)?;
        let frame = match StackFrame::place(self.mem, &self.entry, &task) {
            Ok(frame) => frame,
            Err(error) => return Err(task.fail(error)),
        };
        let unmap = Call::new(libc::SYS_munmap, [self.scratch.0, SCRATCH_LEN]);
        let result = task.call_at(self.entry.syscall, frame.as_ref().map(|frame| frame.at), &unmap);
        let task = task.give_back();
        drop(frame);
        match (task, result.and_then(|got| errno::check(got, || "unmapping the scratch page"))) {
            (Ok(task), Ok(_)) => Ok(task),
            (task, result) => {
                let error = result.err().or(task.as_ref().err().cloned());
                Err(Failed { error: error.unwrap_or_else(|| gone().error), task: task.ok() })
            }
        }
    }
}

impl Drop for Injected<'_> {
    fn drop(&mut self) {
        if self.task.is_some()
            && let Err(Failed { error, .. }) = self.leave()
        {
            log::warn!("pid {}: taking the scratch page out again: {error}", self.entry.tgid);
        }
    }
}

/// Maps the scratch. Returns the frame on the stack that guards the task meanwhile.
fn map<'m>(task: &mut Hijacked, mem: &'m MemFile, entry: &EntryPoint) -> Result<Option<StackFrame<'m>>> {
    let frame = StackFrame::place(mem, entry, task)?;
    let map = |prot: i32, at: RemotePtr, len: u64| {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | MAP_FIXED_NOREPLACE;
        Call::new(libc::SYS_mmap, [at.0, len, prot as u64, flags as u64, u64::MAX, 0])
    };
    let stack = frame.as_ref().map(|frame| frame.at);
    let all = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
    let mut got = task.call_at(entry.syscall, stack, &map(all, entry.hole, SCRATCH_LEN))?;
    if matches!(errno::errno(got), Some(libc::EACCES | libc::EPERM)) {
        // PR_SET_MDWE and similar forbid a page that is writable and executable. The code gets a
        // page of its own, which is written through /proc.
        let code = libc::PROT_READ | libc::PROT_EXEC;
        got = task.call_at(entry.syscall, stack, &map(code, entry.hole, FRAME_AT))?;
        errno::check(got, || no_room("mapping a page of code", got))?;
        let data = libc::PROT_READ | libc::PROT_WRITE;
        let data = map(data, entry.hole.add(FRAME_AT), SCRATCH_LEN - FRAME_AT);
        got = task.call_at(entry.syscall, stack, &data)?;
    }
    errno::check(got, || no_room("mapping a scratch page", got))?;
    Ok(frame)
}

/// What was attempted, and the limit of the process that prevents it, if one does. The caller adds
/// the name of the process.
fn no_room(doing: &str, got: i64) -> String {
    match errno::errno(got) {
        Some(libc::ENOMEM) => format!("{doing} (is its RLIMIT_AS used up, or RLIMIT_DATA?)"),
        Some(libc::EAGAIN) => format!("{doing} (is its RLIMIT_MEMLOCK used up, with MCL_FUTURE?)"),
        _ => doing.to_owned(),
    }
}
const MAP_FIXED_NOREPLACE: i32 = libc::MAP_FIXED_NOREPLACE;
