//! Protection keys that the program has allocated, pkeys(7). Which rights a thread has to the
//! memory of a key is in its registers.
//!
//! The kernel itself gives a key to memory that is only executable, and does so again at a restore.
//! Memory with a key of the program is refused.

use crate::error::{Error, Result};
use crate::kind::attribute::{DumpedThread, RestoredThread};
use crate::sys::errno;
use crate::sys::remote::batch::{Batch, Ticket};

/// How many keys the processor has. Key 0 is that of all other memory.
const KEYS: u32 = 16;

/// An address of the kernel: no mapping of a process is there.
const NOWHERE: u64 = 0xffff_f000_0000_0000;

/// Asks which keys the program has allocated, and changes nothing: pkey_mprotect(2) looks at the
/// key first, and at the memory afterwards.
pub fn ask(batch: &mut Batch) -> Vec<Ticket<u64>> {
    let protect = |key: u32| [NOWHERE, 4096, libc::PROT_NONE as u64, u64::from(key)];
    (1..KEYS).map(|key| batch.call(libc::SYS_pkey_mprotect, protect(key))).collect()
}

/// The keys that the program has allocated. ENOMEM is the answer for such a key, EINVAL for any
/// other one, also for that of memory that is only executable.
pub fn allocated(thread: &DumpedThread<'_>, asked: &[Ticket<u64>]) -> Vec<u32> {
    let is_allocated = |ticket: &Ticket<u64>| errno::errno(thread.raw(*ticket)) == Some(libc::ENOMEM);
    (1..KEYS).zip(asked).filter(|(_, ticket)| is_allocated(ticket)).map(|(key, _)| key).collect()
}

/// Adds the calls that allocate `keys`, which ascend. pkey_alloc(2) gives the lowest free key.
pub fn allocate(keys: &[u32], thread: &mut RestoredThread<'_>) -> Result<()> {
    let pid = thread.pid;
    let Some(last) = keys.last() else { return Ok(()) };
    if *last >= KEYS {
        return Err(Error::damaged(format!("pid {pid}: protection key {last}")));
    }
    for key in 1..=*last {
        let doing = format!("pid {pid}: allocating protection key {key}");
        thread.batch.call_giving(libc::SYS_pkey_alloc, [0, 0], u64::from(key), doing);
    }
    for key in (1..=*last).filter(|key| !keys.contains(key)) {
        thread.call(libc::SYS_pkey_free, [u64::from(key)], format!("pid {pid}: freeing protection key {key}"));
    }
    Ok(())
}
