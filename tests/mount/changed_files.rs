//! `-o changed-files=`: how a restore treats files that have changed since the dump.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::Path;

use ckptfs_tests::{Event, Mounted, Spec, Victim};

/// A killed victim, a mount with `option`, and its image.
fn dead(option: &str) -> (Victim, Mounted, std::path::PathBuf) {
    let mut victim = Victim::ready(&Spec::c("holds_files"));
    let mount = Mounted::with(&["--tree", &victim.pid().to_string(), "-o", option]);
    let snap = mount.snap("snap");
    mount.dump(victim.pid(), &snap);
    victim.kill();
    (victim, mount, snap)
}

fn ends_well(victim: Victim) {
    assert!(victim.is_here());
    victim.go(1);
    assert_eq!(victim.event(1), Event::Ok);
    victim.finish();
}

fn shorten(path: &Path, len: u64) {
    OpenOptions::new().write(true).open(path).unwrap().set_len(len).unwrap();
}

fn grow(path: &Path) {
    OpenOptions::new().append(true).open(path).unwrap().write_all(b"more").unwrap();
}

/// The newest line of `restore`.
fn last(mount: &Mounted) -> serde_json::Value {
    serde_json::from_str(fs::read_to_string(mount.file("restore")).unwrap().lines().last().unwrap()).unwrap()
}

#[test]
fn files_that_grew_are_accepted() {
    let (victim, mount, snap) = dead("changed-files=warn");
    grow(&victim.dir().join("data"));
    grow(&victim.dir().join("map"));
    shorten(&victim.dir().join("data"), 500);
    mount.restore(&snap);
    assert!(last(&mount).get("warnings").is_none(), "{}", last(&mount));
    ends_well(victim);
}

#[test]
fn files_that_are_too_short_are_reported() {
    let (victim, mount, snap) = dead("defaults");
    shorten(&victim.dir().join("data"), 499);
    shorten(&victim.dir().join("map"), 4096);
    mount.restore(&snap);
    let told = last(&mount)["warnings"].to_string();
    assert!(told.contains("/data is shorter") && told.contains("/map is shorter"), "{told}");
    assert!(mount.log().contains("/data is shorter"), "{}", mount.log());
    ends_well(victim);
}

#[test]
fn changed_files_are_refused_on_request() {
    let (victim, mount, snap) = dead("changed-files=refuse");
    let data = victim.dir().join("data");
    let (before, was) = (fs::read(&data).unwrap(), fs::metadata(&data).unwrap().modified().unwrap());
    grow(&data);
    mount.try_restore(&snap).fails_with("Stale file handle");
    assert!(last(&mount)["error"].to_string().contains("/data has changed"), "{}", last(&mount));
    fs::write(&data, before).unwrap();
    mount.try_restore(&snap).fails_with("Stale file handle");
    File::options().write(true).open(&data).unwrap().set_modified(was).unwrap();
    mount.restore(&snap);
    ends_well(victim);
}

#[test]
fn the_executable_must_be_the_same_anyway() {
    for option in ["changed-files=warn", "changed-files=refuse"] {
        let (victim, mount, snap) = dead(option);
        grow(&victim.dir().join("holds_files"));
        mount.try_restore(&snap).fails_with("Stale file handle");
        assert!(last(&mount)["error"].to_string().contains("/holds_files has changed"), "{}", last(&mount));
    }
}

#[test]
fn what_vanished_is_named() {
    for name in ["data", "map", "holds_files"] {
        let (victim, mount, snap) = dead("defaults");
        fs::remove_file(victim.dir().join(name)).unwrap();
        mount.try_restore(&snap).fails_with("No such file or directory");
        assert!(last(&mount)["error"].to_string().contains(&format!("/{name}")), "{}", last(&mount));
    }
}
