//! System V objects that are not used by the image alone. The contents of an object that others use
//! stay. An object of another process with the same id is in the way. A removed object is made
//! again. A restore that fails leaves nothing behind.

use std::fs;

use ckptfs_tests::{Event, Mounted, Spec, Victim, process, tool, wait};

fn id_of(victim: &Victim) -> String {
    fs::read_to_string(victim.dir().join("id")).unwrap()
}

fn exists(id: &str) -> bool {
    let table = fs::read_to_string("/proc/sysvipc/shm").unwrap();
    table.lines().any(|line| line.split_whitespace().nth(1) == Some(id))
}

#[test]
fn attached_outside() {
    let mut victim = Victim::ready(&Spec::c("sysv_shm_outside"));
    let outside = Victim::ready(&Spec::c("sysv_shm_outside").arg(id_of(&victim)));
    victim.go(1);
    assert_eq!(victim.event(1), Event::Ready(2));
    let mount = Mounted::over(victim.pid());
    let snap = mount.snap("snap");
    mount.dump(victim.pid(), &snap);
    outside.go(1);
    assert_eq!(outside.event(1), Event::Ready(2));
    victim.kill();
    mount.restore(&snap);
    for all in [&victim, &outside] {
        all.go(2);
    }
    // Both check how many processes have the segment attached, before one of them ends.
    for all in [&victim, &outside] {
        assert_eq!(all.event(2), Event::Ready(3));
    }
    for all in [&victim, &outside] {
        all.go(3);
        assert_eq!(all.event(3), Event::Ok);
    }
    victim.finish();
    outside.finish();
}

#[test]
fn nothing_is_left_of_a_failure() {
    let mut victim = Victim::ready(&Spec::c("sysv_shm_outside"));
    let id = id_of(&victim);
    let mount = Mounted::over(victim.pid());
    let snap = mount.snap("snap");
    mount.dump(victim.pid(), &snap);
    victim.kill();
    assert!(exists(&id), "a segment outlives the processes that attach it");
    let _gone = tool::run(&["ipcrm", "-m", &id]).success();
    let image = fs::read(&snap).unwrap();
    let cut = mount.snap("cut");
    fs::write(&cut, &image[..image.len() - 100]).unwrap();
    assert_ne!(mount.try_restore(&cut).code, 0);
    wait::until("the segment is gone", || !exists(&id));
    mount.restore(&snap);
    assert!(exists(&id) && victim.is_here());
}

#[test]
fn a_failure_leaves_the_contents() {
    let mut victim = Victim::ready(&Spec::c("sysv_shm_outside"));
    let id = id_of(&victim);
    let mount = Mounted::over(victim.pid());
    let (snap, cut) = (mount.snap("snap"), mount.snap("cut"));
    mount.dump(victim.pid(), &snap);
    victim.kill();
    let _written = tool::run(&["perl", "-e", "shmwrite($ARGV[0], 'later', 0, 5) or die $!", &id]).success();
    let contents = || {
        let read = "shmread($ARGV[0], $_, 0, 6) or die $!; print";
        tool::run(&["perl", "-e", read, &id]).success().text()
    };
    assert_eq!(contents(), "latere", "what came later is in it");
    let image = fs::read(&snap).unwrap();
    fs::write(&cut, &image[..image.len() - 100]).unwrap();
    assert_ne!(mount.try_restore(&cut).code, 0);
    assert_eq!(contents(), "latere");
    mount.restore(&snap);
    assert_eq!(contents(), "inside");
    assert!(victim.is_here());
}

/// The semaphores and queues of a victim, as arguments for ipcrm(1).
fn listed(victim: &Victim) -> Vec<(String, String)> {
    let text = fs::read_to_string(victim.dir().join("ipc")).unwrap();
    let pair = |line: &str| line.split_once(' ').map(|(kind, id)| (format!("-{kind}"), id.to_owned()));
    text.lines().filter_map(pair).collect()
}

/// A System V IPC namespace of its own for this thread and for the processes that it starts.
fn own_namespace() {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWIPC).unwrap();
}

#[test]
fn removed_in_between() {
    own_namespace();
    for name in ["sysv_sem", "sysv_msg"] {
        let mut victim = Victim::ready(&Spec::c(name));
        let mount = Mounted::with(&["--tree", &victim.pid().to_string(), "-o", "sysv-ipc=owned"]);
        let snap = mount.snap("snap");
        mount.dump(victim.pid(), &snap);
        victim.kill();
        for (kind, id) in listed(&victim) {
            let _gone = tool::run(&["ipcrm", &kind, &id]).success();
        }
        mount.restore(&snap);
        victim.go(1);
        assert_eq!(victim.event(1), Event::Ok);
        victim.finish();
    }
}

#[test]
fn another_with_the_same_number() {
    own_namespace();
    let mut victim = Victim::ready(&Spec::c("sysv_sem_outside"));
    let mount = Mounted::over(victim.pid());
    let snap = mount.snap("snap");
    mount.dump(victim.pid(), &snap);
    victim.kill();
    let id = id_of(&victim);
    let _gone = tool::run(&["ipcrm", "-s", &id]).success();
    // The kernel does not soon give an id again by itself. It is asked for explicitly, as a restore
    // does (`sem_next_id`).
    fs::write("/proc/sys/kernel/sem_next_id", &id).unwrap();
    let _another = tool::run(&["ipcmk", "-S", "7"]).success();
    mount.try_restore(&snap).fails_with("File exists");
    assert!(mount.log().contains(&format!("semaphore set {id} is in the way")), "{}", mount.log());
    let _gone = tool::run(&["ipcrm", "-s", &id]).success();
    mount.restore(&snap);
}

#[test]
fn a_lock_that_others_want() {
    let mut victim = Victim::ready(&Spec::c("sysv_sem_outside"));
    let outside = Victim::ready(&Spec::c("sysv_sem_outside").arg(id_of(&victim)));
    let mount = Mounted::over(victim.pid());
    let snap = mount.snap("snap");
    mount.dump(victim.pid(), &snap);
    victim.kill();
    outside.go(1);
    assert_eq!(outside.event(1), Event::Ready(2));
    mount.try_restore(&snap).fails_with("Resource temporarily unavailable");
    assert!(mount.log().contains("semaphore 0: an operation to be undone"), "{}", mount.log());
    outside.go(2);
    assert_eq!(outside.event(2), Event::Ready(3));
    mount.restore(&snap);
    outside.go(3);
    assert_eq!(outside.event(3), Event::Ready(4));
    victim.go(1);
    assert_eq!(victim.event(1), Event::Ok);
    wait::until("it has ended", || !process::is_alive(victim.pid()));
    outside.go(4);
    assert_eq!(outside.event(4), Event::Ok);
    victim.finish();
    outside.finish();
}

/// Objects of other processes that are removed or made in between do not concern the tree, unless
/// the mount option says so.
#[test]
fn objects_of_other_processes() {
    own_namespace();
    let made = |flag: &str| {
        let told = tool::run(&["ipcmk", flag, "3"]).success().text();
        told.trim().rsplit(' ').next().unwrap().to_owned()
    };
    let mut victim = Victim::ready(&Spec::c("nanosleep"));
    let (set, queue) = (made("-S"), tool::run(&["ipcmk", "-Q"]).success().text());
    for (option, comes) in [("sysv-ipc=used", false), ("sysv-ipc=owned", true)] {
        let mount = Mounted::with(&["--tree", &victim.pid().to_string(), "-o", option]);
        let snap = mount.snap("snap");
        mount.dump(victim.pid(), &snap);
        victim.kill();
        let _gone = tool::run(&["ipcrm", "-s", &set]).success();
        mount.restore(&snap);
        let table = fs::read_to_string("/proc/sysvipc/sem").unwrap();
        let there = table.lines().any(|line| line.split_whitespace().nth(1) == Some(&set));
        assert_eq!(there, comes, "{option}: {queue}{table}");
        if !comes {
            fs::write("/proc/sys/kernel/sem_next_id", &set).unwrap();
            assert_eq!(made("-S"), set);
        }
    }
    victim.go(1);
    assert_eq!(victim.event(1), Event::Ok);
    victim.finish();
}
