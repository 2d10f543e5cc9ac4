//! System V shared memory, shmget(2), shmctl(2).

use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::sync::OnceLock;

use nix::errno::Errno;

use crate::error::{Doing, Result};
use crate::sys::clone::Creator;
use crate::sys::memory::{self, PAGE};
use crate::sys::pid::Pid;
use crate::sys::remote::batch::Call;
use crate::sys::sysvipc::CreatedIpc;
use crate::sys::sysvipc::ipc_kind::IpcKind;

/// Bits of a segment's mode beyond the permissions, include/linux/shm.h: removed while attached,
/// locked.
pub const SHM_DEST: u32 = 0o1000;
/// See [`SHM_DEST`].
pub const SHM_LOCKED: u32 = 0o2000;

/// A segment as IPC_STAT shows it, shmctl(2).
#[derive(Clone, Copy, Debug)]
pub struct ShmSegment {
    /// Its key. 0 (IPC_PRIVATE) also for a removed segment.
    pub key: i32,
    /// Permissions, [`SHM_DEST`], [`SHM_LOCKED`].
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Owner.
    pub gid: u32,
    /// Creator.
    pub cuid: u32,
    /// Creator.
    pub cgid: u32,
    /// Bytes.
    pub size: u64,
    /// The process that made it.
    pub cpid: Pid,
    /// How many mappings of it there are.
    pub attached: u64,
}

/// The segment with this id, or `None` if there is none.
pub fn segment(id: i32) -> Result<Option<ShmSegment>> {
    let mut stat = std::mem::MaybeUninit::<libc::shmid_ds>::zeroed();
    // SAFETY: the struct is live, and all zeros is a value of it.
    let (got, stat) = unsafe { (libc::shmctl(id, libc::IPC_STAT, stat.as_mut_ptr()), stat.assume_init()) };
    match Errno::result(got) {
        Err(Errno::EINVAL | Errno::EIDRM) => return Ok(None),
        got => got.doing(|| format!("IPC_STAT of shared memory {id}"))?,
    };
    let perm = stat.shm_perm;
    Ok(Some(ShmSegment {
        key: perm.__key,
        mode: u32::from(perm.mode),
        uid: perm.uid,
        gid: perm.gid,
        cuid: perm.cuid,
        cgid: perm.cgid,
        size: stat.shm_segsz as u64,
        cpid: stat.shm_cpid,
        attached: stat.shm_nattch,
    }))
}

/// Sets permissions and owner.
pub fn set_segment(id: i32, mode: u32, uid: u32, gid: u32) -> Result<()> {
    let mut stat = std::mem::MaybeUninit::<libc::shmid_ds>::zeroed();
    // SAFETY: all zeros is a value of the struct, which is live; the kernel reads mode and owner
    // from it only.
    let got = unsafe {
        let stat = stat.assume_init_mut();
        (stat.shm_perm.uid, stat.shm_perm.gid, stat.shm_perm.mode) = (uid, gid, (mode & 0o777) as _);
        libc::shmctl(id, libc::IPC_SET, stat)
    };
    Errno::result(got).map(drop).doing(|| format!("IPC_SET of shared memory {id}"))
}

fn control(id: i32, command: i32, what: &str) -> Result<()> {
    // SAFETY: the commands that are used take no memory.
    let got = unsafe { libc::shmctl(id, command, std::ptr::null_mut()) };
    Errno::result(got).map(drop).doing(|| format!("{what} of shared memory {id}"))
}

/// Marks a segment for removal. The kernel frees it with its last user.
pub fn remove_segment(id: i32) -> Result<()> {
    IpcKind::Shm.remove(id)
}

/// SHM_LOCK or SHM_UNLOCK.
pub fn lock_segment(id: i32, lock: bool) -> Result<()> {
    match lock {
        true => control(id, SHM_LOCK, "SHM_LOCK"),
        false => control(id, SHM_UNLOCK, "SHM_UNLOCK"),
    }
}

// include/uapi/linux/shm.h.
const SHM_LOCK: i32 = 11;
const SHM_UNLOCK: i32 = 12;

/// The pages of a segment as a file, open for reading and writing. It is attached here for a moment
/// and opened through /proc/self/map_files. Its inode number is the segment's id (newseg in
/// ipc/shm.c).
pub fn open_segment(id: i32, size: u64) -> Result<OwnedFd> {
    // SAFETY: attached at an address that the kernel chooses. No other code has the address, and
    // the segment is never accessed.
    let at = unsafe { libc::shmat(id, std::ptr::null(), 0) };
    if at.addr() == usize::MAX {
        return Err(Errno::last()).doing(|| format!("attaching shared memory {id}"));
    }
    let (start, end) = (at.addr() as u64, at.addr() as u64 + size.next_multiple_of(PAGE));
    let file = std::fs::OpenOptions::new().read(true).write(true).open(memory::map_file(start, end));
    // SAFETY: the attachment made above.
    unsafe { libc::shmdt(at) };
    file.map(OwnedFd::from).doing(|| format!("opening shared memory {id}"))
}

/// Makes a segment with a chosen id, of this key and creator. Neither id nor key may be in use. It
/// holds zeros, and Drop removes it unless it is [kept](CreatedIpc::keep).
pub fn make_segment(id: i32, key: i32, size: u64, creator: Creator) -> Result<CreatedIpc> {
    let call = |flags: i32| Call::new(libc::SYS_shmget, [key as u64, size, flags as u64]);
    let flags = libc::IPC_CREAT | libc::IPC_EXCL | 0o600;
    let doing = || format!("making shared memory {id} (key {key:#x}, {size} bytes)");
    match crate::sys::sysvipc::make(IpcKind::Shm, id, creator, &call(flags), doing) {
        // Too much memory is reserved in all. A segment made with SHM_NORESERVE does not count.
        Err(error) if error.errno() == Some(libc::ENOMEM) => {
            crate::sys::sysvipc::make(IpcKind::Shm, id, creator, &call(flags | libc::SHM_NORESERVE), doing)
        }
        done => done,
    }
}

/// Whether a mapped file of this name and device is a segment.
pub fn is_segment(name: &[u8], dev: u64) -> bool {
    name.starts_with(b"/SYSV") && Some(dev) == device()
}

/// The device number of all shared memory of the kernel.
fn device() -> Option<u64> {
    static DEVICE: OnceLock<Option<u64>> = OnceLock::new();
    *DEVICE.get_or_init(|| {
        let file = std::fs::File::from(memory::shared_anonymous(PAGE).ok()?);
        Some(file.metadata().ok()?.dev())
    })
}
