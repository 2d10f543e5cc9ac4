//! Tests of `archive.sh`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use ckptfs_tests::worker::{ends_well, goes_on, worker};
use ckptfs_tests::{Cgroup, Mounted, Victim, build, process, tool, wait};
use nix::sys::signal::Signal;

use crate::{
    Running, Small, container, files, path_with, program, refused, run, run_in, silent_verifier, tmpdir,
    zstd_that_waits,
};

fn save(mount: &Path, file: &Path, variables: &[String]) -> tool::Output {
    run("archive.sh", variables, &["save".as_ref(), mount, file])
}

fn restore(file: &Path, mount: &Mounted) -> tool::Output {
    run("archive.sh", &[], &["restore".as_ref(), file, &mount.path()])
}

/// Asserts that no pinned snapshot is left.
fn no_snapshot_is_left(mount: &Mounted) {
    let snapshots = mount.file("snapshots");
    assert!(!snapshots.exists() || fs::read_dir(snapshots).unwrap().next().is_none());
}

#[test]
fn of_a_container_and_back() {
    let cgroup = Cgroup::new("archive");
    let mut victims = [worker(), worker()];
    let mount = container(&cgroup, &victims);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("container.tar.zst");
    let said = save(&mount.path(), &file, &[]).success();
    assert!(said.text().contains("1 image, ") && said.text().contains(", 2 processes"), "{}", said.text());
    no_snapshot_is_left(&mount);
    victims.iter().for_each(goes_on);
    let listed = tool::shell("zstd -dc \"$1\" | tar -t | grep -v '/$'", &[&file]).success().text();
    let mut wanted = vec!["status".to_owned()];
    for victim in &victims {
        wanted.extend(["info.json", "maps"].map(|name| format!("{}/{name}", victim.pid())));
    }
    wanted.push("image".into());
    let (mut listed, last): (Vec<&str>, _) = (listed.lines().collect(), listed.lines().last());
    assert_eq!(last, Some("image"), "the image is the last member, so a truncated archive has none");
    listed.sort_unstable();
    wanted.sort_unstable();
    assert_eq!(listed, wanted);
    let show = "zstd -dc \"$1\" | tar -xO \"$2\" | jq -e .";
    let _json = tool::shell(show, &[file.as_os_str(), format!("{}/info.json", victims[0].pid()).as_ref()]).success();

    victims.iter_mut().for_each(Victim::kill);
    let bytes = fs::read(&file).unwrap();
    let cut = dir.path().join("cut");
    for len in [0, bytes.len() / 2, bytes.len() - 5000] {
        fs::write(&cut, &bytes[..len]).unwrap();
        restore(&cut, &mount).fails_with("restoring it");
        wait::until("nothing is left of it", || victims.iter().all(|victim| process::is_free(victim.pid())));
    }
    let _lives = restore(&file, &mount).success();
    victims.into_iter().for_each(ends_well);
}

/// No file is left where the container cannot be dumped, or where the dumped image fails the check.
#[test]
fn what_does_not_hold() {
    let victim = worker();
    let mount = Mounted::over(victim.pid());
    let (dir, bin) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let file = dir.path().join("file");
    fs::write(&file, "older").unwrap();
    program(&bin.path().join("tee"), "#!/bin/sh\nhead -c 1000000 | /usr/bin/tee \"$@\"\n");
    save(&mount.path(), &file, &[path_with(bin.path())]).fails_with("archive: ");
    let holder = refused();
    save(&Mounted::over(holder.pid()).path(), &file, &[]).fails_with("status tells why");
    save(dir.path(), &file, &[]).fails_with("not a mount");
    assert_eq!(files(dir.path()), std::slice::from_ref(&file));
    assert_eq!(fs::read_to_string(file).unwrap(), "older");
    no_snapshot_is_left(&mount);
    ends_well(victim);
}

/// The snapshot is removed after a failure too. A directory stands in for the mount.
#[test]
fn the_snapshot_is_removed_after_a_failure() {
    let dir = tempfile::tempdir().unwrap();
    let mount = dir.path().join("mount");
    fs::create_dir_all(mount.join("snapshots")).unwrap();
    fs::write(mount.join("image"), "").unwrap();
    save(&mount, &dir.path().join("file"), &[]).fails_with("no image can be taken");
    assert_eq!(files(&mount.join("snapshots")), Vec::<PathBuf>::new());
    assert_eq!(files(dir.path()), [mount]);
}

/// Checks the whole archive, from the compressed bytes to the checksums of the image.
fn is_whole(file: &Path) {
    let check = "zstd -dqc \"$1\" | tar -xOf - image | \"$2\" verify -";
    let _whole = tool::shell(check, &[file, &build::ckptfs()]).success();
}

/// Each run writes a file of its own until it is complete. The last run to end gets the name.
#[test]
fn two_runs_on_one_file() {
    let victim = worker();
    let mount = Mounted::over(victim.pid());
    let (dir, bin) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let file = dir.path().join("file");
    zstd_that_waits(bin.path());
    let args = [PathBuf::from("save"), mount.path(), file.clone()];
    let mut first = Running::start("archive.sh", &[path_with(bin.path())], &args);
    wait::until("the first is in the middle", || bin.path().join("middle").exists());
    let _quiet = save(&mount.path(), &file, &[]).success();
    is_whole(&file);
    fs::write(bin.path().join("go"), "").unwrap();
    assert_eq!((first.end().code(), first.said()), (Some(0), String::new()));
    is_whole(&file);
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(files(dir.path()), [file]);
    no_snapshot_is_left(&mount);
    ends_well(victim);
}

/// The script leaves no file, and the older archive is still there.
#[test]
fn a_signal_in_the_middle() {
    let victim = worker();
    let mount = Mounted::over(victim.pid());
    let (dir, temporary) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let file = dir.path().join("file");
    fs::write(&file, "older").unwrap();
    for (signal, code) in [(Signal::SIGTERM, 143), (Signal::SIGINT, 130), (Signal::SIGHUP, 129)] {
        let bin = tempfile::tempdir().unwrap();
        zstd_that_waits(bin.path());
        let variables = [path_with(bin.path()), tmpdir(temporary.path())];
        let mut running = Running::start("archive.sh", &variables, &["save".into(), mount.path(), file.clone()]);
        wait::until("it is in the middle", || bin.path().join("middle").exists());
        assert_eq!(files(dir.path()).len(), 2, "a file that is not done yet");
        running.signal(signal);
        assert_eq!(running.end().code(), Some(code));
        assert_eq!((files(dir.path()), files(temporary.path())), (vec![file.clone()], vec![]));
        assert_eq!(fs::read_to_string(&file).unwrap(), "older");
        no_snapshot_is_left(&mount);
    }
    ends_well(victim);
}

/// A tree is not frozen when the archive cannot be written. An existing path that is not a file is
/// not replaced by one.
#[test]
fn nowhere_to_put_it() {
    let victim = worker();
    let mount = Mounted::over(victim.pid());
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("fifo");
    let _made = tool::run(&[Path::new("mkfifo"), &fifo]).success();
    save(&mount.path(), dir.path(), &[]).fails_with("not a file");
    save(&mount.path(), &fifo, &[]).fails_with("not a file");
    save(&mount.path(), &dir.path().join("nobody/file"), &[]).fails_with("nobody/file: ");
    save(&mount.path(), &dir.path().join("new/"), &[]).fails_with("not a file");
    assert_eq!(save(&mount.path(), Path::new(""), &[]).code, 2);
    assert_eq!(mount.status()["freezes"].as_array().unwrap().len(), 0);
    assert_eq!(files(dir.path()), [fifo]);
    ends_well(victim);
}

/// Names may be relative, and may begin like an option. `TAPE` in the environment of tar(1) must
/// have no effect: it is about tapes.
#[test]
fn odd_names() {
    let mut victim = worker();
    let mount = Mounted::over(victim.pid());
    let dir = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(mount.path(), dir.path().join("-m")).unwrap();
    let tape = [format!("TAPE={}", dir.path().join("tape").display())];
    let _quiet = run_in(dir.path(), "archive.sh", &tape, &["save", "-m", "-f"]).success();
    assert_eq!(files(dir.path()), [dir.path().join("-f"), dir.path().join("-m")]);
    victim.kill();
    let _lives = run_in(dir.path(), "archive.sh", &tape, &["restore", "-f", "-m"]).success();
    ends_well(victim);
}

/// The error names a command that fails without a message.
#[test]
fn silent_failures() {
    let victim = worker();
    let mount = Mounted::over(victim.pid());
    let (dir, bin) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let silent = save(&mount.path(), &dir.path().join("file"), &[silent_verifier(bin.path())]);
    silent.fails_with("verify 7");
    let full = Small::full();
    let said = save(&mount.path(), &dir.path().join("file"), &[tmpdir(full.0.path())]);
    said.fails_with("No space left on device");
    assert_eq!(files(dir.path()), Vec::<PathBuf>::new());
    no_snapshot_is_left(&mount);
    ends_well(victim);
}
