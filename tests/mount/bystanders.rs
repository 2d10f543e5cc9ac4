//! The processes of a cgroup go on while one of them does not stop, or takes long.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use ckptfs_tests::{Cgroup, Event, Mounted, NOBODY, Spec, Victim, process, tool, wait};
use nix::sys::signal::Signal;

use crate::{count, ends_well, worker};

/// Kills its process, and waits for it.
struct Reader(Child);

impl Reader {
    fn of(path: PathBuf) -> Reader {
        Reader(Command::new("cat").arg(path).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    fn pid(&self) -> i32 {
        self.0.id() as i32
    }

    fn succeeds(&mut self) -> bool {
        wait::poll(wait::LONG, || self.0.try_wait().unwrap()).expect("the reader ends").success()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _status = self.0.wait();
    }
}

/// A mount over a cgroup with these processes. A stop may take as long as it wants.
fn cgroup_of(name: &str, pids: &[i32]) -> (Cgroup, Mounted) {
    let cgroup = Cgroup::new(name);
    pids.iter().for_each(|pid| cgroup.add(*pid));
    let options = ["--cgroup".as_ref(), cgroup.path().as_os_str(), "-o".as_ref(), "freeze-timeout=600".as_ref()];
    let mount = Mounted::with(&options);
    (cgroup, mount)
}

fn is_traced(pid: i32) -> bool {
    process::status(pid, "TracerPid").is_some_and(|tracer| tracer != "0")
}

fn goes_on(victim: &Victim) {
    let before = count(victim);
    wait::until("the other goes on", || count(victim) > before + 3);
}

/// Its parent in vfork(2) stops when its child ends, and a user may let that take for ever.
#[test]
fn nobody_waits_for_a_parent_in_vfork() {
    for image in ["tree", "whole"] {
        let (other, vforked) = (worker(), Victim::ready(&Spec::c("vforked").user(NOBODY)));
        let child = process::children(vforked.pid())[0];
        let (cgroup, mount) = cgroup_of(&format!("vfork-{image}"), &[other.pid(), vforked.pid(), child]);
        let whole = image == "whole";
        let path = if whole { mount.file("image") } else { mount.of(vforked.pid(), "image") };
        let mut reader = Reader::of(path);
        wait::until("it is asked to stop", || is_traced(vforked.pid()));
        goes_on(&other);
        assert!(reader.0.try_wait().unwrap().is_none());
        mount.dump(other.pid(), &mount.snap("other"));
        assert_eq!(cgroup.read("cgroup.freeze"), "0");
        vforked.go(1);
        assert!(reader.succeeds(), "{image}: {}", mount.log());
        assert_eq!(vforked.event(1), Event::Ok);
        vforked.finish();
        ends_well(other);
    }
}

/// A user may hang in a filesystem that it serves itself.
#[test]
fn nobody_waits_for_a_process_that_sleeps_uninterruptibly() {
    let (other, served) = (worker(), worker());
    let (cgroup, mount) = cgroup_of("hangs", &[other.pid()]);
    let server = Mounted::over(served.pid());
    process::kill(server.daemon(), Signal::SIGSTOP);
    let resumes = Resumes(server.daemon());
    let hanging = Reader::of(server.file("status"));
    cgroup.add(hanging.pid());
    let reader = Reader::of(mount.file("image"));
    wait::until("it is asked to stop", || is_traced(hanging.pid()));
    goes_on(&other);
    mount.dump(other.pid(), &mount.snap("other"));
    assert!(is_traced(hanging.pid()), "the reader of all still waits for it");
    drop(reader);
    wait::until("it is let go", || !is_traced(hanging.pid()));
    drop(resumes);
    drop(hanging);
    drop(server);
    ends_well(served);
    ends_well(other);
}

/// Sends SIGCONT.
struct Resumes(i32);

impl Drop for Resumes {
    fn drop(&mut self) {
        process::kill(self.0, Signal::SIGCONT);
    }
}

/// A tree of one user that takes long to examine is no reason for others to wait for their dumps.
#[test]
fn nobody_waits_for_the_examination_of_another_tree() {
    let (other, many) = (worker(), Victim::ready(&Spec::c("many").user(NOBODY).arg("eventfds").arg("4000")));
    let (_cgroup, mount) = cgroup_of("examined", &[other.pid(), many.pid()]);
    let dumps_meanwhile = || {
        let mut reader = Reader::of(mount.of(many.pid(), "image"));
        let is_stopped = || process::state(many.pid()) == Some('t');
        wait::until_at_once("it is stopped", || is_stopped() || reader.0.try_wait().unwrap().is_some());
        let dumped = tool::run(&["head".into(), "-c1".into(), mount.of(other.pid(), "image")]).success();
        let is_meanwhile = is_stopped() && !dumped.stdout.is_empty();
        assert!(reader.succeeds(), "{}", mount.log());
        is_meanwhile
    };
    assert!((0..20).any(|_| dumps_meanwhile()), "each dump has waited for the other one");
    drop(mount);
    many.go(1);
    assert_eq!(many.event(1), Event::Ok);
    many.finish();
    ends_well(other);
}
