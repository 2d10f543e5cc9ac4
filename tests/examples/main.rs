//! The scripts in `examples/`, run as a user runs them: what they promise, and what they leave
//! behind when something fails while they run.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod archive;
mod backup;
mod migrate;

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use ckptfs_tests::{Cgroup, Event, Mounted, Victim, build, process, tool, wait};
use nix::sys::signal::Signal;
use tempfile::{NamedTempFile, TempDir};

/// A script of `examples/`.
fn script(name: &str) -> PathBuf {
    build::package().join("../examples").join(name)
}

/// The command line of a script, with variables of its environment and the binary under test.
fn line<S: AsRef<OsStr>>(name: &str, variables: &[String], args: &[S]) -> Vec<OsString> {
    // The parent of the test run may ignore a signal, and a shell cannot trap a signal that was
    // ignored when it started.
    let mut line: Vec<OsString> = vec!["env".into(), "--default-signal".into()];
    line.push(format!("CKPTFS={}", build::ckptfs().display()).into());
    line.extend(variables.iter().map(OsString::from));
    line.push(script(name).into());
    line.extend(args.iter().map(|arg| arg.as_ref().to_owned()));
    line
}

/// Runs a script to its end.
fn run<S: AsRef<OsStr>>(name: &str, variables: &[String], args: &[S]) -> tool::Output {
    tool::run(&line(name, variables, args))
}

/// Runs a script in a directory, for names that are relative to it.
fn run_in<S: AsRef<OsStr>>(dir: &Path, name: &str, variables: &[String], args: &[S]) -> tool::Output {
    let mut argv: Vec<OsString> = vec!["env".into(), "-C".into(), dir.into()];
    argv.extend(line(name, variables, args));
    tool::run(&argv)
}

/// A running script, and the file with its standard error. Drop kills it.
struct Running(Child, NamedTempFile);

impl Running {
    fn start<S: AsRef<OsStr>>(name: &str, variables: &[String], args: &[S]) -> Running {
        let line = line(name, variables, args);
        let mut command = Command::new(&line[0]);
        command.args(&line[1..]).stdin(Stdio::null()).stdout(Stdio::null());
        let stderr = NamedTempFile::new().unwrap();
        // What the script has started may write at the same time, and after its end.
        command.stderr(File::options().append(true).open(stderr.path()).unwrap());
        Running(command.spawn().unwrap(), stderr)
    }

    /// Sends it a signal.
    fn signal(&self, signal: Signal) {
        process::kill(i32::try_from(self.0.id()).unwrap(), signal);
    }

    /// Waits for its end.
    fn end(&mut self) -> ExitStatus {
        wait::poll(wait::LONG, || self.0.try_wait().unwrap()).expect("the script ends")
    }

    /// Its standard error.
    fn said(&self) -> String {
        fs::read_to_string(self.1.path()).unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ended_perhaps = self.0.kill();
        let _status = self.0.wait();
    }
}

/// Makes a ckptfs in `dir` that fails without a message. Returns the variable that selects it.
fn silent_verifier(dir: &Path) -> String {
    let path = dir.join("ckptfs");
    program(&path, "#!/bin/sh\ncat > /dev/null\nexit 7\n");
    format!("CKPTFS={}", path.display())
}

/// Writes a program for a script to run.
fn program(path: &Path, text: &str) {
    // Another process writes it: see `Victim::start` about ETXTBSY.
    let _written =
        tool::shell("printf '%s' \"$2\" > \"$1\" && chmod 755 \"$1\"", &[path.as_os_str(), text.as_ref()]).success();
    assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o755);
}

/// The variable that makes a script look for programs in this directory first.
fn path_with(dir: &Path) -> String {
    format!("PATH={}:/usr/bin:/bin:/usr/sbin:/sbin", dir.display())
}

/// The files in a directory except the lock, sorted; hidden ones too.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| !path.ends_with(".lock"));
    files.sort();
    files
}

/// The variable that sets the `TMPDIR` of a script.
fn tmpdir(dir: &Path) -> String {
    format!("TMPDIR={}", dir.display())
}

/// A zstd that stops in the middle of compressing, makes the file `middle` in `dir`, and waits for
/// the file `go` there.
fn zstd_that_waits(dir: &Path) {
    let text = format!(
        "#!/bin/sh\n[ \"$1\" = -qc ] || exec /usr/bin/zstd \"$@\"\n\
         /usr/bin/zstd -qc | {{ head -c 100000; : > {0}/middle; while [ ! -e {0}/go ]; do sleep 0.02; done; cat; }}\n",
        dir.display()
    );
    program(&dir.join("zstd"), &text);
}

/// A file system of one megabyte. Drop unmounts it.
struct Small(TempDir);

impl Small {
    fn new() -> Small {
        let small = Small(tempfile::tempdir().unwrap());
        let _mounted = tool::shell("mount -t tmpfs -o size=1m none \"$1\"", &[small.0.path()]).success();
        small
    }

    /// One without room for the contents of any file.
    fn full() -> Small {
        let small = Small::new();
        let said = tool::shell("cat /dev/zero > \"$1\"", &[small.0.path().join("zeros")]);
        said.fails_with("No space left on device");
        small
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _unmounted = tool::run(&[Path::new("umount"), "-l".as_ref(), self.0.path()]);
    }
}

/// A mount over a cgroup that these victims are in.
fn container(cgroup: &Cgroup, victims: &[Victim]) -> Mounted {
    victims.iter().for_each(|victim| cgroup.add(victim.pid()));
    Mounted::with(&["--cgroup".as_ref(), cgroup.path().as_os_str()])
}

/// A victim that cannot be dumped.
fn refused() -> Victim {
    let victim = Victim::start(&ckptfs_tests::Spec::c("holder").arg("hidden_lock"));
    assert_eq!(victim.event(0), Event::Ready(1));
    victim
}

#[test]
fn shellcheck_has_nothing_to_say() {
    let mut argv: Vec<PathBuf> = vec!["shellcheck".into()];
    argv.extend(files(&script("")).into_iter().filter(|path| path.extension().is_some_and(|ending| ending == "sh")));
    assert!(argv.len() > 4, "{argv:?}");
    let said = tool::run(&argv).success();
    assert_eq!(said.text(), "");
}

/// Neither help nor misuse builds or runs anything.
#[test]
fn help_and_misuse_of_the_quickstart() {
    let bin = tempfile::tempdir().unwrap();
    program(&bin.path().join("cargo"), "#!/bin/sh\necho built >&2\nexit 1\n");
    let help = run("quickstart.sh", &[path_with(bin.path())], &["--help"]).success();
    assert!(help.text().starts_with("quickstart.sh") && help.stderr.is_empty(), "{}{}", help.text(), help.stderr);
    for args in [&["--nonsense"][..], &["/ckpt"], &["--help", "me"]] {
        let output = run("quickstart.sh", &[path_with(bin.path())], args);
        assert_eq!(output.code, 2, "{args:?}: {}{}", output.text(), output.stderr);
    }
}

#[test]
fn help_and_misuse() {
    for name in ["backup.sh", "archive.sh", "migrate.sh"] {
        let help = run(name, &[], &["--help"]).success();
        assert!(help.text().starts_with(name) && help.stderr.is_empty(), "{}{}", help.text(), help.stderr);
        for args in [&[][..], &["--nonsense", "/a", "/b", "/c"], &["one"], &["a", "b", "c", "d", "e"]] {
            let output = run(name, &[], args);
            assert_eq!(output.code, 2, "{name} {args:?}: {}{}", output.text(), output.stderr);
        }
    }
}
