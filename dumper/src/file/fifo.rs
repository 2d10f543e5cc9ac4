//! FIFOs, fifo(7): pipes with a name. What is in one is nowhere but in its buffers, and they go with its last holder: they are in the
//! image, the name is looked up again. A FIFO without a name is made anew, and unlinked.
//!
//! A name is there for others too: none of them notices a restore before its image has been read to the end and found to be whole.
//! Only then an end is opened, which somebody may wait for, and the contents put in.
//!
//! Nothing here waits for another end: whatever is opened is opened with O_NONBLOCK, and a writer only beside a reader.

use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::fchown;
use serde::{Deserialize, Serialize};

use crate::error::{Context, Doing, Error, Kind, Result};
use crate::file::parts::directory::{self, ParentDir};
use crate::file::parts::pipe_buffer::{PipeBuffers, set_flags};
use crate::kind::external::External;
use crate::kind::object::{DumpContext, Dumped, Object, RestoreContext, RestoredObject};
use crate::kind::observed::{NOT_KEPT, ObservedFile, open_path};
use crate::kind::open_file::OpenFile;
use crate::sys::fd;

const GONE: &[u8] = b" (deleted)";

/// Table row: the object.
pub struct Fifo;

/// Its record.
#[derive(Serialize, Deserialize)]
pub struct FifoBody {
    path: Vec<u8>,
    /// Readable twin of `path`.
    name: String,
    /// It has no name any more.
    unlinked: bool,
    mode: u32,
    uid: u32,
    gid: u32,
    #[serde(flatten)]
    buffers: PipeBuffers,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    external: Option<External>,
}

impl Object for Fifo {
    type Body = FifoBody;
    const KIND: &'static str = "fifo";
    const REACHES_OUT: bool = true;

    fn dump(&self, seen: &ObservedFile<'_>) -> Result<Dumped<FifoBody>> {
        let unlinked = seen.stat.nlink() == 0;
        if !unlinked && !seen.is_named() {
            let shown = seen.target.display();
            return Err(seen.refuse(format_args!("FIFO {shown}, which that name does not lead to any more,")));
        }
        let path = seen.target.as_os_str().as_bytes();
        let path = if unlinked { path.strip_suffix(GONE).unwrap_or(path) } else { path };
        let (buffers, blob) = PipeBuffers::peek(seen)?;
        let body = FifoBody {
            path: path.to_vec(),
            name: String::from_utf8_lossy(path).into_owned(),
            unlinked,
            mode: seen.stat.mode() & 0o7777,
            uid: seen.stat.uid(),
            gid: seen.stat.gid(),
            buffers,
            external: None,
        };
        Ok(Dumped { body, blob, contents: None })
    }

    fn external(&self, body: FifoBody, external: External) -> FifoBody {
        FifoBody { external: Some(external), buffers: body.buffers.without_contents(), ..body }
    }

    fn make(&self, body: &FifoBody, _blob: &[u8]) -> Result<RestoredObject> {
        if let Some(external) = &body.external {
            let fd = external.find(&format!("FIFO {}", body.name))?;
            return Ok(RestoredObject { fd, other: None, len: 0, made: None });
        }
        let path = PathBuf::from(OsString::from_vec(body.path.clone()));
        let fd = if body.unlinked { made(&path)? } else { found(&path)? };
        Ok(RestoredObject { fd, other: None, len: 0, made: None })
    }

    fn appear(&self, body: &FifoBody, blob: &[u8], anchor: &mut RestoredObject) -> Result<()> {
        if body.external.is_some() {
            return Ok(());
        }
        // A reader: it keeps the buffers and waits for nobody.
        anchor.fd = anchor.open(libc::O_RDONLY | libc::O_NONBLOCK, 0).on(|| &body.name)?;
        if fd::readable(&anchor.fd).on(|| &body.name)? != 0 {
            let busy = format_args!("FIFO {}: somebody has written to it since the dump", body.name);
            return Err(Error::os(busy, libc::EBUSY));
        }
        if body.unlinked {
            let doing = || format!("owner and mode of the unlinked FIFO {}", body.name);
            fchown(&anchor.fd, Some(body.uid.into()), Some(body.gid.into())).doing(doing)?;
            fchmod(anchor.fd.as_fd(), Mode::from_bits_truncate(body.mode)).doing(doing)?;
        }
        body.buffers.refill(blob, &anchor.open(libc::O_WRONLY | libc::O_NONBLOCK, 0)?)
    }
}

/// The FIFO at `path`, as a mere place: whoever waits for one to open the other end goes on waiting.
fn found(path: &Path) -> Result<OwnedFd> {
    let file = open_path(path, libc::O_PATH)?;
    let now = file.metadata().doing(|| format!("stat of {}", path.display()))?;
    if now.file_type().is_fifo() {
        return Ok(file.into());
    }
    Err(Error::new(Kind::NotFound, format!("{} is no longer a FIFO", path.display())))
}

/// A FIFO that has lost its name: it is shown under the old one again, where that is free.
fn made(path: &Path) -> Result<OwnedFd> {
    let (place, name) = ParentDir::of(path)?;
    let (fd, name) = place.make_fifo(name)?;
    place.unlink(&name)?;
    directory::is_gone(&fd, path)?;
    Ok(fd)
}

/// Table row: a description of it.
pub struct FifoEnd;

/// Its record.
#[derive(Serialize, Deserialize)]
pub struct FifoEndBody {
    object: u32,
    flags: i32,
    /// Of a reader: its writers are gone (POLLHUP), as opposed to none having come yet.
    hung_up: bool,
}

impl OpenFile for FifoEnd {
    type Body = FifoEndBody;
    const KIND: &'static str = "fifo";

    fn takes(&self, seen: &ObservedFile<'_>) -> bool {
        seen.stat.file_type().is_fifo() && seen.target.as_os_str().as_bytes().starts_with(b"/")
    }

    fn dump(&self, seen: &ObservedFile<'_>, objects: &dyn DumpContext) -> Result<FifoEndBody> {
        let shown = seen.target.display();
        if seen.flags & libc::O_PATH != 0 {
            return Err(seen.refuse(format_args!("O_PATH descriptor of FIFO {shown}")));
        }
        let held = seen.description()?;
        let mut polled = [PollFd::new(held.as_fd(), PollFlags::POLLIN)];
        poll(&mut polled, PollTimeout::ZERO).doing(|| format!("{}: poll", seen.subject))?;
        let hung_up = polled[0].revents().is_some_and(|events| events.contains(PollFlags::POLLHUP));
        Ok(FifoEndBody { object: objects.id_of(&Fifo, seen)?, flags: seen.flags & !NOT_KEPT, hung_up })
    }

    fn opens_last(&self) -> bool {
        true
    }

    fn restore(&self, body: FifoEndBody, anchors: &dyn RestoreContext) -> Result<OwnedFd> {
        let anchor = anchors.anchor(body.object)?;
        let reads_only = body.flags & libc::O_ACCMODE == libc::O_RDONLY;
        // A writer without a reader is refused (ENXIO); a reader that sees a writer come and go has been hung up on (`fifo_open` in
        // fs/pipe.c). Opening for both never waits.
        let partner = (!reads_only || body.hung_up).then(|| anchor.open(libc::O_RDWR, 0)).transpose()?;
        let fd = anchor.open(body.flags & !libc::O_DIRECT | libc::O_NONBLOCK, 0)?;
        drop(partner);
        set_flags(&fd, body.flags)?;
        Ok(fd)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use nix::errno::Errno;
    use nix::fcntl::{OFlag, open};
    use nix::unistd::{mkfifo, read, unlink, write};

    use super::*;
    use crate::file::parts::pipe_buffer::tests::{Only, read_once, seen, this};

    fn open_at(path: &Path, flags: OFlag) -> OwnedFd {
        open(path, flags | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC, Mode::empty()).unwrap()
    }

    fn hung_up(fd: &OwnedFd) -> bool {
        let mut polled = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
        poll(&mut polled, PollTimeout::ZERO).unwrap();
        polled[0].revents().unwrap().contains(PollFlags::POLLHUP)
    }

    /// Dumps what `fds` lead to, closes them, and opens them again.
    fn cycled(fds: Vec<OwnedFd>) -> Result<Vec<OwnedFd>> {
        let this = this();
        let Dumped { body, blob, .. } = Object::dump(&Fifo, &seen(&fds[0], &this))?;
        let ends: Vec<FifoEndBody> =
            fds.iter().map(|fd| OpenFile::dump(&FifoEnd, &seen(fd, &this), &Only(None)).unwrap()).collect();
        drop(fds);
        let mut anchor = Object::make(&Fifo, &body, &blob)?;
        Object::appear(&Fifo, &body, &blob, &mut anchor)?;
        let anchors = Only(Some(anchor));
        ends.into_iter().map(|end| OpenFile::restore(&FifoEnd, end, &anchors)).collect()
    }

    #[test]
    fn contents_and_ends_come_back_with_and_without_a_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fifo");
        mkfifo(&path, Mode::S_IRWXU).unwrap();
        for named in [true, false] {
            let reader = open_at(&path, OFlag::O_RDONLY);
            let writer = open_at(&path, OFlag::O_WRONLY);
            write(&writer, b"waiting").unwrap();
            if !named {
                unlink(&path).unwrap();
            }
            let again = cycled(vec![reader, writer]).unwrap();
            assert_eq!(path.exists(), named);
            assert_eq!(read_once(&again[0]), b"waiting");
            write(&again[1], b"more").unwrap();
            assert_eq!(read_once(&again[0]), b"more");
            assert!(!hung_up(&again[0]));
        }
    }

    #[test]
    fn a_reader_knows_whether_a_writer_has_been_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fifo");
        mkfifo(&path, Mode::S_IRWXU).unwrap();
        let left = open_at(&path, OFlag::O_RDONLY);
        drop(open_at(&path, OFlag::O_WRONLY));
        let again = cycled(vec![left, open_at(&path, OFlag::O_RDONLY)]).unwrap();
        assert_eq!((hung_up(&again[0]), hung_up(&again[1])), (true, false));
        assert_eq!(read(&again[1], &mut [0; 1]), Ok(0));
    }

    #[test]
    fn nobody_notices_before_the_image_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fifo");
        mkfifo(&path, Mode::S_IRWXU).unwrap();
        let (this, both) = (this(), open_at(&path, OFlag::O_RDWR));
        write(&both, b"waiting").unwrap();
        let Dumped { body, blob, .. } = Object::dump(&Fifo, &seen(&both, &this)).unwrap();
        drop(both);
        let mut anchor = Object::make(&Fifo, &body, &blob).unwrap();
        assert_eq!(open(&path, OFlag::O_WRONLY | OFlag::O_NONBLOCK, Mode::empty()).err(), Some(Errno::ENXIO));
        let outsider = open_at(&path, OFlag::O_RDONLY);
        assert_eq!(read(&outsider, &mut [0; 1]), Ok(0));
        Object::appear(&Fifo, &body, &blob, &mut anchor).unwrap();
        assert_eq!(read_once(&outsider), b"waiting");
    }

    #[test]
    fn a_fifo_that_is_gone_or_in_use_is_not_taken() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fifo");
        mkfifo(&path, Mode::S_IRWXU).unwrap();
        let (this, used) = (this(), open_at(&path, OFlag::O_RDWR));
        write(&used, b"x").unwrap();
        let Dumped { body, blob, .. } = Object::dump(&Fifo, &seen(&used, &this)).unwrap();
        let mut anchor = Object::make(&Fifo, &body, &blob).unwrap();
        let busy = Object::appear(&Fifo, &body, &blob, &mut anchor).unwrap_err();
        assert_eq!(busy.kind(), Kind::System(libc::EBUSY));
        let error = |body| Object::make(&Fifo, body, &blob).err().unwrap().kind();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(error(&body), Kind::NotFound);
        std::fs::write(&path, "a file").unwrap();
        assert_eq!(error(&body), Kind::NotFound);
    }
}
