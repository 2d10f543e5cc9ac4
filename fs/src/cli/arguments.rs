//! The command line. The build makes the man pages and the shell completions from it.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueHint};

const MAIN_HELP: &str = "\
Environment:
  RUST_LOG  the level of the log: error, warn, info, debug, trace or off, also for single modules (ckptfs=debug,fuser=warn);
            empty or unset means warn,ckptfs=info,ckptfs_dumper=info

Exit status:
  0  success
  1  failure, with one line on standard error
  2  wrong usage";

const STATUS_HELP: &str = "\
Exit status:
  0  success
  1  failure, with one line on standard error
  2  wrong usage";

const WHY_HELP: &str = "\
Every mount of this mount namespace is asked. Each line begins with the mountpoint.

Exit status:
  0  a reason is printed
  1  no reason is known, or failure, with one line on standard error
  2  wrong usage";

const CHECK_HELP: &str = "\
Prints a line for everything that would refuse a dump. No process is stopped, and no mount is needed; without one, run it as root. In a
mount the file check of a process has the same lines. With a PID, its descendants are looked at too.

Only a process that is stopped shows these: 32-bit code in a program of 64 bits, an LDT, syscall user dispatch, POSIX timers on the CPU
clock of a thread that does not show, semaphore operations to undo (SEM_UNDO), queues of very many messages, and jobs that were stopped
without their parent's notice. A dump may still be refused because of one of them, or because the processes have changed since.

Exit status:
  0  nothing was found
  1  something was found; or failure, with one line on standard error
  2  wrong usage";

const PS_HELP: &str = "\
Prints a table for each mount of this mount namespace, with a line for each process: it and its descendants are one tree. SIZE is the memory
that the tree uses. LAST DUMP is when this mount has last taken a snapshot of it. DUMPABLE is yes, or the first line of its file check; ? means
that the file may not be read. No process is stopped.

Exit status:
  0  success
  1  failure, with one line on standard error
  2  wrong usage";

const DIFF_HELP: &str = "\
Compares pages by mapping, descriptors by what they refer to, and everything else by record and field. The times of the two images are
ignored.

Exit status:
  0  no difference
  1  they differ
  2  failure, with one line on standard error, or wrong usage";

const ASSETS_HELP: &str = "\
cargo-install(1) installs the program alone. This command installs the rest where man(1) and the shells look for it: in share/man,
share/bash-completion/completions, share/zsh/site-functions and share/fish/vendor_completions.d below PREFIX. Existing files are replaced.
The path of each installed file is printed.

Exit status:
  0  everything is installed
  1  failure, with one line on standard error
  2  wrong usage";

const RESTORE_HELP: &str = "\
No mount is needed. When this command ends, the restored processes become children of init (or of the nearest subreaper). A root with a
parent-death signal (PR_SET_PDEATHSIG) gets the signal at that moment: restore it through a mount instead. One line is printed for each
image as soon as its processes run. A terminal shows bytes, rate and time left.

With --attach, this terminal takes the place of those that the job had, whatever terminal= says. A job whose session is not in the image
comes into the session of this command: ^C and ^Z reach it, fg and bg of the shell as well. A tree with a session and a controlling terminal
of its own gets a new pseudo-terminal, and what is typed and written is copied. The job is told of the window's size (SIGWINCH). HUP, INT,
QUIT, TERM, USR1 and USR2 are passed on to the group of the root. One FILE is restored, and nothing is printed.

Options (-o):
  external-pipes=refuse|null|new
                          a pipe that a process outside of the tree held is connected again; if nobody holds it any more: refuse the
                          restore, connect /dev/null, or make a new pipe, which has no end outside
  clock=auto|continue|host|refuse
                          CLOCK_MONOTONIC and CLOCK_BOOTTIME count from the boot: if they are behind those of the image, let the
                          processes go on with those of the image, in a time namespace (auto, the default); do so always; never; or
                          refuse the restore
  terminal=same|refuse|null
                          a terminal whose other end is outside of the tree: open it again if it is provably the same as at the dump,
                          and refuse the restore otherwise (same, the default); always refuse; or put /dev/null in its place
  pipe:ID=PATH            the file, FIFO or device that takes the place of pipe:[ID] if nobody holds it any more; a file is appended to
  changed-files=warn|refuse
                          as --changed-files
  key=FILE                refuse every image that is not signed with the key in FILE (EKEYREJECTED)

Exit status:
  0  all images are restored
  1  failure, with one line on standard error: of an image without a line on standard output nothing is restored
  2  wrong usage
  With --attach: that of the job, or 128 and the number of the signal that killed it; 125 if it was not restored";

const OPTIONS_HELP: &str = "\
Options (-o):
  freeze-timeout=SECONDS  how long a dump may keep a tree stopped (5); after that it is thawed and the open fails (EBUSY if it did not
                          stop, ETIMEDOUT if not all of it could be examined)
  external-pipes=refuse|null|new
                          a pipe that a process outside of the tree held is connected again at the restore; if nobody holds it any more:
                          refuse the restore, connect /dev/null, or make a new pipe, which has no end outside
  clock=auto|continue|host|refuse
                          CLOCK_MONOTONIC and CLOCK_BOOTTIME count from the boot: if they are behind those of the image, let the
                          processes go on with those of the image, in a time namespace (auto, the default); do so always; never; or
                          refuse the restore
  terminal=same|refuse|null
                          a terminal whose other end is outside of the tree: open it again if it is provably the same as at the dump,
                          and refuse the restore otherwise (same, the default); always refuse; or put /dev/null in its place
  pipe:ID=PATH            the file, FIFO or device that takes the place of pipe:[ID] if nobody holds it any more; a file is appended to
  changed-files=warn|refuse
                          a file that has changed since the dump: restore with a warning, or refuse the restore
  key=FILE                sign the images with the key in FILE, and refuse to restore others (EKEYREJECTED); FILE has 16 to 4096 random
                          bytes and belongs to you or root, and others have no access to it
  sysv-ipc=used|owned     which semaphores and message queues an image holds: those that the tree uses, or also those that its users have
                          created in its lifetime and that no living process has used
  pinned-max=N            how many snapshots may be pinned (64); one user other than root may pin half of them, and a quarter is kept for root
  pinned-memory=SIZE      how much memory pinned snapshots may hold when another one is requested, in bytes or with K, M, G (no limit),
                          in the same shares
  log=FILE                write the log of the daemon to FILE instead of to syslog or, with -f, to standard error; RUST_LOG sets the level
  allow_other             let other users use the mount, as far as the modes of its files allow (default for root)
  no_allow_other          let no other user use the mount
  fsname=NAME             the source that mount(8) shows (ckptfs)
  ro, noexec, noatime, ...
                          as for every mount, see mount(8); with ro nothing can be restored, pinned, frozen or killed

Signals:
  SIGTERM, SIGINT  unmount, even if processes still use the mount
  SIGHUP           the background daemon opens the file of log= again, for log rotation; with -f: unmount

Environment:
  RUST_LOG  see ckptfs(1)

Exit status:
  0  the mount answers; with -f: it was unmounted
  1  failure, with one line on standard error
  2  wrong usage";

/// A mount where a checkpoint of a process is a file: read it to dump, write it to restore
#[derive(Parser)]
#[command(name = "ckptfs", version, override_usage = "ckptfs COMMAND [ARGUMENT]...", after_help = MAIN_HELP)]
pub struct Cli {
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Subcommand)]
pub enum Command {
    /// Mount; return when the mount answers, and serve it in the background until umount(8) or
    /// SIGTERM
    #[command(
        override_usage = "ckptfs mount [--cgroup DIR | --tree PID | --image FILE] [-f] [-o OPT[,OPT]]... MOUNTPOINT",
        after_help = OPTIONS_HELP
    )]
    Mount(MountArgs),
    /// Restore the processes of images, without a mount
    #[command(
        override_usage = "ckptfs restore [--changed-files POLICY] [-o OPT[,OPT]]... [--attach] FILE...",
        after_help = RESTORE_HELP
    )]
    Restore {
        /// Bring the job to this terminal, as fg of a shell does, and wait for it
        #[arg(long)]
        attach: bool,
        /// A file that has changed since the dump: restore with a warning, or refuse the restore
        #[arg(long, value_name = "POLICY", value_parser = ["warn", "refuse"])]
        changed_files: Option<String>,
        /// Options of the restore, see below
        #[arg(short = 'o', value_name = "OPT[,OPT]", value_hint = ValueHint::Other)]
        options: Vec<String>,
        /// The images, restored in this order; - is standard input
        #[arg(required = true, value_hint = ValueHint::FilePath)]
        files: Vec<PathBuf>,
    },
    /// Write a process of a stored image to standard output, as an ELF core file
    #[command(override_usage = "ckptfs core [--pid PID] IMAGE", after_help = STATUS_HELP)]
    Core {
        /// The process (default: the root of the image)
        #[arg(long, value_name = "PID", value_hint = ValueHint::Other, value_parser = pid)]
        pid: Option<i32>,
        /// The image: a regular file
        #[arg(value_hint = ValueHint::FilePath)]
        image: PathBuf,
    },
    /// Show what is in an image: processes, memory, descriptors
    #[command(override_usage = "ckptfs inspect [--json | --records] FILE", after_help = STATUS_HELP)]
    Inspect {
        /// Print JSON instead of tables
        #[arg(long, conflicts_with = "records")]
        json: bool,
        /// Print one line for every record
        #[arg(long)]
        records: bool,
        /// The image; - is standard input
        #[arg(value_hint = ValueHint::FilePath)]
        file: PathBuf,
    },
    /// Show the differences of two images
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
    /// Check whether images are complete and undamaged
    #[command(override_usage = "ckptfs verify [--key FILE] FILE...", after_help = STATUS_HELP)]
    Verify {
        /// Refuse every image that is not signed with the key in this file
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        key: Option<PathBuf>,
        /// The images; - is standard input
        #[arg(required = true, value_hint = ValueHint::FilePath)]
        files: Vec<PathBuf>,
    },
    /// Print everything that would refuse a dump, without stopping any process
    #[command(override_usage = "ckptfs check [PID]...", after_help = CHECK_HELP)]
    Check {
        /// The processes, each with its descendants (default: all processes of this pid namespace)
        #[arg(value_name = "PID", value_hint = ValueHint::Other, value_parser = pid)]
        pids: Vec<i32>,
    },
    /// List the process trees of all mounts: size, last dump, and what blocks a dump
    #[command(override_usage = "ckptfs ps", after_help = PS_HELP)]
    Ps,
    /// Print why the last dump of a process was refused, or why the last dumps and restores failed
    #[command(override_usage = "ckptfs why [PID]", after_help = WHY_HELP)]
    Why {
        /// The process (default: all processes, and the last restore)
        #[arg(value_hint = ValueHint::Other, value_parser = pid)]
        pid: Option<i32>,
    },
    /// Install the manual pages and the completions of bash, zsh and fish
    #[command(override_usage = "ckptfs install-assets PREFIX", after_help = ASSETS_HELP)]
    InstallAssets {
        /// The directory that has bin/ and share/, such as /usr/local
        #[arg(value_hint = ValueHint::DirPath)]
        prefix: PathBuf,
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
    /// Show this process and its descendants (default: all processes of this pid namespace)
    #[arg(long, value_name = "PID", value_hint = ValueHint::Other, value_parser = pid)]
    pub tree: Option<i32>,
    /// Stay in the foreground and log to standard error
    #[arg(short, long)]
    pub foreground: bool,
    /// Mount options, see below
    #[arg(short = 'o', value_name = "OPT[,OPT]", value_hint = ValueHint::Other)]
    pub options: Vec<String>,
    /// The directory to mount on
    #[arg(value_hint = ValueHint::DirPath)]
    pub mountpoint: PathBuf,
}

/// Reads a pid.
fn pid(word: &str) -> Result<i32, &'static str> {
    let wanted = "a pid is wanted: the number of a process, as pidof(1) or ps(1) shows it";
    word.parse().ok().filter(|pid| *pid > 0).ok_or(wanted)
}
