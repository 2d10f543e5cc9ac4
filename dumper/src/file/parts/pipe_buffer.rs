//! The contents of a pipe, pipe(7): a row of buffers, each with a length of its own. In packet mode
//! each is a packet.
//!
//! A dump copies them with tee(2) into a pipe of its own, which takes the buffers one by one as
//! they are (`link_pipe` in fs/splice.c). Reader and writer notice nothing. A restore writes them
//! with splice(2), which moves a whole buffer, so a full pipe is full again to the byte.

use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl, splice, tee};
use nix::sys::stat::{SFlag, fstat};
use nix::unistd::{pipe2, read, write};
use serde::{Deserialize, Serialize};

use crate::error::{Context, Doing, Error, Result};
use crate::kind::observed::ObservedFile;
use crate::sys::fd;
use crate::sys::memory::PAGE;

/// No limit, for calls that move buffers.
const ALL: usize = 1 << 30;
const NOW: SpliceFFlags = SpliceFFlags::SPLICE_F_NONBLOCK;

/// A pipe's buffers; the bytes are in the record's blob.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PipeBuffers {
    /// F_GETPIPE_SZ, bytes.
    capacity: i32,
    /// The length of each buffer, and whether it is a packet. A read never goes beyond the end of a
    /// packet, and drops what it leaves of it.
    buffers: Vec<(u32, bool)>,
}

impl PipeBuffers {
    /// Refuses a pipe of notifications. Opens no end of it, so that its processes notice nothing.
    pub fn check(observed: &ObservedFile<'_>) -> Result<()> {
        let held = observed.description()?;
        let (ours, end) = pipe_of(PAGE as i32).on(|| &observed.subject)?;
        let teed = match observed.flags & libc::O_ACCMODE {
            libc::O_WRONLY => tee(&ours, &held, 1, NOW),
            _ => tee(&held, &end, 1, NOW),
        };
        if teed == Err(Errno::EINVAL) { Err(notifies(observed)) } else { Ok(()) }
    }

    /// Copies the contents of the observed pipe, and changes nothing.
    pub fn peek(observed: &ObservedFile<'_>) -> Result<(Self, Vec<u8>)> {
        let held = observed.description()?;
        let doing = |what: &'static str| move || format!("{}: {what}", observed.subject);
        let capacity = fcntl(held.as_fd(), FcntlArg::F_GETPIPE_SZ).doing(doing("F_GETPIPE_SZ"))?;
        let (mut buffers, mut bytes) = (Vec::new(), Vec::new());
        let (ours, end) = pipe_of(capacity).on(|| &observed.subject)?;
        let reader = match observed.flags & libc::O_ACCMODE {
            libc::O_WRONLY if fd::readable(&held).on(|| &observed.subject)? == 0 => None,
            // Only if it is needed: while this reader exists, a pipe without a reader appears to
            // have one.
            libc::O_WRONLY => Some(observed.anew(libc::O_RDONLY | libc::O_NONBLOCK)?),
            _ => Some(held.try_clone().doing(doing("duplicating it"))?),
        };
        let teed = match &reader {
            Some(reader) => tee(reader, &end, ALL, NOW),
            // The call copies nothing from an empty pipe, and its error shows the sort of pipe.
            None => tee(&ours, &held, 1, NOW),
        };
        match teed {
            Ok(0) | Err(Errno::EAGAIN) => {}
            Ok(_) => take_apart(&ours, &mut buffers, &mut bytes).on(|| &observed.subject)?,
            // pipe2(2), O_NOTIFICATION_PIPE: the calls of this family fail on it.
            Err(Errno::EINVAL) => return Err(notifies(observed)),
            Err(error) => return Err(error).doing(doing("tee")),
        }
        if buffers.len() as u64 * PAGE > u64::from(capacity.cast_unsigned()) {
            // A buffer spliced from a socket may be longer than a page, and a restore cannot make
            // such a buffer.
            return Err(observed.refuse("a pipe that holds more than its capacity"));
        }
        Ok((Self { capacity, buffers }, bytes))
    }

    /// Fills an empty pipe, given its writing end.
    pub fn refill(&self, bytes: &[u8], to: &OwnedFd) -> Result<()> {
        let doing = |what: &'static str| move || format!("{what} a pipe of {} bytes", self.capacity);
        if fcntl(to.as_fd(), FcntlArg::F_GETPIPE_SZ).doing(doing("asking for the capacity of"))? != self.capacity {
            fcntl(to.as_fd(), FcntlArg::F_SETPIPE_SZ(self.capacity)).doing(doing("making"))?;
        }
        if self.buffers.is_empty() {
            return Ok(());
        }
        let (one, end) = pipe_of(PAGE as i32)?;
        let mut rest = bytes;
        for (len, packet) in &self.buffers {
            let len = *len as usize;
            if len == 0 || len > rest.len() || len as u64 > PAGE {
                return Err(Error::damaged(format!("a pipe's buffer of {len} bytes, where {} are left", rest.len())));
            }
            let (buffer, behind) = rest.split_at(len);
            let mode = if *packet { OFlag::O_DIRECT } else { OFlag::empty() };
            fcntl(end.as_fd(), FcntlArg::F_SETFL(OFlag::O_NONBLOCK | mode)).doing(doing("filling"))?;
            write(&end, buffer).doing(doing("filling"))?;
            let moved = splice(&one, None, to, None, len, NOW).doing(doing("filling"))?;
            if moved != len {
                return Err(Error::os(format_args!("filling a pipe: {moved} of {len} bytes moved"), libc::EIO));
            }
            rest = behind;
        }
        Ok(())
    }

    /// The same pipe, empty.
    pub fn without_contents(self) -> Self {
        Self { buffers: Vec::new(), ..self }
    }
}

fn notifies(observed: &ObservedFile<'_>) -> Error {
    observed.refuse("a notification pipe")
}

/// Empties a pipe of this process buffer by buffer. Each is moved alone into another pipe, with one
/// byte behind it. One read then returns its length, and shows whether it is a packet.
fn take_apart(pipe: &OwnedFd, buffers: &mut Vec<(u32, bool)>, bytes: &mut Vec<u8>) -> Result<()> {
    let doing = || "taking a copy of a pipe apart";
    let (one, to_one) = pipe_of(PAGE as i32)?;
    let (two, to_two) = pipe_of(2 * PAGE as i32)?;
    loop {
        let len = match splice(pipe, None, &to_one, None, ALL, NOW) {
            Err(Errno::EAGAIN) | Ok(0) => return Ok(()),
            got => got.doing(doing)?,
        };
        splice(&one, None, &to_two, None, len, NOW).doing(doing)?;
        write(&to_two, b"x").doing(doing)?;
        let from = bytes.len();
        bytes.resize(from + len + 1, 0);
        let packet = read(&two, &mut bytes[from..]).doing(doing)? == len;
        if packet {
            read(&two, &mut bytes[from + len..]).doing(doing)?;
        }
        bytes.truncate(from + len);
        buffers.extend(bytes[from..].chunks(PAGE as usize).map(|part| (part.len() as u32, packet)));
    }
}

fn pipe_of(capacity: i32) -> Result<(OwnedFd, OwnedFd)> {
    let doing = || format!("making a pipe of {capacity} bytes");
    let (read, write) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).doing(doing)?;
    fcntl(write.as_fd(), FcntlArg::F_SETPIPE_SZ(capacity)).doing(doing)?;
    Ok((read, write))
}

/// Sets the flags of a description that fcntl(2) F_SETFL sets. There is no other way to set packet
/// mode (O_DIRECT) on a pipe that is opened again (`do_dentry_open` in fs/open.c refuses it), and
/// opening a FIFO without O_NONBLOCK waits for its other end.
///
/// A regular file that takes the place of a pipe is appended to. What is no pipe knows no packets.
pub fn set_flags(fd: &OwnedFd, flags: i32) -> Result<()> {
    let kind = SFlag::from_bits_truncate(fstat(fd).doing(|| "stat of a pipe")?.st_mode) & SFlag::S_IFMT;
    let flags = match kind {
        SFlag::S_IFIFO => flags,
        SFlag::S_IFREG => flags & !libc::O_DIRECT | libc::O_APPEND,
        _ => flags & !libc::O_DIRECT,
    };
    fcntl(fd.as_fd(), FcntlArg::F_SETFL(OFlag::from_bits_retain(flags)))
        .doing(|| format!("setting the flags {flags:#o} of a pipe"))
        .map(drop)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub mod tests {
    use super::*;
    use crate::kind::observed::fake::{observed_fd, this};

    /// All bytes that one read returns.
    pub fn read_once(fd: &OwnedFd) -> Vec<u8> {
        let mut bytes = vec![0; 100_000];
        let len = read(fd, &mut bytes).unwrap();
        bytes.truncate(len);
        bytes
    }

    #[test]
    fn buffers_come_apart_and_together() {
        let (this, (from, to)) = (this(), pipe_of(65536).unwrap());
        let mode = |flags| fcntl(to.as_fd(), FcntlArg::F_SETFL(flags)).unwrap();
        let stream: Vec<u8> = (0..10_000_u32).map(|n| n as u8).collect();
        write(&to, &stream).unwrap();
        mode(OFlag::O_DIRECT);
        for packet in [&b"a"[..], b"bc", &[7; 4096], b"d"] {
            write(&to, packet).unwrap();
        }
        mode(OFlag::O_NONBLOCK);
        write(&to, b"and on").unwrap();
        let (buffers, bytes) = PipeBuffers::peek(&observed_fd(&from, &this)).unwrap();
        assert_eq!(bytes.len(), 10_000 + 1 + 2 + 4096 + 1 + 6);
        // If a page has room behind its bytes, the next bytes go there, packet or not.
        let lens = [(4096, false), (4096, false), (1811, false), (4096, true), (1, true), (6, false)];
        assert_eq!(buffers.buffers, lens);
        assert_eq!(
            PipeBuffers::peek(&observed_fd(&to, &this)).unwrap(),
            (buffers, bytes),
            "the same through the other end"
        );

        let (buffers, bytes) = PipeBuffers::peek(&observed_fd(&from, &this)).unwrap();
        let (again, end) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).unwrap();
        buffers.refill(&bytes, &end).unwrap();
        for pipe in [&from, &again] {
            // Only the end of a packet ends a read.
            assert_eq!(read_once(pipe), [&stream[..], b"abc", &[7; 4096]].concat());
            assert_eq!(read_once(pipe), b"d");
            assert_eq!(read_once(pipe), b"and on");
        }
    }

    #[test]
    fn a_full_pipe_is_full_again_whatever_its_buffers_hold() {
        let this = this();
        for len in [1, 3000, 4096] {
            let (from, to) = pipe_of(1 << 20).unwrap();
            let mut packets = 0;
            fcntl(to.as_fd(), FcntlArg::F_SETFL(OFlag::O_NONBLOCK | OFlag::O_DIRECT)).unwrap();
            while write(&to, &vec![1; len]).is_ok() {
                packets += 1;
            }
            let (buffers, bytes) = PipeBuffers::peek(&observed_fd(&from, &this)).unwrap();
            assert_eq!((packets, bytes.len()), (256, 256 * len));
            let (again, end) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).unwrap();
            buffers.refill(&bytes, &end).unwrap();
            assert_eq!(write(&end, b"x"), Err(Errno::EAGAIN));
            assert_eq!(PipeBuffers::peek(&observed_fd(&again, &this)).unwrap(), (buffers, bytes));
        }
    }

    #[test]
    fn damage_is_refused() {
        for buffers in [vec![(0, false)], vec![(5, false)], vec![(4097, true)], vec![(4, true); 17]] {
            let buffers = PipeBuffers { capacity: 65536, buffers };
            let (_from, to) = pipe_of(4096).unwrap();
            assert!(buffers.refill(&[0; 4], &to).is_err());
        }
        let (_from, to) = pipe_of(4096).unwrap();
        assert!(PipeBuffers { capacity: -1, buffers: vec![] }.refill(&[], &to).is_err());
    }
}
