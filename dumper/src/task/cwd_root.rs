//! Working directory, root directory and umask. The threads of a process share them, except a
//! thread that has unshared CLONE_FS.

use std::ffi::OsStr;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Context, Error, Result};
use crate::image::frame::Tag;
use crate::image::record_set::RecordView;
use crate::kind::attribute::{Attribute, DumpedThread, ObservedTask, RestoredThread, Scope};
use crate::kind::observed::DELETED;
use crate::kind::phase::Phase;
use crate::kind::record_sort::ShownTask;
use crate::kind::refs::FileIds;
use crate::refusals::Refusals;
use crate::sys::pid::Pid;
use crate::sys::remote::batch::Batch;
use crate::sys::{open, proc};

/// Table row.
pub struct CwdRoot;

/// The record.
#[derive(Serialize, Deserialize)]
pub struct CwdRootBody {
    cwd: Directory,
    root: Vec<u8>,
    umask: u32,
}

/// A directory.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Directory {
    /// Its path, as it is visible to this program.
    Named(Vec<u8>),
    /// The id of its open file, because it has been removed.
    Removed(u32),
}

impl Attribute for CwdRoot {
    type Body = CwdRootBody;
    type Tickets = ();
    /// Working directory, root directory and umask.
    const TAG: Tag = Tag(*b"PATH");
    const SCOPE: Scope = Scope::Directories;
    const PHASE: Phase = Phase::Process;

    fn show(record: &RecordView<'_>) -> Result<ShownTask> {
        let CwdRootBody { cwd, .. } = record.body()?;
        let files = if let Directory::Removed(id) = cwd { vec![id] } else { Vec::new() };
        Ok(ShownTask { files, ..ShownTask::default() })
    }

    fn ask(&self, _pid: Pid, _batch: &mut Batch) {}

    fn check(task: &ObservedTask<'_>, files: &mut dyn FileIds, refusals: &mut Refusals) -> Result<()> {
        refusals.sift(working(task, files))?;
        refusals.sift(root(task)).map(drop)
    }

    fn dump(&self, thread: &mut DumpedThread<'_>, (): ()) -> Result<(CwdRootBody, Vec<u8>)> {
        let body = CwdRootBody {
            cwd: working(&thread.task, thread.files)?,
            root: root(&thread.task)?,
            umask: thread.status.octal("Umask") as u32,
        };
        Ok((body, Vec::new()))
    }

    fn restore(&self, body: CwdRootBody, _blob: &[u8], thread: &mut RestoredThread<'_>) -> Result<()> {
        let pid = thread.pid;
        // Both paths are opened here and no symbolic link is followed: a link that was put on the
        // way since the dump must not redirect the process. The working directory comes last,
        // because it may be outside the root.
        let named = |what: &str, path: &[u8]| {
            open::open_name(Path::new(OsStr::from_bytes(path)), libc::O_PATH | libc::O_DIRECTORY)
                .on(|| format!("pid {pid}: {what} directory"))
        };
        let root = (body.root != b"/").then(|| named("root", &body.root)).transpose()?;
        let opened;
        let cwd = match &body.cwd {
            Directory::Named(path) => {
                opened = named("working", path)?;
                opened.as_raw_fd()
            }
            Directory::Removed(id) => thread.files.fd(*id)?,
        };
        let fds: Vec<RawFd> = root.iter().map(AsRawFd::as_raw_fd).chain([cwd]).collect();
        let numbers = thread.push(&fds)?;
        let at = thread.batch.put_str(b".");
        for (n, number) in numbers.iter().enumerate() {
            let is_root = n + 1 < numbers.len();
            let doing = format!("pid {pid}: {} directory", if is_root { "root" } else { "working" });
            thread.call(libc::SYS_fchdir, [*number as u64], doing.as_str());
            if is_root {
                thread.call(libc::SYS_chroot, [at.0], doing.as_str());
            }
            thread.call(libc::SYS_close, [*number as u64], doing);
        }
        thread.call(libc::SYS_umask, [u64::from(body.umask)], format!("pid {pid}: umask"));
        Ok(())
    }
}

/// The working directory.
fn working(task: &ObservedTask<'_>, files: &mut dyn FileIds) -> Result<Directory> {
    if let Some(path) = directory(task, "cwd")? {
        return Ok(Directory::Named(path));
    }
    let flags = libc::O_PATH | libc::O_DIRECTORY;
    let subject = format!("pid {}: working directory", task.pid);
    files.id_of(&task.proc("cwd"), flags, false, &subject).map(Directory::Removed)
}

/// The root directory.
fn root(task: &ObservedTask<'_>) -> Result<Vec<u8>> {
    let removed = || Error::unsupported(format!("pid {}: a removed root directory cannot be checkpointed", task.pid));
    directory(task, "root")?.ok_or_else(removed)
}

fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

/// The path of a directory of the process, or `None` if the directory was removed.
fn directory(task: &ObservedTask<'_>, link: &str) -> Result<Option<Vec<u8>>> {
    let link = task.proc(link);
    let path: PathBuf = proc::read_link(&link)?;
    let same = match (std::fs::metadata(&link), std::fs::metadata(&path)) {
        (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
        _ => false,
    };
    let name = path.as_os_str().as_bytes();
    match same && path.is_absolute() {
        true => Ok(Some(path.into_os_string().into_vec())),
        false if path.is_absolute() && name.ends_with(DELETED) => Ok(None),
        false => Err(Error::unsupported(format!(
            "pid {}: {link} leads to a hidden directory {}, which cannot be checkpointed",
            task.pid,
            shown(name)
        ))),
    }
}
