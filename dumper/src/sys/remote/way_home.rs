//! The way home of a task that makes calls for this daemon. If the daemon dies at any instant, the
//! task unmaps the scratch and goes on in its program.
//!
//! It leads through signal frames at the unused low end of the main stack. The registers of such a
//! task are always those of one of two places: a call at an instruction of the vDSO, which returns
//! to a signal restorer on that stack, or the stub, which ends in a signal frame of its own. The
//! frame behind a call that may leave the scratch mapped makes the task call munmap(2), and only
//! the frame behind that one has the task's true registers.

use crate::error::Result;
use crate::sys::memory::{MemFile, RemotePtr};
use crate::sys::ptrace::Regs;
use crate::sys::remote::batch::SCRATCH_LEN;
use crate::sys::remote::hijack::{EntryPoint, Hijacked};
use crate::sys::remote::sigframe::{self, FRAME_ROOM};

/// Bytes of unused stack that are needed: two frames.
pub const HOME_ROOM: usize = 2 * FRAME_ROOM;

/// A signal mask that blocks everything. Nothing but munmap(2) is done under it.
const ALL: u64 = u64::MAX;

/// Frames on the stack of one process. They stay there until [`WayHome::clear`]: a task that could
/// not be given back needs them.
pub(super) struct WayHome<'m> {
    mem: &'m MemFile,
    restorer: RemotePtr,
    syscall: RemotePtr,
    at: RemotePtr,
    scratch: RemotePtr,
    /// The lengths of the two frames.
    used: [usize; 2],
    /// Which of the two has the true registers of the current task.
    current: usize,
}

impl<'m> WayHome<'m> {
    /// The way of the process that `entry` leads into. `None` if it has no restorer, or no unused
    /// stack.
    pub(super) fn of(mem: &'m MemFile, entry: &EntryPoint) -> Option<Self> {
        let (restorer, at) = entry.home?;
        Some(Self { mem, restorer, syscall: entry.syscall, at, scratch: entry.hole, used: [0; 2], current: 0 })
    }

    fn slot(&self, slot: usize) -> RemotePtr {
        self.at.add((slot * FRAME_ROOM) as u64)
    }

    /// The stack pointer of a call behind which the current task is in its program again.
    pub(super) fn stack(&self) -> RemotePtr {
        self.slot(self.current)
    }

    /// Lays the frame with the true registers of `task`, beside that of the current task. `task` is
    /// the current one from now on.
    pub(super) fn lead(&mut self, task: &Hijacked) -> Result<()> {
        let slot = 1 - self.current;
        let xstate = task.task()?.xstate()?;
        let frame = sigframe::build(self.slot(slot), self.restorer.0, &task.resume(), task.mask, &xstate);
        self.place(slot, &frame)?;
        self.current = slot;
        Ok(())
    }

    /// Lays a frame behind which the current task unmaps the scratch, and then is in its program.
    /// Returns the stack pointer of the call before it.
    pub(super) fn unmap_behind(&mut self, task: &Hijacked) -> Result<RemotePtr> {
        let slot = 1 - self.current;
        let xstate = task.task()?.xstate()?;
        let frame = sigframe::build(self.slot(slot), self.restorer.0, &self.unmapping(&task.regs), ALL, &xstate);
        self.place(slot, &frame)?;
        Ok(self.slot(slot))
    }

    /// The frame for the end of the stub, to be laid at `at`. Behind it the current task unmaps the
    /// scratch.
    pub(super) fn frame_of_stub(&self, at: RemotePtr, task: &Hijacked) -> Result<Vec<u8>> {
        let xstate = task.task()?.xstate()?;
        Ok(sigframe::build(at, 0, &self.unmapping(&task.regs), ALL, &xstate))
    }

    /// Registers with which the current task unmaps the scratch as soon as it runs, and then is in
    /// its program.
    pub(super) fn unmapping(&self, of: &Regs) -> Regs {
        let mut regs = *of;
        (regs.rip, regs.rsp) = (self.syscall.0, self.stack().0);
        (regs.rax, regs.orig_rax) = (libc::SYS_munmap as u64, u64::MAX);
        (regs.rdi, regs.rsi) = (self.scratch.0, SCRATCH_LEN);
        regs.eflags &= !0x500; // direction and trap flag
        regs
    }

    fn place(&mut self, slot: usize, frame: &[u8]) -> Result<()> {
        // Before the write, which may fail after some pages.
        self.used[slot] = self.used[slot].max(frame.len());
        self.mem.write(self.slot(slot), frame)
    }

    /// Zeros the frames again, when every task is in its program. The pages stay, all zero, as they
    /// read before. A process that is gone needs no cleaning.
    pub(super) fn clear(&self) {
        let _ = self.clear_in(self.mem);
    }

    /// Zeros them in a copy of the process.
    pub(super) fn clear_in(&self, mem: &MemFile) -> Result<()> {
        let slots = [0, 1].into_iter().filter(|slot| self.used[*slot] > 0);
        slots.into_iter().try_for_each(|slot| mem.write(self.slot(slot), &vec![0; self.used[slot]]))
    }
}
