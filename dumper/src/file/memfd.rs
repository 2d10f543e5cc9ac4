//! Files in memory without a name: memfd_create(2). Contents, seals, mode and owner belong to the
//! object.
//!
//! The description that memfd_create(2) makes is no writer of the file for execve(2). Any other
//! writable one is, and then the file cannot be executed (ETXTBSY). So a restore hands out the
//! description that it has made the file with, and opens the others through /proc.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, SealFlag, fcntl};
use nix::sys::memfd::MFdFlags;
use serde::{Deserialize, Serialize};

use crate::error::{Context, Doing, Error, Result};
use crate::file::parts::contents;
use crate::file::parts::owner::Owner;
use crate::kind::object::{DumpContext, Dumped, Object, Reference, RestoreContext, RestoredObject};
use crate::kind::observed::{DELETED, ObservedFile, Via};
use crate::kind::open_file::OpenFile;

const PREFIX: &[u8] = b"/memfd:";

/// Table row: the object.
pub struct Memfd;

/// Its record.
#[derive(Serialize, Deserialize)]
pub struct MemfdBody {
    name: Vec<u8>,
    /// Readable twin of `name`.
    shown: String,
    size: u64,
    seals: i32,
    #[serde(flatten)]
    owner: Owner,
}

impl Object for Memfd {
    type Body = MemfdBody;
    const KIND: &'static str = "memfd";

    fn check(&self, observed: &ObservedFile<'_>) -> Result<()> {
        observed.refuse_leased()?;
        observed.refuse_huge("a memfd").map(drop)
    }

    fn dump(&self, observed: &ObservedFile<'_>) -> Result<Dumped<MemfdBody>> {
        observed.refuse_huge("a memfd")?;
        let file = observed.anew(libc::O_RDONLY | libc::O_NOATIME)?;
        let seals =
            fcntl(file.as_fd(), FcntlArg::F_GET_SEALS).doing(|| format!("{}: F_GET_SEALS", observed.subject))?;
        let name = observed.target.as_os_str().as_bytes();
        let name = name.strip_prefix(PREFIX).unwrap_or(name);
        let name = name.strip_suffix(DELETED).unwrap_or(name).to_vec();
        let size = observed.stat.size();
        let body = MemfdBody {
            shown: String::from_utf8_lossy(&name).into_owned(),
            name,
            size,
            seals,
            owner: Owner::of(&observed.stat),
        };
        Ok(Dumped { body, blob: Vec::new(), contents: contents::copy(&file, size, &observed.subject)? })
    }

    fn make(&self, body: &MemfdBody, _blob: &[u8]) -> Result<RestoredObject> {
        let doing = || format!("making memfd {:?}", body.shown);
        let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING | MFdFlags::from_bits_retain(libc::MFD_EXEC);
        let fd = nix::sys::memfd::memfd_create(body.name.as_slice(), flags).doing(doing)?;
        let size = i64::try_from(body.size)
            .map_err(|_| Error::damaged(format!("memfd {:?} of {} bytes", body.shown, body.size)))?;
        nix::unistd::ftruncate(&fd, size).doing(doing)?;
        Ok(RestoredObject::new(fd, body.size))
    }

    fn finish(&self, body: &MemfdBody, object: &RestoredObject) -> Result<()> {
        let doing = || format!("finishing memfd {:?}", body.shown);
        body.owner.restore(&object.fd, doing)?;
        // Seals come last. A seal may forbid all of the above, and new mappings too
        // (F_SEAL_FUTURE_WRITE permits only existing ones).
        let seals = SealFlag::from_bits_retain(body.seals);
        fcntl(object.fd.as_fd(), FcntlArg::F_ADD_SEALS(seals)).doing(doing).map(drop)
    }
}

/// Table row: a description of it.
pub struct MemfdDescription;

/// Its record.
#[derive(Serialize, Deserialize)]
pub struct MemfdReference {
    #[serde(flatten)]
    reference: Reference,
    /// It is the description that memfd_create(2) has made.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    original: bool,
}

impl OpenFile for MemfdDescription {
    type Body = MemfdReference;
    const KIND: &'static str = "memfd";

    fn takes(&self, observed: &ObservedFile<'_>) -> bool {
        let name = observed.target.as_os_str().as_bytes();
        observed.stat.is_file() && observed.stat.nlink() == 0 && name.starts_with(PREFIX) && name.ends_with(DELETED)
    }

    fn is_mappable(&self, observed: &ObservedFile<'_>) -> bool {
        OpenFile::takes(self, observed)
    }

    fn dump(&self, observed: &ObservedFile<'_>, objects: &mut dyn DumpContext) -> Result<MemfdReference> {
        let original = observed.flags & libc::O_ACCMODE == libc::O_RDWR
            && match observed.via {
                // The question changes a flag for a moment: it is for stopped processes only.
                Via::Descriptor(..) if !objects.only_checks() => {
                    is_original(&observed.description()?).on(|| &observed.subject)?
                }
                // The description of a mapping cannot be asked. Most programs map the only one that
                // there is.
                _ => true,
            };
        Ok(MemfdReference { reference: Reference::dump(&Memfd, observed, objects)?, original })
    }

    fn restore(&self, body: MemfdReference, context: &dyn RestoreContext) -> Result<OwnedFd> {
        let MemfdReference { reference, original } = body;
        if !original {
            return reference.open(context);
        }
        context.object(reference.object)?.hand_out(reference.flags, reference.position)
    }
}

/// Whether memfd_create(2) has made this description. It does not open the file, and only an open
/// allows O_DIRECT (shmem_file_open in mm/shmem.c, setfl in fs/fcntl.c).
///
/// A description that was opened gets the flag for a moment. The file is in memory, so the flag has
/// no effect.
fn is_original(fd: &OwnedFd) -> Result<bool> {
    let doing = || "asking how a memfd was opened";
    let flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL).doing(doing)?);
    match fcntl(fd, FcntlArg::F_SETFL(flags | OFlag::O_DIRECT)) {
        Err(Errno::EINVAL) => Ok(true),
        opened => {
            opened.doing(doing)?;
            fcntl(fd, FcntlArg::F_SETFL(flags)).doing(doing)?;
            Ok(false)
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs::File;
    use std::io::Read;
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::FileExt;

    use super::*;
    use crate::image::page_source::PageSource;
    use crate::kind::observed::fake::observed;
    use crate::memory::source::{MemorySource, MemorySources};

    #[test]
    fn contents_name_and_seals_come_back() {
        let flags = MFdFlags::MFD_ALLOW_SEALING;
        let file = File::from(nix::sys::memfd::memfd_create("a name", flags).unwrap());
        file.set_len(1 << 20).unwrap();
        file.write_all_at(b"there", (1 << 20) - 5).unwrap();
        fcntl(file.as_fd(), FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_GROW)).unwrap();
        let observed = ObservedFile { flags: libc::O_RDWR, position: (1 << 20) - 5, ..observed(&file) };
        assert!(OpenFile::takes(&MemfdDescription, &observed));
        let Dumped { body, contents, .. } = Object::dump(&Memfd, &observed).unwrap();
        let contents = contents.unwrap();
        assert_eq!(contents.runs.pages(), 1, "the hole stays one");

        let object = Object::make(&Memfd, &body, &[]).unwrap();
        let at = contents.runs.runs().next().unwrap().address;
        let mut page = [0; 4096];
        MemorySources(vec![MemorySource::File(contents.file.into())]).read(0, at, &mut page).unwrap();
        object.fill(at, &page).unwrap();
        Object::finish(&Memfd, &body, &object).unwrap();
        assert_eq!(fcntl(object.fd.as_fd(), FcntlArg::F_GET_SEALS).unwrap(), SealFlag::F_SEAL_GROW.bits());
        let mut again = File::from(object.open(libc::O_RDONLY, observed.position).unwrap());
        let mut text = String::new();
        again.read_to_string(&mut text).unwrap();
        assert_eq!((text.as_str(), again.metadata().unwrap().len()), ("there", 1 << 20));
        let name = std::fs::read_link(format!("/proc/self/fd/{}", object.fd.as_raw_fd())).unwrap();
        assert_eq!(name.to_str(), Some("/memfd:a name (deleted)"));
    }

    #[test]
    fn the_description_of_memfd_create_is_told_from_an_opened_one() {
        let made = nix::sys::memfd::memfd_create("made", MFdFlags::MFD_CLOEXEC).unwrap();
        let link = format!("/proc/self/fd/{}", made.as_raw_fd());
        let opened = OwnedFd::from(File::options().read(true).write(true).open(link).unwrap());
        let flags = fcntl(&opened, FcntlArg::F_GETFL).unwrap();
        assert_eq!((is_original(&made).unwrap(), is_original(&opened).unwrap()), (true, false));
        assert_eq!(fcntl(&opened, FcntlArg::F_GETFL).unwrap(), flags);
    }
}
