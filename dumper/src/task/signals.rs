//! Signals: the action of a process on each (rt_sigaction(2)), and the pending signals of the
//! process and of each thread, in order.
//!
//! The mask is restored in the last phase, with the registers. Until then every signal stays
//! blocked.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::image::frame::Tag;
use crate::image::record_set::RecordView;
use crate::kind::attribute::{Attribute, DumpedThread, RestoredThread, Scope};
use crate::kind::phase::Phase;
use crate::sys::memory::words;
use crate::sys::pid::Pid;
use crate::sys::ptrace::SIGINFO_LEN;
use crate::sys::remote::batch::{Batch, Ticket};
use crate::sys::signal;

const SIGNALS: usize = 64;

/// Table row: signal actions.
pub struct SignalActions;

/// The action on one signal, struct kernel_sigaction.
#[derive(Serialize, Deserialize)]
struct Action {
    handler: u64,
    flags: u64,
    restorer: u64,
    mask: u64,
}

/// The record: by signal number from 1 on.
#[derive(Serialize, Deserialize)]
pub struct SignalActionsBody {
    /// By signal number, from 1 on.
    actions: Vec<Action>,
}

/// Whether the action can be set. It cannot be set for SIGKILL and SIGSTOP.
fn settable(signal: usize) -> bool {
    signal != libc::SIGKILL as usize && signal != libc::SIGSTOP as usize
}

impl Attribute for SignalActions {
    type Body = SignalActionsBody;
    type Tickets = [Ticket<[u64; 4]>; SIGNALS];
    /// The action of a process on each signal, rt_sigaction(2). Each action is a struct
    /// kernel_sigaction.
    const TAG: Tag = Tag(*b"SIGA");
    const SCOPE: Scope = Scope::Process;
    const PHASE: Phase = Phase::Process;

    fn ask(&self, _pid: Pid, batch: &mut Batch) -> Self::Tickets {
        std::array::from_fn(|at| batch.call_into(libc::SYS_rt_sigaction, [at as u64 + 1, 0, 0, 8], 2))
    }

    fn dump(&self, thread: &mut DumpedThread<'_>, asked: Self::Tickets) -> Result<(SignalActionsBody, Vec<u8>)> {
        let mut actions = Vec::with_capacity(SIGNALS);
        for ticket in asked {
            let [handler, flags, restorer, mask] = thread.answer(ticket, "rt_sigaction")?;
            actions.push(Action { handler, flags, restorer, mask });
        }
        Ok((SignalActionsBody { actions }, Vec::new()))
    }

    fn restore(&self, body: SignalActionsBody, _blob: &[u8], thread: &mut RestoredThread<'_>) -> Result<()> {
        if body.actions.len() != SIGNALS {
            return Err(Error::damaged(format!("pid {}: {} signal actions", thread.pid, body.actions.len())));
        }
        for (at, action) in body.actions.into_iter().enumerate() {
            let signal = at + 1;
            if !settable(signal) {
                continue;
            }
            let words = [action.handler, action.flags, action.restorer, action.mask];
            let at = thread.batch.put(&words.map(u64::to_le_bytes).concat());
            let doing = format!("pid {}: action of {}", thread.pid, signal::name(signal as i32));
            thread.call(libc::SYS_rt_sigaction, [signal as u64, at.0, 0, 8], doing);
        }
        Ok(())
    }
}

/// Table row: pending signals.
pub struct SignalQueues;

/// The record. The blob holds first the `private` siginfos of the thread, then the `shared` ones of
/// the process, which are recorded with the representative thread.
#[derive(Serialize, Deserialize)]
pub struct SignalQueuesBody {
    /// How many of the blob's siginfos are the thread's own.
    private: usize,
    /// How many are the process's. They are recorded with the leader.
    shared: usize,
}

impl Attribute for SignalQueues {
    type Body = SignalQueuesBody;
    type Tickets = ();
    const TAG: Tag = QUEUES;
    const SCOPE: Scope = Scope::Thread;
    const PHASE: Phase = Phase::Arm;

    fn ask(&self, _pid: Pid, _batch: &mut Batch) {}

    fn dump(&self, thread: &mut DumpedThread<'_>, (): ()) -> Result<(SignalQueuesBody, Vec<u8>)> {
        let private = thread.stopped.pending(false)?;
        let shared = if thread.is_representative { thread.stopped.pending(true)? } else { Vec::new() };
        // A signal beyond RLIMIT_SIGPENDING is a bit in the set without an entry in the queue. The
        // kernel delivers it as SI_USER without a sender.
        let mut all = private.clone();
        let mut counts = [private.len(), shared.len()];
        all.extend(shared);
        for (which, name) in ["SigPnd", "ShdPnd"].into_iter().enumerate() {
            if which == 1 && !thread.is_representative {
                continue;
            }
            let (from, len) = if which == 0 { (0, counts[0]) } else { (counts[0], counts[1]) };
            let queued = all[from..from + len].iter().fold(0, |set, info| set | bit(info));
            for signal in (1..=SIGNALS).filter(|signal| (thread.status.hex(name) & !queued) >> (signal - 1) & 1 == 1) {
                let mut info = [0; SIGINFO_LEN];
                info[0] = signal as u8;
                all.insert(from + counts[which], info);
                counts[which] += 1;
            }
        }
        Ok((SignalQueuesBody { private: counts[0], shared: counts[1] }, all.concat()))
    }

    fn restore(&self, body: SignalQueuesBody, blob: &[u8], thread: &mut RestoredThread<'_>) -> Result<()> {
        if body.private.saturating_add(body.shared).checked_mul(SIGINFO_LEN) != Some(blob.len()) {
            return Err(Error::damaged(format!("pid {}: pending signals of {} bytes", thread.pid, blob.len())));
        }
        for (n, info) in blob.chunks_exact(SIGINFO_LEN).enumerate() {
            let [first] = words::<1>(info);
            let signal = u64::from(first as u32);
            let doing = format!("pid {} task {}: queueing {}", thread.pid, thread.tid, signal::name(signal as i32));
            if thread.batch.is_full(SIGINFO_LEN) {
                thread.flush()?;
            }
            let at = thread.batch.put(info);
            // The task sends it itself: a task may send a siginfo that looks like the kernel's only
            // to itself.
            let (pid, tid) = (thread.pid as u64, thread.tid as u64);
            // It sends it to its own id, because the kernel compares the two. The id of a thread
            // also names its process, and the leader may have ended.
            if n < body.private {
                thread.call(libc::SYS_rt_tgsigqueueinfo, [pid, tid, signal, at.0], doing);
            } else {
                thread.call(libc::SYS_rt_sigqueueinfo, [tid, signal, at.0], doing);
            }
        }
        Ok(())
    }
}

fn bit(info: &[u8; SIGINFO_LEN]) -> u64 {
    1_u64.checked_shl(u32::from(info[0]).wrapping_sub(1)).unwrap_or(0)
}

/// Pending signals in their order. The blob holds a siginfo_t of 128 bytes for each: first those of
/// the thread, then those of the process.
pub const QUEUES: Tag = Tag(*b"SIGQ");

/// The signals that are pending for the thread itself (bit n-1: signal n), from a record.
pub fn pending(record: &RecordView<'_>) -> Result<u64> {
    let body: SignalQueuesBody = record.body()?;
    let infos = record.blob.as_chunks::<SIGINFO_LEN>().0.iter().take(body.private);
    Ok(infos.fold(0, |set, info| set | bit(info)))
}
