//! Commands with a time limit (timeout(1)): a daemon that does not answer fails the test instead of
//! blocking it.

use std::ffi::OsStr;
use std::process::{Command, Stdio};

/// The time limit of one command, in seconds.
const LIMIT: &str = "300";

/// The result of a command.
#[derive(Debug)]
pub struct Output {
    /// Exit status. It is 124 or 137 after the time limit, and 128 + N after signal N.
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

    /// Asserts that the command failed with this text in its standard error.
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

/// A command with the time limit, to be run or spawned. Its standard input is empty.
pub fn command<S: AsRef<OsStr>>(argv: &[S]) -> Command {
    // The parent of the test run may ignore a signal (nohup(1) does), and a shell cannot trap a
    // signal that was ignored when it started.
    let mut command = Command::new("env");
    command
        .args(["--default-signal", "timeout", "--signal=KILL", LIMIT])
        .args(argv)
        .stdin(Stdio::null())
        .env("LC_ALL", "C");
    command
}

/// Runs a command until it ends.
pub fn run<S: AsRef<OsStr>>(argv: &[S]) -> Output {
    finish(&mut command(argv))
}

/// Runs a shell script. A failure of one part of a pipeline fails the whole pipeline. `args` are
/// `$1`, `$2` ...
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
