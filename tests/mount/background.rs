//! The daemon in the background: its log, and that it keeps nothing of the process that started it.

use std::fs;
use std::path::Path;

use ckptfs_tests::{Mounted, Mountpoint, mounted, process, tool, wait};
use nix::sys::signal::Signal;

use super::{ends_well, mounted_worker, worker};

#[test]
fn it_keeps_nothing_of_its_starter() {
    let (victim, point) = (worker(), Mountpoint::new());
    // The reader of an inherited descriptor gets end of file, and a lock is free when the shell
    // that took it has ended.
    let script = r#"
        timeout 20 sh -c '"$1" mount --tree "$2" "$3" 9>&1 | cat' sh "$1" "$2" "$3"; umount "$3"
        (exec 9> "$4"; flock 9; "$1" mount --tree "$2" "$3"); flock -n "$4" true
    "#;
    let _quiet = point.run(script, &victim, "lock").success();
    assert!(mounted::is_mounted(&point.path()));
    ends_well(victim);
}

#[test]
fn a_hangup_has_it_open_its_log_again() {
    let (victim, point) = (worker(), Mountpoint::new());
    let _quiet = point.run(r#"RUST_LOG= "$1" mount --tree "$2" -o "log=$4" "$3""#, &victim, "log").success();
    let (log, old) = (point.file("log"), point.file("log.1"));
    fs::rename(&log, &old).unwrap();
    process::kill(point.daemon(), Signal::SIGHUP);
    wait::until("the log is there again", || log.exists());
    let pinned = point.path().join(victim.pid().to_string()).join("snapshots/one");
    fs::create_dir(&pinned).unwrap();
    let _quiet = tool::run(&[Path::new("umount"), Path::new("-l"), &point.path()]).success();
    wait::until("the log has its end", || fs::read_to_string(&log).unwrap().contains("unmounted"));
    let old = fs::read_to_string(&old).unwrap();
    assert!(old.contains("mounted, showing tree") && !old.contains("unmount"), "{old}");
    ends_well(victim);
}

/// An empty RUST_LOG counts as unset, in the foreground and in the background.
#[test]
fn an_empty_level_is_none() {
    let (victim, point) = (worker(), Mountpoint::new());
    let script = r#"RUST_LOG= "$1" mount --tree "$2" -o "log=$4" "$3"; cat "$4""#;
    let told = point.run(script, &victim, "log").success().text();
    assert!(told.contains("mounted, showing tree"), "{told}");
    ends_well(victim);
}

#[test]
fn a_daemon_in_the_foreground_logs_to_its_file_and_ends_by_a_hangup() {
    let (victim, mut mount) = mounted_worker();
    drop(mount);
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let option = format!("log={}", log.display());
    mount = Mounted::with(&["--tree", &victim.pid().to_string(), "-o", &option]);
    assert_eq!(mount.log(), "");
    process::kill(mount.daemon(), Signal::SIGHUP);
    mount.wait_for_daemon();
    let told = fs::read_to_string(&log).unwrap();
    assert!(told.contains("mounted, showing tree") && told.contains("SIGHUP: unmounting"), "{told}");
    ends_well(victim);
}
