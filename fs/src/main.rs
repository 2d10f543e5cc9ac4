//! ckptfs: a mount where a checkpoint of a process is a file.

#![forbid(unsafe_code)]

mod cli;
mod errno;
mod escape;
mod fuse;
mod mount;
mod node;
mod process;
mod state;
#[cfg(test)]
mod testing;
mod tree;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;

use crate::cli::arguments::{Cli, Command};
use crate::cli::failure::Failure;
use crate::cli::mount_helper::{self, Invocation};
use crate::cli::progress::complain;
use crate::cli::{commands, daemon};

fn main() -> ExitCode {
    // Before the first thread.
    ckptfs_dumper::use_one_heap();
    let mut args: Vec<OsString> = std::env::args_os().collect();
    let is_daemon = daemon::is_stage(&mut args);
    match begin(args, is_daemon) {
        Ok(code) => code,
        Err(failure) => {
            if !failure.is_reader_gone() {
                complain(&failure.error);
            }
            ExitCode::from(failure.status)
        }
    }
}

/// Reads the command line, also that of a mount helper, and does what it says.
fn begin(args: Vec<OsString>, is_daemon: bool) -> Result<ExitCode, Failure> {
    let args = match mount_helper::read(&args).map_err(Failure::usage)? {
        Invocation::Command => args,
        Invocation::Mount(arguments) => arguments,
        Invocation::Fake => return Ok(ExitCode::SUCCESS),
    };
    run(Cli::parse_from(&args), is_daemon, &args)
}

/// `args` is the command line, with the program's name first. `is_daemon` means that this is the
/// background process of a mount.
fn run(cli: Cli, is_daemon: bool, args: &[OsString]) -> Result<ExitCode, Failure> {
    match cli.command {
        Command::Mount(arguments) => mount::run(&arguments, is_daemon, args.iter().skip(1).cloned()),
        Command::Core { pid, image } => commands::core(&image, pid),
        Command::Restore { attach, changed_files, options, files } => {
            commands::restore(attach, changed_files.as_deref(), &options, &files)
        }
        Command::Inspect { json, records, file } => commands::inspect(&file, json, records),
        Command::Diff { json, a, b } => commands::diff(&a, &b, json),
        Command::Verify { key, files } => commands::verify(key.as_deref(), &files),
        Command::Why { pid } => commands::why(pid),
        Command::Check { pids } => commands::check(&pids),
        Command::Ps => commands::ps(),
        Command::InstallAssets { prefix } => commands::install_assets(&prefix),
    }
}
