//! A mount of `ckptfs`. It always shows one tree that a test started: a mount without `--tree`
//! shows every process of the machine.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::time::Duration;

use ckptfs_dumper::Pid;
use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::victim::Link;
use crate::{build, process, tool, wait};

/// The daemon is killed after this time, even if a process waits for it. Every open request on the
/// mount then fails with ENOTCONN.
const LIFETIME: Duration = Duration::from_secs(400);

/// A mount and its daemon. Drop unmounts it, prints its log if the test failed, and leaves nothing
/// behind.
#[derive(Debug)]
pub struct Mounted {
    dir: TempDir,
    daemon: Option<Child>,
    pid: Pid,
    _lifeline: Sender<()>,
}

impl Mounted {
    /// Mounts over the tree rooted at `pid` and waits until the mount answers. A busy machine may
    /// take longer than the default to examine a large tree.
    pub fn over(pid: Pid) -> Mounted {
        Mounted::with(&["--tree", &pid.to_string(), "-o", "freeze-timeout=100"])
    }

    /// Mounts with these options, in the foreground, and waits until the mount answers.
    pub fn with<S: AsRef<OsStr>>(options: &[S]) -> Mounted {
        Mounted::started_by(Command::new(build::ckptfs()), options)
    }

    /// The same, by a daemon that has inherited what `victims/bequeath.c KIND` has.
    pub fn heir_of<S: AsRef<OsStr>>(kind: &str, options: &[S]) -> Mounted {
        let mut command = Command::new(build::victim("bequeath", Link::default()));
        command.arg(kind).arg(build::ckptfs());
        Mounted::started_by(command, options)
    }

    fn started_by<S: AsRef<OsStr>>(mut command: Command, options: &[S]) -> Mounted {
        let dir = tempfile::Builder::new().prefix("ckptfs-mount-").tempdir().expect("making a directory for the mount");
        let mountpoint = dir.path().join("ckpt");
        fs::create_dir(&mountpoint).expect("making the mountpoint");
        let log = File::create(dir.path().join("log")).expect("making the log");
        command.args(["mount", "-f"]).args(options).arg(&mountpoint);
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a second descriptor")).stderr(log);
        command.env("RUST_LOG", std::env::var_os("RUST_LOG").unwrap_or("info".into()));
        let daemon = command.spawn().expect("starting ckptfs");
        let pid = Pid::try_from(daemon.id()).expect("a pid");
        let (lifeline, cut) = mpsc::channel::<()>();
        std::thread::spawn(move || {
            if cut.recv_timeout(LIFETIME) == Err(RecvTimeoutError::Timeout) {
                process::kill(pid, Signal::SIGKILL);
            }
        });
        let mut mounted = Mounted { dir, daemon: Some(daemon), pid, _lifeline: lifeline };
        wait::until("the mount answers", || {
            let ended = mounted.daemon.as_mut().expect("running").try_wait().expect("looking at the daemon");
            assert!(ended.is_none(), "ckptfs ended before the mount answered:\n{}", mounted.log());
            is_mounted(&mounted.path()) && mounted.path().join("status").exists()
        });
        mounted
    }

    /// The mountpoint.
    pub fn path(&self) -> PathBuf {
        self.dir.path().join("ckpt")
    }

    /// A file below the mountpoint.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// A file in the directory of a process.
    pub fn of(&self, pid: Pid, name: &str) -> PathBuf {
        self.path().join(pid.to_string()).join(name)
    }

    /// The daemon's pid.
    pub fn daemon(&self) -> Pid {
        self.pid
    }

    /// What the daemon has logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// A place for an image, beside the mountpoint.
    pub fn snap(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// `cat PID/image > snap`.
    pub fn dump(&self, pid: Pid, snap: &Path) {
        let image = self.of(pid, "image");
        let _quiet = tool::shell("cat \"$1\" > \"$2\"", &[&image, &snap.to_owned()]).success();
    }

    /// `cat snap > restore`; the caller checks the result.
    pub fn try_restore(&self, snap: &Path) -> tool::Output {
        tool::shell("cat \"$1\" > \"$2\"", &[snap.to_owned(), self.file("restore")])
    }

    /// `cat snap > restore`, which must succeed.
    pub fn restore(&self, snap: &Path) {
        let _quiet = self.try_restore(snap).success();
    }

    /// Writes to a control file.
    pub fn write(&self, file: &Path, text: &str) -> tool::Output {
        tool::shell("printf %s \"$1\" > \"$2\"", &[OsStr::new(text), file.as_os_str()])
    }

    /// `status`, decoded.
    pub fn status(&self) -> serde_json::Value {
        let text = fs::read_to_string(self.file("status")).expect("reading status");
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("status is no JSON ({error}):\n{text}"))
    }

    /// Sends SIGKILL to the daemon and waits until it ends. The mount is dead afterwards
    /// (ENOTCONN).
    pub fn kill_daemon(&mut self) {
        process::kill(self.pid, Signal::SIGKILL);
        if let Some(mut daemon) = self.daemon.take() {
            let ended = wait::poll(wait::LONG, || daemon.try_wait().expect("waiting for the daemon"));
            assert!(ended.is_some(), "the killed daemon does not end");
        }
    }

    /// Waits until the daemon ends on its own.
    pub fn wait_for_daemon(&mut self) -> std::process::ExitStatus {
        let daemon = self.daemon.as_mut().expect("the daemon was not waited for yet");
        let status = wait::poll(wait::LONG, || daemon.try_wait().expect("waiting for the daemon"));
        let status = status.unwrap_or_else(|| panic!("the daemon does not end:\n{}", self.log()));
        self.daemon = None;
        status
    }
}

/// Whether something is mounted on `path`. It does not ask the mount itself, which may hang.
pub fn is_mounted(path: &Path) -> bool {
    let path = path.to_str().expect("a plain path");
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("reading mountinfo");
    mounts.lines().any(|line| line.split(' ').nth(4) == Some(path))
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let path = self.path();
        let told = is_mounted(&path) && tool::run(&[Path::new("umount"), &path]).code == 0;
        if let Some(mut daemon) = self.daemon.take() {
            let ended = told && wait::poll(wait::LONG, || daemon.try_wait().ok().flatten()).is_some();
            if !ended {
                let _gone = daemon.kill();
                let _status = daemon.wait();
            }
        }
        if is_mounted(&path) {
            let _last_resort = tool::run(&[Path::new("umount"), Path::new("-l"), &path]);
        }
        if std::thread::panicking() {
            eprintln!("--- log of the daemon {}:\n{}", self.pid, self.log());
        }
    }
}
