//! The background: a mount that goes on when the command has returned.
//!
//! The command starts itself again with [`STAGE`], which leaves the terminal, mounts, and writes one byte to its standard
//! output when the mount answers. Until then it says what fails on the terminal's standard error, and its exit status is
//! the command's. (A bare fork(2) would do with less, but Rust cannot vouch for what runs between it and an exec.)

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use ckptfs_dumper::{Context, Doing, Result};

use crate::process::descriptors;

/// The second argument of the daemon's own command line. It is no option: nobody else should give it, or be offered it.
const STAGE: &str = "--daemon-stage";

/// Whether this is the daemon that a mount without `-f` has started. [`STAGE`] is taken out of the arguments.
pub fn is_stage(args: &mut Vec<OsString>) -> bool {
    let is_stage = args.get(2).is_some_and(|arg| arg == STAGE);
    if is_stage {
        args.remove(2);
    }
    is_stage
}

/// Starts the daemon with this command's arguments, of which the first is `mount`, and returns when its mount answers, or with its exit
/// status when it failed.
pub fn start(mut args: impl Iterator<Item = OsString>, mountpoint: &Path) -> Result<ExitCode> {
    // The link names the program even when its file was replaced or is out of this process's sight.
    let mut command = Command::new("/proc/self/exe");
    command.arg0("ckptfs").args(args.next()).arg(STAGE).args(args).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut daemon = command.spawn().doing(|| "starting the daemon")?;
    let mut ready = [0];
    let answers = match daemon.stdout.take() {
        Some(mut pipe) => pipe.read(&mut ready).doing(|| "waiting for the daemon")?,
        None => 0,
    };
    if answers > 0 {
        // Asked from here: a daemon that waits for an answer of its own mount could not even be killed.
        std::fs::metadata(mountpoint).doing(|| format!("mounting {}: asking it", mountpoint.display()))?;
        return Ok(ExitCode::SUCCESS);
    }
    let status = daemon.wait().doing(|| "waiting for the daemon")?;
    Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).filter(|&code| code != 0).unwrap_or(1)))
}

/// The daemon leaves its starter's session, directory and descriptors, but for the standard streams: who has a lock, or waits for the end of
/// a pipe, did not mean this mount's lifetime. It must have no other thread, and no file open, yet.
pub fn detach() -> Result<()> {
    // Started through a link, it would be called "exe" in ps(1).
    nix::sys::prctl::set_name(c"ckptfs").doing(|| "setting the daemon's name")?;
    nix::unistd::setsid().doing(|| "leaving the session")?;
    descriptors::close_from(3).on(|| "leaving the starter's descriptors")?;
    std::env::set_current_dir("/").doing(|| "leaving for /")
}

/// The mount answers: tells the starter, and lets go of its terminal.
pub fn ready() -> Result<()> {
    let null = File::options().read(true).write(true).open("/dev/null").doing(|| "opening /dev/null")?;
    let mut out = std::io::stdout();
    // The starter may be gone; the mount stands all the same.
    if let Err(error) = out.write_all(b"\n").and_then(|()| out.flush()) {
        log::warn!("telling the starter: {error}");
    }
    nix::unistd::dup2_stdout(&null).doing(|| "redirecting standard output")?;
    nix::unistd::dup2_stderr(&null).doing(|| "redirecting standard error")
}
