//! FIFOs, fifo(7): pipes with a name. The contents exist only in the buffers, and the kernel drops
//! them when the last holder closes the FIFO, so the image has them. The name is opened again. A
//! FIFO without a name is created anew and unlinked.
//!
//! Other processes can open the name too, and must not notice a restore before the whole image has
//! been read and verified. Only then a restore opens an end, which another process may wait for,
//! and writes the contents.
//!
//! Nothing here waits for another end: every end is opened with O_NONBLOCK, and a writer only while
//! there is a reader.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::{Deserialize, Serialize};

use crate::error::{Context, Doing, Error, Kind, Result};
use crate::file::parts::directory::{self, ParentDir};
use crate::file::parts::pipe_buffer::set_flags;
use crate::file::parts::pipe_head::PipeHead;
use crate::kind::external::{External, OutsidePipe};
use crate::kind::object::{DumpContext, Dumped, Object, RestoreContext, RestoredObject};
use crate::kind::observed::{NOT_KEPT, ObservedFile, open_path};
use crate::kind::open_file::OpenFile;
use crate::sys::fd;

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
    #[serde(flatten)]
    head: PipeHead,
}

impl Object for Fifo {
    type Body = FifoBody;
    const KIND: &'static str = "fifo";
    const REACHES_OUT: bool = true;

    fn check(&self, observed: &ObservedFile<'_>) -> Result<()> {
        refuse_hidden(observed)
    }

    fn dump(&self, observed: &ObservedFile<'_>) -> Result<Dumped<FifoBody>> {
        refuse_hidden(observed)?;
        let unlinked = observed.stat.nlink() == 0;
        let path = if unlinked { observed.name_before() } else { observed.target.clone() };
        let (head, blob) = PipeHead::of(observed)?;
        let name = path.display().to_string();
        let body = FifoBody { path: path.into_os_string().into_vec(), name, unlinked, head };
        Ok(Dumped { body, blob, contents: None })
    }

    fn external(&self, body: FifoBody, external: External) -> FifoBody {
        FifoBody { head: body.head.held_outside(external), ..body }
    }

    fn outside(&self, body: &FifoBody) -> Option<OutsidePipe> {
        body.head.outside(format!("FIFO {}", body.name))
    }

    fn make(&self, body: &FifoBody, _blob: &[u8]) -> Result<RestoredObject> {
        let path = Path::new(OsStr::from_bytes(&body.path));
        let fd = if body.unlinked { make_unlinked(path)? } else { open_place(path)? };
        Ok(RestoredObject { only_name: true, ..RestoredObject::new(fd, 0) })
    }

    fn publish(&self, body: &FifoBody, blob: &[u8], object: &mut RestoredObject) -> Result<()> {
        object.only_name = false;
        // A reader keeps the buffers, and opening it does not wait for another end.
        object.fd = object.open(libc::O_RDONLY | libc::O_NONBLOCK, 0).on(|| &body.name)?;
        if fd::readable(&object.fd).on(|| &body.name)? != 0 {
            let busy = format_args!("FIFO {}: another process has written to it since the dump", body.name);
            return Err(Error::os(busy, libc::EBUSY));
        }
        if body.unlinked {
            let doing = || format!("owner and mode of the unlinked FIFO {}", body.name);
            body.head.owner.restore(&object.fd, doing)?;
        }
        body.head.buffers.refill(blob, &object.open(libc::O_WRONLY | libc::O_NONBLOCK, 0)?)
    }
}

/// Refuses a FIFO that has a name, but not the one that it was opened by.
fn refuse_hidden(observed: &ObservedFile<'_>) -> Result<()> {
    if observed.stat.nlink() == 0 || observed.is_named() {
        return Ok(());
    }
    let shown = observed.target.display();
    Err(observed.refuse(format_args!("FIFO {shown}, which that name does not lead to any more,")))
}

/// Opens the FIFO at `path` with O_PATH. A process that waits for the other end to be opened keeps
/// waiting.
fn open_place(path: &Path) -> Result<OwnedFd> {
    let file = open_path(path, libc::O_PATH)?;
    let now = file.metadata().doing(|| format!("stat of {}", path.display()))?;
    if now.file_type().is_fifo() {
        return Ok(file.into());
    }
    Err(Error::new(Kind::NotFound, format!("{} is no longer a FIFO", path.display())))
}

/// Creates a FIFO without a name. /proc shows it under `path` again if that name is free.
fn make_unlinked(path: &Path) -> Result<OwnedFd> {
    let (dir, name) = ParentDir::of(path)?;
    let (fd, name) = dir.make_fifo(name)?;
    dir.unlink(&name)?;
    directory::is_gone(&fd, path)?;
    Ok(fd)
}

/// Table row: a description of an end.
pub struct FifoEnd;

/// Its record.
#[derive(Serialize, Deserialize)]
pub struct FifoEndBody {
    object: u32,
    flags: i32,
    /// For a reader: its writers are gone (POLLHUP). False if no writer has come yet.
    hung_up: bool,
}

impl OpenFile for FifoEnd {
    type Body = FifoEndBody;
    const KIND: &'static str = "fifo";

    fn takes(&self, observed: &ObservedFile<'_>) -> bool {
        observed.stat.file_type().is_fifo() && observed.target.as_os_str().as_bytes().starts_with(b"/")
    }

    fn dump(&self, observed: &ObservedFile<'_>, objects: &mut dyn DumpContext) -> Result<FifoEndBody> {
        let shown = observed.target.display();
        if observed.flags & libc::O_PATH != 0 {
            return Err(observed.refuse(format_args!("O_PATH descriptor of FIFO {shown}")));
        }
        let held = observed.description()?;
        let mut polled = [PollFd::new(held.as_fd(), PollFlags::POLLIN)];
        poll(&mut polled, PollTimeout::ZERO).doing(|| format!("{}: poll", observed.subject))?;
        let hung_up = polled[0].revents().is_some_and(|events| events.contains(PollFlags::POLLHUP));
        Ok(FifoEndBody { object: objects.id_of(&Fifo, observed)?, flags: observed.flags & !NOT_KEPT, hung_up })
    }

    fn opens_last(&self) -> bool {
        true
    }

    fn restore(&self, body: FifoEndBody, context: &dyn RestoreContext) -> Result<OwnedFd> {
        let fifo = context.object(body.object)?;
        let reads_only = body.flags & libc::O_ACCMODE == libc::O_RDONLY;
        // A partner while the end is opened. Without a reader, opening a writer fails (ENXIO). A
        // reader is hung up only if a writer has come and gone (`fifo_open` in fs/pipe.c). Opening
        // for both never blocks.
        let partner = (!reads_only || body.hung_up).then(|| fifo.open(libc::O_RDWR, 0)).transpose()?;
        let fd = fifo.open(body.flags & !libc::O_DIRECT | libc::O_NONBLOCK, 0)?;
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
    use nix::sys::stat::Mode;
    use nix::unistd::{mkfifo, read, unlink, write};

    use super::*;
    use crate::file::parts::pipe_buffer::tests::read_once;
    use crate::kind::object::fake::{OneObject, none};
    use crate::kind::observed::fake::{observed_fd, this};

    fn open_at(path: &Path, flags: OFlag) -> OwnedFd {
        open(path, flags | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC, Mode::empty()).unwrap()
    }

    fn hung_up(fd: &OwnedFd) -> bool {
        let mut polled = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
        poll(&mut polled, PollTimeout::ZERO).unwrap();
        polled[0].revents().unwrap().contains(PollFlags::POLLHUP)
    }

    /// Dumps the files that `fds` refer to, closes them, and opens them again.
    fn cycled(fds: Vec<OwnedFd>) -> Result<Vec<OwnedFd>> {
        let this = this();
        let Dumped { body, blob, .. } = Object::dump(&Fifo, &observed_fd(&fds[0], &this))?;
        let ends: Vec<FifoEndBody> =
            fds.iter().map(|fd| OpenFile::dump(&FifoEnd, &observed_fd(fd, &this), &mut none()).unwrap()).collect();
        drop(fds);
        let mut object = Object::make(&Fifo, &body, &blob)?;
        Object::publish(&Fifo, &body, &blob, &mut object)?;
        let context = OneObject(Some(object));
        ends.into_iter().map(|end| OpenFile::restore(&FifoEnd, end, &context)).collect()
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
    fn no_process_notices_before_the_image_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fifo");
        mkfifo(&path, Mode::S_IRWXU).unwrap();
        let (this, both) = (this(), open_at(&path, OFlag::O_RDWR));
        write(&both, b"waiting").unwrap();
        let Dumped { body, blob, .. } = Object::dump(&Fifo, &observed_fd(&both, &this)).unwrap();
        drop(both);
        let mut object = Object::make(&Fifo, &body, &blob).unwrap();
        assert_eq!(open(&path, OFlag::O_WRONLY | OFlag::O_NONBLOCK, Mode::empty()).err(), Some(Errno::ENXIO));
        let outsider = open_at(&path, OFlag::O_RDONLY);
        assert_eq!(read(&outsider, &mut [0; 1]), Ok(0));
        Object::publish(&Fifo, &body, &blob, &mut object).unwrap();
        assert_eq!(read_once(&outsider), b"waiting");
    }

    #[test]
    fn a_fifo_that_is_gone_or_in_use_is_not_taken() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fifo");
        mkfifo(&path, Mode::S_IRWXU).unwrap();
        let (this, used) = (this(), open_at(&path, OFlag::O_RDWR));
        write(&used, b"x").unwrap();
        let Dumped { body, blob, .. } = Object::dump(&Fifo, &observed_fd(&used, &this)).unwrap();
        let mut object = Object::make(&Fifo, &body, &blob).unwrap();
        let busy = Object::publish(&Fifo, &body, &blob, &mut object).unwrap_err();
        assert_eq!(busy.kind(), Kind::System(libc::EBUSY));
        let error = |body| Object::make(&Fifo, body, &blob).err().unwrap().kind();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(error(&body), Kind::NotFound);
        std::fs::write(&path, "a file").unwrap();
        assert_eq!(error(&body), Kind::NotFound);
    }
}
