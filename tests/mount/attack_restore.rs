//! Root restores the process of an ordinary user, which has changed its files meanwhile.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

use ckptfs_tests::{Event, Mounted, NOBODY, Spec, Victim, wait};

/// Puts another file in the place of `file`.
fn replace(file: &Path, text: &str, owner: u32, mode: u32) {
    let fresh = file.with_extension("fresh");
    fs::write(&fresh, text).unwrap();
    chown(&fresh, Some(owner), Some(owner)).unwrap();
    fs::set_permissions(&fresh, Permissions::from_mode(mode)).unwrap();
    fs::rename(&fresh, file).unwrap();
}

/// A name that leads to a file of root by now gives the process nothing that it could not open.
#[test]
fn a_restore_opens_nothing_that_the_process_may_not_open() {
    let dir = tempfile::tempdir().unwrap();
    replace(&dir.path().join("kept"), "everybody's", 0, 0o644);
    let mut victim = Victim::ready(&Spec::c("reads_name").user(NOBODY).file(dir.path().join("kept")));
    let kept = victim.dir().join("kept");
    let mount = Mounted::over(victim.pid());
    let snap = mount.snap("snap");
    mount.dump(victim.pid(), &snap);
    victim.kill();
    replace(&kept, "root's secret", 0, 0o600);
    mount.try_restore(&snap).fails_with("Operation not permitted");
    let said = fs::read_to_string(mount.file("restore")).unwrap();
    for part in ["is another file than at the dump", "owner 0:0, mode 100600", "user 65534 may not open it so"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    // A file that the process may open takes the place of the old one, as a log that was rotated.
    replace(&kept, "anybody's", 0, 0o644);
    mount.restore(&snap);
    victim.go(1);
    assert_eq!(victim.event(1), Event::Ready(2));
    wait::until("it has read", || victim.output().contains("it reads anybody's"));
    victim.kill();
}
