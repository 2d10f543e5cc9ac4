//! System V message queues, msgget(2), msgctl(2), msgop(2).

use nix::errno::Errno;

use crate::error::{Doing, Result};
use crate::sys::clone::Creator;
use crate::sys::remote::batch::Call;
use crate::sys::sysvipc::CreatedIpc;
use crate::sys::sysvipc::ipc_kind::IpcKind;

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its type, above 0.
    pub kind: i64,
    /// Its text.
    pub text: Vec<u8>,
}

/// include/uapi/linux/msg.h: copies a message instead of taking it. Its type is then a position.
const MSG_COPY: i32 = 0o40000;

/// Room for a type and a text of at most `bytes`, to be reused.
pub fn room(bytes: usize) -> Vec<u64> {
    vec![0; 1 + bytes.div_ceil(8)]
}

/// The message at `position`, read into `room`. `None` behind the last.
///
/// # Errors
/// E2BIG: there is not enough room.
pub fn peek(id: i32, position: usize, room: &mut [u64]) -> Result<Option<Message>> {
    let flags = MSG_COPY | libc::IPC_NOWAIT;
    // SAFETY: the room is live, and its first word is for the type.
    let got = unsafe { libc::msgrcv(id, room.as_mut_ptr().cast(), (room.len() - 1) * 8, position as i64, flags) };
    let len = match Errno::result(got) {
        Err(Errno::ENOMSG) => return Ok(None),
        got => got.doing(|| format!("reading message queue {id}"))? as usize,
    };
    let mut text: Vec<u8> = room[1..=len.div_ceil(8)].iter().flat_map(|word| word.to_le_bytes()).collect();
    text.truncate(len);
    Ok(Some(Message { kind: room[0].cast_signed(), text }))
}

/// A message as msgsnd(2) reads it.
pub fn encode(message: &Message) -> Vec<u8> {
    [&message.kind.to_le_bytes()[..], &message.text].concat()
}

/// msgsnd(2) of a message that is [encoded](encode) at `at`. Does not sleep.
pub fn send(id: i32, at: u64, text: usize) -> Call {
    Call::new(libc::SYS_msgsnd, [id as u64, at, text as u64, libc::IPC_NOWAIT as u64])
}

/// msgrcv(2) of the first message. Only its type is kept, in the word at `at`. Does not sleep.
pub fn take(id: i32, at: u64) -> Call {
    Call::new(libc::SYS_msgrcv, [id as u64, at, 0, 0, (libc::IPC_NOWAIT | libc::MSG_NOERROR) as u64])
}

/// The most bytes that a queue may hold (IPC_STAT, msg_qbytes).
pub fn capacity(id: i32) -> Result<u64> {
    let mut stat = std::mem::MaybeUninit::<libc::msqid_ds>::zeroed();
    // SAFETY: the struct is live, and all zeros is a value of it.
    let (got, stat) = unsafe { (libc::msgctl(id, libc::IPC_STAT, stat.as_mut_ptr()), stat.assume_init()) };
    Errno::result(got).map(|_| stat.msg_qbytes).doing(|| format!("IPC_STAT of message queue {id}"))
}

/// IPC_SET of permissions, owner and the most bytes that it may hold.
pub fn set_owner(id: i32, mode: u32, uid: u32, gid: u32, capacity: u64) -> Result<()> {
    let mut stat = std::mem::MaybeUninit::<libc::msqid_ds>::zeroed();
    // SAFETY: all zeros is a value of the struct, which is live; the kernel reads mode, owner and
    // size from it only.
    let got = unsafe {
        let stat = stat.assume_init_mut();
        (stat.msg_perm.uid, stat.msg_perm.gid, stat.msg_perm.mode) = (uid, gid, (mode & 0o777) as _);
        stat.msg_qbytes = capacity;
        libc::msgctl(id, libc::IPC_SET, stat)
    };
    Errno::result(got).map(drop).doing(|| format!("IPC_SET of message queue {id}"))
}

/// Makes a queue with a chosen id. Drop removes it unless it is kept.
pub fn make_queue(id: i32, key: i32, creator: Creator) -> Result<CreatedIpc> {
    let flags = libc::IPC_CREAT | libc::IPC_EXCL | 0o600;
    let call = Call::new(libc::SYS_msgget, [key as u64, flags as u64]);
    crate::sys::sysvipc::make(IpcKind::Msg, id, creator, &call, || format!("making message queue {id} (key {key:#x})"))
}
