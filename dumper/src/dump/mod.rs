//! Kernel -> records: what a dump collects of each process of a stopped tree.

use crate::file::mapped_lock::MappedLocks;
use crate::image::frame::Record;
use crate::memory::source::Kept;
use crate::memory::vm_flags::VmFlags;
use crate::memory::vma::Vma;
use crate::sys::pid::Pid;
use crate::sys::proc::maps::Mapping;
use crate::sys::sysvipc;
use crate::sysv::undo::Adjustment;

pub mod check;
pub mod cow_pages;
pub mod files;
pub mod kcmp_set;
pub mod memory;
pub mod objects;
pub mod process;
pub mod pstree;
pub mod sharing;
pub mod spool;
pub mod thread;
pub mod unreadable;
pub mod unsupported;

/// All that is collected of one process, apart from the contents of its memory.
pub struct CollectedProcess {
    /// Its id.
    pub pid: Pid,
    /// Records of its tasks, in the order of the image.
    pub records: Vec<Record>,
    /// Its descriptor table, and the tables that threads have to themselves.
    pub tables: Vec<Record>,
    /// Its mappings that are in the image, ascending. Empty if it shares the memory of the process
    /// that created it.
    pub mappings: Vec<CollectedMapping>,
    /// Mappings of files that it has locked. A copy of the process must not have them.
    pub lock_mappings: Vec<(u64, u64)>,
    /// Locks that only its mappings hold.
    pub mapped_locks: MappedLocks,
    /// VmFlags of its mappings, if it has locked memory (mlock(2)). Its child does not inherit
    /// that.
    pub mlock_flags: Option<VmFlags>,
    /// Addresses of its threads' rseq areas, ascending.
    pub rseq: Vec<u64>,
    /// Semaphore sets and message queues that its threads wait on.
    pub waits: Vec<(sysvipc::ipc_kind::IpcKind, i32)>,
    /// Semaphore operations that the kernel undoes when it ends.
    pub adjustments: Vec<Adjustment>,
}

/// One mapping of a process.
pub struct CollectedMapping {
    /// Its line of /proc/PID/maps.
    pub mapping: Mapping,
    /// Its record.
    pub vma: Vma,
    /// Its contents, if a copy-on-write child does not get them.
    pub kept: Option<Kept>,
}

impl CollectedProcess {
    /// Mappings with contents that are not the process's own. A copy of the process may have them
    /// until their flags are read.
    pub fn shared_mappings(&self) -> Vec<(u64, u64)> {
        let shared = self.mappings.iter().filter(|it| it.mapping.shared && !it.vma.holds_pages());
        let ranges = shared.map(|it| (it.mapping.start, it.mapping.end));
        ranges.filter(|range| !self.lock_mappings.contains(range)).collect()
    }
}
