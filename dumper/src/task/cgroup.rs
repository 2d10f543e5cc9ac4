//! The control group of a process (cgroups(7), version 2), as the path that is visible to this
//! program.
//!
//! A new process joins it before it has memory, so that all its memory is charged there. Its
//! children start in the cgroup of their maker and move to their own in the same way. The groups
//! themselves and the hierarchies of version 1 belong to no process, and are not in the image.

use std::ffi::OsStr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::image::frame::{Record, Tag};
use crate::kind::record_sort::{self, RecordSort};
use crate::sys::pid::Pid;
use crate::sys::{cgroup, proc};

/// The cgroup (version 2) of a process. A machine without version 2 writes none. Body:
/// [`Membership`].
pub const TAG: Tag = Tag(*b"CGRP");
/// Its row in the table of records.
pub const SORT: RecordSort = record_sort::of_task(TAG);

/// The record. Without a hierarchy of version 2 there is none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// The process.
    pub tid: Pid,
    /// Its cgroup, as text.
    path: String,
    /// The bytes of its cgroup, if `path` cannot hold them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bytes: Option<Vec<u8>>,
}

impl Membership {
    /// The cgroup of the process.
    ///
    /// # Errors
    /// Unsupported: a thread in another (threaded) cgroup than its process, and a cgroup outside
    /// the cgroup namespace of this program.
    pub fn collect(pid: Pid) -> Result<Option<Self>> {
        let Some(path) = cgroup::path_of(&pid.to_string())? else { return Ok(None) };
        if path.starts_with("/..") {
            return Err(Error::unsupported(format!(
                "pid {pid}: its cgroup {} is outside of the daemon's cgroup namespace",
                path.display()
            )));
        }
        let tids = proc::numbers(&format!("/proc/{pid}/task"))?;
        // In a plain domain all threads are in the cgroup of their process. The top cgroup has no
        // type and can have threaded cgroups below.
        let is_domain = tids.len() == 1
            || cgroup::directory(&path)?
                .and_then(|dir| std::fs::read_to_string(dir.join("cgroup.type")).ok())
                .is_some_and(|text| text.trim() == "domain");
        for tid in tids.into_iter().filter(|_| !is_domain) {
            let other = cgroup::path_of(&format!("{pid}/task/{tid}"))?;
            if other.as_ref() != Some(&path) {
                return Err(Error::unsupported(format!(
                    "pid {pid} task {tid}: it is in cgroup {} and its process in {}, which cannot be checkpointed",
                    other.unwrap_or_default().display(),
                    path.display()
                )));
            }
        }
        Ok(Some(Self::of(pid, path)))
    }

    fn of(tid: Pid, path: PathBuf) -> Self {
        let bytes = path.into_os_string().into_vec();
        let path = String::from_utf8_lossy(&bytes).into_owned();
        Self { tid, bytes: (path.as_bytes() != bytes).then_some(bytes), path }
    }

    /// Its cgroup.
    fn path(&self) -> &Path {
        Path::new(OsStr::from_bytes(self.bytes.as_deref().unwrap_or(self.path.as_bytes())))
    }

    /// The record.
    pub fn record(&self) -> Result<Record> {
        Record::new(TAG, self)
    }

    /// Moves the process there.
    ///
    /// # Errors
    /// ENOENT: the cgroup does not exist. The error names it.
    pub fn restore(&self) -> Result<()> {
        cgroup::join(self.tid, self.path())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        // A process of its own: threads of this one come and go while it is looked at.
        let mut sleeper = std::process::Command::new("sleep").arg("100").spawn().unwrap();
        let pid = sleeper.id() as Pid;
        let here = Membership::collect(pid).unwrap().expect("cgroups of version 2");
        let again: Membership = here.record().unwrap().body().unwrap();
        assert_eq!(again, here);
        // The process is in it already, so nothing is written and nothing can fail.
        again.restore().unwrap();
        let gone = Membership::of(pid, "/ckptfs-test-no-such-group".into());
        let error = gone.restore().unwrap_err();
        assert!(error.kind() == crate::error::Kind::NotFound && error.to_string().contains(&gone.path), "{error}");
        sleeper.kill().unwrap();
        sleeper.wait().unwrap();
    }

    #[test]
    fn a_path_is_bytes_and_readable() {
        let comes_back = |path: &[u8]| {
            let before = Membership::of(7, OsStr::from_bytes(path).into());
            let after: Membership = before.record().unwrap().body().unwrap();
            assert_eq!(after.path().as_os_str().as_bytes(), path);
            (after.path, after.bytes.is_some())
        };
        assert_eq!(comes_back(b"/a \xc3\xbc"), ("/a \u{fc}".into(), false));
        assert_eq!(comes_back(b"/a/\xff"), ("/a/\u{fffd}".into(), true));
    }
}
