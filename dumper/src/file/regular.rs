//! Regular files and directories: by name, with offset and flags. The contents stay where they are.

use std::fs::Metadata;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;

use rustix::fs::RawDir;
use serde::{Deserialize, Serialize};

use crate::error::{Context, Doing, Error, Kind, Result};
use crate::file::parts::version::FileVersion;
use crate::image::record_set::RecordView;
use crate::kind::object::{DumpContext, RestoreContext};
use crate::kind::observed::{NOT_KEPT, ObservedFile, TMPFILE, open_path};
use crate::kind::open_file::OpenFile;
use crate::sys::fd;
use crate::sys::proc::{locks, mountinfo};

/// Table row.
pub struct Regular;

/// The record.
#[derive(Serialize, Deserialize)]
pub struct RegularBody {
    path: Vec<u8>,
    /// Readable twin of `path` for people and jq.
    name: String,
    directory: bool,
    flags: i32,
    position: u64,
    /// What it was like, where that says something.
    version: Option<FileVersion>,
}

impl OpenFile for Regular {
    type Body = RegularBody;
    const KIND: &'static str = "regular";

    fn takes(&self, seen: &ObservedFile<'_>) -> bool {
        seen.stat.is_file() || seen.stat.is_dir()
    }

    fn dump(&self, seen: &ObservedFile<'_>, _objects: &dyn DumpContext) -> Result<RegularBody> {
        let path = if seen.is_named() { seen.target.clone() } else { other_name(seen)? };
        let shown = path.display();
        Ok(RegularBody {
            name: shown.to_string(),
            path: path.into_os_string().into_vec(),
            directory: seen.stat.is_dir(),
            flags: flags(seen),
            position: seen.position_to_seek()?,
            version: FileVersion::of(seen)?,
        })
    }

    fn restore(&self, body: RegularBody, anchors: &dyn RestoreContext) -> Result<OwnedFd> {
        let path = PathBuf::from(std::ffi::OsString::from_vec(body.path));
        let subject = || path.display().to_string();
        // Looked at before it is opened: opening what stands there now could block (a FIFO) or act (a device).
        if let Ok(there) = std::fs::metadata(&path)
            && (there.is_dir() != body.directory || !(there.is_dir() || there.is_file()))
        {
            return Err(Error::new(Kind::NotFound, format!("{} is of another type than at the dump", path.display())));
        }
        let file = open_path(&path, body.flags)?;
        let now = file.metadata().doing(|| format!("stat of {}", path.display()))?;
        if now.is_dir() != body.directory || !(now.is_dir() || now.is_file()) {
            return Err(Error::new(Kind::NotFound, format!("{} is of another type than at the dump", path.display())));
        }
        if let Some(version) = &body.version {
            version.judge(&now, &body.name, body.position, anchors)?;
        }
        let file = OwnedFd::from(file);
        if body.position != 0 {
            if body.directory {
                wake(&file);
            }
            fd::seek(&file, body.position).on(subject)?;
        }
        Ok(file)
    }
}

/// The type of this project's mounts, as mount(8) shows it.
const OWN_KIND: &str = "fuse.ckptfs";

/// The first `len` bytes of the file that a record names, which had the inode number `ino`; `None` if it is not there as it was, or
/// cannot be read without anybody's taking notice.
pub fn beginning(record: &RecordView<'_>, ino: u64, len: usize) -> Option<Vec<u8>> {
    let body: RegularBody = record.body().ok()?;
    let path = PathBuf::from(std::ffi::OsString::from_vec(body.path));
    let version = body.version?;
    let is_it = |now: &Metadata| now.is_file() && now.ino() == ino && version.is_same(now);
    // An image may name anything: to ask a mount of our own kind might be to wait for ourselves.
    if mountinfo::is_in_mount_of(OWN_KIND, &path).ok()? {
        return None;
    }
    let before = open_path(&path, libc::O_PATH).ok()?.metadata().ok().filter(is_it)?;
    if locks::is_leased(before.dev(), before.ino()).ok()? {
        return None;
    }
    let file = open_path(&path, libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOATIME);
    // Only its owner and root may ask for that.
    let file = file.or_else(|_| open_path(&path, libc::O_RDONLY | libc::O_NONBLOCK)).ok()?;
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, 0).ok()?;
    file.metadata().ok().filter(is_it).map(|_| bytes)
}

/// Reads a little: a directory of ext4 whose very first reading is one at its end gives nothing at the next either, even rewound
/// (`ext4_dx_readdir` in fs/ext4/dir.c; seen with Linux 6.18).
fn wake(directory: &OwnedFd) {
    let mut room = [MaybeUninit::uninit(); 512];
    let _entry = RawDir::new(directory, &mut room).next();
}

/// The flags to open it with. That it once was made with O_TMPFILE is all that the flag says of a file that has a name.
fn flags(seen: &ObservedFile<'_>) -> i32 {
    let made_nameless = if seen.flags & TMPFILE == 0 { 0 } else { libc::O_TMPFILE };
    seen.flags & !(NOT_KEPT & !libc::O_NOFOLLOW) & !made_nameless
}

/// Another name of a file whose own is gone: a hard link in the same directory.
fn other_name(seen: &ObservedFile<'_>) -> Result<PathBuf> {
    let shown = seen.target.display();
    if !seen.is_unlinked() {
        return Err(seen.refuse(format_args!(
            "{shown}, which that name does not lead to (another mount, or another root directory),"
        )));
    }
    seen.hard_link_beside().ok_or_else(|| {
        let links = seen.stat.nlink();
        seen.refuse(format_args!("{shown}, whose {links} hard link(s) are not in that directory,"))
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::{Read, Seek, Write};
    use std::os::fd::AsRawFd;

    use super::*;
    use crate::kind::observed::Via;
    use crate::sys::proc::status::Fields;

    struct None;
    impl DumpContext for None {
        fn id_of(&self, _: &dyn crate::kind::object::DynObject, seen: &ObservedFile<'_>) -> Result<u32> {
            Err(seen.refuse("an object"))
        }
    }
    impl RestoreContext for None {
        fn anchor(&self, id: u32) -> Result<&crate::kind::object::RestoredObject> {
            Err(Error::damaged(format!("object {id}")))
        }
    }

    fn seen(file: &std::fs::File, must_not_change: bool) -> ObservedFile<'static> {
        let link = format!("/proc/self/fd/{}", file.as_raw_fd());
        ObservedFile {
            held: Via::Link(String::leak(link.clone())),
            subject: "test".into(),
            target: std::fs::read_link(&link).unwrap(),
            stat: file.metadata().unwrap(),
            flags: libc::O_RDWR,
            position: 3,
            info: Fields::parse(""),
            must_not_change,
        }
    }

    #[test]
    fn offset_and_contents_come_back() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"abcdef").unwrap();
        let body = Regular.dump(&seen(file.as_file(), true), &None).unwrap();
        let mut again = std::fs::File::from(Regular.restore(body, &None).unwrap());
        assert_eq!(again.stream_position().unwrap(), 3);
        let mut text = String::new();
        again.read_to_string(&mut text).unwrap();
        assert_eq!(text, "def");
    }

    #[test]
    fn a_changed_file_is_refused_only_where_it_is_memory() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let memory = Regular.dump(&seen(file.as_file(), true), &None).unwrap();
        let plain = Regular.dump(&seen(file.as_file(), false), &None).unwrap();
        file.write_all(b"grown").unwrap();
        assert!(Regular.restore(memory, &None).unwrap_err().to_string().contains("has changed"));
        Regular.restore(plain, &None).unwrap();
    }

    #[test]
    fn a_missing_file_is_not_found() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let body = Regular.dump(&seen(file.as_file(), false), &None).unwrap();
        drop(file);
        assert_eq!(Regular.restore(body, &None).unwrap_err().kind(), Kind::NotFound);
    }
}
