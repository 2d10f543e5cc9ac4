//! Where a restore creates a file without a name whose directory is gone. A file of a filesystem
//! that keeps nothing on a disk is never created on a disk.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};

use ckptfs_tests::{Event, Mounted, Spec, Victim, process, tool, wait};
use nix::sys::statfs::{TMPFS_MAGIC, statfs};

/// A directory with a filesystem of its own. Drop unmounts it.
struct Place(tempfile::TempDir);

impl Place {
    fn of(kind: &str) -> Place {
        let place = Place(tempfile::tempdir().unwrap());
        place.mount(kind);
        place
    }

    fn mount(&self, kind: &str) {
        let _mounted =
            tool::run(&["mount".into(), "-t".into(), kind.into(), "none".into(), PathBuf::from(self.0.path())])
                .success();
    }

    fn unmount(&self) {
        // The daemon may still hold what it has copied beside the file.
        let path = self.0.path().display().to_string();
        wait::until("it is unmounted", || {
            tool::command(&["umount", &path]).output().is_ok_and(|out| out.status.success())
        });
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _unmounted = tool::command(&["umount", "-l", &self.0.path().display().to_string()]).output();
    }
}

/// A killed victim with a file in a filesystem of its own, which is not mounted any more.
fn dead(kind: &str) -> (Place, Victim, Mounted, PathBuf) {
    let place = Place::of(kind);
    let mut victim = Victim::ready(&Spec::c("secret").arg(place.0.path()));
    let mount = Mounted::over(victim.pid());
    let snap = mount.snap("snap");
    mount.dump(victim.pid(), &snap);
    victim.kill();
    place.unmount();
    (place, victim, mount, snap)
}

fn ends_well(victim: Victim) {
    victim.go(1);
    assert_eq!(victim.event(1), Event::Ok);
    victim.finish();
}

fn last(mount: &Mounted) -> serde_json::Value {
    serde_json::from_str(fs::read_to_string(mount.file("restore")).unwrap().lines().last().unwrap()).unwrap()
}

#[test]
fn a_file_of_a_tmpfs_goes_to_a_tmpfs() {
    let (_place, victim, mount, snap) = dead("tmpfs");
    mount.restore(&snap);
    let link = PathBuf::from(format!("/proc/{}/fd/3", victim.pid()));
    assert_eq!(statfs(&link).unwrap().filesystem_type(), TMPFS_MAGIC);
    let now = fs::read_link(&link).unwrap();
    let (told, dir) = (last(&mount)["warnings"].to_string(), now.parent().unwrap().display().to_string());
    assert!(told.contains("/secret is in ") && told.contains(&format!("{dir} now")), "{told}");
    ends_well(victim);
}

#[test]
fn without_such_a_filesystem_it_is_refused() {
    let (place, victim, mount, snap) = dead("ramfs");
    mount.try_restore(&snap).fails_with("No such file or directory");
    let told = last(&mount)["error"].to_string();
    assert!(told.contains("no place for unlinked file") && told.contains("no other of that type"), "{told}");
    assert!(process::state(victim.pid()).is_none());
    place.mount("ramfs");
    mount.restore(&snap);
    assert!(last(&mount).get("warnings").is_none(), "{}", last(&mount));
    assert_eq!(fs::read_dir(place.0.path()).unwrap().count(), 0);
    ends_well(victim);
}

/// Any other file is created where there is room, and a warning says where.
#[test]
fn another_place_is_named() {
    let mut victim = Victim::ready(&Spec::c("secret").arg("sub"));
    let mount = Mounted::over(victim.pid());
    let snap = mount.snap("snap");
    mount.dump(victim.pid(), &snap);
    victim.kill();
    fs::remove_dir(victim.dir().join("sub")).unwrap();
    mount.restore(&snap);
    let told = last(&mount)["warnings"].to_string();
    let dir = |dir: &Path| dir.display().to_string();
    assert!(
        told.contains(&format!("unlinked file {}/sub/secret is in {} now", dir(victim.dir()), dir(victim.dir()))),
        "{told}"
    );
    ends_well(victim);
}
