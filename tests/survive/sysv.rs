//! System V segments that are not the image's alone: somebody else's contents stay, somebody else's segment is in the way, and nothing
//! is left of a restore that fails.

use std::fs;

use ckptfs_tests::{Event, Mounted, Spec, Victim, tool, wait};

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
    for all in [&victim, &outside] {
        assert_eq!(all.event(2), Event::Ready(3));
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
    assert!(exists(&id), "a segment outlives whoever has it attached");
    let _gone = tool::run(&["ipcrm", "-m", &id]).success();
    let image = fs::read(&snap).unwrap();
    let cut = mount.snap("cut");
    fs::write(&cut, &image[..image.len() - 100]).unwrap();
    assert_ne!(mount.try_restore(&cut).code, 0);
    wait::until("the segment is gone", || !exists(&id));
    mount.restore(&snap);
    assert!(exists(&id) && victim.is_here());
}
