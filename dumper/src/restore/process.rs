//! One process that a restore makes: what it holds until it resumes, calls in it, and the release.

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::error::{Error, Result};
use crate::kind::attribute::Resume;
use crate::memory::vdso::Vdso;
use crate::memory::vma::Vma;
use crate::restore::attached::Attached;
use crate::sys::memory::RemotePtr;
use crate::sys::pid::Pid;
use crate::sys::ptrace::Stopped;
use crate::sys::remote::batch::{Batch, Call, SCRATCH_LEN};
use crate::sys::remote::checked::Checked;
use crate::sys::remote::owned::Owned;
use crate::sys::remote::scm_rights::Channel;
use crate::sys::{errno, wait};

/// Where user space ends on x86-64 with four levels of page tables.
pub const TASK_SIZE: u64 = (1 << 47) - 4096;

/// A new process, traced and stopped. A drop before the release detaches it, and it would run:
/// its owner kills it first ([`crate::restore::rollback`]).
pub struct NewProcess {
    /// Its id.
    pub pid: Pid,
    /// Its first thread.
    pub leader: Owned,
    /// The others, in the order of the image.
    pub threads: Vec<Owned>,
    /// Pushes descriptors into it.
    pub channel: Rc<Channel>,
    /// The same for threads with a descriptor table of their own.
    pub own_channels: BTreeMap<Pid, Rc<Channel>>,
    /// A `syscall` instruction in its vDSO, at its final place.
    pub syscall: RemotePtr,
    /// Calls that wait to be made.
    pub calls: Checked,
    /// Its mappings so far, ascending.
    pub vmas: Vec<Vma>,
    /// Address space that no process of the image uses: the stub lies there.
    pub hole: RemotePtr,
    /// Where a vDSO is parked while it moves.
    pub aside: RemotePtr,
    /// Its vDSO, at its final place.
    pub vdso: Vdso,
    /// Copies of its maker's mappings that came with the fork, ascending.
    pub copied: Vec<Vma>,
    /// No copied mapping is left below this address.
    pub cleared: u64,
    /// Descriptor numbers of mapped files in the process, by open file.
    pub mapped: BTreeMap<u32, i32>,
    /// Attached segments, by open file.
    pub segments: BTreeMap<u32, Attached>,
    /// Whether it uses the address space of its maker (CLONE_VM).
    pub borrows_memory: bool,
}

impl NewProcess {
    /// Address ranges that must stay as they are until the release, ascending.
    pub fn untouchable(&self) -> Vec<(u64, u64)> {
        untouchable(&self.vdso, self.leader.scratch())
    }

    /// One of its threads, and the channel that pushes descriptors into that.
    pub fn task(&mut self, tid: Pid) -> Result<(&mut Owned, &Channel)> {
        let Self { leader, threads, channel, own_channels, .. } = self;
        let channel = own_channels.get(&tid).unwrap_or(channel);
        if leader.tid() == tid {
            return Ok((leader, channel));
        }
        let thread = threads.iter_mut().find(|thread| thread.tid() == tid);
        thread.map(|thread| (thread, &**channel)).ok_or_else(|| Error::damaged(format!("task {tid} was not made")))
    }

    /// A call in the leader; `doing` names it on failure.
    pub fn call<const N: usize>(&mut self, nr: i64, args: [u64; N], doing: &str) -> Result<u64> {
        let mut batch = Batch::new(self.leader.scratch());
        let ticket = batch.call(nr, args);
        self.leader.run(batch)?.get(ticket, || format!("pid {}: {doing}", self.pid))
    }

    /// Unmaps the stub and gives all threads their registers; they are still stopped.
    pub fn release(self, resume: Vec<Resume>) -> Result<Vec<Stopped>> {
        let pid = self.pid;
        let mut ready = Vec::new();
        self.release_into(&mut ready, resume).inspect_err(|_| {
            // Some of its threads may have been released already, and would run.
            let _ = wait::kill(pid, libc::SIGKILL);
        })?;
        Ok(ready)
    }

    fn release_into(self, ready: &mut Vec<Stopped>, resume: Vec<Resume>) -> Result<()> {
        let Self { pid, mut leader, threads, syscall, borrows_memory, .. } = self;
        if !borrows_memory {
            let unmap = Call::new(libc::SYS_munmap, [leader.scratch().0, SCRATCH_LEN]);
            let got = leader.call_at(syscall, &unmap)?;
            errno::check(got, || format!("pid {pid}: taking the stub out"))?;
        }
        for (owned, resume) in std::iter::once(leader).chain(threads).zip(resume) {
            let regs = resume.regs.ok_or_else(|| Error::damaged(format!("pid {pid}: no registers")))?;
            // EXITKILL holds until it is detached.
            ready.push(owned.release(&regs, resume.mask)?);
        }
        Ok(())
    }
}

/// The places of the vDSO and the stub, ascending.
pub fn untouchable(vdso: &Vdso, scratch: RemotePtr) -> Vec<(u64, u64)> {
    let parts = vdso.parts.iter().map(|(_, start, end)| (*start, *end));
    let mut all: Vec<(u64, u64)> = parts.chain([(scratch.0, scratch.0 + SCRATCH_LEN)]).collect();
    all.sort_unstable();
    all
}
