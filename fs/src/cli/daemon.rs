//! The background daemon of a mount.
//!
//! The command starts its own program again, with [`STAGE`]. That process, the daemon, leaves the
//! terminal, mounts, and writes one byte to its standard output when the mount answers. Until then
//! it reports failures on the terminal's standard error, and its exit status becomes the command's.
//! (A bare fork(2) would be less work, but Rust gives no guarantee for code that runs between fork
//! and exec.)

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use ckptfs_dumper::{Context, Doing, Result};

use crate::process::descriptors;

/// The second argument of the daemon's own command line. It is no documented option, because no
/// user should pass it.
const STAGE: &str = "--daemon-stage";

/// Whether this process is the daemon that a mount without `-f` has started. Removes [`STAGE`] from
/// the arguments.
pub fn is_stage(args: &mut Vec<OsString>) -> bool {
    let is_stage = args.get(2).is_some_and(|arg| arg == STAGE);
    if is_stage {
        args.remove(2);
    }
    is_stage
}

/// Starts the daemon with this command's arguments. The first of them is `mount`. Returns when the
/// mount answers, or with the daemon's exit status if it failed.
pub fn start(mut args: impl Iterator<Item = OsString>, mountpoint: &Path) -> Result<ExitCode> {
    // The link leads to the program even if its file was replaced or is not visible to this
    // process.
    let mut command = Command::new("/proc/self/exe");
    command.arg0("ckptfs").args(args.next()).arg(STAGE).args(args).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut daemon = command.spawn().doing(|| "starting the daemon")?;
    let mut ready = [0];
    let answers = match daemon.stdout.take() {
        Some(mut pipe) => pipe.read(&mut ready).doing(|| "waiting for the daemon")?,
        None => 0,
    };
    if answers > 0 {
        // This process calls this stat(2), not the daemon: a process that waits for an answer of
        // its own mount cannot be killed.
        std::fs::metadata(mountpoint).doing(|| format!("mounting {}: stat of it", mountpoint.display()))?;
        return Ok(ExitCode::SUCCESS);
    }
    let status = daemon.wait().doing(|| "waiting for the daemon")?;
    Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).filter(|&code| code != 0).unwrap_or(1)))
}

/// The daemon leaves the session, the directory and the descriptors of the process that started it,
/// except for the standard streams. Otherwise an inherited lock would stay held, and the reader of
/// an inherited pipe would get no end of file, for as long as the mount lives. The daemon must have
/// no other thread and no open file yet.
pub fn detach() -> Result<()> {
    // ps(1) shows a program that is started through /proc/self/exe as "exe".
    nix::sys::prctl::set_name(c"ckptfs").doing(|| "setting the daemon's name")?;
    nix::unistd::setsid().doing(|| "leaving the session")?;
    descriptors::close_from(3).on(|| "closing inherited descriptors")?;
    std::env::set_current_dir("/").doing(|| "leaving for /")
}

/// The mount answers. Informs the process that started the daemon, and releases its terminal.
pub fn ready() -> Result<()> {
    let null = File::options().read(true).write(true).open("/dev/null").doing(|| "opening /dev/null")?;
    let mut out = std::io::stdout();
    // That process may be gone. The mount stays.
    if let Err(error) = out.write_all(b"\n").and_then(|()| out.flush()) {
        log::warn!("reporting to the command that the mount answers: {error}");
    }
    nix::unistd::dup2_stdout(&null).doing(|| "redirecting standard output")?;
    nix::unistd::dup2_stderr(&null).doing(|| "redirecting standard error")
}
