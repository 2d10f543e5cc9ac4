//! Files of memory without a name: memfd_create(2). Contents, seals, mode and owner belong to the object; descriptions of it are
//! opened through /proc like any file's.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::MFdFlags;
use serde::{Deserialize, Serialize};

use crate::error::{Doing, Error, Result};
use crate::file::parts::contents;
use crate::kind::object::{DumpContext, Dumped, Object, Reference, RestoreContext, RestoredObject};
use crate::kind::observed::{HUGETLBFS, ObservedFile};
use crate::kind::open_file::OpenFile;

const PREFIX: &[u8] = b"/memfd:";
const SUFFIX: &[u8] = b" (deleted)";

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
    mode: u32,
    uid: u32,
    gid: u32,
}

impl Object for Memfd {
    type Body = MemfdBody;
    const KIND: &'static str = "memfd";

    fn dump(&self, seen: &ObservedFile<'_>) -> Result<Dumped<MemfdBody>> {
        let file = seen.anew(libc::O_RDONLY | libc::O_NOATIME)?;
        if nix::sys::statfs::fstatfs(&file).doing(|| &seen.subject)?.filesystem_type().0 == HUGETLBFS {
            return Err(seen.refuse("a memfd of huge pages"));
        }
        let seals = fcntl(file.as_fd(), FcntlArg::F_GET_SEALS).doing(|| format!("{}: F_GET_SEALS", seen.subject))?;
        let name = seen.target.as_os_str().as_bytes();
        let name = name.strip_prefix(PREFIX).unwrap_or(name);
        let name = name.strip_suffix(SUFFIX).unwrap_or(name).to_vec();
        let size = seen.stat.size();
        let body = MemfdBody {
            shown: String::from_utf8_lossy(&name).into_owned(),
            name,
            size,
            seals,
            mode: seen.stat.mode() & 0o7777,
            uid: seen.stat.uid(),
            gid: seen.stat.gid(),
        };
        Ok(Dumped { body, blob: Vec::new(), contents: contents::copy(&file, size, &seen.subject)? })
    }

    fn make(&self, body: &MemfdBody, _blob: &[u8]) -> Result<RestoredObject> {
        let doing = || format!("making memfd {:?}", body.shown);
        let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING | MFdFlags::from_bits_retain(libc::MFD_EXEC);
        let fd = nix::sys::memfd::memfd_create(body.name.as_slice(), flags).doing(doing)?;
        let size = i64::try_from(body.size)
            .map_err(|_| Error::damaged(format!("memfd {:?} of {} bytes", body.shown, body.size)))?;
        nix::unistd::ftruncate(&fd, size).doing(doing)?;
        Ok(RestoredObject { fd, other: None, len: body.size, made: None })
    }

    fn finish(&self, body: &MemfdBody, anchor: &RestoredObject) -> Result<()> {
        let doing = || format!("finishing memfd {:?}", body.shown);
        let mode = nix::sys::stat::Mode::from_bits_truncate(body.mode);
        nix::sys::stat::fchmod(&anchor.fd, mode).doing(doing)?;
        nix::unistd::fchown(&anchor.fd, Some(body.uid.into()), Some(body.gid.into())).doing(doing)?;
        // Last: a seal may forbid all of the above, and mappings that F_SEAL_FUTURE_WRITE lets be.
        let seals = SealFlag::from_bits_retain(body.seals);
        fcntl(anchor.fd.as_fd(), FcntlArg::F_ADD_SEALS(seals)).doing(doing).map(drop)
    }
}

/// Table row: a description of it.
pub struct MemfdDescription;

impl OpenFile for MemfdDescription {
    type Body = Reference;
    const KIND: &'static str = "memfd";

    fn takes(&self, seen: &ObservedFile<'_>) -> bool {
        let name = seen.target.as_os_str().as_bytes();
        seen.stat.is_file() && seen.stat.nlink() == 0 && name.starts_with(PREFIX) && name.ends_with(SUFFIX)
    }

    fn is_mappable(&self, seen: &ObservedFile<'_>) -> bool {
        OpenFile::takes(self, seen)
    }

    fn dump(&self, seen: &ObservedFile<'_>, objects: &dyn DumpContext) -> Result<Reference> {
        let object = objects.id_of(&Memfd, seen)?;
        Ok(Reference::new(object, seen))
    }

    fn restore(&self, body: Reference, anchors: &dyn RestoreContext) -> Result<OwnedFd> {
        anchors.anchor(body.object)?.open(body.flags, body.position)
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
    use crate::kind::observed::Via;
    use crate::memory::source::{MemorySource, MemorySources};
    use crate::sys::proc::status::Fields;

    #[test]
    fn contents_name_and_seals_come_back() {
        let flags = MFdFlags::MFD_ALLOW_SEALING;
        let file = File::from(nix::sys::memfd::memfd_create("a name", flags).unwrap());
        file.set_len(1 << 20).unwrap();
        file.write_all_at(b"there", (1 << 20) - 5).unwrap();
        fcntl(file.as_fd(), FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_GROW)).unwrap();
        let link = format!("/proc/self/fd/{}", file.as_raw_fd());
        let seen = ObservedFile {
            subject: "test".into(),
            target: std::fs::read_link(&link).unwrap(),
            stat: file.metadata().unwrap(),
            flags: libc::O_RDWR,
            position: (1 << 20) - 5,
            info: Fields::parse(""),
            must_not_change: false,
            held: Via::Link(&link),
        };
        assert!(OpenFile::takes(&MemfdDescription, &seen));
        let Dumped { body, contents, .. } = Object::dump(&Memfd, &seen).unwrap();
        let contents = contents.unwrap();
        assert_eq!(contents.runs.pages(), 1, "the hole stays one");

        let anchor = Object::make(&Memfd, &body, &[]).unwrap();
        let at = contents.runs.runs().next().unwrap().address;
        let mut page = [0; 4096];
        MemorySources(vec![MemorySource::File(contents.file.into())]).read(0, at, &mut page).unwrap();
        anchor.fill(at, &page).unwrap();
        Object::finish(&Memfd, &body, &anchor).unwrap();
        assert_eq!(fcntl(anchor.fd.as_fd(), FcntlArg::F_GET_SEALS).unwrap(), SealFlag::F_SEAL_GROW.bits());
        let mut again = File::from(anchor.open(libc::O_RDONLY, seen.position).unwrap());
        let mut text = String::new();
        again.read_to_string(&mut text).unwrap();
        assert_eq!((text.as_str(), again.metadata().unwrap().len()), ("there", 1 << 20));
        let name = std::fs::read_link(format!("/proc/self/fd/{}", anchor.fd.as_raw_fd())).unwrap();
        assert_eq!(name.to_str(), Some("/memfd:a name (deleted)"));
    }
}
