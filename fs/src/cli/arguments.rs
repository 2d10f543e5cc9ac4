//! The command line. The build makes the man page and the completions of shells from it.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueHint};

const MAIN_HELP: &str = "\
Environment:
  RUST_LOG  the level of the log: error, warn, info, debug, trace, off, also for single modules (ckptfs=debug,fuser=warn); empty or unset
            means warn,ckptfs=info,ckptfs_dumper=info

Exit status: 0 success; 1 failure, told in one line on standard error; 2 wrong usage.";

const STATUS_HELP: &str = "Exit status: 0 success; 1 failure, told in one line on standard error; 2 wrong usage.";

const DIFF_HELP: &str = "\
Pages are told by mapping, descriptors by what they lead to, everything else by record and field. The times of the two images do not count.

Exit status: 0 they are the same; 1 they differ; 2 failure, told in one line on standard error, or wrong usage.";

const RESTORE_HELP: &str = "\
Without a mount: what is restored belongs to nobody but init (or the nearest subreaper) once this command ends. One line for each image
tells at once who lives again. A root with a parent-death signal (PR_SET_PDEATHSIG) gets it at that end: restore it through a mount. Bytes, rate and time left are shown on a terminal.

Exit status: 0 everything lives; 1 failure, told in one line on standard error: of an image that has no line on standard output nothing
lives; 2 wrong usage.";

const OPTIONS_HELP: &str = "\
Options (-o):
  freeze-timeout=SECONDS  how long a tree may take to stop (5); after that everybody goes on and the open fails (EBUSY)
  external-pipes=refuse|keep
                          a pipe of which a process outside of the tree holds an end: refuse the dump, or find the same pipe again
  changed-files=warn|refuse
                          a file that has changed since the dump: restore and tell so, or refuse the restore
  sysv-ipc=used|owned     semaphores and message queues in the image: those that the tree uses, or also those of its users and time that
                          nobody alive has used
  pinned-max=N            how many snapshots may be pinned (64)
  pinned-memory=SIZE      how much memory they may hold when another one is asked for, in bytes or with K, M, G (no limit)
  log=FILE                where the daemon logs, instead of to syslog or, with -f, to standard error; the level is RUST_LOG's
  allow_other             let other users look in, as far as the files' modes allow (default for root)
  no_allow_other          let nobody else look in
  fsname=NAME             the source that mount(8) shows (ckptfs)
  ro, noexec, noatime, ...
                          as for every mount, see mount(8); with ro nothing can be restored, pinned, frozen or killed

Signals:
  SIGTERM, SIGINT  unmount, also while somebody stands in the mount
  SIGHUP           the background daemon opens the file of log= again, for who rotates it; with -f: unmount

Environment:
  RUST_LOG  see ckptfs(1)

Exit status: 0 the mount answers (with -f: it was unmounted); 1 failure, told in one line on standard error; 2 wrong usage.";

/// A mount where a checkpoint of a process is a file: read it to dump, write it to restore
#[derive(Parser)]
#[command(name = "ckptfs", version, override_usage = "ckptfs COMMAND [ARGUMENT]...", after_help = MAIN_HELP)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What can be done.
#[derive(Subcommand)]
pub enum Command {
    /// Mount; returns when the mount answers and goes on in the background until umount(8) or SIGTERM
    #[command(
        override_usage = "ckptfs mount [--cgroup DIR | --tree PID | --image FILE] [-f] [-o OPT[,OPT]]... MOUNTPOINT",
        after_help = OPTIONS_HELP
    )]
    Mount(MountArgs),
    /// Make the processes of images live again, without a mount
    #[command(override_usage = "ckptfs restore [--changed-files POLICY] FILE...", after_help = RESTORE_HELP)]
    Restore {
        /// A file that has changed since the dump: restore and tell so, or refuse the restore
        #[arg(long, value_name = "POLICY", value_parser = ["warn", "refuse"], default_value = "warn")]
        changed_files: String,
        /// The images, restored in this order; - is standard input
        #[arg(required = true, value_hint = ValueHint::FilePath)]
        files: Vec<PathBuf>,
    },
    /// Write a process of a stored image as an ELF core file to standard output
    #[command(override_usage = "ckptfs core [--pid PID] IMAGE", after_help = STATUS_HELP)]
    Core {
        /// The process (default: the root)
        #[arg(long, value_name = "PID", value_hint = ValueHint::Other, value_parser = clap::value_parser!(i32).range(1..))]
        pid: Option<i32>,
        /// The image: a regular file
        #[arg(value_hint = ValueHint::FilePath)]
        image: PathBuf,
    },
    /// Tell what is in an image: processes, memory, descriptors
    #[command(override_usage = "ckptfs inspect [--json | --records] FILE", after_help = STATUS_HELP)]
    Inspect {
        /// Print JSON instead of tables
        #[arg(long, conflicts_with = "records")]
        json: bool,
        /// Print a line for every record
        #[arg(long)]
        records: bool,
        /// The image; - is standard input
        #[arg(value_hint = ValueHint::FilePath)]
        file: PathBuf,
    },
    /// Tell in what two images differ
    #[command(override_usage = "ckptfs diff [--json] A B", after_help = DIFF_HELP)]
    Diff {
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// The first image; - is standard input
        #[arg(value_hint = ValueHint::FilePath)]
        a: PathBuf,
        /// The second image
        #[arg(value_hint = ValueHint::FilePath)]
        b: PathBuf,
    },
    /// Tell whether images are whole
    #[command(override_usage = "ckptfs verify FILE...", after_help = STATUS_HELP)]
    Verify {
        /// The images; - is standard input
        #[arg(required = true, value_hint = ValueHint::FilePath)]
        files: Vec<PathBuf>,
    },
}

/// Arguments of `ckptfs mount`.
#[derive(Args)]
pub struct MountArgs {
    /// Show the processes of this cgroup directory and of those below it
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath, conflicts_with_all = ["tree", "image"])]
    pub cgroup: Option<PathBuf>,
    /// Show the processes of a stored image, read-only
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with = "tree")]
    pub image: Option<PathBuf>,
    /// Show this process and its descendants (default: every process of this pid namespace)
    #[arg(long, value_name = "PID", value_hint = ValueHint::Other, value_parser = clap::value_parser!(i32).range(1..))]
    pub tree: Option<i32>,
    /// Stay in the foreground and log to standard error
    #[arg(short, long)]
    pub foreground: bool,
    /// Mount options, see below
    #[arg(short = 'o', value_name = "OPT[,OPT]", value_hint = ValueHint::Other)]
    pub options: Vec<String>,
    /// Where
    #[arg(value_hint = ValueHint::DirPath)]
    pub mountpoint: PathBuf,
}
