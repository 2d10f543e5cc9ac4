//! An open file as it is observed from outside, and how a file is opened again.

use std::ffi::OsStr;
use std::fs::{File, Metadata};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use nix::sys::statfs::{Statfs, statfs};
use nix::unistd::Whence;

use crate::error::{Context, Doing, Error, Kind, Result};
use crate::sys::open;
use crate::sys::pidfd::PidFd;
use crate::sys::proc::locks::is_leased;
use crate::sys::proc::status::Fields;

/// An open file as it is seen from outside.
pub struct ObservedFile<'a> {
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
    pub held: Via<'a>,
}

/// Where an open file is held.
#[derive(Clone, Copy)]
pub enum Via<'a> {
    /// In a descriptor table.
    Descriptor(&'a PidFd, i32),
    /// By a mapping, an executable: behind this link of /proc.
    Link(&'a str),
}

impl ObservedFile<'_> {
    /// The very description, for a descriptor; for what is only mapped a new one for reading.
    pub fn description(&self) -> Result<OwnedFd> {
        match self.held {
            Via::Descriptor(pidfd, number) => pidfd.pull(number),
            Via::Link(link) => self.reopen(link, libc::O_RDONLY),
        }
    }

    /// A new description of the same file with other flags.
    pub fn anew(&self, flags: i32) -> Result<OwnedFd> {
        match self.held {
            Via::Descriptor(pidfd, number) => self.reopen(&format!("/proc/{}/fd/{number}", pidfd.pid()), flags),
            Via::Link(link) => self.reopen(link, flags),
        }
    }

    fn reopen(&self, link: &str, flags: i32) -> Result<OwnedFd> {
        refuse_leased(self)?;
        // The link is one that must be followed.
        open_link(Path::new(link), flags & !libc::O_NOFOLLOW).map(OwnedFd::from).on(|| &self.subject)
    }

    /// The link of /proc that leads to it.
    pub fn link(&self) -> String {
        match self.held {
            Via::Descriptor(pidfd, number) => format!("/proc/{}/fd/{number}", pidfd.pid()),
            Via::Link(link) => link.to_owned(),
        }
    }

    /// The filesystem that it is on, statfs(2).
    pub fn filesystem(&self) -> Result<Statfs> {
        statfs(self.link().as_str()).doing(|| format!("{}: statfs", self.subject))
    }

    /// The offset, of a file whose offset can be set again: some of /proc and its like move it by reading only.
    pub fn position_to_seek(&self) -> Result<u64> {
        if self.position != 0 && self.flags & libc::O_PATH == 0 {
            let seekable = nix::unistd::lseek(self.description()?, 0, Whence::SeekCur);
            seekable.map_err(|_| self.refuse(format_args!("{}, which cannot be sought in,", self.target.display())))?;
        }
        Ok(self.position)
    }

    /// Refuses what no kind can put back yet.
    pub fn refuse(&self, what: impl std::fmt::Display) -> Error {
        Error::unsupported(format!("{}: {what} cannot be checkpointed", self.subject))
    }

    /// Whether the name still leads to this very file.
    pub fn is_named(&self) -> bool {
        self.is_at(&self.target)
    }

    /// Whether `path` leads to this very file. A symbolic link is a file of its own here: /proc tells names without any.
    pub fn is_at(&self, path: &Path) -> bool {
        let there = std::fs::symlink_metadata(path).ok();
        self.target.is_absolute() && there.is_some_and(|m| (m.dev(), m.ino()) == (self.stat.dev(), self.stat.ino()))
    }

    /// Whether it has lost its name (d_path in fs/d_path.c says so behind it), and not merely to a directory above it that is hidden.
    pub fn is_unlinked(&self) -> bool {
        self.target.is_absolute() && self.target.as_os_str().as_bytes().ends_with(DELETED) && !self.is_named()
    }

    /// The name that it had.
    pub fn name_before(&self) -> PathBuf {
        let name = self.target.as_os_str().as_bytes();
        PathBuf::from(OsStr::from_bytes(name.strip_suffix(DELETED).unwrap_or(name)))
    }

    /// Another name of it in the directory of the one that it had.
    pub fn hard_link_beside(&self) -> Option<PathBuf> {
        let before = self.name_before();
        let dir = before.parent()?;
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOATIME | OFlag::O_CLOEXEC;
        let mut entries = nix::dir::Dir::open(dir, flags, Mode::empty()).ok()?;
        let mut same = entries.iter().take(ENTRIES_MOST).flatten().filter(|entry| entry.ino() == self.stat.ino());
        same.find_map(|entry| {
            let path = dir.join(OsStr::from_bytes(entry.file_name().to_bytes()));
            self.is_at(&path).then_some(path)
        })
    }
}

/// A process stands still while its directories are searched.
pub const ENTRIES_MOST: usize = 100_000;

/// The flags of open(2) that are of the moment of opening, or of the descriptor, and not of the description.
pub const NOT_KEPT: i32 =
    libc::O_CREAT | libc::O_EXCL | libc::O_TRUNC | libc::O_NOCTTY | libc::O_CLOEXEC | libc::O_NOFOLLOW;

/// The flags of a description that F_SETFL sets, fcntl(2).
pub const SETTABLE: i32 = libc::O_APPEND | libc::O_ASYNC | libc::O_DIRECT | libc::O_NOATIME | libc::O_NONBLOCK;

/// The bit of O_TMPFILE that is not O_DIRECTORY.
pub const TMPFILE: i32 = libc::O_TMPFILE & !libc::O_DIRECTORY;

/// TMPFS_MAGIC, statfs(2).
pub const TMPFS: i64 = 0x0102_1994;

/// HUGETLBFS_MAGIC, statfs(2).
pub const HUGETLBFS: i64 = 0x9584_58f6;

/// RAMFS_MAGIC, statfs(2).
pub const RAMFS: i64 = 0x8584_58f6;

pub const DELETED: &[u8] = b" (deleted)";

/// Opens `path`, a name of the image, with the flags of a description, as [`open::open_name`] does.
pub fn open_path(path: &Path, flags: i32) -> Result<File> {
    // openat2(2) takes no flag that would mean nothing.
    let flags = match flags & libc::O_PATH {
        0 => (flags & !(NOT_KEPT & !libc::O_NOFOLLOW)) | libc::O_NOCTTY,
        _ => flags & (libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW),
    };
    open::open_name(path, flags).map(File::from)
}

/// Opens what a link of /proc leads to.
pub fn open_link(path: &Path, flags: i32) -> Result<File> {
    // O_NOFOLLOW stays a flag of the description, and the names that /proc tells hold no symbolic link.
    let flags = (flags & !(NOT_KEPT & !libc::O_NOFOLLOW)) | libc::O_NOCTTY | libc::O_CLOEXEC;
    nix::fcntl::open(path, OFlag::from_bits_retain(flags), Mode::empty())
        .map(File::from)
        .or_else(|errno| open::not_opened(path, errno))
}

/// Opens a character device by name and makes sure that it is the one; never as a controlling terminal.
pub fn open_device(path: Vec<u8>, rdev: u64, flags: i32) -> Result<OwnedFd> {
    let path = PathBuf::from(std::ffi::OsString::from_vec(path));
    if std::fs::metadata(&path).is_ok_and(|there| !there.file_type().is_char_device() || there.rdev() != rdev) {
        return Err(Error::new(Kind::NotFound, format!("{} is no longer the same device", path.display())));
    }
    let file = open_path(&path, flags)?;
    let now = file.metadata().doing(|| format!("stat of {}", path.display()))?;
    if !now.file_type().is_char_device() || now.rdev() != rdev {
        return Err(Error::new(Kind::NotFound, format!("{} is no longer the same device", path.display())));
    }
    Ok(file.into())
}

/// Refuses a file that opening would disturb: whoever opens it breaks its lease.
pub fn refuse_leased(seen: &ObservedFile<'_>) -> Result<()> {
    use std::os::unix::fs::MetadataExt;
    match is_leased(seen.stat.dev(), seen.stat.ino())? {
        true => Err(seen.refuse(format_args!("lease of {}", seen.target.display()))),
        false => Ok(()),
    }
}
