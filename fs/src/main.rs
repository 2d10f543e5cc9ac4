//! ckptfs: a mount where a checkpoint of a process is a file.

#![forbid(unsafe_code)]

mod cli;
mod errno;
mod fuse;
mod mount;
mod node;
mod process;
mod state;
#[cfg(test)]
mod testing;
mod tree;

use std::ffi::OsString;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use ckptfs_dumper::{ChangedFiles, Doing, Kind, Result};
use clap::Parser;
use nix::mount::MsFlags;

use crate::cli::arguments::{Cli, Command, MountArgs};
use crate::cli::inspect::{self, Form};
use crate::cli::mount_helper::{self, Asked};
use crate::cli::options::MountOptions;
use crate::cli::progress::{Input, complain};
use crate::cli::{core, daemon, logging, restore};
use crate::mount::{Hangup, Plan};
use crate::process::container::MountTarget;

/// Exit status for wrong usage, as clap has it.
const USAGE: u8 = 2;

/// Exit status of `diff` where it cannot tell, as diff(1) has it.
const TROUBLE: u8 = 2;

fn main() -> ExitCode {
    let mut args: Vec<OsString> = std::env::args_os().collect();
    let is_daemon = daemon::is_stage(&mut args);
    match mount_helper::read(&args) {
        Asked::Nothing => {}
        Asked::Mount(asked) => args = asked,
        Asked::Fake => return ExitCode::SUCCESS,
    }
    match run(Cli::parse_from(&args), is_daemon, &args) {
        Ok(code) => code,
        // Who reads no further knows why.
        Err(error) if error.kind() == Kind::System(libc::EPIPE) => ExitCode::FAILURE,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli, is_daemon: bool, args: &[OsString]) -> Result<ExitCode> {
    match cli.command {
        Command::Mount(mount_args) => mount(mount_args, is_daemon, args),
        Command::Core { pid, image } => core::write(&image, pid).map(|()| ExitCode::SUCCESS),
        Command::Restore { changed_files, files } => {
            let policy = if changed_files == "refuse" { ChangedFiles::Refuse } else { ChangedFiles::Warn };
            each(&files, |input, out| restore::revive(input, policy, out))
        }
        Command::Inspect { json, records, file } => {
            let form = match (json, records) {
                (true, _) => Form::Json,
                (false, true) => Form::Records,
                (false, false) => Form::Tables,
            };
            with_output(|out| {
                let mut input = Input::open(&file)?;
                let (name, mut out) = (input.name.clone(), input.beside(out));
                let told = inspect::inspect(&mut input, &name, form, &mut out);
                told.and(out.flush().doing(|| "writing standard output"))
            })?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Diff { json, a, b } => match with_output(|out| diff(&a, &b, json, out)) {
            Ok(true) => Ok(ExitCode::SUCCESS),
            Ok(false) => Ok(ExitCode::FAILURE),
            Err(error) => {
                complain(&error);
                Ok(ExitCode::from(TROUBLE))
            }
        },
        Command::Verify { files } => each(&files, |input, out| {
            let name = input.name.clone();
            inspect::verify(input, &name, out)
        }),
    }
}

/// Does the same with each input; the failure of one does not keep the others from being tried.
fn each(files: &[PathBuf], mut act: impl FnMut(&mut Input, &mut dyn Write) -> Result<()>) -> Result<ExitCode> {
    let mut code = ExitCode::SUCCESS;
    for file in files {
        if let Err(error) = with_output(|out| act(&mut Input::open(file)?, out)) {
            complain(&error);
            code = ExitCode::FAILURE;
        }
    }
    Ok(code)
}

fn diff(a: &Path, b: &Path, json: bool, out: &mut dyn Write) -> Result<bool> {
    let (mut a, mut b) = (Input::open(a)?, Input::open(b)?);
    let (name_a, name_b) = (a.name.clone(), b.name.clone());
    inspect::diff((&mut a, &name_a), (&mut b, &name_b), json, out)
}

/// `is_daemon`: this is the one that is started again, with `command_line`, for the background.
fn mount(args: MountArgs, is_daemon: bool, command_line: &[OsString]) -> Result<ExitCode> {
    let mut options = match MountOptions::parse(&args.options, nix::unistd::geteuid().is_root()) {
        Ok(options) => options,
        Err(error) => {
            complain(&error);
            return Ok(ExitCode::from(USAGE));
        }
    };
    if let Some(log) = &mut options.log {
        // The daemon leaves this directory.
        *log = std::path::absolute(&*log).doing(|| format!("-o log={}", log.display()))?;
    }
    let target = match (&args.cgroup, &args.image, args.tree) {
        (Some(dir), ..) => MountTarget::cgroup(dir)?,
        (_, Some(file), _) => MountTarget::image(file)?,
        (.., Some(pid)) => MountTarget::tree(pid)?,
        (None, None, None) => MountTarget::All,
    };
    if let MountTarget::Image(_) = target {
        options.flags.insert(MsFlags::MS_RDONLY);
    }
    let plan = Plan { mountpoint: mount::mountpoint(&args.mountpoint)?, target, options };
    if is_daemon {
        daemon::detach()?;
        let log = match &plan.options.log {
            Some(file) => Some(logging::to_file(file)?),
            None => logging::to_syslog().map(|()| None)?,
        };
        mount::serve(&plan, Hangup::Reopens(log), daemon::ready)?;
    } else if args.foreground {
        match &plan.options.log {
            Some(file) => drop(logging::to_file(file)?),
            None => logging::to_stderr()?,
        }
        mount::serve(&plan, Hangup::Unmounts, || Ok(()))?;
    } else {
        return daemon::start(command_line.iter().skip(1).cloned(), &plan.mountpoint);
    }
    Ok(ExitCode::SUCCESS)
}

fn with_output<T>(act: impl FnOnce(&mut dyn Write) -> Result<T>) -> Result<T> {
    let mut out = BufWriter::new(std::io::stdout().lock());
    let done = act(&mut out);
    // What was found before a failure is told.
    let flushed = out.flush().doing(|| "writing standard output");
    let done = done?;
    flushed.map(|()| done)
}
