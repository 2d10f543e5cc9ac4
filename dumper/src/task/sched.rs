//! How a thread is scheduled: policy, nice value, priority, affinity, I/O priority. This program
//! gets and sets them from outside.

use serde::{Deserialize, Serialize};

use crate::error::{Context, Error, Result};
use crate::image::frame::Tag;
use crate::image::record_set::RecordView;
use crate::kind::attribute::{Attribute, DumpedThread, RestoredThread, Scope};
use crate::kind::phase::Phase;
use crate::sys::pid::Pid;
use crate::sys::remote::batch::Batch;
use crate::sys::sched::{self, SchedAttr};

/// The flags of sched_getattr(2) that sched_setattr(2) accepts: SCHED_FLAG_RESET_ON_FORK,
/// SCHED_FLAG_RECLAIM, SCHED_FLAG_DL_OVERRUN and the two utilization clamps.
const KEPT_FLAGS: u64 = 0x67;

/// Table row.
pub struct Scheduling;

/// The record.
#[derive(Serialize, Deserialize)]
pub struct SchedulingBody {
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime_ns: u64,
    deadline_ns: u64,
    period_ns: u64,
    util_min: u32,
    util_max: u32,
    ioprio: i32,
    /// CPU numbers.
    cpus: Vec<u32>,
}

/// How a thread is scheduled: policy, nice value, priority, CPUs, I/O priority. Fields have the
/// names of struct sched_attr, sched_setattr(2).
pub const TAG: Tag = Tag(*b"SCHD");

/// The nice value, from a record.
pub fn nice(record: &RecordView<'_>) -> Result<i32> {
    Ok(record.body::<SchedulingBody>()?.nice)
}

impl Attribute for Scheduling {
    type Body = SchedulingBody;
    type Tickets = ();
    const TAG: Tag = TAG;
    const SCOPE: Scope = Scope::Thread;
    const PHASE: Phase = Phase::Thread;

    fn ask(&self, _pid: Pid, _batch: &mut Batch) {}

    fn dump(&self, thread: &mut DumpedThread<'_>, (): ()) -> Result<(SchedulingBody, Vec<u8>)> {
        let attr = sched::sched_attr(thread.tid)?;
        let mask = sched::affinity(thread.tid)?;
        let cpus = (0..mask.len() as u32 * 8).filter(|cpu| mask[*cpu as usize / 8] >> (cpu % 8) & 1 == 1).collect();
        let body = SchedulingBody {
            policy: attr.policy,
            flags: attr.flags,
            nice: attr.nice,
            priority: attr.priority,
            runtime_ns: attr.runtime,
            deadline_ns: attr.deadline,
            period_ns: attr.period,
            util_min: attr.util_min,
            util_max: attr.util_max,
            ioprio: sched::ioprio(thread.tid)?,
            cpus,
        };
        Ok((body, Vec::new()))
    }

    fn restore(&self, body: SchedulingBody, _blob: &[u8], thread: &mut RestoredThread<'_>) -> Result<()> {
        let tid = thread.tid;
        let subject = || format!("pid {}: scheduling", thread.pid);
        let mut mask = vec![0_u8; 1024];
        for cpu in body.cpus {
            let byte = mask.get_mut(cpu as usize / 8).ok_or_else(|| Error::damaged(format!("CPU number {cpu}")))?;
            *byte |= 1 << (cpu % 8);
        }
        sched::set_affinity(tid, &mask).on(subject)?;
        let mut flags = body.flags & KEPT_FLAGS;
        let fair = body.policy == libc::SCHED_OTHER as u32 || body.policy == libc::SCHED_BATCH as u32;
        // A clamp that was never set reads as 0..1024. Setting one needs CONFIG_UCLAMP_TASK.
        if (body.util_min, body.util_max) == (0, 1024) || (body.util_min, body.util_max) == (0, 0) {
            flags &= !0x60;
        }
        let attr = SchedAttr {
            policy: body.policy,
            flags,
            nice: body.nice,
            priority: body.priority,
            runtime: body.runtime_ns,
            deadline: body.deadline_ns,
            period: body.period_ns,
            util_min: body.util_min,
            util_max: body.util_max,
            size: 0,
        };
        // An ordinary thread that needs no change is left alone. If its default slice were set, the
        // kernel would keep it as a custom slice.
        let now = sched::sched_attr(tid)?;
        if !fair
            || (now.policy, now.nice, now.runtime) != (attr.policy, attr.nice, attr.runtime)
            || now.flags != attr.flags
        {
            sched::set_sched_attr(tid, &attr).on(subject)?;
        }
        if body.policy == libc::SCHED_IDLE as u32 {
            sched::set_nice(tid, body.nice).on(subject)?;
        }
        if sched::ioprio(tid)? != body.ioprio {
            sched::set_ioprio(tid, body.ioprio).on(subject)?;
        }
        Ok(())
    }
}
