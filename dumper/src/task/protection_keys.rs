//! Protection keys, pkeys(7). The kernel itself gives one to memory that is only executable, and
//! does so again at a restore. Keys that the program has allocated are refused.

use crate::error::{Error, Result};
use crate::kind::attribute::DumpedThread;
use crate::sys::errno;
use crate::sys::remote::batch::{Batch, Ticket};

/// How many keys the processor has. Key 0 is that of all other memory.
const KEYS: u64 = 16;

/// An address of the kernel: no mapping of a process is there.
const NOWHERE: u64 = 0xffff_f000_0000_0000;

/// Asks which keys the program has allocated, and changes nothing: pkey_mprotect(2) looks at the
/// key first, and at the memory afterwards.
pub fn ask(batch: &mut Batch) -> Vec<Ticket<u64>> {
    let protect = |key| [NOWHERE, 4096, libc::PROT_NONE as u64, key];
    (1..KEYS).map(|key| batch.call(libc::SYS_pkey_mprotect, protect(key))).collect()
}

/// Refuses a process that has allocated keys. ENOMEM is the answer for such a key, EINVAL for any
/// other one, also for that of memory that is only executable.
pub fn refuse_allocated(thread: &DumpedThread<'_>, asked: &[Ticket<u64>]) -> Result<()> {
    let is_allocated = |ticket: &&Ticket<u64>| errno::errno(thread.raw(**ticket)) == Some(libc::ENOMEM);
    match asked.iter().filter(is_allocated).count() {
        0 => Ok(()),
        count => {
            let (pid, keys) = (thread.pid, if count == 1 { "protection key" } else { "protection keys" });
            Err(Error::unsupported(format!("pid {pid}: {count} allocated {keys} cannot be checkpointed yet")))
        }
    }
}
