//! Pseudo-terminals whose masters the test holds: the test plays the window.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex};

use ckptfs_dumper::Pid;
use nix::fcntl::OFlag;
use nix::pty::{PtyMaster, grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sys::termios::{LocalFlags, tcgetattr};
use nix::unistd::tcgetpgrp;

use crate::{tool, wait};

/// Opens a master, and gives the path of its slave.
pub fn open() -> (PtyMaster, PathBuf) {
    let master = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC).expect("opening a master");
    grantpt(&master).expect("grantpt");
    unlockpt(&master).expect("unlockpt");
    let path = ptsname_r(&master).expect("ptsname").into();
    (master, path)
}

/// A window with a program whose session its terminal controls. A drop kills the program and closes
/// the window.
#[derive(Debug)]
pub struct Window {
    master: PtyMaster,
    path: PathBuf,
    /// All that was shown, as it came.
    shown: Arc<Mutex<Vec<u8>>>,
    child: Child,
}

impl Window {
    /// Opens a window of this size and runs a program in it, in the directory `dir`.
    pub fn run(rows: u16, columns: u16, dir: &Path, argv: &[&str]) -> Window {
        let (master, path) = open();
        let slave = || {
            File::options().read(true).write(true).custom_flags(libc::O_NOCTTY).open(&path).expect("opening a slave")
        };
        resize(&path, rows, columns);
        // setsid(1) takes its standard input as the controlling terminal.
        let mut command = Command::new("setsid");
        command.arg("--ctty").args(argv).current_dir(dir);
        command.env("TERM", "xterm").env("LC_ALL", "C.UTF-8").env("PS1", "$ ").env_remove("RUST_LOG");
        let child = command.stdin(slave()).stdout(slave()).stderr(slave()).spawn().expect("starting setsid(1)");
        let shown = Arc::new(Mutex::new(Vec::new()));
        let (text, fd) = (Arc::clone(&shown), master.as_fd().try_clone_to_owned().expect("a second descriptor"));
        std::thread::spawn(move || {
            let (mut from, mut buffer) = (File::from(fd), [0; 4096]);
            // EIO when no program has the terminal. One may open it again.
            loop {
                match from.read(&mut buffer) {
                    Ok(len) if len > 0 => text.lock().expect("no panic").extend_from_slice(&buffer[..len]),
                    _ if Arc::strong_count(&text) == 1 => return,
                    _ => std::thread::sleep(std::time::Duration::from_millis(2)),
                }
            }
        });
        Window { master, path, shown, child }
    }

    /// The pid of the program.
    pub fn pid(&self) -> Pid {
        Pid::try_from(self.child.id()).expect("a pid")
    }

    /// The name of its terminal.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Types this.
    pub fn types(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).expect("typing");
    }

    /// All that was shown since the last [`Window::clear`].
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.shown.lock().expect("no panic")).into_owned()
    }

    /// Forgets what was shown.
    pub fn clear(&self) {
        self.shown.lock().expect("no panic").clear();
    }

    /// Waits until this is shown.
    pub fn shows(&self, text: &str) {
        let found = wait::poll(wait::LONG, || self.text().contains(text).then_some(()));
        assert!(found.is_some(), "{text:?} was not shown, but:\n{:?}", self.text());
    }

    /// Changes its size.
    pub fn resize(&self, rows: u16, columns: u16) {
        resize(&self.path, rows, columns);
    }

    /// The process group in its foreground.
    pub fn foreground(&self) -> Pid {
        tcgetpgrp(&self.master).map_or(0, nix::unistd::Pid::as_raw)
    }

    /// Waits until this group is in its foreground.
    pub fn is_given_to(&self, group: Pid) {
        let given = wait::poll(wait::LONG, || (self.foreground() == group).then_some(()));
        assert!(given.is_some(), "group {} has the terminal, not {group}:\n{}", self.foreground(), self.text());
    }

    /// Whether it shows what is typed: one of its settings.
    pub fn echoes(&self) -> bool {
        tcgetattr(&self.master).expect("tcgetattr").local_flags.contains(LocalFlags::ECHO)
    }

    /// Waits for the end of the program.
    pub fn ends(&mut self) -> ExitStatus {
        let ended = wait::poll(wait::LONG, || self.child.try_wait().expect("waiting for the program"));
        ended.unwrap_or_else(|| panic!("the program does not end:\n{}", self.text()))
    }
}

/// Changes the size of a terminal, which tells the processes in its foreground.
fn resize(path: &Path, rows: u16, columns: u16) {
    let path = path.display().to_string();
    let _quiet = tool::run(&["stty", "-F", &path, "rows", &rows.to_string(), "cols", &columns.to_string()]).success();
}

impl Drop for Window {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _status = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- the window {} showed:\n{}", self.path.display(), self.text());
        }
    }
}
