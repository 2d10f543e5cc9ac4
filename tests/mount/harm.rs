//! Nothing that a reader or the daemon does harms the dumped process, and no process is left beside
//! it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs::File;
use std::io::Read;
use std::process::Stdio;
use std::time::{Duration, Instant};

use ckptfs_tests::{Event, Mounted, Spec, Victim, process, tool, wait};

use crate::{count, ends_well, goes_on, goes_on_while_held, mounted_worker, worker};

#[test]
fn a_reader_that_closes_early() {
    let (victim, mount) = mounted_worker();
    for bytes in [0, 1, 5000, 3_000_000] {
        let mut file = File::open(mount.of(victim.pid(), "image")).unwrap();
        file.read_exact(&mut vec![0; bytes]).unwrap();
        drop(file);
        goes_on(&victim);
    }
    ends_well(victim);
}

#[test]
fn a_reader_that_is_killed() {
    let (victim, mount) = mounted_worker();
    for _ in 0..5 {
        // The reader reads the first half and then waits with the image open.
        let script = "exec 9< \"$1\"; head -c 3000000 <&9; sleep 1000";
        let image = mount.of(victim.pid(), "image");
        let mut reader = std::process::Command::new("bash");
        reader.args(["-c", script, "test"]).arg(image).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut reader = reader.spawn().unwrap();
        let mut half = vec![0; 3_000_000];
        reader.stdout.as_mut().unwrap().read_exact(&mut half).unwrap();
        for child in process::children(reader.id().try_into().unwrap()) {
            process::kill(child, nix::sys::signal::Signal::SIGKILL);
        }
        reader.kill().unwrap();
        reader.wait().unwrap();
        wait::until("the snapshot is forgotten", || mount.status()["snapshots"].as_array().unwrap().is_empty());
        goes_on(&victim);
    }
    ends_well(victim);
}

/// The worker checks all the time whether it has children, and fails if it ever has one.
#[test]
fn an_open_snapshot_is_no_child_of_its_process() {
    let (victim, mount) = mounted_worker();
    for _ in 0..10 {
        let held = File::open(mount.of(victim.pid(), "image")).unwrap();
        goes_on_while_held(&victim);
        drop(held);
        goes_on(&victim);
    }
    ends_well(victim);
}

#[test]
fn a_process_that_is_killed_while_it_is_read() {
    let (mut victim, mount) = mounted_worker();
    let mut file = File::open(mount.of(victim.pid(), "image")).unwrap();
    let len = usize::try_from(file.metadata().unwrap().len()).unwrap();
    file.read_exact(&mut vec![0; 5000]).unwrap();
    victim.kill();
    // The snapshot is a process of its own. The reader gets the rest of the image or an error,
    // never zeros.
    let mut rest = Vec::new();
    if file.read_to_end(&mut rest).is_ok() {
        assert_eq!(rest.len(), len - 5000);
    }
    drop(file);
    wait::until("no snapshot child is left", || process::children(mount.daemon()).is_empty());
}

/// When a process of a stopped tree is killed, its parent is notified at once, not when the image
/// is closed.
#[test]
fn a_child_that_is_killed_while_it_stands_still() {
    let victim = Victim::ready(&Spec::c("crowd").arg("3"));
    let mount = Mounted::over(victim.pid());
    let _held = mount.write(&mount.of(victim.pid(), "freeze"), "1").success();
    let child = *process::children(victim.pid()).first().unwrap();
    let image = File::open(mount.of(victim.pid(), "image")).unwrap();
    process::kill(child, nix::sys::signal::Signal::SIGKILL);
    let _busy = mount.write(&mount.of(victim.pid(), "freeze"), "0");
    drop(image);
    wait::until("the image is closed", || mount.write(&mount.of(victim.pid(), "freeze"), "0").code == 0);
    wait::until("it is an untraced zombie of its parent", || {
        process::status(child, "TracerPid").as_deref() == Some("0") && process::state(child) == Some('Z')
    });
}

/// Any thread that is left can reap the snapshot's child.
#[test]
fn a_main_thread_that_ends_while_its_snapshot_is_open() {
    let victim = Victim::ready(&Spec::c("leader_leaves"));
    let mount = Mounted::over(victim.pid());
    let held = File::open(mount.of(victim.pid(), "image")).unwrap();
    victim.go(1);
    assert_eq!(victim.event(1), Event::Ready(2));
    drop(held);
    let no_child = || {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", victim.pid())).unwrap();
        tasks.flatten().all(|task| std::fs::read_to_string(task.path().join("children")).unwrap_or_default().is_empty())
    };
    wait::until("the snapshot's child is gone", no_child);
    victim.go(2);
    assert_eq!(victim.event(2), Event::Ok);
    victim.finish();
}

/// When a snapshot is closed, its process may be gone, and another one may just be restored with
/// the same pid.
#[test]
fn a_snapshot_that_is_closed_while_its_process_is_restored() {
    let (mut victim, mount) = mounted_worker();
    let snap = mount.snap("snap");
    mount.dump(victim.pid(), &snap);
    for turn in 0..200 {
        let held = File::open(mount.of(victim.pid(), "image")).unwrap();
        victim.kill();
        let closer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_micros(50 * turn));
            drop(held);
        });
        mount.restore(&snap);
        closer.join().unwrap();
    }
    wait::until("no child is left", || process::children(mount.daemon()) == [victim.pid()]);
    ends_well(victim);
}

/// The daemon is killed at twenty different moments of a dump. The process is undisturbed each
/// time.
#[test]
fn the_daemon_is_killed_during_dumps() {
    let victim = worker();
    for turn in 0..20 {
        let mut mount = Mounted::over(victim.pid());
        let script = "for n in 1 2 3 4 5 6 7 8; do cat \"$1\" || exit 0; done";
        let image = mount.of(victim.pid(), "image");
        let mut reader = tool::command(&["sh", "-c", script, "test"]);
        let mut reader = reader.arg(image).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_micros(1700 * turn));
        mount.kill_daemon();
        reader.wait().unwrap();
        drop(mount);
        // A child that died with the daemon is a zombie, and only its parent can reap it. The next
        // dump makes the parent do that.
        goes_on_while_held(&victim);
        assert_eq!(process::status(victim.pid(), "TracerPid").as_deref(), Some("0"));
        let state = process::state(victim.pid());
        assert!(!matches!(state, Some('t' | 'T')), "turn {turn}: state {state:?}");
    }
    let mount = Mounted::over(victim.pid());
    drop(File::open(mount.of(victim.pid(), "image")).unwrap());
    goes_on(&victim);
    ends_well(victim);
}

#[test]
fn dumped_a_hundred_times() {
    let (victim, mount) = mounted_worker();
    let before = count(&victim);
    for _ in 0..100 {
        let _quiet = tool::run(&["cp".into(), mount.of(victim.pid(), "image"), "/dev/null".into()]).success();
    }
    assert!(count(&victim) > before);
    let _status = mount.status();
    ends_well(victim);
}

/// The daemon is killed when its snapshot child exists but has done nothing yet. The next dump
/// recognizes the child that is left as a snapshot's.
#[test]
fn the_daemon_is_killed_as_its_child_is_born() {
    let victim = worker();
    for turn in 0..40 {
        let mut mount = Mounted::over(victim.pid());
        let image = mount.of(victim.pid(), "image");
        let opener = std::thread::spawn(move || File::open(image));
        wait::until_at_once("there is a child", || !process::children(victim.pid()).is_empty());
        let born = Instant::now();
        wait::until_at_once("it has begun", || born.elapsed() >= Duration::from_micros(5 * turn));
        mount.kill_daemon();
        drop(opener.join().unwrap());
        drop(mount);
        goes_on_while_held(&victim);
        let mount = Mounted::over(victim.pid());
        drop(File::open(mount.of(victim.pid(), "image")).unwrap());
        goes_on(&victim);
    }
    ends_well(victim);
}

/// The daemon leaks nothing: it has as many descriptors and children after a hundred dumps as after
/// ten.
#[test]
fn the_daemon_does_not_grow() {
    let (victim, mount) = mounted_worker();
    let size = || {
        wait::until("the snapshot is forgotten", || mount.status()["snapshots"].as_array().unwrap().is_empty());
        std::fs::read_dir(format!("/proc/{}/fd", mount.daemon())).unwrap().count()
    };
    let dump = || drop(File::open(mount.of(victim.pid(), "image")).unwrap());
    (0..10).for_each(|_| dump());
    let before = size();
    (0..100).for_each(|_| dump());
    wait::until("all descriptors are given back", || size() <= before);
    wait::until("no child is left", || process::children(mount.daemon()).is_empty());
    ends_well(victim);
}

/// A daemon that is killed during opens takes no other process with it. The openers get an error,
/// the mount is dead, and the process continues.
#[test]
fn a_daemon_that_is_killed_among_openers() {
    let victim = worker();
    for round in 0..12 {
        let mut mount = Mounted::over(victim.pid());
        let script = r#"
            for n in 1 2 3 4; do
                (while cat "$1/$2/image" "$1/image" "$1/$2/core" > /dev/null 2>&1; do :; done) &
            done
            wait
        "#;
        let mut openers = tool::command(&[
            "bash".as_ref(),
            "-c".as_ref(),
            script.as_ref(),
            "test".as_ref(),
            mount.path().as_os_str(),
            victim.pid().to_string().as_ref(),
        ]);
        let mut openers = openers.stdin(Stdio::null()).spawn().unwrap();
        wait::until("it is read", || mount.status()["counters"]["dumps"].as_u64().unwrap() > 2 + round % 3);
        mount.kill_daemon();
        let ended = wait::poll(wait::LONG, || openers.try_wait().unwrap());
        assert!(ended.is_some(), "round {round}: openers still wait");
        assert!(mount.path().read_dir().is_err(), "a dead mount");
        drop(mount);
        goes_on_while_held(&victim);
    }
    // The next dump reaps the children that killed daemons have left.
    let mount = Mounted::over(victim.pid());
    mount.dump(victim.pid(), &mount.snap("snap"));
    ends_well(victim);
}
