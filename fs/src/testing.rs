//! Helpers of unit tests: a child process that does nothing.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ckptfs_dumper::{Options, Pid, RestoreOptions};

/// Options that need no cgroup.
pub fn options() -> Options {
    let restore = RestoreOptions::default();
    Options { freeze_timeout: Duration::from_secs(5), owned_sysv_ipc: false, restore }
}

/// A process that sleeps until it is dropped. Its children are killed with it.
pub struct Sleeper {
    child: Child,
    below: Option<Pid>,
}

impl Sleeper {
    /// One process that has started up and sleeps, so its mappings no longer change.
    pub fn new() -> Sleeper {
        // The sleeper closes the descriptors that it inherits from the test runner, often pipes.
        let script =
            "for fd in /proc/$$/fd/*; do fd=${fd##*/}; [ $fd -le 2 ] || eval \"exec $fd>&-\"; done; exec sleep 300";
        let mut command = Command::new("bash");
        command.args(["-c", script]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().unwrap();
        let sleeper = Sleeper { child, below: None };
        let deadline = Instant::now() + Duration::from_secs(60);
        let stat = format!("/proc/{}/stat", sleeper.pid());
        while !std::fs::read_to_string(&stat).unwrap().contains("(sleep) S ") {
            assert!(Instant::now() < deadline, "sleep(1) does not sleep");
            std::thread::yield_now();
        }
        sleeper
    }

    /// A shell and the sleep that it waits for.
    pub fn with_child() -> Sleeper {
        let script = "sleep 300 >/dev/null & echo $!; wait";
        let mut child = Command::new("sh").args(["-c", script]).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Sleeper { child, below: Some(line.trim().parse().unwrap()) }
    }

    /// Its pid.
    pub fn pid(&self) -> Pid {
        self.child.id() as Pid
    }

    /// Kills it and leaves the zombie.
    pub fn kill_unreaped(&mut self) {
        self.child.kill().unwrap();
        let id = nix::unistd::Pid::from_raw(self.pid());
        let flags = nix::sys::wait::WaitPidFlag::WEXITED | nix::sys::wait::WaitPidFlag::WNOWAIT;
        nix::sys::wait::waitid(nix::sys::wait::Id::Pid(id), flags).unwrap();
    }

    /// Waits for its end. Returns the signal that ended it.
    pub fn wait_signal(&mut self) -> Option<i32> {
        use std::os::unix::process::ExitStatusExt;
        self.child.wait().unwrap().signal()
    }

    /// Waits until it has ended. This thread need not reap it, if another thread of this process
    /// has traced it.
    pub fn wait_end(&self) {
        let stat = format!("/proc/{}/stat", self.pid());
        while std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z ")) {
            std::thread::yield_now();
        }
    }

    /// Kills and reaps it. Returns a pid that no process has any more.
    pub fn into_dead(self) -> Pid {
        self.pid()
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        if let Some(pid) = self.below {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
