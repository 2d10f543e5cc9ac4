//! An open file as a dump observes it from outside the process, and how a file is opened again.

use std::ffi::OsStr;
use std::fs::{File, Metadata};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use nix::sys::statfs::{Statfs, statfs};
use nix::unistd::Whence;
use rustix::fs::{Access, AtFlags, CWD, accessat};

use crate::error::{Context, Doing, Error, Result};
use crate::sys::identity::Identity;
use crate::sys::open;
use crate::sys::pidfd::PidFd;
use crate::sys::proc;
use crate::sys::proc::locks::is_leased;
use crate::sys::proc::status::Fields;

/// An open file as it is observed from outside the process.
pub struct ObservedFile<'a> {
    /// "pid 812 fd 7": the subject of every error.
    pub subject: String,
    /// The text of its link in /proc.
    pub target: PathBuf,
    /// stat(2) of the file.
    pub stat: Metadata,
    /// O_* of the description.
    pub flags: i32,
    /// Its offset.
    pub position: u64,
    /// Its `fdinfo` (empty for a file that is only mapped or executed).
    pub info: Fields,
    /// Whether the contents of the file are memory of the process (a private mapping, the
    /// executable). They must then be unchanged at the restore.
    pub must_not_change: bool,
    /// How the process refers to it.
    pub via: Via<'a>,
}

/// How a process refers to an open file.
#[derive(Clone, Copy)]
pub enum Via<'a> {
    /// A descriptor.
    Descriptor(&'a PidFd, i32),
    /// A mapping, the executable, a directory: this link of /proc leads to it.
    Link(&'a str),
}

impl<'a> ObservedFile<'a> {
    /// Observes the file behind `link` of /proc: for reading, at offset 0, without `fdinfo`. The
    /// caller sets fields that it knows better.
    pub fn observe(subject: String, link: &str, via: Via<'a>) -> Result<Self> {
        let target = proc::read_link(link).on(|| subject.clone())?;
        let stat = std::fs::metadata(link).doing(|| format!("{subject}: stat"))?;
        let info = Fields::parse("");
        Ok(Self { subject, target, stat, flags: libc::O_RDONLY, position: 0, info, must_not_change: false, via })
    }

    /// The description itself for a descriptor, or a new one for reading for a file that is only
    /// mapped.
    pub fn description(&self) -> Result<OwnedFd> {
        match self.via {
            Via::Descriptor(pidfd, number) => pidfd.pull(number),
            Via::Link(link) => self.reopen(link, libc::O_RDONLY),
        }
    }

    /// A new description of the same file with other flags.
    pub fn anew(&self, flags: i32) -> Result<OwnedFd> {
        match self.via {
            Via::Descriptor(pidfd, number) => self.reopen(&format!("/proc/{}/fd/{number}", pidfd.pid()), flags),
            Via::Link(link) => self.reopen(link, flags),
        }
    }

    /// Why the process may not read the file: it is open for writing only, and the kernel would not
    /// let the process open it for reading. `None`: it may.
    pub fn may_not_read(&self) -> Result<Option<String>> {
        let Via::Descriptor(pidfd, _) = self.via else { return Ok(None) };
        if self.flags & libc::O_ACCMODE != libc::O_WRONLY {
            return Ok(None);
        }
        let file = self.description()?;
        let link = format!("/proc/self/fd/{}", file.as_raw_fd());
        let holder = Identity::of_task(pidfd.pid())?;
        let asked = holder.ask(|| accessat(CWD, &link, Access::READ_OK, AtFlags::EACCESS))?;
        let what = || format!("{}: {} is open for writing only", self.subject, self.target.display());
        Ok(asked.err().map(|error| format!("{}, and its process may not read it ({error})", what())))
    }

    fn reopen(&self, link: &str, flags: i32) -> Result<OwnedFd> {
        self.refuse_leased()?;
        // This link must be followed.
        open_link(Path::new(link), flags & !libc::O_NOFOLLOW).map(OwnedFd::from).on(|| &self.subject)
    }

    /// Refuses a file with a lease, because opening it anew would break the lease.
    pub fn refuse_leased(&self) -> Result<()> {
        match is_leased(self.stat.dev(), self.stat.ino())? {
            true => Err(self.refuse(format_args!("lease of {}", self.target.display()))),
            false => Ok(()),
        }
    }

    /// The link of /proc that leads to it.
    pub fn link(&self) -> String {
        match self.via {
            Via::Descriptor(pidfd, number) => format!("/proc/{}/fd/{number}", pidfd.pid()),
            Via::Link(link) => link.to_owned(),
        }
    }

    /// Refuses a file of huge pages, which `what` names. Returns the type of its filesystem.
    pub fn refuse_huge(&self, what: &str) -> Result<i64> {
        match self.filesystem()?.filesystem_type().0 {
            HUGETLBFS => Err(self.refuse(format_args!("{what} of huge pages"))),
            other => Ok(other),
        }
    }

    /// The filesystem that it is on, statfs(2).
    pub fn filesystem(&self) -> Result<Statfs> {
        statfs(self.link().as_str()).doing(|| format!("{}: statfs", self.subject))
    }

    /// The offset, if a restore can set it. In some files of /proc and similar only a read moves
    /// it.
    pub fn position_to_seek(&self) -> Result<u64> {
        if self.position != 0 && self.flags & libc::O_PATH == 0 {
            let seekable = nix::unistd::lseek(self.description()?, 0, Whence::SeekCur);
            seekable.map_err(|_| self.refuse(format_args!("{}, which cannot be sought in,", self.target.display())))?;
        }
        Ok(self.position)
    }

    /// The error for something that no kind can restore yet.
    pub fn refuse(&self, what: impl std::fmt::Display) -> Error {
        Error::unsupported(format!("{}: {what} cannot be checkpointed", self.subject))
    }

    /// What an error calls a file of this type.
    pub fn type_name(&self) -> &'static str {
        let kind = self.stat.file_type();
        match () {
            () if kind.is_char_device() => "character device",
            () if kind.is_block_device() => "block device",
            () if kind.is_socket() => "socket",
            () => "file",
        }
    }

    /// Whether the name in [`ObservedFile::target`] still leads to this very file.
    pub fn is_named(&self) -> bool {
        self.is_at(&self.target)
    }

    /// Whether `path` leads to this very file. A symbolic link counts as a file of its own, because
    /// names in /proc hold none.
    pub fn is_at(&self, path: &Path) -> bool {
        let found = std::fs::symlink_metadata(path).ok();
        self.target.is_absolute() && found.is_some_and(|m| (m.dev(), m.ino()) == (self.stat.dev(), self.stat.ino()))
    }

    /// Whether the file has lost its name: d_path in fs/d_path.c appends [`DELETED`]. A name that a
    /// mount hides is not lost.
    pub fn is_unlinked(&self) -> bool {
        self.target.is_absolute() && self.target.as_os_str().as_bytes().ends_with(DELETED) && !self.is_named()
    }

    /// The name that the file had.
    pub fn name_before(&self) -> PathBuf {
        let name = self.target.as_os_str().as_bytes();
        PathBuf::from(OsStr::from_bytes(name.strip_suffix(DELETED).unwrap_or(name)))
    }

    /// Another name of the file, in the directory where it had its name.
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

/// The most entries of one directory that a dump searches, because the process is stopped
/// meanwhile.
const ENTRIES_MOST: usize = 100_000;

/// The flags of open(2) that affect the opening itself or the descriptor, and not the description.
pub const OPENING: i32 = libc::O_CREAT | libc::O_EXCL | libc::O_TRUNC | libc::O_NOCTTY | libc::O_CLOEXEC;

/// The same and O_NOFOLLOW, for what is opened through a link that must be followed.
pub const NOT_KEPT: i32 = OPENING | libc::O_NOFOLLOW;

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

/// What the kernel appends to the name of a file that has lost its name.
pub const DELETED: &[u8] = b" (deleted)";

/// The name of shared anonymous memory (shmem_zero_setup in mm/shmem.c).
pub const ANON_SHM: &[u8] = b"/dev/zero (deleted)";

/// Opens `path`, a name from the image, as [`open::open_name`] does. `flags` are those of a
/// description.
pub fn open_path(path: &Path, flags: i32) -> Result<File> {
    // openat2(2) refuses a flag without effect.
    let flags = match flags & libc::O_PATH {
        0 => flags & !OPENING | libc::O_NOCTTY,
        _ => flags & (libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW),
    };
    open::open_name(path, flags).map(File::from)
}

/// Opens the file that a link of /proc leads to.
pub fn open_link(path: &Path, flags: i32) -> Result<File> {
    // O_NOFOLLOW stays a flag of the description, and names in /proc hold no symbolic link.
    let flags = flags & !OPENING | libc::O_NOCTTY | libc::O_CLOEXEC;
    nix::fcntl::open(path, OFlag::from_bits_retain(flags), Mode::empty())
        .map(File::from)
        .or_else(|errno| open::not_opened(path, errno))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub mod fake {
    use std::os::fd::AsRawFd;

    use super::*;

    /// A descriptor of this process, as a dump would observe it through its link.
    pub fn observed(fd: &impl AsRawFd) -> ObservedFile<'static> {
        let number = fd.as_raw_fd();
        let link: &str = String::leak(format!("/proc/self/fd/{number}"));
        let info = Fields::read(&format!("/proc/self/fdinfo/{number}")).unwrap();
        let (flags, position) = (info.octal("flags") as i32 & !libc::O_CLOEXEC, info.number("pos"));
        let file = ObservedFile::observe("test".into(), link, Via::Link(link)).unwrap();
        ObservedFile { flags, position, info, ..file }
    }

    /// The same, as a dump would observe it through the descriptor: `this` is this process.
    pub fn observed_fd<'a>(fd: &impl AsRawFd, this: &'a PidFd) -> ObservedFile<'a> {
        ObservedFile { via: Via::Descriptor(this, fd.as_raw_fd()), ..observed(fd) }
    }

    /// This process.
    pub fn this() -> PidFd {
        PidFd::open(std::process::id() as i32).unwrap()
    }
}
