//! PAGEMAP_SCAN, Documentation/admin-guide/mm/pagemap.rst: which pages of an address space exist,
//! and of what sort.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

use nix::errno::Errno;

use crate::error::{Doing, Error, Result};
use crate::sys::memory::{PAGE, RemotePtr};
use crate::sys::pid::Pid;

/// Page categories, include/uapi/linux/fs.h.
pub mod category {
    /// Mapped from a file (or shared memory), not a private copy.
    pub const FILE: u64 = 1 << 2;
    /// In memory.
    pub const PRESENT: u64 = 1 << 3;
    /// In swap.
    pub const SWAPPED: u64 = 1 << 4;
    /// The zero page.
    pub const PFNZERO: u64 = 1 << 5;
    /// A guard page (MADV_GUARD_INSTALL), since Linux 6.16. Older kernels refuse a scan that asks
    /// for it (EINVAL).
    pub const GUARD: u64 = 1 << 8;
}

/// Which pages to report.
#[derive(Clone, Copy, Debug, Default)]
pub struct Want {
    /// Categories that are inverted before they are compared.
    pub inverted: u64,
    /// All of these.
    pub all: u64,
    /// At least one of these.
    pub any: u64,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Region {
    start: u64,
    end: u64,
    categories: u64,
}

#[repr(C)]
#[derive(Default)]
struct Scan {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    vec: u64,
    vec_len: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_anyof_mask: u64,
    return_mask: u64,
}

// _IOWR('f', 16, struct pm_scan_arg): newer than the libc headers.
const PAGEMAP_SCAN: libc::c_ulong = 0xc060_6610;

/// An open `/proc/PID/pagemap`, bound to the address space like [`crate::sys::memory::MemFile`].
#[derive(Debug)]
pub struct Pagemap {
    pid: Pid,
    file: File,
}

impl Pagemap {
    /// Opens the pagemap of `pid`.
    pub fn open(pid: Pid) -> Result<Self> {
        let path = format!("/proc/{pid}/pagemap");
        let file = File::open(&path).doing(|| format!("opening {path}"))?;
        Ok(Self { pid, file })
    }

    /// The page frame (or place in swap) of each of `pages` pages from `address` on. `None` if
    /// there is none, or if the kernel hides it (without CAP_SYS_ADMIN).
    pub fn frames(&self, address: RemotePtr, pages: u64) -> Result<Vec<Option<u64>>> {
        const PRESENT_OR_SWAPPED: u64 = 3 << 62;
        const FRAME: u64 = (1 << 55) - 1;
        let mut bytes = vec![0; pages as usize * 8];
        self.file
            .read_exact_at(&mut bytes, address.0 / PAGE * 8)
            .doing(|| format!("reading {pages} entries of /proc/{}/pagemap at {address}", self.pid))?;
        let entries = bytes.chunks_exact(8).map(|entry| u64::from_le_bytes(std::array::from_fn(|i| entry[i])));
        let known = |entry: u64| entry & PRESENT_OR_SWAPPED != 0 && entry & FRAME != 0;
        Ok(entries.map(|entry| known(entry).then_some(entry & (PRESENT_OR_SWAPPED | FRAME))).collect())
    }

    /// Calls `found(start, pages, is_guard)` for each run of wanted pages in `[start, end)`,
    /// ascending. Stops after `max_pages` pages if that is not 0.
    pub fn scan(
        &self,
        start: RemotePtr,
        end: RemotePtr,
        want: Want,
        max_pages: u64,
        mut found: impl FnMut(RemotePtr, u64, bool),
    ) -> Result<()> {
        let mut regions = vec![Region::default(); 1024];
        let mut at = start.0;
        let mut left = max_pages;
        let mut reported = start.0;
        while at < end.0 {
            let mut scan = Scan {
                size: size_of::<Scan>() as u64,
                start: at,
                end: end.0,
                vec: regions.as_mut_ptr() as u64,
                vec_len: regions.len() as u64,
                max_pages: left,
                category_inverted: want.inverted,
                category_mask: want.all,
                category_anyof_mask: want.any,
                // The kernel merges runs that differ only in categories that are not returned.
                return_mask: category::GUARD,
                ..Scan::default()
            };
            // SAFETY: both the argument and the vector it names are live, and their sizes are
            // passed.
            let got = unsafe { libc::ioctl(self.file.as_raw_fd(), PAGEMAP_SCAN, &raw mut scan) };
            Errno::result(got).doing(|| format!("pid {}: PAGEMAP_SCAN at {at:#x}", self.pid))?;
            for region in &regions[..got as usize] {
                // A full vector can end in the middle of a run, and the next call may begin before
                // that run's end.
                let start = region.start.max(reported);
                if region.end <= start {
                    continue;
                }
                reported = region.end;
                let pages = (region.end - start) / PAGE;
                found(RemotePtr(start), pages, region.categories & category::GUARD != 0);
                left = left.saturating_sub(pages);
            }
            if max_pages != 0 && left == 0 {
                return Ok(());
            }
            if scan.walk_end <= at {
                return Err(Error::os(
                    format_args!("pid {}: PAGEMAP_SCAN stands still at {at:#x}", self.pid),
                    libc::EIO,
                ));
            }
            at = scan.walk_end;
        }
        Ok(())
    }
}

/// The page frame of the page at `offset` of `file`, as [`Pagemap::frames`] gives it. `None` behind
/// the end of the file, or if the kernel hides it.
pub fn file_frame(file: &File, offset: u64) -> Result<Option<u64>> {
    let doing = || format!("mapping a page at {offset:#x} of a file");
    let (len, pid) = (PAGE as usize, std::process::id() as Pid);
    let pagemap = Pagemap::open(pid)?;
    let (fd, offset) = (file.as_raw_fd(), offset.cast_signed());
    // SAFETY: a new mapping at an address that the kernel chooses. No code accesses it.
    let at = unsafe { libc::mmap(std::ptr::null_mut(), len, libc::PROT_READ, libc::MAP_SHARED, fd, offset) };
    if at == libc::MAP_FAILED {
        return Err(Errno::last()).doing(doing);
    }
    // SAFETY: the mapping made above. This call fails where an access would be SIGBUS.
    let is_there = unsafe { libc::madvise(at, len, libc::MADV_POPULATE_READ) } == 0;
    let frames = if is_there { pagemap.frames(RemotePtr(at.addr() as u64), 1) } else { Ok(Vec::new()) };
    // SAFETY: the mapping made above.
    unsafe { libc::munmap(at, len) };
    Ok(frames?.first().copied().flatten())
}
