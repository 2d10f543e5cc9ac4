//! A walk through the mount only reads: no process is frozen, nothing is restored or killed, and
//! sizes are upper bounds that cost little.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use ckptfs_tests::{Event, Mounted, NOBODY, Spec, Victim, build, tool};

use crate::{ends_well, goes_on, mounted_worker, names, pids};

/// The number of snapshots taken so far.
fn dumps(mount: &Mounted) -> u64 {
    let status = mount.status();
    status["counters"]["dumps"].as_u64().unwrap_or_else(|| panic!("status does not count dumps: {status}"))
}

#[test]
fn listing_freezes_no_process() {
    let (victim, mount) = mounted_worker();
    assert_eq!(dumps(&mount), 0);
    let top = mount.path();
    for script in [
        "ls -lR \"$1\"",
        "find \"$1\" -size +0 -ls",
        "find \"$1\" -newer / -print0 | xargs -0 stat",
        "du -a \"$1\"",
        "ls -laRis \"$1\"",
    ] {
        let output = tool::shell(script, &[&top]).success();
        assert!(output.stderr.is_empty(), "{script}: {}", output.stderr);
    }
    assert_eq!(dumps(&mount), 0);
    mount.dump(victim.pid(), &mount.snap("snap"));
    assert_eq!(dumps(&mount), 1);
    ends_well(victim);
}

/// A reader that keeps the folder open while it reads the files in it, as tar does, reads one
/// instant.
#[test]
fn an_archiver_freezes_a_tree_once() {
    let (victim, mount) = mounted_worker();
    let script = r#"tar -cf "$2" -C "$1" "$3"; tar -xOf "$2" "$3/image" | "$4" verify -"#;
    let args = [mount.path(), mount.snap("all.tar"), victim.pid().to_string().into(), build::ckptfs()];
    for n in 1..3 {
        let output = tool::shell(script, &args).success();
        assert!(output.stderr.is_empty(), "{}", output.stderr);
        assert_eq!(dumps(&mount), n);
    }
    let listed = tool::shell("tar -tf \"$2\"", &args).success().text();
    let mappings = listed.lines().filter(|line| line.contains("/vmas/") && !line.ends_with('/')).count();
    assert!(mappings > 10, "{listed}");
    ends_well(victim);
}

/// tar of a whole mount ends, touches no control file, and freezes the tree of each process once.
/// The container's image is that of its only tree, of the same instant.
#[test]
fn an_archiver_of_the_whole_mount_freezes_each_tree_once() {
    let victim = Victim::ready(&Spec::c("crowd").arg("3"));
    let mount = Mounted::over(victim.pid());
    let script = r#"
        tar -cf "$2" -C "$1" .
        tar -tf "$2" | sort > "$2.names"
        tar -xOf "$2" ./image | "$4" verify -
        cmp <(tar -xOf "$2" ./image) <(tar -xOf "$2" "./$3/image")
        tar -tvf "$2" | grep -cE ' +0 [0-9-]+ [0-9:]+ .*/(freeze|kill|restore)$'
    "#;
    let args = [mount.path(), mount.snap("all.tar"), victim.pid().to_string().into(), build::ckptfs()];
    let output = tool::shell(script, &args).success();
    assert!(output.stderr.is_empty(), "{}", output.stderr);
    assert_eq!(output.text().lines().last(), Some("9"), "controls are empty files: {}", output.text());
    assert_eq!(dumps(&mount), 4);
    let listed = fs::read_to_string(mount.snap("all.tar.names")).unwrap();
    for pid in pids(&mount) {
        for name in ["image", "core", "info.json", "maps", "vmas/"] {
            assert!(listed.lines().any(|line| line == format!("./{pid}/{name}")), "no {name} of {pid}: {listed}");
        }
    }
    let status = mount.status();
    assert_eq!((&status["counters"]["restores"], &status["frozen"]), (&0.into(), &serde_json::json!([])));
    assert!(status["snapshots"].as_array().unwrap().is_empty(), "nothing is kept: {status}");
    victim.go(1);
    assert_eq!(victim.event(1), Event::Ok);
    victim.finish();
}

/// A tree that cannot be dumped is stopped once, not once for each of its files.
#[test]
fn an_archiver_causes_one_refusal() {
    let victim = Victim::start(&Spec::c("holder").arg("unix"));
    victim.event(0);
    let mount = Mounted::over(victim.pid());
    let output =
        tool::shell("tar cf - -C \"$1\" \"$2\" | cat > /dev/null", &[mount.path(), victim.pid().to_string().into()]);
    assert!(output.stderr.matches("Operation not supported").count() > 5, "{}", output.stderr);
    let told = mount.log().matches("cannot be checkpointed").count();
    assert!((1..=2).contains(&told), "logged {told} times:\n{}", mount.log());
    victim.go(1);
    assert_eq!(victim.event(1), Event::Ok);
    victim.finish();
}

/// A reader that rewinds its directory starts a new walk, and finds another instant.
#[test]
fn a_walk_ends_with_a_rewind() {
    let (victim, mount) = mounted_worker();
    let script = r#"
import os, sys
top = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECTORY)
def read():
    with open(os.path.join(sys.argv[1], sys.argv[2]), "rb") as file:
        return file.read()
one, two = read(), read()
os.lseek(top, 0, os.SEEK_SET)
os.listdir(top)
three = read()
assert one == two and two != three
"#;
    for (below, name) in [(mount.path(), "image"), (mount.of(victim.pid(), ""), "image")] {
        let before = dumps(&mount);
        let argv: [&OsStr; 5] = ["python3".as_ref(), "-c".as_ref(), script.as_ref(), below.as_ref(), name.as_ref()];
        let _read = tool::run(&argv).success();
        assert_eq!(dumps(&mount), before + 2);
    }
    ends_well(victim);
}

#[test]
fn the_promised_names() {
    let (victim, mount) = mounted_worker();
    let top = names(&mount.path());
    for name in ["image", "restore", "status", &victim.pid().to_string()] {
        assert!(top.iter().any(|here| here == name), "no {name} in {top:?}");
    }
    let own = names(&mount.path().join(victim.pid().to_string()));
    for name in ["check", "core", "freeze", "image", "info.json", "kill", "maps", "vmas"] {
        assert!(own.iter().any(|here| here == name), "no {name} in {own:?}");
    }
    assert_eq!(pids(&mount), [victim.pid()], "only the tree that was asked for");
    ends_well(victim);
}

#[test]
fn modes_and_owners() {
    let victim = Victim::ready(&Spec::c("worker").user(NOBODY));
    let mount = Mounted::over(victim.pid());
    let image = fs::metadata(mount.of(victim.pid(), "image")).unwrap();
    assert_eq!((image.mode() & 0o7777, image.uid(), image.gid(), image.nlink()), (0o400, NOBODY, NOBODY, 1));
    assert_eq!(image.blksize(), 1 << 20);
    assert!(image.is_file() && image.len() > 0 && image.blocks() > 0);
    for (file, uid) in [
        (mount.file("restore"), 0),
        (mount.of(victim.pid(), "freeze"), NOBODY),
        (mount.of(victim.pid(), "kill"), NOBODY),
    ] {
        let control = fs::metadata(&file).unwrap();
        assert_eq!((control.mode() & 0o7777, control.len(), control.uid()), (0o644, 0, uid), "{}", file.display());
    }
    ends_well(victim);
}

#[test]
fn inode_numbers_are_unique_and_stable() {
    let (victim, mount) = mounted_worker();
    let collect = || {
        let text = tool::shell("cd \"$1\" && find . -printf '%i %p\\n'", &[mount.path()]).success().text();
        let pairs: Vec<(u64, String)> = text
            .lines()
            .map(|line| line.split_once(' ').unwrap())
            .map(|(ino, path)| (ino.parse().unwrap(), path.to_owned()))
            .collect();
        pairs
    };
    let (first, second) = (collect(), collect());
    let by_number: HashMap<u64, &String> = first.iter().map(|(ino, path)| (*ino, path)).collect();
    assert_eq!(by_number.len(), first.len(), "two files share a number: {first:?}");
    for (ino, path) in &second {
        assert!(by_number.get(ino).is_none_or(|before| *before == path), "{path} took the number of another");
    }
    assert!(first.iter().filter(|pair| second.contains(pair)).count() > 8);
    ends_well(victim);
}

#[test]
fn times_stand_still() {
    let (victim, mount) = mounted_worker();
    let times = || {
        let files = ["", "check", "core", "image", "info.json", "maps", "freeze", "kill"]
            .map(|name| mount.of(victim.pid(), name));
        let of = |path: PathBuf| {
            fs::metadata(path).map(|meta| (meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec())).unwrap()
        };
        files.into_iter().chain([mount.path(), mount.file("restore")]).map(of).collect::<Vec<_>>()
    };
    let before = times();
    mount.dump(victim.pid(), &mount.snap("snap"));
    goes_on(&victim);
    assert_eq!(times(), before);
    ends_well(victim);
}

#[test]
fn reading_control_files_does_nothing() {
    let (victim, mount) = mounted_worker();
    let script = "cd \"$1\"; for n in 1 2; do cat restore >/dev/null; cat */freeze; cat */kill >/dev/null; stat */kill >/dev/null; done";
    let text = tool::shell(script, &[mount.path()]).success().text();
    assert_eq!(text.split_whitespace().collect::<Vec<_>>(), ["0", "0"]);
    // Opened for writing and closed without a write, as touch(1) and every editor do.
    let _opened =
        tool::shell("cd \"$1\"; : >> restore; for f in */freeze */kill; do : >> $f; : > $f; done", &[mount.path()])
            .success();
    ends_well(victim);
}

#[test]
fn a_dead_process_is_no_longer_listed() {
    let (mut victim, mount) = mounted_worker();
    assert_eq!(pids(&mount), [victim.pid()]);
    victim.kill();
    assert!(pids(&mount).is_empty());
    assert!(!mount.of(victim.pid(), "image").exists());
    assert_eq!(fs::metadata(mount.of(victim.pid(), "")).unwrap_err().raw_os_error(), Some(libc::ENOENT));
}

#[test]
fn a_held_snapshot_shows_no_child() {
    let (victim, mount) = mounted_worker();
    let held = fs::File::open(mount.of(victim.pid(), "image")).unwrap();
    assert_eq!(pids(&mount), [victim.pid()]);
    drop(held);
    ends_well(victim);
}

#[test]
fn nothing_can_be_made_or_removed() {
    let (victim, mount) = mounted_worker();
    let dir = mount.path().join(victim.pid().to_string());
    for script in [
        "rm -f \"$1/image\"",
        "touch \"$1/new\"",
        "mkdir \"$1/new\"",
        "mv \"$1/image\" \"$1/new\"",
        "rm -r \"$1\"",
        "ln -s / \"$1/new\"",
        "echo x >\"$1/image\"",
        "chmod 777 \"$1/image\"",
    ] {
        let output = tool::shell(script, &[&dir]);
        assert!(output.code != 0, "{script} succeeded");
    }
    ends_well(victim);
}
