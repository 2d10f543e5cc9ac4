//! Locks and processes outside the tree. A snapshot that is being read keeps no lock, and a restore
//! does not take a lock that another process holds by then.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs::File;
use std::io::Read;

use ckptfs_tests::{Event, Mounted, Spec, Victim, process};
use nix::fcntl::{FcntlArg, Flock, FlockArg, fcntl};

/// A mapping keeps the open file description that it was made from, and the copy-on-write child has
/// a copy of every mapping.
#[test]
fn an_open_snapshot_holds_none() {
    for name in ["lock_mapped", "lock_later"] {
        an_open_snapshot(name);
    }
}

fn an_open_snapshot(name: &str) {
    let victim = Victim::ready(&Spec::c(name));
    let mount = Mounted::over(victim.pid());
    let mut image = File::open(mount.of(victim.pid(), "image")).unwrap();
    image.read_exact(&mut [0; 64]).unwrap();
    victim.go(1);
    // It releases the lock and takes it again while the snapshot is open.
    assert_eq!(victim.event(1), Event::Ok);
    victim.finish();
    image.read_to_end(&mut Vec::new()).unwrap();
}

#[test]
fn taken_by_another_process() {
    for (name, sentence) in [("flock", "alone): taking its write lock again (flock)"), ("posix_lock", "bytes 1 to 10")]
    {
        let mut victim = Victim::ready(&Spec::c(name));
        let mount = Mounted::over(victim.pid());
        let snap = mount.snap("snap");
        mount.dump(victim.pid(), &snap);
        victim.kill();
        let open = |name: &str| File::options().read(true).write(true).open(victim.dir().join(name)).unwrap();
        let stolen = if name == "flock" {
            Flock::lock(open("alone"), FlockArg::LockSharedNonblock).map_err(|(_, errno)| errno).unwrap()
        } else {
            let file = open("data");
            let byte = libc::flock { l_type: libc::F_WRLCK as i16, l_whence: 0, l_start: 10, l_len: 1, l_pid: 0 };
            fcntl(&file, FcntlArg::F_OFD_SETLK(&byte)).unwrap();
            Flock::lock(file, FlockArg::LockShared).map_err(|(_, errno)| errno).unwrap()
        };
        mount.try_restore(&snap).fails_with("Resource temporarily unavailable");
        assert!(mount.log().contains(sentence), "{sentence}:\n{}", mount.log());
        assert!(process::state(victim.pid()).is_none());
        drop(stolen);
        mount.restore(&snap);
        victim.go(1);
        assert_eq!(victim.event(1), Event::Ok);
        victim.finish();
    }
}
