//! Files that are not those of the dump. This daemon may open any file, so it hands a process only
//! what the process itself may open.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

use nix::fcntl::{FcntlArg, fcntl};
use rustix::fs::{Access, AtFlags, CWD, accessat};

use crate::error::{Doing, Error, Kind, Result};
use crate::image::frame::Record;
use crate::kind::file_identity::FileIdentity;
use crate::kind::open_file;
use crate::restore::pending::PendingRecords;
use crate::sys::identity::Identity;
use crate::sys::pid::Pid;
use crate::task::creds;

/// A task that gets open files.
#[derive(Clone, Copy)]
pub struct Holder<'a> {
    pid: Pid,
    credentials: Option<&'a Record>,
    /// Whether it maps or executes them. What is executed need not be readable.
    as_memory: bool,
}

impl<'a> Holder<'a> {
    /// Task `tid` of process `pid`, which gets descriptors.
    pub fn new(pid: Pid, tid: Pid, pending: &'a PendingRecords) -> Self {
        Self { pid, credentials: pending.of_task(tid, creds::TAG), as_memory: false }
    }

    /// The same task, which maps or executes the files.
    pub fn as_memory(self) -> Self {
        Self { as_memory: true, ..self }
    }

    fn user(&self) -> Result<Identity> {
        let missing = || Error::damaged(format!("pid {}: its credentials are missing", self.pid));
        creds::identity(self.credentials.ok_or_else(missing)?)
    }
}

/// The open files whose name led to another file than at the dump: that one, and this one, by id.
#[derive(Default)]
pub struct ReplacedFiles(BTreeMap<u32, (FileIdentity, FileIdentity)>);

impl ReplacedFiles {
    /// Compares a file that has just been opened with its record.
    pub fn compare(&mut self, id: u32, record: &Record, file: &OwnedFd) -> Result<()> {
        let Some(then) = open_file::identity(record)? else { return Ok(()) };
        let now = FileIdentity::of(&facts(file)?);
        if !then.is_same(&now) {
            self.0.insert(id, (then, now));
        }
        Ok(())
    }

    /// Refuses `file` to a holder that may not open it.
    ///
    /// # Errors
    /// EPERM.
    pub fn check(&self, id: u32, file: &OwnedFd, holder: Holder<'_>) -> Result<()> {
        let Some((then, now)) = self.0.get(&id) else { return Ok(()) };
        let user = holder.user()?;
        if user.is_as_mighty() {
            return Ok(());
        }
        let path = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap_or_default();
        let refuse = |why: &dyn std::fmt::Display| {
            let (pid, path, uid) = (holder.pid, path.display(), user.uid);
            let what = format!("pid {pid}: {path} is another file than at the dump ({then} then, {now} now)");
            let sentence = format!("{what}, and user {uid} may not open it so: {why}");
            Err(Error::new(Kind::System(libc::EPERM), sentence))
        };
        let flags = fcntl(file, FcntlArg::F_GETFL).doing(|| format!("flags of {}", path.display()))?;
        let wanted = match flags & libc::O_ACCMODE {
            _ if flags & libc::O_PATH != 0 => Access::EXISTS,
            libc::O_RDONLY => Access::READ_OK,
            libc::O_WRONLY => Access::WRITE_OK,
            _ => Access::READ_OK | Access::WRITE_OK,
        };
        let may = |access: Access| accessat(CWD, &path, access, AtFlags::EACCESS);
        let asked = user.ask(|| match may(wanted) {
            Err(_) if holder.as_memory && wanted == Access::READ_OK => may(Access::EXEC_OK),
            asked => asked,
        })?;
        if let Err(error) = asked {
            return refuse(&error);
        }
        // The permission is for the name, and holds for the file only if that is still there.
        let (opened, named) = (facts(file)?, std::fs::symlink_metadata(&path));
        let is_it = |named: &Metadata| (named.dev(), named.ino()) == (opened.dev(), opened.ino());
        if named.is_ok_and(|named| is_it(&named)) { Ok(()) } else { refuse(&"the name leads elsewhere by now") }
    }
}

fn facts(file: &OwnedFd) -> Result<Metadata> {
    let link = format!("/proc/self/fd/{}", file.as_raw_fd());
    std::fs::metadata(&link).doing(|| format!("stat of {link}"))
}
