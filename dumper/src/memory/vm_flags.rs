//! VmFlags: which ones are restored, and which ones are refused. proc_pid_smaps(5) explains the
//! codes.

use std::cell::OnceCell;
use std::collections::BTreeMap;

use crate::error::Result;
use crate::sys::pid::Pid;
use crate::sys::proc::maps::{self, Codes};

/// Flags that are restored with madvise(2): code and advice.
pub const ADVICE: [(&str, u64); 8] = [
    ("sr", libc::MADV_SEQUENTIAL as u64),
    ("rr", libc::MADV_RANDOM as u64),
    ("dd", libc::MADV_DONTDUMP as u64),
    ("hg", libc::MADV_HUGEPAGE as u64),
    ("nh", libc::MADV_NOHUGEPAGE as u64),
    ("mg", libc::MADV_MERGEABLE as u64),
    ("dc", libc::MADV_DONTFORK as u64),
    ("wf", libc::MADV_WIPEONFORK as u64),
];
/// Flags that are restored in other ways.
const OTHERS: [&str; 6] = ["gd", "nr", "lo", "lf", "dp", "sl"];
/// Flags that cannot be restored, and the features that set them.
const REFUSED: [(&str, &str); 8] = [
    ("ht", "huge pages of hugetlbfs"),
    ("io", "memory of a device"),
    ("pf", "memory of a device"),
    ("um", "a mapping registered with userfaultfd"),
    ("uw", "a mapping registered with userfaultfd"),
    ("ui", "a mapping registered with userfaultfd"),
    ("ss", "a shadow stack"),
    ("mm", "mixed memory of a device"),
];

/// The VmFlags and the protection key of each mapping, by its start address.
pub type VmFlags = BTreeMap<u64, (Codes, u64)>;

/// The VmFlags of a stopped process, read when a mapping first needs them. Few mappings do, and the
/// kernel walks all page tables for them.
pub struct FlagsOnDemand(Pid, OnceCell<VmFlags>);

impl FlagsOnDemand {
    /// Reads nothing yet.
    pub fn of(pid: Pid) -> Self {
        Self(pid, OnceCell::new())
    }

    /// All of them.
    pub fn all(&self) -> Result<&VmFlags> {
        if let Some(flags) = self.1.get() {
            return Ok(flags);
        }
        let flags = maps::vm_flags(self.0)?;
        Ok(self.1.get_or_init(|| flags))
    }

    /// Whether the mapping that begins at `start` may become writable (VM_MAYWRITE).
    pub fn may_write(&self, start: u64) -> Result<bool> {
        Ok(self.all()?.get(&start).is_none_or(|(codes, _)| codes.has("mw")))
    }
}

/// Why a mapping with these flags, protection key and PROT_* bits cannot be checkpointed. `None` if
/// it can. The kernel itself gives a key to memory that is only executable (`execute_only_pkey` in
/// arch/x86/mm/pkeys.c).
pub fn refusal(codes: &Codes, key: u64, prot: i32) -> Option<String> {
    let refused = REFUSED.iter().find(|(code, _)| codes.has(code));
    match refused {
        Some((_, what)) => Some(format!("{what} cannot be checkpointed")),
        None if key != 0 && prot != libc::PROT_EXEC => Some(format!("protection key {key} cannot be checkpointed yet")),
        None => None,
    }
}

/// Whether a flag is restored.
pub fn is_restored(code: &str) -> bool {
    ADVICE.iter().any(|(have, _)| *have == code) || OTHERS.contains(&code)
}
