//! The processes of a cgroup go on while one of them does not stop, or takes long.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ckptfs_dumper::{CgroupFreezer, Kind, Options, SnapshotUse, Target, Tracer};
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

/// A user may lock whatever it can open of a cgroup, for ever.
#[test]
fn no_lock_of_a_user_keeps_a_dump_of_the_cgroup_out() {
    let (other, own) = (worker(), Victim::ready(&Spec::c("worker").user(NOBODY)));
    let (cgroup, mount) = cgroup_of("locked", &[other.pid(), own.pid()]);
    let script = r#"
        for file in . cgroup.freeze cgroup.kill cgroup.procs cgroup.events; do
            { exec {opened}< "$0/$file" && flock -n "$opened"; } 2> /dev/null || echo "not $file"
        done
        [ "$1" = 0 ] || exec sleep "$1"
    "#;
    let user = [format!("--reuid={NOBODY}"), format!("--regid={NOBODY}")];
    let locks = |seconds: &str| {
        let mut command = Command::new("setpriv");
        command.args(&user).args(["--clear-groups", "bash", "-c", script]).arg(cgroup.path()).arg(seconds);
        command.stdout(Stdio::piped()).spawn().unwrap()
    };
    let mut told = String::new();
    let mut held = Reader(locks("300"));
    let out = held.0.stdout.as_mut().unwrap();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(out), &mut told).unwrap();
    assert_eq!(told, "not cgroup.kill\n", "all others are locked");
    let _whole = tool::shell("cat \"$1\" > /dev/null", &[mount.file("image")]).success();
    mount.dump(other.pid(), &mount.snap("other"));
    drop((held, mount));
    ends_well(own);
    ends_well(other);
}

/// A tree may grow all the time. Without the right to it, no other process stands still for its
/// dump.
#[test]
fn a_dump_without_the_right_freezes_no_process_of_others() {
    let (other, bomb) = (worker(), Victim::ready(&Spec::c("forker").arg("60").arg("bomb")));
    let cgroup = Cgroup::new("users");
    [other.pid(), bomb.pid()].into_iter().for_each(|pid| cgroup.add(pid));
    bomb.go(1);
    let options = Options { freeze_timeout: Duration::from_secs(1), ..Options::default() };
    let freezer = CgroupFreezer::new(cgroup.path()).unwrap();
    let tracer = Tracer::new(Target::tree(bomb.pid()), options, freezer).without_cgroup_freeze();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let mut was_frozen = false;
            while !is_over.load(Ordering::Relaxed) {
                was_frozen |= cgroup.read("cgroup.freeze") == "1";
            }
            was_frozen
        });
        let dumps = [(); 3].map(|()| tracer.snapshot(None, SnapshotUse::Stream).map(drop));
        is_over.store(true, Ordering::Relaxed);
        assert!(!watch.join().unwrap(), "the cgroup was frozen");
        for error in dumps.into_iter().filter_map(Result::err) {
            // It grows faster than it can be stopped, or than it can be examined.
            assert!([Kind::Busy, Kind::TimedOut].contains(&error.kind()), "{error}");
        }
    });
    goes_on(&other);
    ends_well(other);
    cgroup.write("cgroup.kill", "1");
    wait::until("it is dead", || cgroup.pids().is_empty());
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
