//! Runs one batch of calls in a task that is in the stub.

use crate::error::{Error, Result};
use crate::sys::memory::{MemFile, RemotePtr, words};
use crate::sys::pid::Pid;
use crate::sys::ptrace::{Regs, Stop, Stopped};
use crate::sys::remote::batch::{ARENA_LEN, Answers, Batch, CALLS_AT, CALLS_MAX, FRAME_AT};
use crate::sys::remote::hijack::Hijacked;
use crate::sys::remote::stub;

/// Registers for entering the stub.
pub fn stub_regs(of: &Regs, scratch: RemotePtr, count: usize, wake: i32, tgid: Pid, tid: Pid) -> Regs {
    let mut regs = *of;
    regs.rip = scratch.0;
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

pub fn run_batch(
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
        // A call that is never reached must not appear to have succeeded.
        array.extend_from_slice(&(-i64::from(libc::ENOSYS)).to_le_bytes());
    }
    mem.write(scratch.add(CALLS_AT), &array)?;
    if !batch.arena.is_empty() {
        mem.write(batch.arena_at, &batch.arena)?;
    }
    // The place counts, not the signal alone. Any process may send the signal, and this very batch
    // may restore a pending one.
    let end = scratch.add(stub::done()).0;
    // If RLIMIT_SIGPENDING leaves no room for the sender, the kernel reports SI_USER and pid 0.
    let ours = |stopped: &Stopped| {
        stopped.signal_sender().is_ok_and(|sender| sender == (SI_TKILL, tgid) || sender == (libc::SI_USER, 0))
    };
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
        // A foreign wake signal was pending when the stub sent its own, and the kernel keeps only
        // the first.
        task.defer_signal(wake);
    }
    mem.read(scratch.add(CALLS_AT), &mut array)?;
    let mut arena = batch.arena;
    mem.read(batch.arena_at, &mut arena)?;
    let results = array.chunks_exact(64).map(|call| words::<8>(call)[7].cast_signed()).collect();
    Ok(Answers { arena_at: batch.arena_at, arena, results })
}

/// si_code of tgkill(2), include/uapi/asm-generic/siginfo.h.
pub const SI_TKILL: i32 = -6;
