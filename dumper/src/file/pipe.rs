//! Pipes, pipe(7): the buffers belong to the object, flags (O_NONBLOCK, packet mode) to each
//! description of an end.
//!
//! A pipe's first two descriptions come from pipe(2) and lack O_LARGEFILE, which open(2) always
//! adds and no call removes: they become the two that pipe(2) makes at the restore. All other
//! descriptions were opened through /proc, and are opened so again.

use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;

use nix::fcntl::OFlag;
use nix::unistd::pipe2;
use serde::{Deserialize, Serialize};

use crate::error::{Doing, Result};
use crate::file::parts::pipe_buffer::PipeBuffers;
use crate::file::parts::pipe_buffer::set_flags;
use crate::file::parts::pipe_head::PipeHead;
use crate::kind::external::{External, OutsidePipe};
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
    #[serde(flatten)]
    head: PipeHead,
}

impl Object for Pipe {
    type Body = PipeBody;
    const KIND: &'static str = "pipe";
    const REACHES_OUT: bool = true;

    fn check(&self, observed: &ObservedFile<'_>) -> Result<()> {
        PipeBuffers::check(observed)
    }

    fn dump(&self, observed: &ObservedFile<'_>) -> Result<Dumped<PipeBody>> {
        let (head, blob) = PipeHead::of(observed)?;
        let shown = observed.target.display().to_string();
        Ok(Dumped { body: PipeBody { shown, head }, blob, contents: None })
    }

    fn external(&self, body: PipeBody, external: External) -> PipeBody {
        PipeBody { head: body.head.held_outside(external), ..body }
    }

    fn outside(&self, body: &PipeBody) -> Option<OutsidePipe> {
        body.head.outside(body.shown.clone())
    }

    fn make(&self, body: &PipeBody, blob: &[u8]) -> Result<RestoredObject> {
        let doing = || format!("making {} again", body.shown);
        let (fd, other) = pipe2(OFlag::O_CLOEXEC).doing(doing)?;
        // The kernel checks owner and mode when a process opens the pipe through /proc.
        body.head.owner.restore(&fd, doing)?;
        body.head.buffers.refill(blob, &other)?;
        Ok(RestoredObject { other: Some(other), ..RestoredObject::new(fd, 0) })
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

    fn takes(&self, observed: &ObservedFile<'_>) -> bool {
        observed.stat.file_type().is_fifo() && observed.target.as_os_str().as_bytes().starts_with(b"pipe:[")
    }

    fn dump(&self, observed: &ObservedFile<'_>, objects: &mut dyn DumpContext) -> Result<PipeEndBody> {
        if observed.flags & libc::O_PATH != 0 {
            return Err(observed.refuse(format_args!("O_PATH descriptor of {}", observed.target.display())));
        }
        Ok(PipeEndBody { object: objects.id_of(&Pipe, observed)?, flags: observed.flags & !NOT_KEPT })
    }

    /// What takes the place of a pipe may be a FIFO, and a process that waits for its other end
    /// must not be woken by a restore that fails.
    fn opens_last(&self) -> bool {
        true
    }

    fn restore(&self, body: PipeEndBody, context: &dyn RestoreContext) -> Result<OwnedFd> {
        let pipe = context.object(body.object)?;
        let mode = body.flags & libc::O_ACCMODE;
        let first = match (&pipe.other, mode) {
            (Some(_), libc::O_RDONLY) => Some(&pipe.fd),
            (Some(other), libc::O_WRONLY) => Some(other),
            _ => None,
        };
        let fd = match first.filter(|_| body.flags & O_LARGEFILE == 0) {
            Some(end) => end.try_clone().doing(|| "duplicating an end of a pipe")?,
            None => pipe.open(mode | libc::O_NONBLOCK, 0)?,
        };
        set_flags(&fd, body.flags)?;
        Ok(fd)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::fd::AsFd;

    use nix::fcntl::{FcntlArg, fcntl};
    use nix::unistd::{read, write};

    use super::*;
    use crate::file::parts::pipe_buffer::tests::read_once;
    use crate::kind::object::fake::{OneObject, none};
    use crate::kind::observed::fake::{observed_fd, this};

    #[test]
    fn both_ends_flags_and_contents_come_back() {
        let (this, (from, to)) = (this(), pipe2(OFlag::O_DIRECT | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC).unwrap());
        fcntl(to.as_fd(), FcntlArg::F_SETPIPE_SZ(1 << 20)).unwrap();
        write(&to, b"one").unwrap();
        write(&to, b"two").unwrap();
        let own = |fd: &OwnedFd| fcntl(fd.as_fd(), FcntlArg::F_GETFL).unwrap();
        let (reader, writer) = (observed_fd(&from, &this), observed_fd(&to, &this));
        assert!(OpenFile::takes(&PipeEnd, &reader) && OpenFile::takes(&PipeEnd, &writer));
        let dumped = Object::dump(&Pipe, &writer).unwrap();
        let context = OneObject(Some(Object::make(&Pipe, &dumped.body, &dumped.blob).unwrap()));
        let again =
            |end| OpenFile::restore(&PipeEnd, OpenFile::dump(&PipeEnd, end, &mut none()).unwrap(), &context).unwrap();
        let (read_end, write_end) = (again(&reader), again(&writer));
        assert_eq!((own(&read_end), own(&write_end)), (own(&from), own(&to)));
        let another = ObservedFile { flags: O_LARGEFILE | libc::O_RDWR, ..observed_fd(&from, &this) };
        let both = again(&another);
        drop(context);
        assert_eq!(fcntl(both.as_fd(), FcntlArg::F_GETPIPE_SZ).unwrap(), 1 << 20);
        assert_eq!(read_once(&both), b"one");
        assert_eq!(read_once(&read_end), b"two");
        drop((write_end, both));
        assert_eq!(read(&read_end, &mut [0; 1]), Ok(0), "the writers are gone");
    }

    /// A file is appended to, by however many descriptions, as a pipe would be.
    #[test]
    fn a_file_in_the_place_of_a_pipe_keeps_what_is_in_it() {
        let (this, (from, to)) = (this(), pipe2(OFlag::O_DIRECT | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC).unwrap());
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, "old ").unwrap();
        let fd = std::fs::File::open(&file).unwrap().into();
        let context = OneObject(Some(RestoredObject::new(fd, 0)));
        let again = |end: &OwnedFd| {
            let end = OpenFile::dump(&PipeEnd, &observed_fd(end, &this), &mut none()).unwrap();
            OpenFile::restore(&PipeEnd, end, &context).unwrap()
        };
        let (one, two, reader) = (again(&to), again(&to), again(&from));
        write(&one, b"one ").unwrap();
        write(&two, b"two").unwrap();
        assert_eq!(read_once(&reader), b"old one two");
    }
}
