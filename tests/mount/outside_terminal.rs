//! `-o terminal=`: a restored job opens its terminal again only if it is the same one still. The
//! test holds the master.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use ckptfs_dumper::Pid;
use ckptfs_tests::{Event, Mounted, Spec, Victim, build, process, pty, tool, wait};
use nix::pty::PtyMaster;
use nix::sys::signal::Signal;

/// How often a terminal with a wanted number is tried for: another test may take the number.
const ATTEMPTS: usize = 50;

/// A victim that was dumped and killed, its terminal, and the image.
struct Dumped {
    victim: Victim,
    mount: Mounted,
    snap: PathBuf,
    master: PtyMaster,
    path: PathBuf,
}

fn dumped(program: &str, option: &str) -> Dumped {
    let (master, path) = pty::open();
    let mut victim = Victim::ready(&Spec::c(program).terminal(path.clone()));
    let mount = Mounted::with(&["--tree", &victim.pid().to_string(), "-o", option]);
    let snap = mount.snap("snap");
    mount.dump(victim.pid(), &snap);
    victim.kill();
    Dumped { victim, mount, snap, master, path }
}

fn finish(victim: Victim) {
    victim.go(1);
    assert_eq!(victim.event(1), Event::Ok);
    victim.finish();
}

/// The newest line of `restore`.
fn told(mount: &Mounted) -> String {
    fs::read_to_string(mount.file("restore")).unwrap().lines().last().unwrap().to_owned()
}

/// Neither the mount nor the command restores the image: the sentence names the terminal.
fn is_refused(mount: &Mounted, snap: &Path, path: &Path, why: &str) {
    mount.try_restore(snap).fails_with("No such file or directory");
    let told = told(mount);
    for part in [&format!("terminal {} is outside of the tree", path.display()), why, "-o terminal=null"] {
        assert!(told.contains(part), "{part:?} is not in {told}");
    }
    restore(&[], snap).fails_with(why);
}

fn restore(options: &[&str], snap: &Path) -> tool::Output {
    let ckptfs = build::ckptfs();
    let mut argv = vec![ckptfs.to_str().unwrap(), "restore"];
    argv.extend(options);
    argv.push(snap.to_str().unwrap());
    tool::run(&argv)
}

#[test]
fn the_same_terminal_is_opened_again() {
    let Dumped { victim, mount, snap, master: _master, path: _ } = dumped("terminal", "terminal=same");
    let _quiet = restore(&[], &snap).success();
    assert!(victim.is_here());
    finish(victim);
    drop(mount);
}

#[test]
fn refuse_refuses_also_the_same_terminal() {
    let Dumped { victim, mount, snap, path, master: _master } = dumped("terminal", "terminal=refuse");
    mount.try_restore(&snap).fails_with("No such file or directory");
    let told = told(&mount);
    assert!(told.contains(&format!("terminal {}", path.display())) && told.contains("terminal=refuse"), "{told}");
    restore(&["-o", "terminal=refuse"], &snap).fails_with("-o terminal=refuse opens none");
    assert!(!victim.is_here());
    let _quiet = restore(&["-o", "terminal=refuse,terminal=same"], &snap).success();
    finish(victim);
}

#[test]
fn null_takes_its_place() {
    let Dumped { victim, mount, snap, path, master } = dumped("terminal_null", "terminal=null");
    drop(master);
    mount.restore(&snap);
    let told = told(&mount);
    let warning = format!("terminal {} was outside of the tree: /dev/null takes its place", path.display());
    assert!(told.contains(&warning), "{told}");
    finish(victim);
    let Dumped { victim, snap, path, master, mount: _mount } = dumped("terminal_null", "rw");
    drop(master);
    let output = restore(&["-o", "terminal=null"], &snap).success();
    assert!(output.stderr.contains(&format!("terminal {}", path.display())), "{}", output.stderr);
    finish(victim);
}

#[test]
fn a_terminal_that_is_gone_is_named() {
    let Dumped { mount, snap, path, master, victim: _victim } = dumped("terminal", "rw");
    drop(master);
    let wanted = format!("terminal {} is outside of the tree, and it is gone", path.display());
    // Another test may have a terminal with this number for a while.
    wait::until("the terminal is found to be gone", || {
        mount.try_restore(&snap).fails_with("No such file or directory");
        told(&mount).contains(&wanted)
    });
}

/// Opens terminals until one has this number.
fn another(path: &Path) -> Option<PtyMaster> {
    let mut others = Vec::new();
    while others.len() < ATTEMPTS {
        let (master, other) = pty::open();
        if other == path {
            return Some(master);
        }
        others.push(master);
    }
    None
}

#[test]
fn a_number_that_belongs_to_another_window_is_refused_by_name() {
    // The new window stands in the place of the old one.
    let with_another = |_| {
        let Dumped { victim, mount, snap, master, path } = dumped("terminal", "rw");
        drop(master);
        Some(Dumped { master: another(&path)?, victim, mount, snap, path })
    };
    let found = (0..ATTEMPTS).find_map(with_another).expect("no terminal with the same number");
    let Dumped { victim, mount, snap, path, master: _window } = found;
    is_refused(&mount, &snap, &path, "it is not the same any more: it was opened at ");
    assert!(!victim.is_here());
}

/// It may be the same one, but that is no longer proved.
#[test]
fn a_terminal_of_another_mode_is_refused() {
    let Dumped { mount, snap, path, victim: _victim, master: _master } = dumped("terminal", "rw");
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    is_refused(&mount, &snap, &path, "its owner or mode was changed");
}

/// A job of a shell: the shell leads the session and is not in the tree.
struct Shell {
    child: Child,
    job: Pid,
}

impl Shell {
    fn on(path: &Path) -> Shell {
        let open = || File::options().read(true).write(true).custom_flags(libc::O_NOCTTY).open(path).unwrap();
        // setsid(1) takes its standard input as the controlling terminal.
        let child = Command::new("setsid")
            .args(["--ctty", "sh", "-c", "sleep 1000; read line"])
            .stdin(open())
            .stdout(open())
            .stderr(open())
            .spawn()
            .unwrap();
        let pid = child.id() as Pid;
        let mut job = 0;
        wait::until("the job runs", || {
            job = process::children(pid)
                .into_iter()
                .find(|it| process::status(*it, "Name").as_deref() == Some("sleep"))
                .unwrap_or(0);
            job != 0
        });
        Shell { child, job }
    }

    fn end(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _status = self.child.wait();
        process::kill(self.job, Signal::SIGKILL);
        let _bounded = wait::poll(wait::LONG, || process::is_free(self.job).then_some(()));
    }
}

fn kill_job(shell: &Shell) {
    process::kill(shell.job, Signal::SIGKILL);
    wait::until("the job has ended", || process::is_free(shell.job));
}

#[test]
fn the_terminal_of_a_shell_that_lives_is_the_same() {
    let (_master, path) = pty::open();
    let shell = Shell::on(&path);
    let mount = Mounted::over(shell.job);
    let snap = mount.snap("snap");
    mount.dump(shell.job, &snap);
    kill_job(&shell);
    mount.restore(&snap);
    assert_eq!(process::link(shell.job, "fd/0"), Some(path));
}

#[test]
fn the_terminal_of_a_shell_that_has_ended_is_refused() {
    let (_master, path) = pty::open();
    let mut shell = Shell::on(&path);
    let mount = Mounted::over(shell.job);
    let snap = mount.snap("snap");
    mount.dump(shell.job, &snap);
    kill_job(&shell);
    let pid = shell.child.id();
    shell.end();
    is_refused(&mount, &snap, &path, &format!("the leader of its session, pid {pid} (sh), has ended"));
}
