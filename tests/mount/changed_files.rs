//! `-o changed-files=`: how a restore treats files that have changed since the dump.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::time::{Duration, SystemTime};

use ckptfs_tests::{Event, Mounted, Spec, Victim};

/// A killed victim, a mount with `option`, and its image.
fn dead(option: &str) -> (Victim, Mounted, std::path::PathBuf) {
    dead_victim("holds_files", option)
}

fn dead_victim(name: &str, option: &str) -> (Victim, Mounted, std::path::PathBuf) {
    let mut victim = Victim::ready(&Spec::c(name));
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

/// Puts `contents` in the place of a file, as a package manager does, with a time of 2001.
fn install(path: &Path, contents: &[u8]) {
    let aside = path.with_extension("new");
    fs::copy(path, &aside).unwrap();
    fs::write(&aside, contents).unwrap();
    let then = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    File::options().write(true).open(&aside).unwrap().set_modified(then).unwrap();
    fs::rename(&aside, path).unwrap();
}

/// The executable shows by its build-id that it is the same, any other file by what is mapped of
/// it.
#[test]
fn another_time_is_accepted_if_the_contents_are_the_same() {
    let (victim, mount, snap) = dead_victim("holds_table", "defaults");
    let (table, program) = (victim.dir().join("table"), victim.dir().join("holds_table"));
    let mut contents = fs::read(&table).unwrap();
    contents[0] = b'!';
    install(&table, &contents);
    install(&program, &fs::read(&program).unwrap());
    mount.restore(&snap);
    let told = last(&mount)["warnings"].to_string();
    for name in ["/table", "/holds_table"] {
        assert!(told.contains(&format!("{name} has another time than at the dump, and the same contents")), "{told}");
    }
    assert!(told.contains("2001-09-09T01:46:40Z now") && mount.log().contains("/table has another time"), "{told}");
    ends_well(victim);
}

#[test]
fn other_contents_of_the_same_size_are_refused() {
    let (victim, mount, snap) = dead_victim("holds_table", "defaults");
    for name in ["table", "holds_table"] {
        let path = victim.dir().join(name);
        let before = (fs::read(&path).unwrap(), fs::metadata(&path).unwrap().modified().unwrap());
        let mut other = before.0.clone();
        other[if name == "table" { 8191 } else { 0 }] = b'!';
        install(&path, &other);
        mount.try_restore(&snap).fails_with("Stale file handle");
        let told = last(&mount)["error"].to_string();
        assert!(told.contains(&format!("/{name} has changed since the dump")), "{told}");
        assert!(told.contains("(changed at 20") && told.contains("2001-09-09T01:46:40Z now)"), "{told}");
        install(&path, &before.0);
        File::options().write(true).open(&path).unwrap().set_modified(before.1).unwrap();
    }
    mount.restore(&snap);
    ends_well(victim);
}

#[test]
fn another_time_is_refused_on_request() {
    let (victim, mount, snap) = dead_victim("holds_table", "changed-files=refuse");
    let program = victim.dir().join("holds_table");
    install(&program, &fs::read(&program).unwrap());
    mount.try_restore(&snap).fails_with("Stale file handle");
    assert!(last(&mount)["error"].to_string().contains("/holds_table has changed"), "{}", last(&mount));
}
