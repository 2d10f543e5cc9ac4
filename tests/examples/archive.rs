//! `archive.sh`.

use std::fs;
use std::path::{Path, PathBuf};

use ckptfs_tests::worker::{ends_well, goes_on, worker};
use ckptfs_tests::{Cgroup, Mounted, Victim, process, tool, wait};

use crate::{container, files, path_with, program, refused, run};

fn save(mount: &Path, file: &Path, variables: &[String]) -> tool::Output {
    run("archive.sh", variables, &["save".as_ref(), mount, file])
}

fn restore(file: &Path, mount: &Mounted) -> tool::Output {
    run("archive.sh", &[], &["restore".as_ref(), file, &mount.path()])
}

/// Nobody pinned a snapshot and forgot it.
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
    assert_eq!(last, Some("image"), "what is cut off has no image");
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

/// No file is left where the container cannot be dumped, and none where what was dumped does not hold.
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

/// A snapshot that was made is removed, also where nothing comes of it. (A directory stands for the mount.)
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
