//! System V message queues, msgget(2), msgctl(2), msgop(2).

use super::super::batch::Call;
use super::super::clone::Creator;
use super::{Kind, Made};
use crate::{Error, Result};

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its type, above 0.
    pub kind: i64,
    /// Its text.
    pub text: Vec<u8>,
}

/// include/uapi/linux/msg.h: copies a message instead of taking it; its type is then a position.
const MSG_COPY: i32 = 0o40000;

/// The message at `position` of a queue that holds at most `bytes`; `None` behind the last.
pub fn peek(id: i32, position: usize, bytes: usize) -> Result<Option<Message>> {
    let mut buffer = vec![0_u64; 1 + bytes.div_ceil(8)];
    let flags = MSG_COPY | libc::IPC_NOWAIT;
    // SAFETY: the buffer is live, and has room for the type and `bytes` behind it.
    let got = unsafe { libc::msgrcv(id, buffer.as_mut_ptr().cast(), bytes, position as i64, flags) };
    let Ok(len) = usize::try_from(got) else { return none_or_error(id).map(|()| None) };
    let all: Vec<u8> = buffer.iter().flat_map(|word| word.to_le_bytes()).collect();
    Ok(Some(Message { kind: buffer[0].cast_signed(), text: all[8..8 + len].to_vec() }))
}

/// Takes the first message and forgets it; whether there was one.
pub fn take(id: i32) -> Result<bool> {
    let mut kind = 0_u64;
    // SAFETY: the type is live, and no text is wanted.
    let got = unsafe { libc::msgrcv(id, (&raw mut kind).cast(), 0, 0, libc::MSG_NOERROR | libc::IPC_NOWAIT) };
    if got == -1 { none_or_error(id).map(|()| false) } else { Ok(true) }
}

fn none_or_error(id: i32) -> Result<()> {
    match std::io::Error::last_os_error().raw_os_error() {
        Some(libc::ENOMSG) => Ok(()),
        _ => Err(Error::last_os(format_args!("reading message queue {id}"))),
    }
}

/// A message as msgsnd(2) reads it.
pub fn laid_out(message: &Message) -> Vec<u8> {
    [&message.kind.to_le_bytes()[..], &message.text].concat()
}

/// msgsnd(2) of what is [laid out](laid_out) at `at`; waits for nobody.
pub fn send(id: i32, at: u64, text: usize) -> Call {
    Call::new(libc::SYS_msgsnd, [id as u64, at, text as u64, libc::IPC_NOWAIT as u64])
}

/// msgrcv(2) of the first message, which is not longer than the room at `at`; waits for nobody.
pub fn receive_at(id: i32, at: u64, room: usize) -> Call {
    Call::new(libc::SYS_msgrcv, [id as u64, at, room as u64, 0, libc::IPC_NOWAIT as u64])
}

/// The most bytes that a queue may hold (IPC_STAT, msg_qbytes).
pub fn capacity(id: i32) -> Result<u64> {
    let mut stat = std::mem::MaybeUninit::<libc::msqid_ds>::zeroed();
    // SAFETY: the struct is live; all zeros is a value of it.
    let (got, stat) = unsafe { (libc::msgctl(id, libc::IPC_STAT, stat.as_mut_ptr()), stat.assume_init()) };
    if got == -1 { Err(Error::last_os(format_args!("IPC_STAT of message queue {id}"))) } else { Ok(stat.msg_qbytes) }
}

/// IPC_SET of permissions, owner and the most bytes that it may hold.
pub fn set_owner(id: i32, mode: u32, uid: u32, gid: u32, capacity: u64) -> Result<()> {
    let mut stat = std::mem::MaybeUninit::<libc::msqid_ds>::zeroed();
    // SAFETY: all zeros is a value of the struct, which is live; the kernel reads mode, owner and size from it only.
    let got = unsafe {
        let stat = stat.assume_init_mut();
        (stat.msg_perm.uid, stat.msg_perm.gid, stat.msg_perm.mode) = (uid, gid, (mode & 0o777) as _);
        stat.msg_qbytes = capacity;
        libc::msgctl(id, libc::IPC_SET, stat)
    };
    if got == -1 { Err(Error::last_os(format_args!("IPC_SET of message queue {id}"))) } else { Ok(()) }
}

/// Makes a queue with a chosen id; removed on Drop until it is kept.
pub fn make_queue(id: i32, key: i32, creator: Creator) -> Result<Made> {
    let flags = libc::IPC_CREAT | libc::IPC_EXCL | 0o600;
    let call = Call::new(libc::SYS_msgget, [key as u64, flags as u64]);
    super::make(Kind::Msg, id, creator, &call, || format!("making message queue {id} (key {key:#x})"))
}
