//! ckptfs: a mount where a checkpoint of a process is a file.

#![forbid(unsafe_code)]

mod container;
mod control;
mod daemon;
mod fuse;
mod handle;
mod inodes;
mod inspect;
mod jobs;
mod logging;
mod mount;
mod node;
mod options;
mod process;
mod restore;
mod shared;
mod snapshots;
mod status;
#[cfg(test)]
mod testing;
mod tracers;
mod tree;

use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use ckptfs_dumper::{Doing, Error, Kind, Pid, Result};
use clap::{Args, Parser, Subcommand};

use crate::container::Target;
use crate::mount::Plan;
use crate::options::MountOptions;

/// Exit status for wrong usage, as clap has it.
const USAGE: u8 = 2;

const STATUS_HELP: &str = "Exit status: 0 success; 1 failure, told in one line on standard error; 2 wrong usage.";

const OPTIONS_HELP: &str = "\
Options (-o):
  freeze-timeout=SECONDS  how long a tree may take to stop (5); after that everybody goes on and the open fails (EBUSY)
  external-pipes=refuse|keep
                          a pipe of which a process outside of the tree holds an end: refuse the dump, or find the same pipe again
  changed-files=warn|refuse
                          a file that has changed since the dump: restore and tell so, or refuse the restore
  sysv-ipc=used|owned     semaphores and message queues in the image: those that the tree uses, or also those of its users and time that
                          nobody alive has used
  log=FILE                where the background daemon logs (syslog, if there is one); the level is RUST_LOG's
  allow_other             let other users look in, as far as the files' modes allow (default for root)
  no_allow_other          let nobody else look in
  fsname=NAME             the source that mount(8) shows (ckptfs)
  ro, noexec, noatime     as for every mount; with ro nothing can be restored, frozen or killed

Exit status: 0 the mount answers (with -f: it was unmounted); 1 failure, told in one line on standard error; 2 wrong usage.";

/// A mount where a checkpoint of a process is a file: read it to dump, write it to restore
#[derive(Parser)]
#[command(name = "ckptfs", version, after_help = STATUS_HELP)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Mount; returns when the mount answers and goes on in the background until umount(8) or SIGTERM
    #[command(after_help = OPTIONS_HELP)]
    Mount(MountArgs),
    /// Tell what is in an image
    #[command(after_help = STATUS_HELP)]
    Inspect {
        /// Print JSON instead of tables
        #[arg(long)]
        json: bool,
        /// The image; - is standard input
        file: PathBuf,
    },
    /// Tell whether images are whole
    #[command(after_help = STATUS_HELP)]
    Verify {
        /// The images; - is standard input
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
}

#[derive(Args)]
struct MountArgs {
    /// Show the processes of this cgroup directory and of those below it
    #[arg(long, value_name = "DIR", conflicts_with = "tree")]
    cgroup: Option<PathBuf>,
    /// Show this process and its descendants (default: every process of this pid namespace)
    #[arg(long, value_name = "PID", value_parser = clap::value_parser!(Pid).range(1..))]
    tree: Option<Pid>,
    /// Stay in the foreground and log to standard error
    #[arg(short, long)]
    foreground: bool,
    /// Mount options, see below
    #[arg(short = 'o', value_name = "OPT[,OPT]")]
    options: Vec<String>,
    /// Where
    mountpoint: PathBuf,
    /// This is the daemon that a mount without -f has started
    #[arg(long, hide = true)]
    daemon_stage: bool,
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(code) => code,
        // Who reads no further knows why.
        Err(error) if error.kind() == Kind::System(libc::EPIPE) => ExitCode::FAILURE,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<ExitCode> {
    match cli.command {
        Command::Mount(args) => mount(args),
        Command::Inspect { json, file } => {
            with_input(&file, |input, name, out| inspect::inspect(input, name, json, out))?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Verify { files } => {
            let mut code = ExitCode::SUCCESS;
            for file in files {
                if let Err(error) = with_input(&file, inspect::verify) {
                    complain(&error);
                    code = ExitCode::FAILURE;
                }
            }
            Ok(code)
        }
    }
}

fn mount(args: MountArgs) -> Result<ExitCode> {
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
    let target = match (&args.cgroup, args.tree) {
        (Some(dir), _) => Target::cgroup(dir)?,
        (None, Some(pid)) => Target::tree(pid)?,
        (None, None) => Target::All,
    };
    let plan = Plan { mountpoint: mount::mountpoint(&args.mountpoint)?, target, options };
    if args.daemon_stage {
        daemon::detach()?;
        match &plan.options.log {
            Some(file) => logging::to_file(file)?,
            None => logging::to_syslog()?,
        }
        mount::serve(&plan, daemon::ready)?;
    } else if args.foreground {
        logging::to_stderr()?;
        mount::serve(&plan, || Ok(()))?;
    } else {
        return daemon::start(std::env::args_os().skip(1), &plan.mountpoint);
    }
    Ok(ExitCode::SUCCESS)
}

fn with_input(file: &Path, act: impl FnOnce(&mut dyn Read, &str, &mut dyn Write) -> Result<()>) -> Result<()> {
    let mut out = BufWriter::new(std::io::stdout().lock());
    if file == Path::new("-") {
        act(&mut std::io::stdin().lock(), "standard input", &mut out)?;
    } else {
        let name = file.display().to_string();
        act(&mut File::open(file).doing(|| &name)?, &name, &mut out)?;
    }
    out.flush().doing(|| "writing standard output")
}

fn complain(error: &Error) {
    // Where standard error is closed there is nobody to tell.
    let _ = writeln!(std::io::stderr(), "ckptfs: {error}");
}
