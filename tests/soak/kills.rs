//! The daemon is killed by SIGKILL at any instant of dumps and restores.

use std::fs::{self, File};
use std::io::Read;
use std::time::Duration;

use ckptfs_tests::worker::{count, ends_well, worker};
use ckptfs_tests::{Mounted, Spec, Victim, ipc, process, wait};

use crate::{Numbers, rounds};

/// The mappings of a process, without those that grow by themselves.
fn mappings(victim: &Victim) -> Vec<String> {
    let maps = fs::read_to_string(format!("/proc/{}/maps", victim.pid())).unwrap();
    maps.lines().filter(|line| !line.ends_with("[heap]") && !line.ends_with("[stack]")).map(str::to_owned).collect()
}

/// Names in the directory of temporary files that a restore makes.
fn left_files() -> Vec<String> {
    let names = fs::read_dir(std::env::temp_dir()).unwrap().flatten().map(|entry| entry.file_name());
    names.map(|name| name.to_string_lossy().into_owned()).filter(|name| name.starts_with("ckptfs-core-")).collect()
}

#[test]
fn kills_during_dumps_leave_nothing() {
    let victim = worker();
    let before = mappings(&victim);
    let mut numbers = Numbers(1);
    let turns = rounds(20);
    for turn in 0..turns {
        let mut mount = Mounted::over(victim.pid());
        let image = mount.of(victim.pid(), "image");
        let reader = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            File::open(image).and_then(|mut image| image.read_to_end(&mut bytes))
        });
        std::thread::sleep(Duration::from_micros(numbers.below(12_000)));
        mount.kill_daemon();
        let _cut = reader.join().unwrap();
        let is_free = || {
            let state = process::state(victim.pid());
            process::status(victim.pid(), "TracerPid").as_deref() == Some("0") && !matches!(state, Some('t' | 'T'))
        };
        wait::until("it is let go", is_free);
        wait::until("its mappings are its own", || mappings(&victim) == before);
        let before = count(&victim);
        wait::until("it goes on", || count(&victim) > before);
        let children = process::children(victim.pid());
        assert!(children.len() <= 1, "turn {turn}: more than the child of this dump is left: {children:?}");
    }
    // A child that died with its daemon can only be reaped by the process: the next dump does that.
    let mount = Mounted::over(victim.pid());
    mount.dump(victim.pid(), &mount.snap("snap"));
    wait::until("no child is left", || process::children(victim.pid()).is_empty());
    println!("{turns} kills during dumps: nothing left");
    ends_well(victim);
}

#[test]
fn kills_during_restores_leave_nothing() {
    for name in ["worker", "sysv_shm", "zombie_core"] {
        let mut victim = Victim::ready(&Spec::c(name));
        let first = Mounted::over(victim.pid());
        let snap = first.snap("snap");
        first.dump(victim.pid(), &snap);
        // Objects of System V outlive their process.
        let end = |victim: &mut Victim| {
            victim.kill();
            ipc::remove_of(&[victim.pid()], victim.dir());
        };
        end(&mut victim);
        let image = fs::read(&snap).unwrap();
        let other = worker(); // the tree of a mount must live when it is mounted
        let mut numbers = Numbers(2);
        let (mut whole, turns) = (0, rounds(6) / 3);
        for turn in 0..turns {
            let mut mount = Mounted::over(other.pid());
            let (restore, bytes) = (mount.file("restore"), image.clone());
            let writer = std::thread::spawn(move || fs::write(restore, bytes));
            std::thread::sleep(Duration::from_micros(numbers.below(20_000)));
            mount.kill_daemon();
            if writer.join().unwrap().is_ok() || victim.is_here() {
                whole += 1;
                end(&mut victim);
            }
            wait::until("nothing is left of it", || process::is_free(victim.pid()));
            let segments = || fs::read_to_string("/proc/sysvipc/shm").unwrap();
            let made_by_it = |line: &str| line.split_whitespace().nth(4) == Some(&victim.pid().to_string());
            wait::until("no segment is left", || name != "sysv_shm" || !segments().lines().any(made_by_it));
            assert_eq!(left_files(), Vec::<String>::new(), "{name}, turn {turn}");
        }
        println!("{turns} kills during restores of {name}, {whole} of them too late: nothing left");
        ends_well(other);
    }
}
