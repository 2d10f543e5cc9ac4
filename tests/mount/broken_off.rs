//! A restore that is not completed: what it has made is gone when its file is closed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ckptfs_tests::{Event, Mounted, Spec, Victim, process, tool, wait};

use crate::{ends_well, goes_on, mounted_worker};

/// A killed victim, its mount and its image.
fn dead(spec: &Spec) -> (Victim, Mounted, PathBuf) {
    let mut victim = Victim::ready(spec);
    let mount = Mounted::over(victim.pid());
    let snap = mount.snap("snap");
    mount.dump(victim.pid(), &snap);
    victim.kill();
    (victim, mount, snap)
}

#[test]
fn a_close_returns_when_the_process_is_gone() {
    let (victim, mount, snap) = dead(&Spec::c("worker"));
    let there = PathBuf::from(format!("/proc/{}", victim.pid()));
    // The writer is a program of its own: other tests of this process make children, which have a
    // copy of each open file of it for a moment.
    let script = r#"
        for turn in $(seq 30); do
            head -c -5 "$1" > "$2" 2> /dev/null && exit 1
            [ ! -e "$3" ]
        done
    "#;
    let _gone = tool::shell(script, &[&snap, &mount.file("restore"), &there]).success();
    mount.restore(&snap);
    ends_well(victim);
}

/// A process in execve(2) cannot be examined as others can, and waits for the close.
#[test]
fn an_execve_that_closes_the_file_returns_when_the_process_is_gone() {
    let (victim, mount, snap) = dead(&Spec::c("worker"));
    let script = r#"
import os, sys
image, restore, there = sys.argv[1:]
out = os.open(restore, os.O_WRONLY | os.O_CLOEXEC)
os.write(out, open(image, "rb").read()[:-5])
os.execv("/bin/sh", ["sh", "-c", '[ ! -e "$1" ]', "sh", there])
"#;
    let (snap_path, restore) = (snap.display().to_string(), mount.file("restore").display().to_string());
    let _gone =
        tool::run(&["python3", "-c", script, &snap_path, &restore, &format!("/proc/{}", victim.pid())]).success();
    mount.restore(&snap);
    ends_well(victim);
}

/// Several programs may write one image after the other, through one open file.
#[test]
fn a_duplicate_that_is_still_open_goes_on() {
    let (victim, mount, snap) = dead(&Spec::c("worker"));
    let script = "{ head -c 3000000 \"$1\" 2> /dev/null || true; tail -c +3000001 \"$1\"; } > \"$2\"";
    let _lives = tool::shell(script, &[snap.as_path(), &mount.file("restore")]).success();
    assert!(victim.is_here());
    goes_on(&victim);
    ends_well(victim);
}

/// After the last close nothing goes on, and a failure stays one.
#[test]
fn the_rest_of_an_image_after_the_last_close_is_no_image() {
    let (victim, mount, snap) = dead(&Spec::c("worker"));
    let script = "head -c 3000000 \"$1\" > \"$2\" 2> /dev/null; tail -c +3000001 \"$1\" > \"$2\"";
    tool::shell(script, &[snap.as_path(), &mount.file("restore")]).fails_with("");
    assert!(process::is_free(victim.pid()));
    mount.restore(&snap);
    ends_well(victim);
}

/// A process that is killed while it is being made fails its restore at once, with all its threads.
#[test]
fn a_half_made_process_that_is_killed_is_noticed_at_once() {
    let (mut victim, mount, snap) = dead(&Spec::c("many_threads"));
    let threads = PathBuf::from(format!("/proc/{}/task", victim.pid()));
    let count = |dir: &Path| fs::read_dir(dir).map_or(0, Iterator::count);
    for turn in 1..10 {
        let (image, restore) = (fs::read(&snap).unwrap(), mount.file("restore"));
        let writer = std::thread::spawn(move || fs::write(restore, image));
        wait::until_at_once("it has threads", || writer.is_finished() || count(&threads) > 10 * turn);
        process::kill(victim.pid(), nix::sys::signal::Signal::SIGKILL);
        let since = Instant::now();
        let restored = writer.join().unwrap().is_ok();
        assert!(since.elapsed() < Duration::from_secs(5), "turn {turn}: {:?}", since.elapsed());
        if restored {
            victim.kill();
        }
        wait::until("nothing is left of it", || process::is_free(victim.pid()));
    }
    mount.restore(&snap);
    victim.go(1);
    assert_eq!(victim.event(1), Event::Ok);
    victim.finish();
}

/// The daemon is told at the next write if the process has been killed meanwhile.
#[test]
fn a_half_made_process_that_is_killed_between_two_writes() {
    let (victim, mount) = mounted_worker();
    let snap = mount.snap("snap");
    mount.dump(victim.pid(), &snap);
    let mut victim = victim;
    victim.kill();
    let image = fs::read(&snap).unwrap();
    let mut writer = OpenOptions::new().write(true).open(mount.file("restore")).unwrap();
    writer.write_all(&image[..image.len() / 2]).unwrap();
    process::kill(victim.pid(), nix::sys::signal::Signal::SIGKILL);
    let since = Instant::now();
    let rest = writer.write_all(&image[image.len() / 2..]);
    assert!(rest.is_err() && since.elapsed() < Duration::from_secs(5), "{rest:?} after {:?}", since.elapsed());
    drop(writer);
    assert!(process::is_free(victim.pid()));
    mount.restore(&snap);
    ends_well(victim);
}
