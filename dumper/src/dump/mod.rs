//! Kernel to records.

use std::collections::BTreeMap;
use std::time::SystemTime;

use crate::image::frame::Record;
use crate::memory::vma::Vma;
use crate::pstree::record::Tree;
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
pub mod thread;
pub mod unsupported;

/// All that is known of a stopped tree, but for the contents of its memory.
pub struct CollectedTree {
    /// Who is there, in the order of the image.
    pub tree: Tree,
    /// Those that have a task, in the same order.
    pub processes: Vec<CollectedProcess>,
    /// Descriptor tables.
    pub tables: Vec<Record>,
    /// Semaphores and message queues that it uses.
    pub sysv: Vec<Record>,
    /// When.
    pub taken: SystemTime,
}

impl CollectedTree {
    /// For each process the thread that is asked for what belongs to all of them.
    pub fn speakers(&self) -> BTreeMap<Pid, Pid> {
        self.tree.processes.iter().map(|process| (process.pid, process.representative())).collect()
    }
}

/// One process.
pub struct CollectedProcess {
    /// Its id.
    pub pid: Pid,
    /// Records of its tasks, in the order of the image.
    pub records: Vec<Record>,
    /// Its mappings, ascending, as far as they are in the image; none if the memory is its maker's.
    pub mappings: Vec<(Mapping, Vma)>,
    /// Those that a copy of the process must not have.
    pub locked: Vec<(u64, u64)>,
    /// Addresses of its threads' rseq areas, ascending.
    pub rseq: Vec<u64>,
    /// Semaphore sets and message queues that its threads wait for.
    pub waits: Vec<(sysvipc::IpcKind, i32)>,
    /// Semaphore operations that its end undoes.
    pub adjustments: Vec<Adjustment>,
}

impl CollectedProcess {
    /// Mappings whose contents are not the process's own, and that a copy of it may have until they are known.
    pub fn shared_mappings(&self) -> Vec<(u64, u64)> {
        let shared = self.mappings.iter().filter(|(mapping, vma)| mapping.shared && !vma.holds_pages());
        shared.map(|(mapping, _)| (mapping.start, mapping.end)).filter(|range| !self.locked.contains(range)).collect()
    }
}
