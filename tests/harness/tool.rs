//! Commands, run with a bound (timeout(1)), so that a daemon that does not answer fails a test instead of holding it up.

use std::ffi::OsStr;
use std::process::{Command, Stdio};

/// The bound in seconds of one command.
const LIMIT: &str = "120";

/// What a command left behind.
#[derive(Debug)]
pub struct Output {
    /// Exit status; 124 or 137 after the bound, 128 + N after signal N.
    pub code: i32,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error, as text.
    pub stderr: String,
}

impl Output {
    /// Standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// The output of a command that must succeed.
    #[must_use]
    pub fn success(self) -> Output {
        assert!(self.code == 0, "exit status {}\n{}{}", self.code, self.text(), self.stderr);
        self
    }

    /// Asserts that the command failed, with this text among its errors.
    pub fn fails_with(&self, message: &str) {
        assert!(
            self.code != 0 && self.stderr.contains(message),
            "expected a failure with {message:?}, got exit status {}\n{}{}",
            self.code,
            self.text(),
            self.stderr
        );
    }
}

/// The bounded form of a command, to be run or spawned; standard input is empty.
pub fn command<S: AsRef<OsStr>>(argv: &[S]) -> Command {
    // Who runs the tests may ignore a signal (nohup(1) does), and a shell cannot trap what was ignored when it began.
    let mut command = Command::new("env");
    command
        .args(["--default-signal", "timeout", "--signal=KILL", LIMIT])
        .args(argv)
        .stdin(Stdio::null())
        .env("LC_ALL", "C");
    command
}

/// Runs a command to its end.
pub fn run<S: AsRef<OsStr>>(argv: &[S]) -> Output {
    finish(&mut command(argv))
}

/// Runs a shell script; a failing part of a pipeline fails the whole. `args` are its `$1`, `$2` ...
pub fn shell<S: AsRef<OsStr>>(script: &str, args: &[S]) -> Output {
    let mut command = command(&["bash", "-euo", "pipefail", "-c", script, "test"]);
    command.args(args);
    finish(&mut command)
}

fn finish(command: &mut Command) -> Output {
    use std::os::unix::process::ExitStatusExt;
    let output = command.output().expect("running timeout(1)");
    let code = output.status.code().unwrap_or_else(|| 128 + output.status.signal().unwrap_or_default());
    Output { code, stdout: output.stdout, stderr: String::from_utf8_lossy(&output.stderr).into_owned() }
}
