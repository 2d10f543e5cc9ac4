//! Descriptors pushed into a process that this daemon made, by SCM_RIGHTS (unix(7)). The process
//! makes a socket pair, and this daemon pulls one end.
//!
//! This needs no path, no namespace and no permission of the target.

use std::io::IoSlice;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

use crate::error::{Doing, Error, Result};
use crate::sys::pid::Pid;
use crate::sys::pidfd::PidFd;
use crate::sys::remote::batch::Batch;
use crate::sys::remote::owned::Owned;

/// How many descriptors are pushed at once: SCM_MAX_FD, include/net/scm.h.
pub const MOST: usize = 253;

/// An open channel into one process.
pub struct Channel {
    ours: OwnedFd,
    theirs: std::cell::Cell<i32>,
    pid: Pid,
}

impl Channel {
    /// Makes the pair in `process`.
    pub fn open(process: &mut Owned, pid: Pid) -> Result<Self> {
        let mut batch = Batch::new(process.scratch());
        let flags = (libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC) as u64;
        let pair = batch.call_into(libc::SYS_socketpair, [libc::AF_UNIX as u64, flags, 0, 0], 3);
        let [word]: [u64; 1] = process.run(batch)?.get(pair, || format!("pid {pid}: socketpair"))?;
        let (theirs, to_pull) = (word as u32 as i32, (word >> 32) as i32);
        let ours = PidFd::of_thread(pid)?.pull(to_pull)?;
        let mut batch = Batch::new(process.scratch());
        batch.call(libc::SYS_close, [to_pull as u64]);
        process.run(batch)?;
        Ok(Self { ours, theirs: theirs.into(), pid })
    }

    /// Pushes `fds`. Returns their numbers in the process, where close-on-exec is set: the lowest
    /// that are free, ascending.
    pub fn push(&self, process: &mut Owned, fds: &[RawFd]) -> Result<Vec<i32>> {
        let mut numbers = Vec::with_capacity(fds.len());
        for some in fds.chunks(MOST) {
            self.push_some(process, some, &mut numbers)?;
        }
        Ok(numbers)
    }

    fn push_some(&self, process: &mut Owned, fds: &[RawFd], numbers: &mut Vec<i32>) -> Result<()> {
        let doing = || format!("pid {}: handing over descriptors", self.pid);
        let rights = [ControlMessage::ScmRights(fds)];
        sendmsg::<()>(self.ours.as_raw_fd(), &[IoSlice::new(b"f")], &rights, MsgFlags::MSG_DONTWAIT, None)
            .doing(doing)?;

        let mut batch = Batch::new(process.scratch());
        let byte = batch.room(1);
        let iov = batch.put(&words(&[byte.0, 1]));
        // cmsghdr is 16 bytes, then the descriptors, padded to 8.
        let control_len = (16 + fds.len() * 4).next_multiple_of(8);
        let control = batch.room(control_len);
        let header = batch.put(&words(&[0, 0, iov.0, 1, control.0, control_len as u64, 0]));
        let flags = (libc::MSG_CMSG_CLOEXEC | libc::MSG_DONTWAIT) as u64;
        let received = batch.call(libc::SYS_recvmsg, [self.theirs.get() as u64, header.0, flags]);
        let answers = process.run(batch)?;
        answers.get(received, doing)?;
        let control = answers.bytes(control, control_len);
        let received = answers.words::<6>(header)[5].saturating_sub(16) as usize / 4;
        if received < fds.len() {
            // The kernel installs as many as RLIMIT_NOFILE allows and reports the rest only by
            // truncation.
            return Err(Error::os(doing(), libc::EMFILE));
        }
        for number in control[16..].chunks_exact(4).take(fds.len()) {
            numbers.push(i32::from_le_bytes([number[0], number[1], number[2], number[3]]));
        }
        Ok(())
    }

    /// Records that the process's end has been moved to another number.
    pub fn moved(&self, number: i32) {
        self.theirs.set(number);
    }

    /// The channel's descriptor number in the process. It must be closed last.
    pub fn number(&self) -> i32 {
        self.theirs.get()
    }
}

fn words(values: &[u64]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}
