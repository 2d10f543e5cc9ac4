//! A place where a test itself runs `ckptfs mount`, in the background as a user does.

use std::fs;
use std::path::{Path, PathBuf};

use ckptfs_dumper::Pid;
use tempfile::TempDir;

use crate::victim::Victim;
use crate::{build, mounted, tool};

/// A mountpoint in a directory of its own. Drop unmounts it.
#[derive(Debug)]
pub struct Mountpoint(TempDir);

impl Mountpoint {
    /// Makes the directories. Nothing is mounted.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Mountpoint {
        let dir = tempfile::tempdir().expect("making a directory for the mountpoint");
        fs::create_dir(dir.path().join("ckpt")).expect("making the mountpoint");
        Mountpoint(dir)
    }

    /// The mountpoint.
    pub fn path(&self) -> PathBuf {
        self.file("ckpt")
    }

    /// The directory around it.
    pub fn dir(&self) -> &Path {
        self.0.path()
    }

    /// A file beside it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Runs a script with these arguments: `$1` is ckptfs, `$2` the victim, `$3` this mountpoint,
    /// `$4` a file beside it.
    pub fn run(&self, script: &str, victim: &Victim, file: &str) -> tool::Output {
        let args = [build::ckptfs(), victim.pid().to_string().into(), self.path(), self.file(file)];
        tool::shell(script, &args)
    }

    /// The pid of the daemon that serves it.
    pub fn daemon(&self) -> Pid {
        let status = fs::read_to_string(self.path().join("status")).expect("reading status");
        let status: serde_json::Value = serde_json::from_str(&status).expect("status as JSON");
        status["daemon"].as_i64().and_then(|pid| pid.try_into().ok()).expect("the pid of the daemon")
    }
}

impl Drop for Mountpoint {
    fn drop(&mut self) {
        if mounted::is_mounted(&self.path()) {
            let _unmounted = tool::run(&[Path::new("umount"), &self.path()]);
        }
    }
}
