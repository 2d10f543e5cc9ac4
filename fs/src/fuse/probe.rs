//! A thread of the daemon that calls stat(2) on the daemon's own mount.
//!
//! A thread that waits for an answer of its own mount cannot be killed once the request was read.
//! If it shared the descriptor of `/dev/fuse`, a daemon that is killed meanwhile would keep the
//! connection open, and every process that uses the mount would wait for ever. So this thread has a
//! descriptor table of its own, which is empty. When the daemon is killed its table is freed, and
//! the kernel ends the connection and with it the wait.
//!
//! It blocks all signals: a signal handler writes to a socket of the daemon, which this thread does
//! not have, so a SIGTERM that the kernel delivered here would be lost.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use ckptfs_dumper::{Context, Doing, Error, Result};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::SigSet;

use crate::process::descriptors;

/// How long to wait for an answer. The path to the mount may lead through a filesystem that does
/// not answer.
const TIMEOUT: Duration = Duration::from_secs(1);

struct Question {
    path: PathBuf,
    answer: Sender<Option<u64>>,
}

/// The channel to the thread. The thread ends when this is dropped.
pub struct Probe(Sender<Question>);

impl Probe {
    /// Starts the thread.
    pub fn start() -> Result<Probe> {
        let (questions, asked) = channel::<Question>();
        let (ready, is_ready) = channel();
        let answer_all = move || {
            let left = leave_descriptors();
            let is_alone = left.is_ok();
            // A failed send means that the answer comes too late and is not wanted any more.
            let _ = ready.send(left);
            for question in asked.iter().take_while(|_| is_alone) {
                let found = std::fs::symlink_metadata(&question.path).ok().map(|metadata| metadata.ino());
                let _ = question.answer.send(found);
            }
        };
        let doing = || "starting a thread";
        std::thread::Builder::new().name("probe".into()).spawn(answer_all).doing(doing)?;
        is_ready.recv().map_err(|_| Error::os(doing(), libc::EIO))??;
        Ok(Probe(questions))
    }

    /// The inode number of `path`, or `None` if there is no answer in time.
    pub fn inode(&self, path: PathBuf) -> Option<u64> {
        let (answer, answered) = channel();
        self.0.send(Question { path, answer }).ok()?;
        answered.recv_timeout(TIMEOUT).ok().flatten()
    }
}

/// Gives the calling thread a descriptor table of its own and closes all descriptors in it. The
/// standard streams are closed too: the process that has started the daemon waits for their end.
fn leave_descriptors() -> Result<()> {
    let doing = || "giving a thread a descriptor table of its own";
    SigSet::all().thread_block().doing(doing)?;
    unshare(CloneFlags::CLONE_FILES).doing(doing)?;
    descriptors::close_from(0).on(doing)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn it_answers_and_holds_no_descriptor() {
        let held = std::fs::File::open("/dev/null").unwrap();
        let probe = Probe::start().unwrap();
        assert_eq!(probe.inode("/".into()), Some(std::fs::metadata("/").unwrap().ino()));
        assert_eq!(probe.inode("/there/is/nothing".into()), None);
        let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
        let is_probe = |path: &PathBuf| std::fs::read_to_string(path.join("comm")).is_ok_and(|name| name == "probe\n");
        let task = tasks.map(|task| task.path()).find(is_probe).unwrap();
        assert_eq!(std::fs::read_dir(task.join("fd")).unwrap().count(), 0);
        // SIGHUP, SIGINT, SIGTERM: bits 0, 1 and 14.
        let status = std::fs::read_to_string(task.join("status")).unwrap();
        let blocked = status.lines().find_map(|line| line.strip_prefix("SigBlk:")).unwrap();
        let blocked = u64::from_str_radix(blocked.trim(), 16).unwrap();
        assert_eq!(blocked & 0x4003, 0x4003, "the handler of a signal finds no socket here");
        drop(held);
    }
}
