//! Bytes between two terminals: what is typed goes to the tree, what the tree writes to the window.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use ckptfs_dumper::terminal::Pty;
use ckptfs_dumper::{Doing, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::cli::attach::terminal::OwnTerminal;

/// The time between two looks at what is left to be shown.
const STEP: Duration = Duration::from_millis(10);

/// How long the end waits for a window that takes no bytes, such as one stopped by ^S, and for
/// processes that go on writing.
const FINISH_TIMEOUT: Duration = Duration::from_secs(10);

/// Two threads that copy.
pub struct Relay {
    /// Its slave is held open too: a tree may close its terminal and open it again.
    pty: Arc<Pty>,
    /// Whether bytes from the tree are on their way.
    busy: Arc<AtomicBool>,
    /// Closed when the window is gone.
    ended: Receiver<()>,
}

impl Relay {
    /// Starts to copy between the window and the tree.
    pub fn start(pty: Arc<Pty>, terminal: &OwnTerminal) -> Result<Self> {
        let busy = Arc::new(AtomicBool::new(false));
        let (alive, ended) = mpsc::channel();
        let copy = |fd: &OwnedFd| fd.try_clone().map(File::from).doing(|| "duplicating a descriptor");
        let (mut typed, mut window) = (terminal.file()?, terminal.file()?);
        let (mut to_tree, mut from_tree) = (copy(&pty.master)?, copy(&pty.master)?);
        let is_busy = Arc::clone(&busy);
        let start = |name: &str, work: Box<dyn FnOnce() + Send>| {
            std::thread::Builder::new().name(name.into()).spawn(work).map(drop).doing(|| "starting a thread")
        };
        // It ends with this program: nobody may type any more.
        start("typed", Box::new(move || drop(io::copy(&mut typed, &mut to_tree))))?;
        start(
            "shown",
            Box::new(move || {
                while shows(&mut from_tree, &mut window, &is_busy) {}
                drop(alive);
            }),
        )?;
        Ok(Self { pty, busy, ended })
    }

    /// The side of the window.
    pub fn master(&self) -> &OwnedFd {
        &self.pty.master
    }

    /// The job has ended: waits until all that it has written is shown. Processes of its tree that
    /// live on may write more, and lose their terminal.
    pub fn finish(self) {
        let end = Instant::now() + FINISH_TIMEOUT;
        while Instant::now() < end && self.ended.recv_timeout(STEP) == Err(mpsc::RecvTimeoutError::Timeout) {
            let mut polls = [PollFd::new(self.master().as_fd(), PollFlags::POLLIN)];
            let has_more = poll(&mut polls, PollTimeout::ZERO) != Ok(0);
            // In this order: a byte leaves the master only while it is busy.
            if !has_more && !self.busy.load(Ordering::SeqCst) {
                return;
            }
        }
    }
}

/// Copies what is there. Returns false once the window is gone.
fn shows(from_tree: &mut File, window: &mut File, busy: &AtomicBool) -> bool {
    let mut polls = [PollFd::new(from_tree.as_fd(), PollFlags::POLLIN)];
    match poll(&mut polls, PollTimeout::NONE) {
        Ok(_) => {}
        Err(Errno::EINTR) => return true,
        Err(_) => return false,
    }
    busy.store(true, Ordering::SeqCst);
    let mut buffer = [0; 8 << 10];
    let copied = match from_tree.read(&mut buffer) {
        Ok(0) => false,
        Ok(len) => window.write_all(&buffer[..len]).is_ok(),
        Err(error) => error.kind() == io::ErrorKind::Interrupted,
    };
    busy.store(false, Ordering::SeqCst);
    copied
}
