//! Memory of another process: its addresses as a type of their own, and `/proc/PID/mem`.
//!
//! Reads use `/proc/PID/mem` and not `process_vm_readv`. The latter pins pages for the long term
//! and thereby *copies* every anonymous page that fork shared, which would turn a copy-on-write
//! snapshot into a full copy.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use crate::error::{Doing, Error, Kind, Result};
use crate::sys::pid::Pid;

/// Bytes of a page. This architecture has one base page size.
pub const PAGE: u64 = 4096;

/// An address in another process. It is never dereferenced here, and never mixed up with a length
/// or an address of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RemotePtr(pub u64);

impl RemotePtr {
    /// The address that is `bytes` higher.
    #[must_use]
    pub fn add(self, bytes: u64) -> Self {
        Self(self.0.wrapping_add(bytes))
    }
}

impl std::fmt::Display for RemotePtr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// Makes all threads of this program allocate from one heap, mallopt(3). With a heap for each
/// thread, what one thread has freed is of no use to the next, and a large part of it is never
/// given back to the kernel.
pub fn use_one_heap() {
    // SAFETY: the call takes no pointer, and locks what it changes.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
}

/// Gives memory that this program has freed back to the kernel, malloc_trim(3).
pub fn give_back_freed() {
    // SAFETY: the call takes no pointer, and locks what it changes.
    unsafe { libc::malloc_trim(0) };
}

/// An open `/proc/PID/mem`: the address space as a file, proc_pid_mem(5). It stays bound to the
/// address space that the process had at the open. After the end of the process reads return
/// nothing, never another process's memory.
#[derive(Debug)]
pub struct MemFile {
    pid: Pid,
    file: File,
}

impl MemFile {
    /// Opens the memory of `pid` (a process or thread id) for reading and writing.
    pub fn open(pid: Pid) -> Result<Self> {
        let path = format!("/proc/{pid}/mem");
        let file = File::options().read(true).write(true).open(&path).doing(|| format!("opening {path}"))?;
        Ok(Self { pid, file })
    }

    /// Fills `buf` from `address`. A short read means that the memory is gone: it returns
    /// [`Kind::SnapshotLost`], never zeros.
    pub fn read(&self, address: RemotePtr, buf: &mut [u8]) -> Result<()> {
        let mut done = 0;
        while done < buf.len() {
            let at = address.add(done as u64);
            match self.file.read_at(&mut buf[done..], at.0) {
                Ok(0) => {
                    return Err(Error::new(
                        Kind::SnapshotLost,
                        format!("pid {}: reading memory at {at}: the process is gone", self.pid),
                    ));
                }
                Ok(n) => done += n,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => {
                    return Err(error).doing(|| format!("pid {}: reading memory at {at}", self.pid));
                }
            }
        }
        Ok(())
    }

    /// Writes all of `bytes` at `address`. It reaches read-only private pages too (FOLL_FORCE), and
    /// copies them.
    pub fn write(&self, address: RemotePtr, bytes: &[u8]) -> Result<()> {
        self.file.write_all_at(bytes, address.0).doing(|| format!("pid {}: writing memory at {address}", self.pid))
    }

    /// Writes `bytes` into *writable* pages, faster than [`MemFile::write`] (process_vm_writev(2)
    /// faults in and pins whole batches of pages at once).
    pub fn fill(&self, address: RemotePtr, bytes: &[u8]) -> Result<()> {
        let mut done = 0;
        while done < bytes.len() {
            let rest = &bytes[done..];
            let at = address.add(done as u64);
            let local = libc::iovec { iov_base: rest.as_ptr().cast_mut().cast(), iov_len: rest.len() };
            let remote = libc::iovec { iov_base: std::ptr::without_provenance_mut(at.0 as usize), iov_len: rest.len() };
            // SAFETY: the local range is a live slice and only read. The kernel checks the remote
            // one.
            let n = unsafe { libc::process_vm_writev(self.pid, &raw const local, 1, &raw const remote, 1, 0) };
            if n <= 0 {
                return Err(Errno::last()).doing(|| format!("pid {}: writing memory at {at}", self.pid));
            }
            done += n as usize;
        }
        Ok(())
    }

    /// A value of plain integers at `address`.
    pub fn read_words<const N: usize>(&self, address: RemotePtr) -> Result<[u64; N]> {
        let mut bytes = vec![0; N * 8];
        self.read(address, &mut bytes)?;
        Ok(words(&bytes))
    }
}

/// Little-endian words of `bytes`. Missing ones are 0.
pub fn words<const N: usize>(bytes: &[u8]) -> [u64; N] {
    let mut out = [0; N];
    for (word, chunk) in out.iter_mut().zip(bytes.chunks_exact(8)) {
        let mut raw = [0; 8];
        raw.copy_from_slice(chunk);
        *word = u64::from_le_bytes(raw);
    }
    out
}

/// A new object of shared anonymous memory, open for reading and writing. It is mapped here for a
/// moment and opened through /proc/self/map_files (proc_pid_map_files(5)), which is its only name.
pub fn shared_anonymous(len: u64) -> Result<OwnedFd> {
    let doing = || format!("making {len} bytes of shared memory");
    let (prot, flags) =
        (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE);
    // SAFETY: a new mapping at an address that the kernel chooses. No other code has the address,
    // and the mapping is never accessed.
    let at = unsafe { libc::mmap(std::ptr::null_mut(), len as usize, prot, flags, -1, 0) };
    if at == libc::MAP_FAILED {
        return Err(Errno::last()).doing(doing);
    }
    let (start, end) = (at.addr() as u64, at.addr() as u64 + len.next_multiple_of(PAGE));
    let file = std::fs::OpenOptions::new().read(true).write(true).open(map_file(start, end));
    // SAFETY: the mapping made above. The open file keeps the object.
    unsafe { libc::munmap(at, len as usize) };
    file.map(OwnedFd::from).doing(doing)
}

/// The link of a mapping of this process, proc_pid_map_files(5).
pub(super) fn map_file(start: u64, end: u64) -> String {
    format!("/proc/self/map_files/{start:x}-{end:x}")
}
