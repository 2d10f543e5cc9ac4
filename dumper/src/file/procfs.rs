//! Files and directories of /proc/PID, proc_pid(5). Those of the image's processes and threads
//! (/proc/self/maps, /proc/self/fd, /proc/thread-self/stat) are opened when the processes exist
//! again. Those of any other process are opened only if it is the same process as at the dump. The
//! directory of a process that has ended is that of a process that a restore makes for a moment.

use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Context, Error, Kind, Result};
use crate::kind::object::{DumpContext, RestoreContext};
use crate::kind::observed::{OPENING, ObservedFile, open_link};
use crate::kind::open_file::OpenFile;
use crate::sys::fd;
use crate::sys::pid::Pid;
use crate::sys::proc::stat::Stat;

/// PROC_SUPER_MAGIC, statfs(2).
const PROC: i64 = 0x9fa0;

/// Table row.
pub struct Procfs;

/// The record.
#[derive(Serialize, Deserialize)]
pub struct ProcfsBody {
    path: Vec<u8>,
    /// Readable twin of `path`.
    name: String,
    /// The process or thread that the file describes.
    pid: Pid,
    /// When it started. A process outside the image must be the same one at the restore.
    start: u64,
    flags: i32,
    position: u64,
    /// It is the directory of a process that had ended.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    ended: bool,
}

impl OpenFile for Procfs {
    type Body = ProcfsBody;
    const KIND: &'static str = "proc";

    fn takes(&self, observed: &ObservedFile<'_>) -> bool {
        pid(&observed.name_before()).is_some()
            && observed.filesystem().is_ok_and(|filesystem| filesystem.filesystem_type().0 == PROC)
    }

    fn dump(&self, observed: &ObservedFile<'_>, context: &mut dyn DumpContext) -> Result<ProcfsBody> {
        // At every look-up of a name below net/ the kernel creates the file anew and marks the
        // previous one as deleted (pde_force_lookup in fs/proc/internal.h), so the mark means
        // nothing there.
        let path = if is_of_network(&observed.target) { observed.name_before() } else { observed.target.clone() };
        if let Some(ended) = ended(observed) {
            return of_ended(observed, ended, context);
        }
        let name = path.display().to_string();
        let process = pid(&path).filter(|_| observed.is_at(&path));
        let process = process.ok_or_else(|| {
            observed.refuse(format_args!("{name}, which is gone with the process that it described,"))
        })?;
        if context.is_in_tree(process) && is_of_descriptor(&path) {
            return Err(
                observed.refuse(format_args!("{name}, which is of one descriptor of a process that is in the image,"))
            );
        }
        if !(observed.stat.is_file() || observed.stat.is_dir() || observed.flags & libc::O_PATH != 0) {
            return Err(observed.refuse(format_args!("special file {name}")));
        }
        let start = Stat::read(&format!("/proc/{process}/stat"))?.started();
        let flags = observed.flags & !OPENING;
        let position = observed.position_to_seek()?;
        let path = path.into_os_string().into_vec();
        Ok(ProcfsBody { path, name, pid: process, start, flags, position, ended: false })
    }

    fn opens_last(&self) -> bool {
        true
    }

    fn restore(&self, body: ProcfsBody, context: &dyn RestoreContext) -> Result<OwnedFd> {
        if body.ended {
            let of = || format!("{}, of a process that had ended", body.name);
            // No process can change to its directory once it is reaped.
            context.keep_ended(body.pid).on(of)?;
            let path = format!("/proc/{}", body.pid);
            return open_link(Path::new(&path), body.flags).map(OwnedFd::from).on(of);
        }
        let start = || Stat::read(&format!("/proc/{}/stat", body.pid)).ok().map(|stat| stat.started());
        if !context.restores_task(body.pid) && start() != Some(body.start) {
            return Err(Error::new(Kind::NotFound, format!("{}: that process has ended", body.name)));
        }
        let path = PathBuf::from(std::ffi::OsString::from_vec(body.path));
        // Links on this path are the kernel's own, and lead only to the object that they name.
        let file = OwnedFd::from(open_link(&path, body.flags)?);
        if body.position != 0 {
            fd::seek(&file, body.position).on(|| path.display())?;
        }
        Ok(file)
    }
}

/// The process whose directory it is, if that process has ended.
fn ended(observed: &ObservedFile<'_>) -> Option<Pid> {
    let path = observed.name_before();
    (observed.stat.is_dir() && path.iter().count() == 3 && observed.is_unlinked()).then(|| pid(&path)).flatten()
}

/// The record of the directory of the process `pid`, which has ended.
fn of_ended(observed: &ObservedFile<'_>, pid: Pid, context: &dyn DumpContext) -> Result<ProcfsBody> {
    let path = observed.name_before();
    let name = path.display().to_string();
    if context.is_in_tree(pid) {
        return Err(observed.refuse(format_args!(
            "{name}, of a process that has ended and whose number another process of the tree has now,"
        )));
    }
    let flags = observed.flags & !OPENING;
    Ok(ProcfsBody { path: path.into_os_string().into_vec(), name, pid, start: 0, flags, position: 0, ended: true })
}

/// The number that follows /proc.
fn pid(path: &Path) -> Option<Pid> {
    number(path.strip_prefix("/proc").ok()?.iter().next()?)
}

/// Whether the path is below /proc/PID/net or /proc/PID/task/TID/net.
fn is_of_network(path: &Path) -> bool {
    let parts: Vec<_> = path.iter().skip(2).take(4).collect();
    matches!(parts[..], [_, net, _, ..] if net == "net")
        || matches!(parts[..], [_, task, _, net] if task == "task" && net == "net")
}

/// Whether the path is /proc/PID/fdinfo/N, or the link /proc/PID/fd/N itself. It exists only while
/// the process has a descriptor N, and a process gets all its descriptors at once.
fn is_of_descriptor(path: &Path) -> bool {
    let [table, which] = [path.parent().and_then(Path::file_name), path.file_name()];
    table.is_some_and(|table| table == "fd" || table == "fdinfo") && which.is_some_and(|which| number(which).is_some())
}

fn number(name: &std::ffi::OsStr) -> Option<Pid> {
    std::str::from_utf8(name.as_bytes()).ok()?.parse().ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_process_is_in_the_name() {
        assert_eq!(pid(Path::new("/proc/12/task/13/maps")), Some(12));
        assert_eq!(pid(Path::new("/proc/meminfo")), None);
        assert_eq!(pid(Path::new("/processes/12")), None);
    }

    #[test]
    fn names_below_net_and_of_descriptors() {
        for (name, of_network, of_descriptor) in [
            ("/proc/12/net/dev (deleted)", true, false),
            ("/proc/12/task/13/net/stat/arp_cache (deleted)", true, false),
            ("/proc/12/net", false, false),
            ("/proc/12/maps", false, false),
            ("/proc/12/fdinfo/3", false, true),
            ("/proc/12/task/13/fd/3", false, true),
            ("/proc/12/fd", false, false),
        ] {
            let path = Path::new(name);
            assert_eq!((is_of_network(path), is_of_descriptor(path)), (of_network, of_descriptor), "{name}");
        }
    }
}
