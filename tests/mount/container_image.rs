//! `/ckpt/image`: everything that a mount shows, at one instant.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use ckptfs_tests::{Cgroup, Event, Mounted, Spec, Victim, build, process, tool, wait};

use crate::{count, ends_well, goes_on, mounted_worker, pids, worker};

fn over(cgroup: &Cgroup) -> Mounted {
    Mounted::with(&["--cgroup".as_ref(), cgroup.path().as_os_str()])
}

/// `cat image > snap`.
fn dump(mount: &Mounted, snap: &Path) -> tool::Output {
    tool::shell("cat \"$1\" > \"$2\"", &[mount.file("image"), snap.to_owned()])
}

/// Two processes that pass a token to each other through one file. The file has no name any more,
/// so its contents are in the image.
fn token_passers(dir: &Path) -> [Victim; 2] {
    let file = dir.join("token");
    fs::write(&file, [0; 4096]).unwrap();
    let victims = ["0", "1"].map(|place| Victim::ready(&Spec::c("token").arg(place).arg(&file)));
    fs::remove_file(file).unwrap();
    victims
}

#[test]
fn two_unrelated_trees_of_a_cgroup() {
    let dir = tempfile::tempdir().unwrap();
    let cgroup = Cgroup::new("token");
    let sub = cgroup.below("sub");
    let mut victims = token_passers(dir.path());
    cgroup.add(victims[0].pid());
    sub.add(victims[1].pid());
    let mount = over(&cgroup);
    let snap = mount.snap("snap");
    for turn in 0..3 {
        let passed = count(&victims[0]);
        wait::until("the token goes round", || count(&victims[0]) > passed + 10);
        let _quiet = dump(&mount, &snap).success();
        let _whole = tool::run(&[build::ckptfs().as_path(), "verify".as_ref(), &snap]).success();
        victims.iter().for_each(goes_on);
        victims.iter_mut().for_each(Victim::kill);
        assert!(pids(&mount).is_empty(), "turn {turn}");
        mount.restore(&snap);
        victims.iter().for_each(goes_on);
        assert_eq!(cgroup.pids(), [victims[0].pid()], "in its cgroup again");
        assert_eq!(sub.pids(), [victims[1].pid()]);
    }
    victims.iter().for_each(|victim| victim.go(1));
    for victim in victims {
        assert_eq!(victim.event(1), Event::Ok);
        victim.finish();
    }
}

/// Roots that share a session with a process outside share one again after the restore. The first
/// of them leads it.
#[test]
fn roots_of_one_session_outside() {
    let cgroup = Cgroup::new("siblings");
    let parent = Victim::ready(&Spec::c("siblings"));
    let number = |name: &str| fs::read_to_string(parent.dir().join(name)).ok()?.trim().parse::<i32>().ok();
    let children = [1, 2].map(|n| number(&format!("child.{n}")).unwrap());
    children.iter().for_each(|child| cgroup.add(*child));
    let mount = over(&cgroup);
    let snap = mount.snap("snap");
    let _quiet = dump(&mount, &snap).success();
    for child in children {
        process::kill(child, nix::sys::signal::Signal::SIGKILL);
    }
    wait::until("their parent has reaped them", || children.iter().all(|child| process::is_free(*child)));
    mount.restore(&snap);
    assert_eq!(cgroup.pids(), {
        let mut sorted = children;
        sorted.sort_unstable();
        sorted
    });
    parent.go(1);
    let mut sessions = Vec::new();
    wait::until("both have looked", || {
        sessions = (1..3).filter_map(|n| number(&format!("ok.{n}"))).collect();
        assert!(!parent.output().contains("FAIL"), "{}", parent.output());
        sessions.len() == 2
    });
    assert_eq!(sessions, [children[0]; 2]);
    parent.go(2);
    assert_eq!(parent.event(1), Event::Ok);
    wait::until("they end", || !children.iter().any(|child| process::is_alive(*child)));
    parent.finish();
}

/// A child in another cgroup is not part of the container, and the restored parent would lose it.
#[test]
fn a_child_in_another_cgroup() {
    let (cgroup, elsewhere) = (Cgroup::new("inside"), Cgroup::new("outside"));
    let parent = Victim::ready(&Spec::c("siblings"));
    let child = fs::read_to_string(parent.dir().join("child.1")).unwrap().trim().parse().unwrap();
    let both = fs::read_to_string(parent.dir().join("child.2")).unwrap().trim().parse().unwrap();
    [parent.pid(), both].into_iter().for_each(|pid| cgroup.add(pid));
    elsewhere.add(child);
    let mount = over(&cgroup);
    dump(&mount, &mount.snap("snap")).fails_with("not supported");
    let told = format!("its child, pid {child}, is in cgroup /ckptfs-test-outside");
    assert!(mount.log().contains(&told), "{}", mount.log());
    parent.go(1);
    wait::until("both have looked", || [1, 2].iter().all(|n| parent.dir().join(format!("ok.{n}")).exists()));
    parent.go(2);
    assert_eq!(parent.event(1), Event::Ok);
    parent.finish();
}

/// The image of a mount over a tree is that tree's image, also while the tree is held.
#[test]
fn of_a_tree() {
    let (mut victim, mount) = mounted_worker();
    let snap = mount.snap("snap");
    let freeze = mount.of(victim.pid(), "freeze");
    let _quiet = mount.write(&freeze, "1").success();
    let _quiet = dump(&mount, &snap).success();
    let _quiet = mount.write(&freeze, "0").success();
    goes_on(&victim);
    victim.kill();
    mount.restore(&snap);
    goes_on(&victim);
    let _quiet = dump(&mount, &snap).success();
    ends_well(victim);
}

/// A restored process returns to its cgroup. If the cgroup is gone, the restore is refused and
/// names it.
#[test]
fn a_cgroup_that_is_gone() {
    let cgroup = Cgroup::new("gone");
    let mut victim = worker();
    cgroup.add(victim.pid());
    let mount = Mounted::over(victim.pid());
    let snap = mount.snap("snap");
    mount.dump(victim.pid(), &snap);
    victim.kill();
    mount.restore(&snap);
    assert_eq!(cgroup.pids(), [victim.pid()]);
    goes_on(&victim);
    victim.kill();
    let path = cgroup.path().to_owned();
    drop(cgroup);
    mount.try_restore(&snap).fails_with("No such file or directory");
    let name = path.file_name().unwrap().to_str().unwrap();
    assert!(mount.log().contains(&format!("its cgroup /{name} does not exist")), "{}", mount.log());
    assert!(!process::is_alive(victim.pid()));
}

/// A dump of a cgroup that a user has frozen is refused at once, and the cgroup stays frozen.
#[test]
fn a_cgroup_that_is_frozen_already() {
    let cgroup = Cgroup::new("frozen");
    let victim = worker();
    cgroup.add(victim.pid());
    let (whole, tree) = (over(&cgroup), Mounted::over(victim.pid()));
    cgroup.write("cgroup.freeze", "1");
    wait::until("it is frozen", || cgroup.is_frozen());
    dump(&whole, &whole.snap("snap")).fails_with("busy");
    tool::run(&["cat".into(), whole.of(victim.pid(), "image")]).fails_with("busy");
    tool::run(&["cat".into(), tree.of(victim.pid(), "image")]).fails_with("busy");
    for mount in [&whole, &tree] {
        assert!(mount.log().contains("is frozen, and a frozen process cannot be checkpointed"), "{}", mount.log());
    }
    assert!(cgroup.is_frozen());
    cgroup.write("cgroup.freeze", "0");
    let _quiet = dump(&whole, &whole.snap("snap")).success();
    drop((whole, tree));
    ends_well(victim);
}

/// Dumps of one mount and of two mounts take turns: none thaws a tree that another one froze, and
/// none is refused.
#[test]
fn many_at_once() {
    let cgroup = Cgroup::new("many");
    let victims = [worker(), worker()];
    victims.iter().for_each(|victim| cgroup.add(victim.pid()));
    let mounts = [over(&cgroup), over(&cgroup)];
    let script = r#"for n in $(seq 20); do cat "$1" > "$2" && "$3" verify "$2" > /dev/null; done"#;
    let mut readers = Vec::new();
    for (at, mount) in mounts.iter().enumerate() {
        for (name, image) in [
            ("whole", mount.file("image")),
            ("one", mount.of(victims[0].pid(), "image")),
            ("two", mount.of(victims[1].pid(), "image")),
        ] {
            let mut reader = tool::command(&["bash", "-ec", script, "test"]);
            let snap = mount.snap(&format!("{name}-{at}"));
            readers.push(reader.arg(image).arg(snap).arg(build::ckptfs()).spawn().unwrap());
        }
    }
    for mut reader in readers {
        assert!(reader.wait().unwrap().success());
    }
    assert!(!cgroup.is_frozen());
    drop(mounts);
    victims.into_iter().for_each(ends_well);
}

/// The daemon is killed at twenty different moments of a dump. The cgroup is thawed each time.
#[test]
fn the_daemon_is_killed_meanwhile() {
    let cgroup = Cgroup::new("killed");
    let victim = worker();
    cgroup.add(victim.pid());
    for turn in 0..20 {
        let mut mount = over(&cgroup);
        let script = "for n in 1 2 3 4 5 6 7 8; do cat \"$1\" || exit 0; done";
        let mut reader = tool::command(&["sh", "-c", script, "test"]);
        let reader = reader.arg(mount.file("image")).stdout(Stdio::null()).stderr(Stdio::null());
        let mut reader = reader.spawn().unwrap();
        std::thread::sleep(Duration::from_micros(1300 * turn));
        mount.kill_daemon();
        reader.wait().unwrap();
        drop(mount);
        wait::until("it is thawed", || !cgroup.is_frozen() && cgroup.read("cgroup.freeze") == "0");
        let before = count(&victim);
        wait::until("the worker goes on", || count(&victim) > before + 2);
    }
    let mount = over(&cgroup);
    let _quiet = dump(&mount, &mount.snap("snap")).success();
    drop(mount);
    ends_well(victim);
}

/// A reader in the container, and a daemon in it.
#[test]
fn a_reader_and_a_daemon_in_the_container() {
    let cgroup = Cgroup::new("inner");
    let victim = worker();
    cgroup.add(victim.pid());
    let mount = over(&cgroup);
    let script = r#"echo $$ > "$2"/cgroup.procs; exec cat "$1""#;
    let inside = |image| tool::shell(script, &[image, cgroup.path().to_owned()]);
    inside(mount.file("image")).fails_with("deadlock");
    assert!(mount.log().contains("the reader (pid "), "{}", mount.log());
    let _one_of_them_is_no_trouble = inside(mount.of(victim.pid(), "image")).success();
    goes_on(&victim);
    cgroup.add(mount.daemon());
    dump(&mount, &mount.snap("snap")).fails_with("deadlock");
    mount.dump(victim.pid(), &mount.snap("snap"));
    goes_on(&victim);
    drop(mount);
    ends_well(victim);
}

/// A tree that forks as fast as it can is stopped, and continues.
#[test]
fn a_tree_that_forks_all_the_while() {
    let victim = Victim::ready(&Spec::c("forker").arg("200"));
    victim.go(1);
    let mount = Mounted::over(victim.pid());
    for _ in 0..5 {
        let snap = mount.snap("snap");
        let _quiet = dump(&mount, &snap).success();
        let _whole = tool::run(&[build::ckptfs().as_path(), "verify".as_ref(), &snap]).success();
        let before = count(&victim);
        wait::until("it forks on", || count(&victim) > before + 100);
    }
    drop(mount);
    victim.go(2);
    assert_eq!(victim.event(1), Event::Ok);
    victim.finish();
}

/// A tree that grows faster than it can be walked is refused in time and continues. In a cgroup it
/// can be stopped nevertheless.
#[test]
fn a_bounded_fork_bomb() {
    let cgroup = Cgroup::new("bomb");
    let victim = Victim::ready(&Spec::c("forker").arg("60").arg("bomb"));
    cgroup.add(victim.pid());
    victim.go(1);
    let forks_on = || {
        let before = count(&victim);
        wait::until("it forks on", || count(&victim) > before + 10);
        let stuck = |pid: &i32| matches!(process::state(*pid), Some('t' | 'T'));
        wait::until("no process is held", || !cgroup.pids().iter().any(stuck));
    };
    forks_on();
    let tree = victim.pid().to_string();
    let mount = Mounted::with(&["--tree", &tree, "-o", "freeze-timeout=1"]);
    for _ in 0..3 {
        let output = dump(&mount, &mount.snap("snap"));
        let is_late = ["busy", "timed out"].iter().any(|word| output.stderr.contains(word));
        assert!(output.code == 0 || is_late, "{}{}", output.stderr, mount.log());
        forks_on();
    }
    drop(mount);
    let path = cgroup.path().to_owned();
    let mount = Mounted::with(&["--cgroup".as_ref(), path.as_os_str(), "-o".as_ref(), "freeze-timeout=60".as_ref()]);
    let _quiet = dump(&mount, &mount.snap("snap")).success();
    forks_on();
    assert!(!cgroup.is_frozen());
    cgroup.write("cgroup.kill", "1");
    wait::until("it is dead", || cgroup.pids().is_empty());
}
