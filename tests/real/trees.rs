//! Process trees of real programs. Each is dumped repeatedly while it runs, and must not be
//! disturbed: it checks everything that its children report. Then the whole tree is stopped,
//! dumped, killed and restored, continues, and goes through the same again. No process runs between
//! the checkpoint and the kill, because the changes that these programs make to files are not
//! undone.

use std::fs;
use std::path::Path;
use std::time::Duration;

use ckptfs_tests::{Event, Mounted, NOBODY, Spec, Victim, build, process, tool, wait};

use super::{gets_on, runs_to_its_end, script};

fn verify(snap: &Path) {
    let _whole = tool::run(&[build::ckptfs(), "verify".into(), snap.to_owned()]).success();
}

/// How often a tree is stopped that is in a state that passes.
const STOPS: u32 = 100;

/// Stops the tree, dumps it, kills it while it is stopped, and restores it.
fn cycle(victim: &mut Victim, mount: &Mounted) {
    let snap = mount.snap("snap");
    let is_dumped = (0..STOPS).any(|_| {
        let freeze = |text| mount.write(&mount.of(victim.pid(), "freeze"), text).success();
        let _stopped = freeze("1");
        let dumped = tool::shell("cat \"$1\" > \"$2\"", &[&mount.of(victim.pid(), "image"), &snap]);
        if dumped.code != 0 {
            let why = mount.log();
            assert!(why.contains("has events that have not been read"), "{}{why}", dumped.stderr);
            let _goes_on = freeze("0");
        }
        dumped.code == 0
    });
    assert!(is_dumped, "{}", mount.log());
    let _killed = mount.write(&mount.of(victim.pid(), "kill"), "1").success();
    victim.kill();
    verify(&snap);
    mount.restore(&snap);
}

fn no_snapshot_is_left(victim: &Victim) {
    wait::until("no snapshot is left", || {
        process::all().into_iter().all(|pid| {
            let ours = process::parent(pid) == Some(victim.pid());
            !(ours && process::status(pid, "Name").as_deref() == Some("ckptfs-snapshot"))
        })
    });
}

/// Tests a program that runs until it is asked to end.
fn endless(spec: &Spec) {
    let mut victim = Victim::ready(spec);
    let mount = Mounted::over(victim.pid());
    let snap = mount.snap("snap");
    for turn in 0..10 {
        mount.dump(victim.pid(), &snap);
        verify(&snap);
        gets_on(&victim, &format!("dump {turn}"));
    }
    no_snapshot_is_left(&victim);
    for turn in 0..3 {
        cycle(&mut victim, &mount);
        assert!(victim.is_here());
        gets_on(&victim, &format!("restore {turn}"));
    }
    runs_to_its_end(victim);
}

/// Tests a program that ends by itself: it is dumped repeatedly until then.
fn job_dumped(spec: &Spec) {
    let victim = Victim::ready(spec);
    let mount = Mounted::over(victim.pid());
    let snap = mount.snap("snap");
    let (mut whole, ended) = (0, || victim.output().lines().any(|line| line == "ok"));
    while !ended() && whole < 12 {
        let dumped = tool::shell("cat \"$1\" > \"$2\"", &[&mount.of(victim.pid(), "image"), &snap]);
        assert!(dumped.code == 0 || ended(), "{}", dumped.stderr);
        if dumped.code == 0 {
            verify(&snap);
            whole += 1;
        }
        assert!(!victim.output().contains("FAIL"), "{}", victim.output());
    }
    assert!(whole > 2, "it ended too soon");
    assert_eq!(victim.event(1), Event::Ok);
    victim.finish();
}

/// Tests a program that ends by itself. `instants` are the times of the checkpoints, in
/// milliseconds after the start or the last restore.
fn job_restored(spec: &Spec, instants: &[u64]) {
    let mut victim = Victim::ready(spec);
    let mount = Mounted::over(victim.pid());
    for instant in instants {
        std::thread::sleep(Duration::from_millis(*instant));
        assert!(!victim.output().lines().any(|line| line == "ok"), "it ended too soon");
        cycle(&mut victim, &mount);
    }
    assert_eq!(victim.event(1), Event::Ok);
    victim.finish();
}

/// The two tests of an endless program.
macro_rules! endless {
    ($name:ident, $spec:expr) => {
        mod $name {
            use super::*;
            #[test]
            fn untouched() {
                runs_to_its_end(Victim::ready(&$spec));
            }
            #[test]
            fn dumped_ten_times_and_restored_three_times() {
                endless(&$spec);
            }
        }
    };
}

/// The tests of a program that ends by itself.
macro_rules! job {
    ($name:ident, $spec:expr) => {
        mod $name {
            use super::*;
            #[test]
            fn untouched() {
                let victim = Victim::ready(&$spec);
                assert_eq!(victim.event(1), Event::Ok);
                victim.finish();
            }
            #[test]
            fn dumped_all_the_time() {
                job_dumped(&$spec);
            }
            #[test]
            fn restored_early() {
                job_restored(&$spec, &[10, 10]);
            }
            #[test]
            fn restored_midway() {
                job_restored(&$spec, &[250, 100, 100]);
            }
        }
    };
}

endless!(bash, script(&["bash"], "jobs.bash"));
endless!(bash_pipes, script(&["bash"], "pipes.sh"));
endless!(dash_pipes, script(&["dash"], "pipes.sh"));
endless!(busybox_pipes, script(&["busybox", "sh"], "pipes.sh"));
endless!(bash_of_nobody, script(&["bash"], "jobs.bash").user(NOBODY));
endless!(python_processes, script(&["python3"], "processes.py"));
endless!(tail, script(&["dash"], "follow.sh"));
endless!(sqlite, script(&["dash"], "database.sh"));
job!(make, script(&["dash"], "project.sh"));
job!(git_clone, script(&["dash"], "clone.sh"));

/// The locks of a transaction keep other processes out, before the checkpoint and after it.
#[test]
fn sqlite_keeps_others_out() {
    let mut victim = Victim::ready(&script(&["dash"], "database.sh"));
    let mount = Mounted::over(victim.pid());
    let locked = |victim: &Victim| {
        let db = victim.dir().join("db");
        for statement in ["SELECT count(*) FROM t", "INSERT INTO t VALUES (-1, 'other')"] {
            tool::run(&["sqlite3".as_ref(), db.as_os_str(), statement.as_ref()]).fails_with("database is locked");
        }
    };
    locked(&victim);
    for _ in 0..2 {
        cycle(&mut victim, &mount);
        locked(&victim);
        gets_on(&victim, "a restore");
    }
    let dir = fs::read_dir(victim.dir()).unwrap().flatten().map(|entry| entry.file_name());
    assert!(dir.into_iter().any(|name| name == "db-journal"));
    runs_to_its_end(victim);
}
