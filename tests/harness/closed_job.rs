//! A job in a terminal that was dumped there, killed, and is to come to another window.

use std::path::{Path, PathBuf};

use ckptfs_dumper::Pid;
use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::pty::Window;
use crate::{Mounted, build, process, wait};

/// Kills a process at the end of a test.
#[derive(Debug)]
struct Job(Pid);

impl Drop for Job {
    fn drop(&mut self) {
        process::kill(self.0, Signal::SIGKILL);
        let _bounded = wait::poll(wait::LONG, || process::is_free(self.0).then_some(()));
    }
}

/// A job that was dumped and killed, and whose window is closed. A drop kills what was restored.
#[derive(Debug)]
pub struct ClosedJob {
    dir: TempDir,
    job: Job,
    snap: PathBuf,
}

impl ClosedJob {
    /// That of the child called `name` of the program in a window.
    pub fn child(name: &str, dir: TempDir, window: Window) -> ClosedJob {
        let mut job = 0;
        wait::until("the job runs", || {
            let is_it = |pid: &Pid| process::status(*pid, "Name").as_deref() == Some(name);
            job = process::children(window.pid()).into_iter().find(is_it).unwrap_or(0);
            job != 0
        });
        ClosedJob::of(job, dir, window)
    }

    /// That process, which is dumped while the window is open.
    pub fn of(job: Pid, dir: TempDir, window: Window) -> ClosedJob {
        process::adopt_orphans();
        let job = Job(job);
        let mount = Mounted::over(job.0);
        let snap = dir.path().join("snap");
        mount.dump(job.0, &snap);
        drop(mount);
        process::kill(job.0, Signal::SIGKILL);
        drop(window);
        wait::until("the job has ended", || process::is_free(job.0));
        ClosedJob { dir, job, snap }
    }

    /// The root.
    pub fn pid(&self) -> Pid {
        self.job.0
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The command line that restores it.
    pub fn command(&self) -> String {
        format!("{} restore --attach {}", build::ckptfs().display(), self.snap.display())
    }

    /// A shell in a window of its own.
    pub fn shell(&self) -> Window {
        Window::run(40, 132, self.dir.path(), &["bash", "--norc", "--noprofile", "-i"])
    }

    /// The command in a window of its own; then its exit status is shown, and the window waits for
    /// a line.
    pub fn attached(&self, rows: u16, columns: u16) -> Window {
        let script = format!("{}; echo \"status=$?\"; read -r line", self.command());
        Window::run(rows, columns, self.dir.path(), &["sh", "-c", &script])
    }
}
