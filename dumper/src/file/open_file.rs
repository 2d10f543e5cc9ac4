//! What a descriptor can be, as a kind: its record, how it is looked at, how it is opened again.

use std::fs::{File, Metadata, OpenOptions};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::lock;
use super::object::{Anchors, Objects};
use crate::image::{Record, Tag};
use crate::sys::fd::PidFd;
use crate::sys::proc::Fields;
use crate::{Context, Error, Kind, Result};

/// The tag of an open file's record.
pub const TAG: Tag = Tag(*b"FILE");

/// An open file as it is seen from outside.
pub struct Seen<'a> {
    /// "pid 812 fd 7": for every sentence.
    pub subject: String,
    /// What the link says.
    pub target: PathBuf,
    /// What it leads to.
    pub stat: Metadata,
    /// O_* of the description.
    pub flags: i32,
    /// Its offset.
    pub position: u64,
    /// Its `fdinfo` (empty for a file that is only mapped or executed).
    pub info: Fields,
    /// The contents of the file are part of the process's memory (a private mapping, the executable): they must not have
    /// changed until the restore.
    pub must_not_change: bool,
    /// Where it is held.
    pub held: Held<'a>,
}

/// Where an open file is held.
#[derive(Clone, Copy)]
pub enum Held<'a> {
    /// In a descriptor table.
    Descriptor(&'a PidFd, i32),
    /// By a mapping, an executable: behind this link of /proc.
    Link(&'a str),
}

impl Seen<'_> {
    /// The very description, for a descriptor; for what is only mapped a new one for reading.
    pub fn description(&self) -> Result<OwnedFd> {
        match self.held {
            Held::Descriptor(pidfd, number) => pidfd.pull(number),
            Held::Link(link) => self.reopen(link, libc::O_RDONLY),
        }
    }

    /// A new description of the same file with other flags.
    pub fn anew(&self, flags: i32) -> Result<OwnedFd> {
        match self.held {
            Held::Descriptor(pidfd, number) => self.reopen(&format!("/proc/{}/fd/{number}", pidfd.pid()), flags),
            Held::Link(link) => self.reopen(link, flags),
        }
    }

    fn reopen(&self, link: &str, flags: i32) -> Result<OwnedFd> {
        lock::refuse_leased(self)?;
        open_path(Path::new(link), flags).map(OwnedFd::from).on(|| &self.subject)
    }

    /// Refuses what no kind can put back yet.
    pub fn refuse(&self, what: impl std::fmt::Display) -> Error {
        Error::unsupported(format!("{}: {what} cannot be checkpointed", self.subject))
    }

    /// Whether the name still leads to this very file.
    pub fn is_named(&self) -> bool {
        let here = |path: &Path| std::fs::metadata(path).ok().map(|m| (m.dev(), m.ino()));
        here(&self.target) == Some((self.stat.dev(), self.stat.ino()))
    }
}

/// The flags of open(2) that are of the moment of opening, or of the descriptor, and not of the description.
pub const NOT_KEPT: i32 =
    libc::O_CREAT | libc::O_EXCL | libc::O_TRUNC | libc::O_NOCTTY | libc::O_CLOEXEC | libc::O_NOFOLLOW;

/// A kind of open file.
pub trait OpenFile: Sync {
    /// What is stored: its field names are the format.
    type Body: Serialize + DeserializeOwned;
    /// Its name in the format.
    const KIND: &'static str;

    /// Whether this kind has it.
    fn takes(&self, seen: &Seen<'_>) -> bool;
    /// Whether this kind has it and its private mapping is the process's own memory from the start.
    fn is_mappable(&self, _seen: &Seen<'_>) -> bool {
        false
    }
    /// Looks; refuses what it cannot put back.
    fn dump(&self, seen: &Seen<'_>, objects: &dyn Objects) -> Result<Self::Body>;
    /// Opens it again, as the same description.
    fn restore(&self, body: Self::Body, anchors: &dyn Anchors) -> Result<OwnedFd>;
}

#[derive(Serialize, Deserialize)]
struct Of<T> {
    id: u32,
    kind: String,
    #[serde(flatten)]
    body: T,
}

/// An [`OpenFile`] in a table.
pub trait Row: Sync {
    /// See [`OpenFile::KIND`].
    fn kind(&self) -> &'static str;
    /// See [`OpenFile::takes`].
    fn takes(&self, seen: &Seen<'_>) -> bool;
    /// See [`OpenFile::is_mappable`].
    fn is_mappable(&self, seen: &Seen<'_>) -> bool;
    /// See [`OpenFile::dump`].
    fn dump(&self, id: u32, seen: &Seen<'_>, objects: &dyn Objects) -> Result<Record>;
    /// See [`OpenFile::restore`].
    fn restore(&self, record: &Record, anchors: &dyn Anchors) -> Result<OwnedFd>;
}

impl<O: OpenFile> Row for O {
    fn kind(&self) -> &'static str {
        O::KIND
    }

    fn takes(&self, seen: &Seen<'_>) -> bool {
        OpenFile::takes(self, seen)
    }

    fn is_mappable(&self, seen: &Seen<'_>) -> bool {
        OpenFile::is_mappable(self, seen)
    }

    fn dump(&self, id: u32, seen: &Seen<'_>, objects: &dyn Objects) -> Result<Record> {
        let body = OpenFile::dump(self, seen, objects)?;
        Record::new(TAG, &Of { id, kind: O::KIND.to_owned(), body })
    }

    fn restore(&self, record: &Record, anchors: &dyn Anchors) -> Result<OwnedFd> {
        OpenFile::restore(self, record.body::<Of<O::Body>>()?.body, anchors)
    }
}

/// The id and kind of an open file's record.
pub fn id_and_kind(record: &Record) -> Result<(u32, String)> {
    #[derive(Deserialize)]
    struct Head {
        id: u32,
        kind: String,
    }
    let head: Head = record.body()?;
    Ok((head.id, head.kind))
}

/// Opens `path` with the flags of a description. A name that is gone is [`Kind::NotFound`].
pub fn open_path(path: &Path, flags: i32) -> Result<File> {
    let mode = flags & libc::O_ACCMODE;
    OpenOptions::new()
        .read(mode != libc::O_WRONLY)
        .write(mode != libc::O_RDONLY)
        .custom_flags((flags & !libc::O_ACCMODE & !NOT_KEPT) | libc::O_NOCTTY)
        .open(path)
        .map_err(|error| {
            let told = Error::io(format_args!("opening {}", path.display()), &error);
            if error.kind() == std::io::ErrorKind::NotFound { told.kind_is(Kind::NotFound) } else { told }
        })
}

/// Opens a character device by name and makes sure that it is the one; never as a controlling terminal.
pub fn open_device(path: Vec<u8>, rdev: u64, flags: i32) -> Result<OwnedFd> {
    let path = PathBuf::from(std::ffi::OsString::from_vec(path));
    if std::fs::metadata(&path).is_ok_and(|there| !there.file_type().is_char_device() || there.rdev() != rdev) {
        return Err(Error::new(Kind::NotFound, format!("{} is no longer the same device", path.display())));
    }
    let file = open_path(&path, flags)?;
    let now = file.metadata().map_err(|error| Error::io(format_args!("stat of {}", path.display()), &error))?;
    if !now.file_type().is_char_device() || now.rdev() != rdev {
        return Err(Error::new(Kind::NotFound, format!("{} is no longer the same device", path.display())));
    }
    Ok(file.into())
}
