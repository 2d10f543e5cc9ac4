//! What a thread has registered with the kernel: its name, the address of its id, its robust list,
//! its rseq area, its alternate signal stack.

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::image::frame::Tag;
use crate::image::record_set::RecordView;
use crate::kind::attribute::{Attribute, DumpedThread, RestoredThread, Scope};
use crate::kind::phase::Phase;
use crate::kind::record_sort::ShownTask;
use crate::sys::pid::Pid;
use crate::sys::remote::batch::{Batch, Ticket};
use crate::sys::{futex, proc};

const PR_GET_TID_ADDRESS: u64 = 40;
const SS_ONSTACK: u64 = 1;
const SS_AUTODISARM: u64 = 1 << 31;

/// Table row.
pub struct Registrations;

/// The record.
#[derive(Serialize, Deserialize)]
pub struct RegistrationsBody {
    /// Up to 15 bytes.
    comm: Vec<u8>,
    /// The address of set_tid_address(2). The kernel clears it and wakes its waiters when the
    /// thread ends.
    clear_child_tid: u64,
    /// (head, length), set_robust_list(2).
    robust_list: (u64, u64),
    /// (area, length, signature), rseq(2). An area of 0 means none.
    rseq: (u64, u32, u32),
    /// (address, flags, size), sigaltstack(2).
    altstack: (u64, u64, u64),
}

/// The calls that the thread makes.
pub struct RegistrationsTickets {
    clear_child_tid: Ticket<[u64; 1]>,
    /// struct sigaltstack.
    altstack: Ticket<[u64; 3]>,
}

/// What identifies a thread to the kernel and the C library: its name, and the addresses that it
/// has registered.
pub const TAG: Tag = Tag(*b"IDEN");

/// The name, from a record.
pub fn name(record: &RecordView<'_>) -> Result<Vec<u8>> {
    Ok(record.body::<RegistrationsBody>()?.comm)
}

impl Attribute for Registrations {
    type Body = RegistrationsBody;
    type Tickets = RegistrationsTickets;
    const TAG: Tag = TAG;
    const SCOPE: Scope = Scope::Thread;
    const PHASE: Phase = Phase::Thread;

    fn show(record: &RecordView<'_>) -> Result<ShownTask> {
        Ok(ShownTask { name: Some(name(record)?), ..ShownTask::default() })
    }

    fn ask(&self, _pid: Pid, batch: &mut Batch) -> RegistrationsTickets {
        RegistrationsTickets {
            clear_child_tid: batch.call_into(libc::SYS_prctl, [PR_GET_TID_ADDRESS, 0, 0, 0, 0], 1),
            altstack: batch.call_into(libc::SYS_sigaltstack, [0, 0], 1),
        }
    }

    fn dump(&self, thread: &mut DumpedThread<'_>, asked: Self::Tickets) -> Result<(RegistrationsBody, Vec<u8>)> {
        let [clear_child_tid] = thread.answer(asked.clear_child_tid, "PR_GET_TID_ADDRESS")?;
        let [sp, flags, size] = thread.answer(asked.altstack, "sigaltstack")?;
        let mut comm = proc::read(&thread.proc("comm"))?;
        comm.pop();
        let body = RegistrationsBody {
            comm,
            clear_child_tid,
            robust_list: futex::robust_list(thread.tid)?,
            rseq: thread.stopped.rseq()?,
            altstack: (sp, flags & 0xffff_ffff, size),
        };
        Ok((body, Vec::new()))
    }

    fn restore(&self, body: RegistrationsBody, _blob: &[u8], thread: &mut RestoredThread<'_>) -> Result<()> {
        let subject = thread.subject();
        let comm = thread.batch.put_str(&body.comm);
        thread.call(libc::SYS_prctl, [libc::PR_SET_NAME as u64, comm.0, 0, 0, 0], format!("{subject}: name"));
        thread.batch.call_giving(
            libc::SYS_set_tid_address,
            [body.clear_child_tid],
            thread.tid as u64,
            format!("{subject}: set_tid_address"),
        );
        let (head, len) = body.robust_list;
        if head != 0 {
            thread.call(libc::SYS_set_robust_list, [head, len], format!("{subject}: set_robust_list"));
        }
        let (sp, flags, size) = body.altstack;
        // SS_ONSTACK follows from the stack pointer and cannot be set.
        let flags = if flags == libc::SS_DISABLE as u64 { flags } else { flags & SS_AUTODISARM & !SS_ONSTACK };
        let at = thread.batch.put(&[sp, flags, size].map(u64::to_le_bytes).concat());
        thread.call(libc::SYS_sigaltstack, [at.0, 0], format!("{subject}: sigaltstack"));
        let (area, len, signature) = body.rseq;
        if area != 0 {
            // The kernel unregisters an area only with the length that was registered.
            let args = [area, u64::from(len), 0, u64::from(signature)];
            thread.call(libc::SYS_rseq, args, format!("{subject}: rseq"));
        }
        Ok(())
    }
}
