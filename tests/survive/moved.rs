//! A path in the image must lead to the same object as at the dump. The restore is refused where a
//! directory has become a symbolic link, and succeeds once the old state is back.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use ckptfs_tests::{Event, Mounted, Spec, Victim, process};

/// `deeper` is the directory below the victim's own that is replaced by a symbolic link. `None`
/// stands for the victim's own directory.
fn refused(name: &str, deeper: Option<&str>, sentence: &str) {
    let mut victim = Victim::ready(&Spec::c(name));
    let mount = Mounted::over(victim.pid());
    let snap = mount.snap("snap");
    mount.dump(victim.pid(), &snap);
    victim.kill();
    let dir = deeper.map_or_else(|| victim.dir().to_owned(), |deeper| victim.dir().join(deeper));
    let aside = victim.dir().with_extension("aside");
    fs::rename(&dir, &aside).unwrap();
    symlink(&aside, &dir).unwrap();
    let before = fs::metadata(&aside).unwrap().modified().unwrap();
    mount.try_restore(&snap).fails_with("Too many levels of symbolic links");
    let told = fs::read_to_string(mount.file("restore")).unwrap();
    assert!(told.contains(sentence) && told.contains("a symbolic link stands there now"), "{told}");
    assert!(process::state(victim.pid()).is_none());
    assert_eq!(fs::metadata(&aside).unwrap().modified().unwrap(), before, "the restore wrote behind the link");
    fs::remove_file(&dir).unwrap();
    fs::rename(&aside, &dir).unwrap();
    mount.restore(&snap);
    victim.go(1);
    assert_eq!(victim.event(1), Event::Ok);
    victim.finish();
}

/// The image does not tell whether its files may be executed: a program goes on without that right.
/// The file keeps its mode.
#[test]
fn executable_that_may_not_be_executed() {
    let mut victim = Victim::ready(&Spec::c("counter"));
    let mount = Mounted::over(victim.pid());
    let snap = mount.snap("snap");
    mount.dump(victim.pid(), &snap);
    victim.kill();
    let program = victim.dir().join("counter");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o600)).unwrap();
    mount.restore(&snap);
    assert_eq!(fs::metadata(&program).unwrap().permissions().mode() & 0o7777, 0o600);
    victim.go(1);
    assert_eq!(victim.event(1), Event::Ready(2));
}

#[test]
fn working_directory() {
    refused("cwd", Some("deeper"), "working directory");
}

#[test]
fn working_directory_below_a_root_directory() {
    refused("chroot", Some("sub"), "working directory");
}

#[test]
fn root_directory() {
    refused("chroot", None, "opening");
}

#[test]
fn directory_of_an_unlinked_fifo() {
    refused("fifo_unlinked", None, "opening");
}

#[test]
fn directory_of_a_removed_one() {
    refused("removed_directory", None, "opening");
}

/// A machine that allows fewer mappings than the process has.
#[test]
fn fewer_mappings_allowed() {
    /// Puts the limit back on Drop.
    struct Limit(String);
    const FILE: &str = "/proc/sys/vm/max_map_count";
    impl Drop for Limit {
        fn drop(&mut self) {
            fs::write(FILE, &self.0).unwrap();
        }
    }
    let mut victim = Victim::ready(&Spec::c("mappings").arg("62000"));
    let mount = Mounted::over(victim.pid());
    let snap = mount.snap("snap");
    mount.dump(victim.pid(), &snap);
    victim.kill();
    let limit = Limit(fs::read_to_string(FILE).unwrap());
    fs::write(FILE, "61000").unwrap();
    mount.try_restore(&snap).fails_with("Cannot allocate memory");
    let told = fs::read_to_string(mount.file("restore")).unwrap();
    assert!(told.contains("mappings or more, vm.max_map_count allows 61000"), "{told}");
    drop(limit);
    mount.restore(&snap);
    victim.go(1);
    assert_eq!(victim.event(1), Event::Ok);
    victim.finish();
}
