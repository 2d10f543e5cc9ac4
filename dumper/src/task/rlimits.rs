//! Resource limits, getrlimit(2): soft and hard of all sixteen.

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::image::frame::Tag;
use crate::kind::attribute::{Attribute, DumpedThread, RestoredThread, Scope};
use crate::kind::phase::Phase;
use crate::sys::remote::batch::{Batch, Ticket};

/// RLIM_NLIMITS, include/uapi/asm-generic/resource.h.
const LIMITS: usize = 16;

/// Table row.
pub struct Rlimits;

/// The record: (soft, hard) by RLIMIT_ number.
#[derive(Serialize, Deserialize)]
pub struct RlimitsBody {
    /// Soft and hard limit, by RLIMIT_ number.
    limits: Vec<(u64, u64)>,
}

impl Attribute for Rlimits {
    type Body = RlimitsBody;
    type Tickets = [Ticket<[u64; 2]>; LIMITS];
    /// The resource limits of a process, getrlimit(2).
    const TAG: Tag = Tag(*b"RLIM");
    const SCOPE: Scope = Scope::Process;
    // After the descriptors and mappings that a lower limit would forbid, and before credentials
    // that could not raise it.
    const PHASE: Phase = Phase::Thread;

    fn ask(&self, batch: &mut Batch) -> Self::Tickets {
        // The process makes the call itself: prlimit on a process of another uid needs
        // CAP_SYS_RESOURCE.
        std::array::from_fn(|resource| batch.call_into(libc::SYS_prlimit64, [0, resource as u64, 0, 0], 3))
    }

    fn dump(&self, thread: &mut DumpedThread<'_>, asked: Self::Tickets) -> Result<(RlimitsBody, Vec<u8>)> {
        let mut limits = Vec::new();
        for ticket in asked {
            let [soft, hard] = thread.answer(ticket, "getrlimit")?;
            limits.push((soft, hard));
        }
        Ok((RlimitsBody { limits }, Vec::new()))
    }

    fn restore(&self, body: RlimitsBody, _blob: &[u8], thread: &mut RestoredThread<'_>) -> Result<()> {
        for (resource, (soft, hard)) in body.limits.into_iter().enumerate() {
            let at = thread.batch.put(&[soft.to_le_bytes(), hard.to_le_bytes()].concat());
            let doing = format!("pid {}: limit {resource} to {soft}, {hard}", thread.pid);
            thread.call(libc::SYS_prlimit64, [0, resource as u64, at.0, 0], doing);
        }
        Ok(())
    }
}
