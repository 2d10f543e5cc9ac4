//! System V semaphores, semget(2), semctl(2), semop(2).

use nix::errno::Errno;

use crate::error::{Doing, Result};
use crate::sys::clone::Creator;
use crate::sys::pid::Pid;
use crate::sys::remote::batch::Call;
use crate::sys::sysvipc::CreatedIpc;
use crate::sys::sysvipc::ipc_kind::IpcKind;

/// One operation, struct sembuf of semop(2).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Op {
    /// Which semaphore.
    pub n: u16,
    /// What is added to it. 0 waits for zero.
    pub add: i16,
    /// [`NOWAIT`], [`UNDO`].
    pub flags: i16,
}

/// IPC_NOWAIT.
pub const NOWAIT: i16 = 0o4000;
/// SEM_UNDO.
pub const UNDO: i16 = 0x1000;
/// The largest value, SEMVMX of include/uapi/linux/sem.h.
pub const VALUE_MOST: i32 = 32767;

impl Op {
    /// The bytes that the kernel reads.
    pub fn bytes(ops: &[Op]) -> Vec<u8> {
        let bytes = |op: &Op| [op.n.to_le_bytes(), op.add.to_le_bytes(), op.flags.to_le_bytes()].concat();
        ops.iter().flat_map(bytes).collect()
    }
}

/// The most semaphores of a set: their numbers have 16 bits (semop(2)).
const SET_MOST: usize = 1 << 16;

// include/uapi/linux/sem.h.
const GETPID: i32 = 11;
const GETALL: i32 = 13;
const GETNCNT: i32 = 14;
const GETZCNT: i32 = 15;
const SETVAL: i32 = 16;

/// All values of a set of `count`.
pub fn values(id: i32, count: usize) -> Result<Vec<u16>> {
    let mut values = vec![0_u16; SET_MOST];
    // SAFETY: the kernel writes as many as the set has, which are never more than there is room
    // for.
    let got = unsafe { libc::semctl(id, 0, GETALL, values.as_mut_ptr()) };
    values.truncate(count);
    Errno::result(got).map(|_| values).doing(|| format!("GETALL of semaphore set {id}"))
}

fn query(id: i32, n: u16, command: i32, what: &str) -> Result<i32> {
    // SAFETY: the commands take no fourth argument; no memory is passed.
    Errno::result(unsafe { libc::semctl(id, i32::from(n), command) })
        .doing(|| format!("{what} of semaphore {n} of set {id}"))
}

/// GETPID: the process of the last operation, or 0 if there was none.
pub fn last_user(id: i32, n: u16) -> Result<Pid> {
    query(id, n, GETPID, "GETPID")
}

/// GETNCNT and GETZCNT: how many tasks wait on it.
pub fn waiting(id: i32, n: u16) -> Result<i32> {
    Ok(query(id, n, GETNCNT, "GETNCNT")? + query(id, n, GETZCNT, "GETZCNT")?)
}

/// SETVAL.
pub fn set_value(id: i32, n: u16, value: u16) -> Call {
    Call::new(libc::SYS_semctl, [id as u64, n.into(), SETVAL as u64, value.into()])
}

/// semop(2) of the operations at `at`.
pub fn operate(id: i32, at: u64, count: usize) -> Call {
    Call::new(libc::SYS_semop, [id as u64, at, count as u64])
}

/// IPC_SET of permissions and owner.
pub fn set_owner(id: i32, mode: u32, uid: u32, gid: u32) -> Result<()> {
    let mut stat = std::mem::MaybeUninit::<libc::semid_ds>::zeroed();
    // SAFETY: all zeros is a value of the struct, which is live; the kernel reads mode and owner
    // from it only.
    let got = unsafe {
        let stat = stat.assume_init_mut();
        (stat.sem_perm.uid, stat.sem_perm.gid, stat.sem_perm.mode) = (uid, gid, (mode & 0o777) as _);
        libc::semctl(id, 0, libc::IPC_SET, std::ptr::from_mut(stat))
    };
    Errno::result(got).map(drop).doing(|| format!("IPC_SET of semaphore set {id}"))
}

/// Makes a set with a chosen id. Drop removes it unless it is kept.
pub fn make_set(id: i32, key: i32, count: usize, creator: Creator) -> Result<CreatedIpc> {
    let flags = libc::IPC_CREAT | libc::IPC_EXCL | 0o600;
    let call = Call::new(libc::SYS_semget, [key as u64, count as u64, flags as u64]);
    crate::sys::sysvipc::make(IpcKind::Sem, id, creator, &call, || {
        format!("making semaphore set {id} (key {key:#x}, {count} semaphores)")
    })
}
