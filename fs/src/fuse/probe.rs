//! A thread that looks at the mount from without, for this program.
//!
//! A thread that waits for an answer of its own mount cannot be killed once the request was read; if it shared the descriptor of
//! `/dev/fuse`, a daemon that is killed meanwhile would keep its mount, and everybody on it, waiting for ever. So this one has a
//! descriptor table of its own, with nothing in it: the kernel ends the connection when the daemon's table goes, and with it the wait.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use ckptfs_dumper::{Context, Doing, Error, Result};
use nix::sched::{CloneFlags, unshare};

use crate::process::descriptors;

/// How long an answer is waited for: the way to the mount may lead over a filesystem that does not answer.
const PATIENCE: Duration = Duration::from_secs(1);

struct Question {
    path: PathBuf,
    answer: Sender<Option<u64>>,
}

/// The way to the thread. It ends when this is dropped.
pub struct Probe(Sender<Question>);

impl Probe {
    /// Starts it.
    pub fn start() -> Result<Probe> {
        let (questions, asked) = channel::<Question>();
        let (ready, is_ready) = channel();
        let look = move || {
            let lonely = leave_descriptors();
            let goes_on = lonely.is_ok();
            // Nobody hears an answer that comes too late.
            let _ = ready.send(lonely);
            for question in asked.iter().take_while(|_| goes_on) {
                let found = std::fs::symlink_metadata(&question.path).ok().map(|facts| facts.ino());
                let _ = question.answer.send(found);
            }
        };
        let doing = || "starting a thread";
        std::thread::Builder::new().name("asker".into()).spawn(look).doing(doing)?;
        is_ready.recv().map_err(|_| Error::os(doing(), libc::EIO))??;
        Ok(Probe(questions))
    }

    /// The number of the inode that `path` leads to, if it leads to one in time.
    pub fn inode(&self, path: PathBuf) -> Option<u64> {
        let (answer, answered) = channel();
        self.0.send(Question { path, answer }).ok()?;
        answered.recv_timeout(PATIENCE).ok().flatten()
    }
}

/// Gives the calling thread a descriptor table of its own and closes all of it, the standard streams too: whoever started the daemon waits for
/// their end.
fn leave_descriptors() -> Result<()> {
    let doing = || "giving a thread a descriptor table of its own";
    unshare(CloneFlags::CLONE_FILES).doing(doing)?;
    descriptors::close_from(0).on(doing)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn it_answers_and_holds_nothing() {
        let held = std::fs::File::open("/dev/null").unwrap();
        let asker = Probe::start().unwrap();
        assert_eq!(asker.inode("/".into()), Some(std::fs::metadata("/").unwrap().ino()));
        assert_eq!(asker.inode("/there/is/nothing".into()), None);
        let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
        let is_asker = |path: &PathBuf| std::fs::read_to_string(path.join("comm")).is_ok_and(|name| name == "asker\n");
        let task = tasks.map(|task| task.path()).find(is_asker).unwrap();
        assert_eq!(std::fs::read_dir(task.join("fd")).unwrap().count(), 0);
        drop(held);
    }
}
