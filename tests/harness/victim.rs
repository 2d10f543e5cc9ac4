//! A program to be checkpointed, and its protocol (`victims/victim.h`). It prints `ready N` where
//! it wants to be checkpointed and waits for the file `go.N`. At the end it prints `ok` or `FAIL
//! ...`.
//!
//! A victim has its own directory and session, `/dev/null` as standard input, the file `out` as
//! standard output and error, and no other descriptor. Its only tie to the test is that it is its
//! child.

use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use ckptfs_dumper::Pid;
use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::wait::{self, LONG};
use crate::{build, ipc, process, tool};

/// How a C victim is linked.
#[derive(Clone, Copy, Debug, Default)]
pub enum Link {
    /// Dynamic and position independent, as `cc` does by default.
    #[default]
    Dynamic,
    /// Static at a fixed address.
    Static,
    /// Static and position independent.
    StaticPie,
    /// Dynamic at a fixed address.
    NoPie,
}

impl Link {
    /// The compiler's flags.
    pub fn flags(self) -> &'static [&'static str] {
        match self {
            Link::Dynamic => &["-pie", "-fPIE"],
            Link::Static => &["-static", "-no-pie"],
            Link::StaticPie => &["-static-pie", "-fPIE"],
            Link::NoPie => &["-no-pie", "-fno-pie"],
        }
    }
}

/// The program to start, and how.
#[derive(Clone, Debug)]
pub struct Spec {
    program: OsString,
    compiled: Option<Link>,
    args: Vec<OsString>,
    files: Vec<PathBuf>,
    user: u32,
    terminal: Option<PathBuf>,
}

impl Spec {
    /// `victims/NAME.c`.
    pub fn c(name: &str) -> Spec {
        let program = name.into();
        Spec { program, compiled: Some(Link::default()), args: vec![], files: vec![], user: 0, terminal: None }
    }

    /// An installed program, found through `PATH`.
    pub fn command(program: &str) -> Spec {
        Spec { compiled: None, ..Spec::c(program) }
    }

    /// One more argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Spec {
        self.args.push(arg.into());
        self
    }

    /// A file to be copied into the victim's directory before it starts.
    #[must_use]
    pub fn file(mut self, path: PathBuf) -> Spec {
        self.files.push(path);
        self
    }

    /// Selects another linkage.
    #[must_use]
    pub fn link(mut self, link: Link) -> Spec {
        self.compiled = Some(link);
        self
    }

    /// User and group id. The victim then has no supplementary groups and no capabilities.
    #[must_use]
    pub fn user(mut self, id: u32) -> Spec {
        self.user = id;
        self
    }

    /// The controlling terminal. It becomes descriptor 3.
    #[must_use]
    pub fn terminal(mut self, path: PathBuf) -> Spec {
        self.terminal = Some(path);
        self
    }
}

/// What a victim has printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// It waits for its Nth checkpoint.
    Ready(u32),
    /// It found no error and is about to end.
    Ok,
}

/// A running victim, or the process restored from it. Drop kills and reaps it.
#[derive(Debug)]
pub struct Victim {
    dir: TempDir,
    child: Option<Child>,
    pid: Pid,
}

impl Victim {
    /// Starts it. Its executable is copied into its directory, so that any user can read it
    /// wherever the sources are.
    pub fn start(spec: &Spec) -> Victim {
        let dir = tempfile::Builder::new().prefix("ckptfs-victim-").tempdir().expect("making the victim's directory");
        fs::set_permissions(dir.path(), Permissions::from_mode(0o777)).expect("opening the directory to all");
        // cp(1) copies, not this process: a child that another test forks at this moment would
        // inherit our descriptor that is open for writing. The kernel refuses to execute a file
        // that is open for writing (ETXTBSY).
        let copy = |from: &Path, to: &Path| drop(tool::run(&[Path::new("cp"), from, to]).success());
        let program = match spec.compiled {
            Some(link) => {
                let name = spec.program.to_str().expect("a plain name");
                let here = dir.path().join(name);
                copy(&build::victim(name, link), &here);
                here.into()
            }
            None => spec.program.clone(),
        };
        for file in &spec.files {
            copy(file, &dir.path().join(file.file_name().expect("a file")));
        }
        let mut command = Command::new(build::victim("launch", Link::default()));
        command.arg(spec.user.to_string()).arg(spec.terminal.as_deref().unwrap_or(Path::new("-")));
        command.arg(program).args(&spec.args);
        command.current_dir(dir.path()).env_clear().env("PATH", "/usr/bin:/bin").env("VICTIM", "yes");
        process::adopt_orphans();
        let child = command.spawn().expect("starting the launcher");
        let pid = Pid::try_from(child.id()).expect("a pid");
        Victim { dir, child: Some(child), pid }
    }

    /// Starts it and waits for its first `ready`.
    pub fn ready(spec: &Spec) -> Victim {
        let victim = Victim::start(spec);
        assert_eq!(victim.event(0), Event::Ready(1));
        victim
    }

    /// Its pid, before and after a restore.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// What it has printed so far.
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.dir().join("out")).unwrap_or_default()).into_owned()
    }

    /// Waits for the event after `Ready(seen)`.
    pub fn event(&self, seen: u32) -> Event {
        let next = format!("ready {}", seen + 1);
        let event = wait::poll(LONG, || {
            // Check that it lives before reading its output: it may end between the two.
            let ended = !process::is_alive(self.pid);
            let output = self.output();
            assert!(!output.contains("FAIL"), "the victim failed:\n{output}");
            if output.lines().any(|line| line == "ok") {
                return Some(Event::Ok);
            }
            if output.lines().any(|line| line == next) {
                return Some(Event::Ready(seen + 1));
            }
            assert!(!ended, "the victim failed:\n{output}");
            None
        });
        event.unwrap_or_else(|| panic!("the victim did not get to {next:?}:\n{}", self.output()))
    }

    /// Lets it continue after its Nth checkpoint.
    pub fn go(&self, n: u32) {
        fs::write(self.dir().join(format!("go.{n}")), []).expect("writing the go file");
    }

    /// Kills it and all its descendants, and waits until all their pids are free.
    pub fn kill(&mut self) {
        let killed = self.kill_all();
        self.reap();
        // A descendant that ended while the others were killed is found only through its session.
        wait::until("the pids of a killed victim are free", || {
            killed.iter().all(|pid| process::is_free(*pid))
                && process::of_sessions(&killed).into_iter().all(process::is_free)
        });
    }

    /// Waits until it ends on its own after `ok`. The exit status must be 0, if it is still the
    /// process that was started.
    pub fn finish(mut self) {
        wait::until("the victim ends", || !process::is_alive(self.pid));
        if let Some(status) = self.reap() {
            assert!(status.success(), "the victim ended with {status}:\n{}", self.output());
        }
        wait::until("no process of the victim's tree is left", || !self.tree().into_iter().any(process::is_alive));
    }

    /// Whether the process with this pid is this victim: its executable or its working directory is
    /// in the victim's directory.
    pub fn is_here(&self) -> bool {
        let ours = |name| process::link(self.pid, name).is_some_and(|path| path.starts_with(self.dir()));
        process::is_alive(self.pid) && (self.child.is_some() || ours("exe") || ours("cwd"))
    }

    /// All processes that belong to it, itself first. If its pid now belongs to another process,
    /// only the processes in its directory are listed.
    fn tree(&self) -> Vec<Pid> {
        process::tree(if self.is_here() { self.pid } else { 0 }, self.dir())
    }

    /// Kills all processes that belong to it, and repeats that until none lives. Returns all their
    /// pids and the victim's own.
    ///
    /// Parents are killed first: a parent that waits for its child must not observe its end.
    fn kill_all(&self) -> Vec<Pid> {
        let mut killed = vec![self.pid];
        let dead = wait::poll(LONG, || {
            let found = self.tree();
            let mut living = false;
            for pid in found.iter().copied().filter(|pid| process::is_alive(*pid)) {
                process::kill(pid, Signal::SIGKILL);
                living = true;
            }
            killed.extend(found);
            (!living).then_some(())
        });
        assert!(dead.is_some() || std::thread::panicking(), "the tree of victim {} does not die", self.pid);
        killed
    }

    fn reap(&mut self) -> Option<std::process::ExitStatus> {
        let mut child = self.child.take()?;
        // A dead process cannot be reaped while one of its threads is traced, so this wait has a
        // bound too.
        let status = wait::poll(LONG, || child.try_wait().expect("waiting for the victim"));
        assert!(status.is_some() || std::thread::panicking(), "victim {} cannot be reaped", self.pid);
        status
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- victim {} said:\n{}", self.pid, self.output());
        }
        let killed = self.kill_all();
        ipc::remove_of(&killed, self.dir());
        let _status = self.reap();
        let _bounded = wait::poll(LONG, || killed.iter().all(|pid| process::is_free(*pid)).then_some(()));
    }
}
