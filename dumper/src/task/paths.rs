//! Working directory, root directory and umask: one per process until CLONE_FS is unshared by a thread (refused).

use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::attribute::{Attribute, Look, Make, Phase, Scope};
use crate::image::Tag;
use crate::sys::proc;
use crate::sys::query::{self, Kcmp};
use crate::{Error, Result};

/// Table row.
pub struct Paths;

/// The record. Paths are as the daemon sees them.
#[derive(Serialize, Deserialize)]
pub struct Body {
    cwd: Vec<u8>,
    root: Vec<u8>,
    umask: u32,
}

impl Attribute for Paths {
    type Body = Body;
    const TAG: Tag = Tag(*b"PATH");
    const SCOPE: Scope = Scope::Process;
    const PHASE: Phase = Phase::Process;

    fn dump(&self, look: &Look<'_>) -> Result<(Body, Vec<u8>)> {
        for tid in proc::numbers(&format!("/proc/{}/task", look.pid))? {
            if tid != look.tid && !query::kcmp(look.pid, tid, Kcmp::Fs, 0, 0)? {
                return Err(Error::unsupported(format!(
                    "pid {} task {tid}: a thread with a working directory of its own cannot be checkpointed yet",
                    look.pid
                )));
            }
        }
        let body = Body {
            cwd: directory(look, "cwd", "working directory")?,
            root: directory(look, "root", "root directory")?,
            umask: look.status.octal("Umask") as u32,
        };
        Ok((body, Vec::new()))
    }

    fn restore(&self, body: Body, _blob: &[u8], make: &mut Make<'_>) -> Result<()> {
        let pid = make.pid;
        if body.root != b"/" {
            let at = make.batch.put_str(&body.root);
            // The working directory is resolved first: it may lie outside the new root.
            let cwd = make.batch.put_str(&body.cwd);
            make.call(libc::SYS_chdir, [cwd.0], format!("pid {pid}: working directory {}", shown(&body.cwd)));
            make.call(libc::SYS_chroot, [at.0], format!("pid {pid}: root directory {}", shown(&body.root)));
        } else {
            let at = make.batch.put_str(&body.cwd);
            make.call(libc::SYS_chdir, [at.0], format!("pid {pid}: working directory {}", shown(&body.cwd)));
        }
        make.call(libc::SYS_umask, [u64::from(body.umask)], format!("pid {pid}: umask"));
        Ok(())
    }
}

fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

/// A directory of the process by the name that leads to it, or a refusal if none does.
fn directory(look: &Look<'_>, link: &str, what: &str) -> Result<Vec<u8>> {
    let link = look.proc(link);
    let path: PathBuf = proc::read_link(&link)?;
    let same = match (std::fs::metadata(&link), std::fs::metadata(&path)) {
        (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
        _ => false,
    };
    if !same || !Path::new(&path).is_absolute() {
        return Err(Error::unsupported(format!(
            "pid {}: {what} {}: a removed or hidden directory cannot be checkpointed yet",
            look.pid,
            shown(path.as_os_str().as_bytes())
        )));
    }
    Ok(path.into_os_string().into_vec())
}
