//! The vDSO and its data pages: code of the kernel, moved to the addresses that the process
//! expects.
//!
//! Its contents are not in the image. A kernel with another vDSO, by its digest, is refused,
//! because the memory of the C library is full of pointers into the old one.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::image::frame::{Record, Tag};
use crate::kind::record_sort::{self, RecordSort};
use crate::sys::memory::{MemFile, RemotePtr};
use crate::sys::pid::Pid;
use crate::sys::proc::maps::{self, Mapping};
use crate::sys::remote::checked::Checked;
use crate::sys::remote::gadget;

/// Where a process has the code of the kernel (vDSO) and its data pages, and a digest of the code.
/// An image is restored only on a kernel with the same code. Body: [`Vdso`].
pub const TAG: Tag = Tag(*b"VDSO");
/// Its row in the table of records.
pub const SORT: RecordSort = record_sort::of_task(TAG);

/// The record.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Vdso {
    /// The process.
    pub tid: Pid,
    /// Name, start and end of each part, ascending.
    pub parts: Vec<(String, u64, u64)>,
    /// Digest of the code.
    pub sha256: String,
}

/// Names and lengths of the parts, ascending by address.
pub type VdsoShape = Vec<(String, u64)>;

/// The shape of this program's own, which is that of every program when it starts.
pub fn own_shape() -> Result<VdsoShape> {
    let pid = std::process::id() as Pid;
    Ok(Vdso::of(pid, &maps::maps(pid)?, String::new()).shape())
}

impl Vdso {
    /// The vDSO of the process `pid` with these mappings. `sha256` is the [`gadget::digest`] of its
    /// code.
    pub fn of(pid: Pid, maps: &[Mapping], sha256: String) -> Self {
        let parts = maps
            .iter()
            .filter(|mapping| mapping.is_special() && mapping.name != b"[vsyscall]")
            .map(|mapping| (String::from_utf8_lossy(&mapping.name).into_owned(), mapping.start, mapping.end))
            .collect();
        Self { tid: pid, parts, sha256 }
    }

    /// Refuses one that is not whole: a restore moves the parts that the kernel makes.
    pub fn refuse_partial(&self, whole: &VdsoShape) -> Result<()> {
        let shown = |shape: &VdsoShape| {
            let parts: Vec<String> = shape.iter().map(|(name, len)| format!("{name} of {len} bytes")).collect();
            parts.join(", ")
        };
        let shape = self.shape();
        if shape == *whole {
            return Ok(());
        }
        let (has, whole) = (shown(&shape), shown(whole));
        Err(Error::unsupported(format!(
            "pid {}: a part of its vDSO (it has {has}; the kernel made {whole}) cannot be checkpointed",
            self.tid
        )))
    }

    /// Its parts, wherever they are.
    pub fn shape(&self) -> VdsoShape {
        self.parts.iter().map(|(name, start, end)| (name.clone(), end.saturating_sub(*start))).collect()
    }

    /// The code, if it is that of this kernel. This program then has the same code.
    pub fn code(&self) -> Option<Vec<u8>> {
        let pid = std::process::id() as Pid;
        let maps = maps::maps(pid).ok()?;
        let (code, ..) = gadget::code(&maps, &MemFile::open(pid).ok()?, pid).ok()?;
        (gadget::digest(&code) == self.sha256).then_some(code)
    }

    /// The record.
    pub fn record(&self) -> Result<Record> {
        Record::new(TAG, self)
    }

    /// Adds the calls that move `here`, the vDSO of the new process, to the addresses of this one.
    /// `aside` is room for all parts.
    ///
    /// There are two moves for each part because source and target may overlap, which mremap(2)
    /// refuses.
    pub fn move_from(&self, here: &Vdso, aside: RemotePtr, calls: &mut Checked) -> Result<()> {
        if here.sha256 != self.sha256 || here.shape() != self.shape() {
            return Err(Error::os(
                format!("pid {}: the image comes from a kernel with another vDSO", self.tid),
                libc::ENOSYS,
            ));
        }
        let flags = (libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED) as u64;
        let mut move_to = |from: u64, len: u64, to: u64, name: &str| {
            let doing = format!("pid {}: moving {name} to {to:#x}", self.tid);
            calls.call_giving(libc::SYS_mremap, [from, len, len, flags, to], to, doing);
        };
        let mut at = aside.0;
        let mut parked = Vec::new();
        for (name, start, end) in &here.parts {
            move_to(*start, end - start, at, name);
            parked.push(at);
            at += end - start;
        }
        for ((name, start, end), from) in self.parts.iter().zip(parked) {
            move_to(from, end - start, *start, name);
        }
        Ok(())
    }

    /// The address that the system call instruction at `at` in `here` has after the move.
    pub fn moved(&self, here: &Vdso, at: RemotePtr) -> RemotePtr {
        let start =
            |vdso: &Vdso| vdso.parts.iter().find(|(name, ..)| name == "[vdso]").map_or(0, |(_, start, _)| *start);
        RemotePtr(at.0 - start(here) + start(self))
    }
}
