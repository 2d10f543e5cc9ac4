//! System calls made by another process on our behalf, in batches.
//!
//! [`Hijacked`] borrows the registers and signal mask of a stopped task. [`Injected`] is a hijacked
//! task with the stub mapped in its process. Both are guards: giving back (or dropping) restores
//! everything.
//!
//! This daemon may be killed at any instant. So the task's registers always let the task return to
//! its program by itself, and unmap the stub on the way ([`WayHome`]). If a program has neither a
//! restorer nor an unused stack end, the stub stays mapped in that case, and the next dump removes
//! it. Its first call and its last one are then unguarded, some 50 us each.

use crate::error::{Error, Kind, Result};
use crate::sys::errno;
use crate::sys::memory::{MemFile, RemotePtr};
use crate::sys::pid::Pid;
use crate::sys::ptrace::{Regs, Stopped};
use crate::sys::remote::batch::{Answers, Batch, Call, FRAME_AT, SCRATCH_LEN};
use crate::sys::remote::hijack::{EntryPoint, Failed, Hijacked};
use crate::sys::remote::run::{run_batch, stub_regs};
use crate::sys::remote::way_home::WayHome;
use crate::sys::remote::{sigframe, stub};

/// The number of the call that a thread with these registers was stopped in, if that is known.
pub type CallOf<'m> = &'m dyn Fn(Pid, &Regs) -> Option<i64>;

/// A task with the stub mapped in its process.
pub struct Injected<'m> {
    task: Option<Hijacked>,
    mem: &'m MemFile,
    entry: EntryPoint,
    scratch: RemotePtr,
    home: Option<WayHome<'m>>,
    call_of: CallOf<'m>,
}

impl<'m> Injected<'m> {
    /// Maps the stub at `entry.hole` in the process of `task`.
    pub fn inject(
        task: Stopped,
        mem: &'m MemFile,
        entry: EntryPoint,
        call_of: CallOf<'m>,
    ) -> std::result::Result<Self, Failed> {
        let mut task = hijack(task, mem, &entry, call_of)?;
        let mut home = WayHome::of(mem, &entry);
        if let Err(error) = map(&mut task, home.as_mut(), &entry) {
            return Err(give_back_failed(task, home, error));
        }
        let mut injected = Self { task: Some(task), mem, scratch: entry.hole, entry, home, call_of };
        match injected.enter_scratch() {
            Ok(()) => Ok(injected),
            Err(error) => Err(Failed { task: injected.leave().map_or_else(|failed| failed.task, Some), error }),
        }
    }

    fn enter_scratch(&mut self) -> Result<()> {
        self.mem.write(self.scratch, stub::code())?;
        self.lay_frame()?;
        let regs = self.stub_regs(0)?;
        self.hijacked()?.park(&regs)
    }

    /// Lays the signal frame at the end of the stub for the current task.
    fn lay_frame(&mut self) -> Result<()> {
        let at = self.scratch.add(FRAME_AT);
        let task = self.task.as_ref().ok_or_else(has_ended)?;
        let frame = match &self.home {
            Some(home) => home.frame_of_stub(at, task)?,
            None => sigframe::build(at, 0, &task.resume(), task.mask, &task.task()?.xstate()?),
        };
        self.mem.write(at, &frame)
    }

    /// The address of the scratch.
    pub fn scratch(&self) -> RemotePtr {
        self.scratch
    }

    fn hijacked(&mut self) -> Result<&mut Hijacked> {
        self.task.as_mut().ok_or_else(has_ended)
    }

    /// The registers for entering the stub with so many calls.
    fn stub_regs(&mut self, count: usize) -> Result<Regs> {
        let (scratch, wake, tgid) = (self.scratch, self.entry.wake, self.entry.tgid);
        let task = self.hijacked()?;
        Ok(stub_regs(&task.regs, scratch, count, wake, tgid, task.task()?.tid()))
    }

    /// Exchanges the task for another thread of the same process. Returns the former one as it was.
    pub fn exchange(&mut self, other: Stopped) -> std::result::Result<Stopped, Failed> {
        let mut other = hijack(other, self.mem, &self.entry, self.call_of)?;
        if let Err(error) = self.lead_to(&mut other) {
            if let (Some(home), Some(current)) = (&mut self.home, &self.task) {
                // It stays the current task, unless it is gone.
                let _ = home.lead(current);
            }
            return Err(other.fail(error));
        }
        let before = self.task.replace(other).ok_or_else(has_ended);
        let before = before.and_then(Hijacked::give_back).map_err(|error| Failed { task: None, error })?;
        match self.lay_frame() {
            Ok(()) => Ok(before),
            Err(error) => Err(Failed { task: Some(before), error }),
        }
    }

    /// Makes `other`, the next task, unmap the scratch if this daemon dies. From then on the
    /// current task may be given back.
    fn lead_to(&mut self, other: &mut Hijacked) -> Result<()> {
        let (Some(home), Some(current)) = (&mut self.home, &mut self.task) else { return Ok(()) };
        // The current task must be out of the stub: for a moment either of the two may unmap it.
        current.park(&home.unmapping(&current.regs))?;
        home.lead(other)?;
        other.park(&home.unmapping(&other.regs))
    }

    /// Removes from `copy`, the memory of a copy of the process, what leads the task home.
    pub fn clean(&self, copy: &MemFile) -> Result<()> {
        self.home.as_ref().map_or(Ok(()), |home| home.clear_in(copy))
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
        let gone = || Failed { task: None, error: has_ended() };
        let mut task = self.task.take().ok_or_else(gone)?;
        let unmap = Call::new(libc::SYS_munmap, [self.scratch.0, SCRATCH_LEN]);
        let result = task.call_at(self.entry.syscall, self.home.as_ref().map(WayHome::stack), &unmap);
        let home = self.home.take();
        match result.and_then(|got| errno::check(got, || "unmapping the scratch page")) {
            Err(error) => Err(give_back_failed(task, home, error)),
            Ok(_) => {
                let task = task.give_back().map_err(|error| Failed { task: None, error })?;
                home.into_iter().for_each(|home| home.clear());
                Ok(task)
            }
        }
    }
}

fn has_ended() -> Error {
    Error::new(Kind::NoProcess, "the task has ended")
}

fn hijack(
    task: Stopped,
    mem: &MemFile,
    entry: &EntryPoint,
    call_of: CallOf<'_>,
) -> std::result::Result<Hijacked, Failed> {
    let tid = task.tid();
    let mut task = Hijacked::take(task, mem, entry.wake)?;
    let call = call_of(tid, task.regs());
    task.was_in(call);
    Ok(task)
}

/// Gives a task back after a failure. Its way home is removed only if the task needs it no more.
fn give_back_failed(task: Hijacked, home: Option<WayHome<'_>>, error: Error) -> Failed {
    let failed = task.fail(error);
    if failed.task.is_some() {
        home.into_iter().for_each(|home| home.clear());
    }
    failed
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

/// Maps the scratch.
fn map(task: &mut Hijacked, mut home: Option<&mut WayHome<'_>>, entry: &EntryPoint) -> Result<()> {
    let map = |prot: i32, at: RemotePtr, len: u64| {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | MAP_FIXED_NOREPLACE;
        Call::new(libc::SYS_mmap, [at.0, len, prot as u64, flags as u64, u64::MAX, 0])
    };
    let stack = match &mut home {
        Some(home) => {
            home.lead(task)?;
            Some(home.unmap_behind(task)?)
        }
        None => None,
    };
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
        if errno::errno(got).is_some() {
            let unmap = Call::new(libc::SYS_munmap, [entry.hole.0, FRAME_AT]);
            let stack = home.as_ref().map(|home| home.stack());
            task.call_at(entry.syscall, stack, &unmap)?;
        }
    }
    errno::check(got, || no_room("mapping a scratch page", got)).map(drop)
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
