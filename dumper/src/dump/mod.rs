//! Kernel -> records: what is known of each process of a stopped tree.

use crate::image::frame::Record;
use crate::memory::source::Kept;
use crate::memory::vm_flags::VmFlags;
use crate::memory::vma::Vma;
use crate::sys::pid::Pid;
use crate::sys::proc::maps::Mapping;
use crate::sys::sysvipc;
use crate::sysv::undo::Adjustment;

pub mod cow_pages;
pub mod files;
pub mod memory;
pub mod objects;
pub mod process;
pub mod pstree;
pub mod sharing;
pub mod thread;
pub mod unsupported;

/// All that is known of one process, apart from the contents of its memory.
pub struct CollectedProcess {
    /// Its id.
    pub pid: Pid,
    /// Records of its tasks, in the order of the image.
    pub records: Vec<Record>,
    /// Its descriptor table, and those that threads have to themselves.
    pub tables: Vec<Record>,
    /// Its mappings, ascending, as far as they are in the image; none if it shares the memory of the
    /// process that created it.
    pub mappings: Vec<CollectedMapping>,
    /// Mappings of files that it has locked: a copy of the process must not have them.
    pub lock_mappings: Vec<(u64, u64)>,
    /// VmFlags of its mappings, if memory of it is locked (mlock(2)): its child does not inherit that.
    pub mlock_flags: Option<VmFlags>,
    /// Addresses of its threads' rseq areas, ascending.
    pub rseq: Vec<u64>,
    /// Semaphore sets and message queues that its threads wait for.
    pub waits: Vec<(sysvipc::IpcKind, i32)>,
    /// Semaphore operations that its end undoes.
    pub adjustments: Vec<Adjustment>,
}

/// One mapping of a process.
pub struct CollectedMapping {
    /// Its line of /proc/PID/maps.
    pub mapping: Mapping,
    /// Its record.
    pub vma: Vma,
    /// Its contents, where a copy-on-write child does not get them.
    pub kept: Option<Kept>,
}

impl CollectedProcess {
    /// Mappings whose contents are not the process's own. A copy of the process may have them until
    /// their flags are known.
    pub fn shared_mappings(&self) -> Vec<(u64, u64)> {
        let shared = self.mappings.iter().filter(|it| it.mapping.shared && !it.vma.holds_pages());
        let ranges = shared.map(|it| (it.mapping.start, it.mapping.end));
        ranges.filter(|range| !self.lock_mappings.contains(range)).collect()
    }
}
