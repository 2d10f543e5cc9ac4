//! Regular files and directories: opened again by name, with offset and flags. The image does not
//! have their contents.

use std::ffi::OsStr;
use std::fs::Metadata;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;

use rustix::fs::RawDir;
use serde::{Deserialize, Serialize};

use crate::error::{Context, Doing, Error, Kind, Result};
use crate::file::parts::version::FileVersion;
use crate::file::special;
use crate::image::record_set::RecordView;
use crate::kind::object::{DumpContext, RestoreContext};
use crate::kind::observed::{OPENING, ObservedFile, TMPFILE, open_path};
use crate::kind::open_file::OpenFile;
use crate::kind::unnoticed::Unnoticed;
use crate::sys::fd;

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
    /// Size and time of the last change, where they mean something.
    version: Option<FileVersion>,
}

impl OpenFile for Regular {
    type Body = RegularBody;
    const KIND: &'static str = "regular";

    fn takes(&self, observed: &ObservedFile<'_>) -> bool {
        observed.stat.is_dir() || observed.stat.is_file() && special::nameless(observed).is_none()
    }

    fn dump(&self, observed: &ObservedFile<'_>, _objects: &mut dyn DumpContext) -> Result<RegularBody> {
        let version = if observed.stat.is_file() {
            let filesystem = observed.filesystem()?;
            special::refuse_stateful(observed, filesystem.filesystem_type().0)?;
            FileVersion::of(observed, &filesystem)
        } else {
            None
        };
        let path = if observed.is_named() { observed.target.clone() } else { other_name(observed)? };
        let shown = path.display();
        Ok(RegularBody {
            name: shown.to_string(),
            path: path.into_os_string().into_vec(),
            directory: observed.stat.is_dir(),
            flags: flags(observed),
            position: observed.position_to_seek()?,
            version,
        })
    }

    fn restore(&self, body: RegularBody, context: &dyn RestoreContext) -> Result<OwnedFd> {
        let path = PathBuf::from(std::ffi::OsString::from_vec(body.path));
        let subject = || path.display().to_string();
        // Checked before it is opened: the name may lead to something else now, and opening that
        // could block (a FIFO) or have an effect (a device).
        if let Ok(now) = std::fs::metadata(&path)
            && (now.is_dir() != body.directory || !(now.is_dir() || now.is_file()))
        {
            return Err(Error::new(Kind::NotFound, format!("{} is of another type than at the dump", path.display())));
        }
        let file = open_path(&path, body.flags)?;
        let now = file.metadata().doing(|| format!("stat of {}", path.display()))?;
        if now.is_dir() != body.directory || !(now.is_dir() || now.is_file()) {
            return Err(Error::new(Kind::NotFound, format!("{} is of another type than at the dump", path.display())));
        }
        if let Some(version) = &body.version {
            version.check((&file, &now), &body.name, body.position, context)?;
        }
        let file = OwnedFd::from(file);
        if body.position != 0 {
            if body.directory {
                read_an_entry(&file);
            }
            fd::seek(&file, body.position).on(subject)?;
        }
        Ok(file)
    }

    fn settle(&self, body: RegularBody, mapped: &[(u64, u64)], files: &Unnoticed) -> RegularBody {
        let path = PathBuf::from(OsStr::from_bytes(&body.path));
        let version = body.version.map(|version| match files.open(&path, |now| version.is_same(now)) {
            Some(file) => version.proved(&file, mapped, files),
            None => version,
        });
        RegularBody { version, ..body }
    }
}

/// The first `len` bytes of the file that a record names, which had the inode number `ino`. `None`
/// if the file has changed, or cannot be read without another process noticing it.
pub fn beginning(record: &RecordView<'_>, ino: u64, len: usize) -> Option<Vec<u8>> {
    let body: RegularBody = record.body().ok()?;
    let version = body.version?;
    let is_it = |now: &Metadata| now.is_file() && now.ino() == ino && version.is_same(now);
    let file = Unnoticed::now().ok()?.open(&PathBuf::from(std::ffi::OsString::from_vec(body.path)), is_it)?;
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, 0).ok()?;
    file.metadata().ok().filter(is_it).map(|_| bytes)
}

/// Reads an entry of a directory that is then moved to another offset. If the very first read of an
/// ext4 directory is at its end, the next read returns nothing either, even after a rewind
/// (`ext4_dx_readdir` in fs/ext4/dir.c; observed with Linux 6.18).
fn read_an_entry(directory: &OwnedFd) {
    let mut room = [MaybeUninit::uninit(); 512];
    let _entry = RawDir::new(directory, &mut room).next();
}

/// The flags to open it with. O_TMPFILE only shows how a file that has a name now was once created.
fn flags(observed: &ObservedFile<'_>) -> i32 {
    let made_nameless = if observed.flags & TMPFILE == 0 { 0 } else { libc::O_TMPFILE };
    observed.flags & !OPENING & !made_nameless
}

/// Another name of a file that has lost its name: a hard link in the same directory.
fn other_name(observed: &ObservedFile<'_>) -> Result<PathBuf> {
    let shown = observed.target.display();
    if !observed.is_unlinked() {
        return Err(observed.refuse(format_args!(
            "{shown}, which that name does not lead to (another mount, or another root directory),"
        )));
    }
    observed.hard_link_beside().ok_or_else(|| {
        let links = observed.stat.nlink();
        observed.refuse(format_args!("{shown}, whose {links} hard link(s) are not in that directory,"))
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::{Read, Seek, Write};

    use super::*;
    use crate::kind::object::fake::none;
    use crate::kind::observed::fake::observed;

    fn observe(file: &std::fs::File, must_not_change: bool) -> ObservedFile<'static> {
        ObservedFile { flags: libc::O_RDWR, position: 3, must_not_change, ..observed(file) }
    }

    #[test]
    fn offset_and_contents_come_back() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"abcdef").unwrap();
        let body = Regular.dump(&observe(file.as_file(), true), &mut none()).unwrap();
        let mut again = std::fs::File::from(Regular.restore(body, &none()).unwrap());
        assert_eq!(again.stream_position().unwrap(), 3);
        let mut text = String::new();
        again.read_to_string(&mut text).unwrap();
        assert_eq!(text, "def");
    }

    #[test]
    fn a_changed_file_is_refused_only_where_it_is_memory() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let memory = Regular.dump(&observe(file.as_file(), true), &mut none()).unwrap();
        let plain = Regular.dump(&observe(file.as_file(), false), &mut none()).unwrap();
        file.write_all(b"grown").unwrap();
        assert!(Regular.restore(memory, &none()).unwrap_err().to_string().contains("has changed"));
        Regular.restore(plain, &none()).unwrap();
    }

    #[test]
    fn a_missing_file_is_not_found() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let body = Regular.dump(&observe(file.as_file(), false), &mut none()).unwrap();
        drop(file);
        assert_eq!(Regular.restore(body, &none()).unwrap_err().kind(), Kind::NotFound);
    }
}
