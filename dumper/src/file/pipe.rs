//! Pipes, pipe(7): the buffers belong to the object, flags (O_NONBLOCK, packet mode) to each description of an end.
//!
//! A pipe's two first descriptions come from pipe(2) and lack O_LARGEFILE, which open(2) always adds and nobody can take away: they come
//! back as the two that pipe(2) gives. Whatever else there is was opened through /proc, and is again.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::{fchown, pipe2};
use serde::{Deserialize, Serialize};

use crate::error::{Doing, Result};
use crate::file::parts::pipe_buffer::{PipeBuffers, set_flags};
use crate::kind::external::External;
use crate::kind::object::{DumpContext, Dumped, Object, RestoreContext, RestoredObject};
use crate::kind::observed::{NOT_KEPT, ObservedFile};
use crate::kind::open_file::OpenFile;
use crate::sys::open::O_LARGEFILE;

/// Table row: the object.
pub struct Pipe;

/// Its record.
#[derive(Serialize, Deserialize)]
pub struct PipeBody {
    /// "pipe:[1234]" at the dump.
    shown: String,
    mode: u32,
    uid: u32,
    gid: u32,
    #[serde(flatten)]
    buffers: PipeBuffers,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    external: Option<External>,
}

impl Object for Pipe {
    type Body = PipeBody;
    const KIND: &'static str = "pipe";
    const REACHES_OUT: bool = true;

    fn dump(&self, seen: &ObservedFile<'_>) -> Result<Dumped<PipeBody>> {
        let (buffers, blob) = PipeBuffers::peek(seen)?;
        let body = PipeBody {
            shown: seen.target.display().to_string(),
            mode: seen.stat.mode() & 0o7777,
            uid: seen.stat.uid(),
            gid: seen.stat.gid(),
            buffers,
            external: None,
        };
        Ok(Dumped { body, blob, contents: None })
    }

    fn external(&self, body: PipeBody, external: External) -> PipeBody {
        PipeBody { external: Some(external), buffers: body.buffers.without_contents(), ..body }
    }

    fn make(&self, body: &PipeBody, blob: &[u8]) -> Result<RestoredObject> {
        if let Some(external) = &body.external {
            return Ok(RestoredObject { fd: external.find(&body.shown)?, other: None, len: 0, made: None });
        }
        let doing = || format!("making {} again", body.shown);
        let (fd, other) = pipe2(OFlag::O_CLOEXEC).doing(doing)?;
        // Whoever opens it through /proc is asked for the permissions.
        fchown(&fd, Some(body.uid.into()), Some(body.gid.into())).doing(doing)?;
        fchmod(fd.as_fd(), Mode::from_bits_truncate(body.mode)).doing(doing)?;
        body.buffers.refill(blob, &other)?;
        Ok(RestoredObject { fd, other: Some(other), len: 0, made: None })
    }
}

/// Table row: a description of an end (or, opened for both, of both).
pub struct PipeEnd;

/// Its record.
#[derive(Serialize, Deserialize)]
pub struct PipeEndBody {
    object: u32,
    flags: i32,
}

impl OpenFile for PipeEnd {
    type Body = PipeEndBody;
    const KIND: &'static str = "pipe";

    fn takes(&self, seen: &ObservedFile<'_>) -> bool {
        seen.stat.file_type().is_fifo() && seen.target.as_os_str().as_bytes().starts_with(b"pipe:[")
    }

    fn dump(&self, seen: &ObservedFile<'_>, objects: &dyn DumpContext) -> Result<PipeEndBody> {
        if seen.flags & libc::O_PATH != 0 {
            return Err(seen.refuse(format_args!("O_PATH descriptor of {}", seen.target.display())));
        }
        Ok(PipeEndBody { object: objects.id_of(&Pipe, seen)?, flags: seen.flags & !NOT_KEPT })
    }

    fn restore(&self, body: PipeEndBody, anchors: &dyn RestoreContext) -> Result<OwnedFd> {
        let anchor = anchors.anchor(body.object)?;
        let mode = body.flags & libc::O_ACCMODE;
        let first = match (&anchor.other, mode) {
            (Some(_), libc::O_RDONLY) => Some(&anchor.fd),
            (Some(other), libc::O_WRONLY) => Some(other),
            _ => None,
        };
        let fd = match first.filter(|_| body.flags & O_LARGEFILE == 0) {
            Some(end) => end.try_clone().doing(|| "duplicating an end of a pipe")?,
            None => anchor.open(mode | libc::O_NONBLOCK, 0)?,
        };
        set_flags(&fd, body.flags)?;
        Ok(fd)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::process::Command;

    use nix::errno::Errno;
    use nix::fcntl::{FcntlArg, fcntl};
    use nix::unistd::{read, write};

    use super::*;
    use crate::file::parts::pipe_buffer::tests::{Only, read_once, seen, this};

    #[test]
    fn both_ends_flags_and_contents_come_back() {
        let (this, (from, to)) = (this(), pipe2(OFlag::O_DIRECT | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC).unwrap());
        fcntl(to.as_fd(), FcntlArg::F_SETPIPE_SZ(1 << 20)).unwrap();
        write(&to, b"one").unwrap();
        write(&to, b"two").unwrap();
        let own = |fd: &OwnedFd| fcntl(fd.as_fd(), FcntlArg::F_GETFL).unwrap();
        let (reader, writer) = (seen(&from, &this), seen(&to, &this));
        assert!(OpenFile::takes(&PipeEnd, &reader) && OpenFile::takes(&PipeEnd, &writer));
        let dumped = Object::dump(&Pipe, &writer).unwrap();
        let anchor = Object::make(&Pipe, &dumped.body, &dumped.blob).unwrap();
        let anchors = Only(Some(anchor));
        let again =
            |seen| OpenFile::restore(&PipeEnd, OpenFile::dump(&PipeEnd, seen, &Only(None)).unwrap(), &anchors).unwrap();
        let (read_end, write_end) = (again(&reader), again(&writer));
        assert_eq!((own(&read_end), own(&write_end)), (own(&from), own(&to)));
        let another = ObservedFile { flags: O_LARGEFILE | libc::O_RDWR, ..seen(&from, &this) };
        let both = again(&another);
        drop(anchors);
        assert_eq!(fcntl(both.as_fd(), FcntlArg::F_GETPIPE_SZ).unwrap(), 1 << 20);
        assert_eq!(read_once(&both), b"one");
        assert_eq!(read_once(&read_end), b"two");
        drop((write_end, both));
        assert_eq!(read(&read_end, &mut [0; 1]), Ok(0), "the writers are gone");
    }

    #[test]
    fn an_external_pipe_is_found_again_or_missed_by_name() {
        let (this, (from, to)) = (this(), pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).unwrap());
        write(&to, b"theirs").unwrap();
        // What this program itself holds does not count.
        let mut holder = Command::new("sleep").arg("100").stdout(to.try_clone().unwrap()).spawn().unwrap();
        let writer = seen(&to, &this);
        let body = Object::dump(&Pipe, &writer).unwrap().body;
        let external = External::of((writer.stat.dev(), writer.stat.ino())).unwrap();
        let body = Object::external(&Pipe, body, external);
        let anchors = Only(Some(Object::make(&Pipe, &body, &[]).unwrap()));
        let end = OpenFile::dump(&PipeEnd, &writer, &Only(None)).unwrap();
        let end = OpenFile::restore(&PipeEnd, end, &anchors).unwrap();
        write(&end, b" and ours").unwrap();
        assert_eq!(read_once(&from), b"theirs and ours");
        assert_eq!(read(&from, &mut [0; 1]), Err(Errno::EAGAIN));
        holder.kill().unwrap();
        holder.wait().unwrap();
        let missed = Object::make(&Pipe, &body, &[]).err().unwrap();
        assert_eq!(missed.kind(), crate::error::Kind::NotFound);
        assert!(missed.to_string().contains(&body.shown), "{missed}");
    }
}
