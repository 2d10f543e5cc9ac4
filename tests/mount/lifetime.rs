//! How a mount begins and ends.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::process::Stdio;
use std::sync::mpsc;

use ckptfs_tests::{Mounted, mounted, process, tool, wait};
use nix::sys::signal::Signal;

use crate::{ends_well, goes_on, mounted_worker, pids, worker};

#[test]
fn umount_ends_the_daemon() {
    let (victim, mut mount) = mounted_worker();
    let _unmounted = tool::run(&[Path::new("umount"), &mount.path()]).success();
    assert!(mount.wait_for_daemon().success(), "{}", mount.log());
    ends_well(victim);
}

#[test]
fn sigterm_unmounts() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let (victim, mut mount) = mounted_worker();
        process::kill(mount.daemon(), signal);
        mount.wait_for_daemon();
        assert!(!mounted::is_mounted(&mount.path()), "{signal} left the mount:\n{}", mount.log());
        ends_well(victim);
    }
}

/// A copy of the mount in another mount namespace does not keep the daemon alive.
#[test]
fn sigterm_unmounts_although_a_namespace_has_a_copy() {
    let (victim, mut mount) = mounted_worker();
    std::fs::create_dir(mount.of(victim.pid(), "snapshots/x")).unwrap();
    let mut other = tool::command(&["unshare", "--mount", "sleep", "1000"]).spawn().unwrap();
    let here = std::fs::read_link("/proc/self/ns/mnt").unwrap();
    let timeout = i32::try_from(other.id()).unwrap();
    let has_copy = |pid: &i32| process::link(*pid, "ns/mnt").is_some_and(|there| there != here);
    wait::until("there is another namespace", || process::children(timeout).iter().any(has_copy));
    process::kill(mount.daemon(), Signal::SIGTERM);
    mount.wait_for_daemon();
    goes_on(&victim);
    process::children(timeout).into_iter().for_each(|pid| process::kill(pid, Signal::SIGKILL));
    other.wait().unwrap();
    ends_well(victim);
}

/// The same after the mount itself is gone: only the copy is left to end.
#[test]
fn sigterm_ends_a_daemon_of_which_only_a_copy_is_left() {
    let (victim, mut mount) = mounted_worker();
    let mut other = tool::command(&["unshare", "--mount", "sleep", "1000"]).spawn().unwrap();
    let here = std::fs::read_link("/proc/self/ns/mnt").unwrap();
    let timeout = i32::try_from(other.id()).unwrap();
    let has_copy = |pid: &i32| process::link(*pid, "ns/mnt").is_some_and(|there| there != here);
    wait::until("there is another namespace", || process::children(timeout).iter().any(has_copy));
    let copy = process::children(timeout).into_iter().find(has_copy).unwrap();
    let there = Path::new(&format!("/proc/{copy}/root")).join(mount.file("status").strip_prefix("/").unwrap());
    let _unmounted = tool::run(&[Path::new("umount"), &mount.path()]).success();
    assert!(fs::read_to_string(&there).is_ok(), "the daemon serves the copy");
    process::kill(mount.daemon(), Signal::SIGTERM);
    assert!(mount.wait_for_daemon().success(), "{}", mount.log());
    assert_eq!(fs::read_to_string(&there).unwrap_err().raw_os_error(), Some(libc::ENOTCONN));
    goes_on(&victim);
    process::kill(copy, Signal::SIGKILL);
    other.wait().unwrap();
    ends_well(victim);
}

#[test]
fn a_busy_mount_is_not_unmounted_and_goes_on() {
    let (victim, mount) = mounted_worker();
    let held = File::open(mount.of(victim.pid(), "image")).unwrap();
    tool::run(&[Path::new("umount"), &mount.path()]).fails_with("busy");
    let mut byte = [0];
    (&held).read_exact(&mut byte).unwrap();
    drop(held);
    ends_well(victim);
}

#[test]
fn two_mounts_at_once() {
    let (one, two) = (worker(), worker());
    let (first, second) = (Mounted::over(one.pid()), Mounted::over(two.pid()));
    let shared = Mounted::over(one.pid());
    assert_eq!((pids(&first), pids(&second), pids(&shared)), (vec![one.pid()], vec![two.pid()], vec![one.pid()]));
    first.dump(one.pid(), &first.snap("snap"));
    second.dump(two.pid(), &second.snap("snap"));
    drop(first);
    second.dump(two.pid(), &second.snap("snap"));
    shared.dump(one.pid(), &shared.snap("snap"));
    ends_well(one);
    ends_well(two);
}

/// Without `-f` the command returns when the mount answers, and closes its descriptors: a reader of
/// its output gets end of file.
#[test]
fn in_the_background() {
    let victim = worker();
    let dir = tempfile::tempdir().unwrap();
    let pid = victim.pid().to_string();
    let ckptfs = ckptfs_tests::build::ckptfs();
    let mut command =
        tool::command(&[ckptfs.as_os_str(), "mount".as_ref(), "--tree".as_ref(), pid.as_ref(), dir.path().as_ref()]);
    let mut command = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (mut stdout, mut stderr) = (command.stdout.take().unwrap(), command.stderr.take().unwrap());
    let (sender, ends) = mpsc::channel();
    std::thread::spawn(move || {
        let mut said = String::new();
        let _read = stdout.read_to_string(&mut said).and_then(|_| stderr.read_to_string(&mut said));
        let _nobody_waits = sender.send(said);
    });
    let status = command.wait().unwrap();
    let answers = fs::read_to_string(dir.path().join("status"));
    let said = ends.recv_timeout(wait::LONG);
    let image = tool::run(&[Path::new("head"), Path::new("-c1"), &dir.path().join(&pid).join("image")]);
    let unmounted = tool::run(&[Path::new("umount"), dir.path()]);
    assert!(status.success(), "{status}: {said:?}");
    assert_eq!(said.as_deref(), Ok(""), "a background mount is silent and gives its output back");
    let report: serde_json::Value = serde_json::from_str(&answers.expect("it returns when it answers")).unwrap();
    assert_eq!((image.code, unmounted.code), (0, 0), "{}{}", image.stderr, unmounted.stderr);
    let daemon = report["daemon"].as_i64().and_then(|pid| pid.try_into().ok()).expect("status has the daemon's pid");
    wait::until("umount ends the daemon", || !process::is_alive(daemon));
    ends_well(victim);
}

/// An error is one line that says what failed on which object, and a nonzero exit status.
#[test]
fn errors_are_one_line() {
    let victim = worker();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "x").unwrap();
    let (here, absent) = (dir.path().to_str().unwrap(), dir.path().join("absent"));
    let (absent, pid) = (absent.to_str().unwrap(), victim.pid().to_string());
    let gone = "999999999";
    let cases: [(&[&str], &str); 8] = [
        (&["mount", "--tree", &pid, absent], absent),
        (&["mount", "--tree", &pid, file.to_str().unwrap()], file.to_str().unwrap()),
        (&["mount", "--tree", gone, here], gone),
        (&["mount", "--cgroup", absent, here], absent),
        (&["mount", "--tree", &pid, "-o", "nonsense=1", here], "nonsense"),
        (&["inspect", absent], absent),
        (&["verify", absent], absent),
        (&["verify", file.to_str().unwrap()], file.to_str().unwrap()),
    ];
    let ckptfs = ckptfs_tests::build::ckptfs();
    for (args, subject) in cases {
        let mut argv = vec![ckptfs.to_str().unwrap()];
        argv.extend(args);
        let output = tool::run(&argv);
        output.fails_with(subject);
        assert!(
            output.stderr.starts_with("ckptfs: ") && output.stderr.lines().count() == 1,
            "{args:?}: {}",
            output.stderr
        );
        assert!(!mounted::is_mounted(dir.path()), "{args:?} left a mount");
    }
    ends_well(victim);
}

#[test]
fn the_daemon_dies_and_its_mountpoint_can_be_used_again() {
    let (victim, mut mount) = mounted_worker();
    mount.kill_daemon();
    let error = fs::read(mount.file("status")).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENOTCONN));
    let _unmounted = tool::run(&[Path::new("umount"), &mount.path()]).success();
    assert!(fs::read_dir(mount.path()).unwrap().next().is_none());
    ends_well(victim);
}
