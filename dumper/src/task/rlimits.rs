//! Resource limits, getrlimit(2): soft and hard of all sixteen.
//!
//! A limit concerns what is made later: a process may have more than its limits allow. So a restore
//! gives a new process as much room as it can, and puts the recorded limits in force last.

use nix::sys::resource::{Resource, getrlimit};
use serde::{Deserialize, Serialize};

use crate::error::{Doing, Error, Result};
use crate::image::frame::Tag;
use crate::kind::attribute::{Attribute, DumpedThread, RestoredThread, Scope};
use crate::kind::phase::Phase;
use crate::sys::pid::Pid;
use crate::sys::remote::batch::{Batch, Ticket};
use crate::sys::remote::checked::Checked;

/// All of them, by number.
const LIMITS: [Resource; 16] = [
    Resource::RLIMIT_CPU,
    Resource::RLIMIT_FSIZE,
    Resource::RLIMIT_DATA,
    Resource::RLIMIT_STACK,
    Resource::RLIMIT_CORE,
    Resource::RLIMIT_RSS,
    Resource::RLIMIT_NPROC,
    Resource::RLIMIT_NOFILE,
    Resource::RLIMIT_MEMLOCK,
    Resource::RLIMIT_AS,
    Resource::RLIMIT_LOCKS,
    Resource::RLIMIT_SIGPENDING,
    Resource::RLIMIT_MSGQUEUE,
    Resource::RLIMIT_NICE,
    Resource::RLIMIT_RTPRIO,
    Resource::RLIMIT_RTTIME,
];

/// The resource limits of a process, getrlimit(2).
pub const TAG: Tag = Tag(*b"RLIM");

/// Table row.
pub struct Rlimits;

/// The record: (soft, hard) by RLIMIT_ number.
#[derive(Serialize, Deserialize)]
pub struct RlimitsBody {
    /// Soft and hard limit, by RLIMIT_ number.
    limits: Vec<(u64, u64)>,
}

impl RlimitsBody {
    /// The limits, each with its name.
    fn named(&self, pid: Pid) -> Result<impl Iterator<Item = (Resource, u64, u64)>> {
        if self.limits.len() != LIMITS.len() {
            return Err(Error::damaged(format!("pid {pid}: {} resource limits", self.limits.len())));
        }
        Ok(LIMITS.into_iter().zip(&self.limits).map(|(resource, (soft, hard))| (resource, *soft, *hard)))
    }

    /// Adds the calls that give a new process room until [`Phase::Limits`]: as much as the daemon
    /// has, and as much as the record allows. A process that has become another user could only
    /// lower its limits, so hard limits are raised here.
    pub fn raise(&self, pid: Pid, calls: &mut Checked) -> Result<()> {
        for (resource, _, hard) in self.named(pid)? {
            let (_, own) = getrlimit(resource).doing(|| format!("asking for {resource:?}"))?;
            let room = hard.max(own);
            let at = calls.put(&[room.to_le_bytes(), room.to_le_bytes()].concat());
            let doing = format!("pid {pid}: raising {resource:?} to {room} (this daemon has {own})");
            calls.call(libc::SYS_prlimit64, [0, resource as u64, at.0, 0], doing);
        }
        Ok(())
    }
}

impl Attribute for Rlimits {
    type Body = RlimitsBody;
    type Tickets = [Ticket<[u64; 2]>; LIMITS.len()];
    const TAG: Tag = TAG;
    const SCOPE: Scope = Scope::Process;
    const PHASE: Phase = Phase::Limits;

    fn ask(&self, _pid: Pid, batch: &mut Batch) -> Self::Tickets {
        // The process makes the call itself: prlimit on a process of another uid needs
        // CAP_SYS_RESOURCE.
        LIMITS.map(|resource| batch.call_into(libc::SYS_prlimit64, [0, resource as u64, 0, 0], 3))
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
        for (resource, soft, hard) in body.named(thread.pid)? {
            let at = thread.batch.put(&[soft.to_le_bytes(), hard.to_le_bytes()].concat());
            let doing = format!("pid {}: {resource:?} to {soft}, {hard}", thread.pid);
            thread.call(libc::SYS_prlimit64, [0, resource as u64, at.0, 0], doing);
        }
        Ok(())
    }
}
