//! The daemon is killed at any instant of a dump or a restore: nothing of it is left.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use ckptfs_tests::{Event, Mounted, Spec, Victim, ipc, modes, process, wait};

/// The mappings that are executable and have no name, in a process.
fn code_without_a_name(victim: &Victim) -> Vec<String> {
    let maps = fs::read_to_string(format!("/proc/{}/maps", victim.pid())).unwrap();
    let is_code = |line: &&str| line.split_whitespace().nth(1).is_some_and(|prot| prot.contains('x'));
    maps.lines().filter(is_code).filter(|line| line.split_whitespace().count() == 5).map(str::to_owned).collect()
}

/// Opens an image, and kills the daemon `delay` after its code shows in the process.
fn kill_inside(victim: &Victim, delay: Duration) {
    let mut mount = Mounted::over(victim.pid());
    let before = code_without_a_name(victim);
    let image = mount.of(victim.pid(), "image");
    let opener = std::thread::spawn(move || File::open(image));
    wait::until_at_once("the daemon works inside", || {
        opener.is_finished() || code_without_a_name(victim).len() > before.len()
    });
    let since = Instant::now();
    wait::until_at_once("a moment has passed", || since.elapsed() >= delay);
    mount.kill_daemon();
    drop(opener.join().unwrap());
}

#[test]
fn the_scratch_goes_with_the_daemon() {
    let victim = Victim::ready(&Spec::c("pause"));
    let before = code_without_a_name(&victim);
    for turn in 0..60 {
        kill_inside(&victim, Duration::from_micros(15 * turn));
        wait::until("the scratch is gone", || code_without_a_name(&victim) == before);
    }
    modes::dump(&victim, 1);
}

#[test]
fn the_scratch_of_many_threads_goes_with_the_daemon() {
    let victim = Victim::ready(&Spec::c("many_threads"));
    let before = code_without_a_name(&victim);
    for turn in 0..30 {
        kill_inside(&victim, Duration::from_micros(300 * turn));
        wait::until("the scratch is gone", || code_without_a_name(&victim) == before);
    }
    victim.go(1);
    assert_eq!(victim.event(1), Event::Ok);
    victim.finish();
}

/// A call with a timeout that the daemon interrupts neither ends early nor with EINTR.
#[test]
fn timeouts_last_when_the_daemon_is_killed() {
    let victim = Victim::ready(&Spec::c("timeouts"));
    for turn in 0..60 {
        kill_inside(&victim, Duration::from_micros(40 * turn));
    }
    victim.go(1);
    assert_eq!(victim.event(1), Event::Ok);
    victim.finish();
}

/// A daemon that was killed before it had a way back for the process may leave its scratch. The
/// next dump removes it, and its image does not hold it.
#[test]
fn an_empty_scratch_goes_with_the_next_dump() {
    goes_with_the_next_dump(Victim::ready(&Spec::c("left_scratch")));
}

#[test]
fn a_scratch_with_code_goes_with_the_next_dump() {
    let crowd = Victim::ready(&Spec::c("many_threads"));
    let mount = Mounted::over(crowd.pid());
    let memory = File::open(format!("/proc/{}/mem", crowd.pid())).unwrap();
    let before = code_without_a_name(&crowd);
    // The code is read while a daemon works inside.
    let code = wait::poll(wait::LONG, || {
        let image = mount.of(crowd.pid(), "image");
        let opener = std::thread::spawn(move || File::open(image));
        let mut code = [0; 1024];
        while !opener.is_finished() {
            let scratch = code_without_a_name(&crowd).into_iter().find(|line| !before.contains(line));
            let start = scratch.and_then(|line| u64::from_str_radix(line.split('-').next()?, 16).ok());
            if start.is_some_and(|start| memory.read_exact_at(&mut code, start).is_ok() && code[0] != 0) {
                break;
            }
        }
        drop(opener.join().unwrap().unwrap());
        (code[0] != 0).then_some(code)
    });
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("code");
    fs::write(&file, code.expect("the code of a daemon")).unwrap();
    goes_with_the_next_dump(Victim::ready(&Spec::c("left_scratch").arg("10000000").file(file)));
}

fn goes_with_the_next_dump(mut victim: Victim) {
    let mount = Mounted::over(victim.pid());
    let snap = mount.snap("snap");
    mount.dump(victim.pid(), &snap);
    assert_eq!(code_without_a_name(&victim).len(), 1, "only its own mapping is left");
    victim.kill();
    mount.restore(&snap);
    victim.go(1);
    assert_eq!(victim.event(1), Event::Ok);
    victim.finish();
}

/// The objects of System V of a victim that are there: segments that a process with its pid has
/// made, and the semaphores and queues of its list ("s 5").
fn system_v_objects(victim: &Victim) -> Vec<String> {
    let list = fs::read_to_string(victim.dir().join("ipc")).unwrap_or_default();
    let mut found = Vec::new();
    for (table, letter) in [("shm", "m"), ("sem", "s"), ("msg", "q")] {
        let text = fs::read_to_string(format!("/proc/sysvipc/{table}")).unwrap();
        for line in text.lines().skip(1) {
            let words: Vec<&str> = line.split_whitespace().collect();
            let name = format!("{letter} {}", words[1]);
            let is_made_by_it = table == "shm" && words[4] == victim.pid().to_string();
            if is_made_by_it || list.lines().any(|line| line == name) {
                found.push(name);
            }
        }
    }
    found
}

/// Objects of System V live without a process. Those that a restore has made go with a daemon that
/// is killed in the middle of it.
#[test]
fn system_v_objects_go_with_the_daemon() {
    for name in ["sysv_shm", "sysv_sem", "sysv_msg"] {
        let mut victim = Victim::ready(&Spec::c(name));
        let mut mount = Mounted::over(victim.pid());
        let snap = mount.snap("snap");
        mount.dump(victim.pid(), &snap);
        assert!(!system_v_objects(&victim).is_empty(), "{name} has objects");
        victim.kill();
        ipc::remove_of(&[victim.pid()], victim.dir());
        wait::until("the objects are removed", || system_v_objects(&victim).is_empty());
        let image = fs::read(snap).unwrap();
        let mut writer = OpenOptions::new().write(true).open(mount.file("restore")).unwrap();
        writer.write_all(&image[..image.len() - 100]).unwrap();
        wait::until("objects are made", || !system_v_objects(&victim).is_empty());
        mount.kill_daemon();
        drop(writer);
        wait::until("nothing is left of it", || system_v_objects(&victim).is_empty() && process::is_free(victim.pid()));
    }
}

/// A process that left a core file is restored as such without any directory for it.
#[test]
fn no_directory_of_a_core_file_is_left() {
    let mut victim = Victim::ready(&Spec::c("zombie_core"));
    let mount = Mounted::over(victim.pid());
    let snap = mount.snap("snap");
    mount.dump(victim.pid(), &snap);
    victim.kill();
    let snap = fs::read(snap).unwrap();
    let other = crate::worker(); // the tree of a mount must live when it is mounted
    for turn in 0..20 {
        let mut mount = Mounted::over(other.pid());
        let (restore, image) = (mount.file("restore"), snap.clone());
        let writer = std::thread::spawn(move || fs::write(restore, image));
        std::thread::sleep(Duration::from_micros(500 * turn));
        mount.kill_daemon();
        let restored = writer.join().unwrap().is_ok();
        let names = fs::read_dir(std::env::temp_dir()).unwrap().flatten().map(|entry| entry.file_name());
        let left: Vec<_> = names.filter(|name| name.as_encoded_bytes().starts_with(b"ckptfs-core-")).collect();
        assert!(left.is_empty(), "turn {turn}: {left:?}");
        if restored || victim.is_here() {
            victim.kill();
        }
        wait::until("nothing is left of it", || process::is_free(victim.pid()));
    }
    crate::ends_well(other);
}
