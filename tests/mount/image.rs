//! A mount of a stored image: the same files as for live processes, without the processes.

use std::fs;
use std::path::{Path, PathBuf};

use ckptfs_tests::{Event, Mounted, Spec, Victim, build, process, tool};

use super::names;

fn over_image(snap: &Path) -> Mounted {
    Mounted::with(&[Path::new("--image"), snap])
}

/// All files below `dir`, as relative path and contents.
fn contents(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let listed = tool::shell("cd \"$1\"; find . -type f | sort", &[dir]).success().text();
    listed.lines().map(|line| (line.into(), fs::read(dir.join(line)).unwrap())).collect()
}

#[test]
fn it_shows_what_the_snapshot_showed() {
    let victim = Victim::ready(&Spec::c("fork_one"));
    let live = Mounted::over(victim.pid());
    let (pid, child) = (victim.pid(), process::children(victim.pid())[0]);
    let pinned = live.of(pid, "snapshots/now");
    fs::create_dir(&pinned).unwrap();
    let snap = live.snap("snap");
    let _copied = tool::run(&["cp".into(), pinned.join("image"), snap.clone()]).success();
    let stored = over_image(&snap);
    let mut processes = vec![pid.to_string(), child.to_string(), "image".into(), "status".into()];
    processes.sort();
    assert_eq!(names(&stored.path()), processes);
    let folder = stored.file(&pid.to_string());
    assert_eq!(names(&folder), ["core", "image", "info.json", "maps", "vmas"]);
    assert_eq!(names(&stored.of(child, "")), ["core", "info.json", "maps", "vmas"]);
    let (then, now) = (contents(&pinned), contents(&folder));
    // The folders of descendants are beside the root's here, and below it in a pinned snapshot.
    let of_root = |name: &Path| !name.starts_with(format!("./{child}"));
    let then: Vec<_> = then.into_iter().filter(|(name, _)| of_root(name)).collect();
    let names = |all: &[(PathBuf, Vec<u8>)]| all.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&then), names(&now));
    for ((name, before), (_, after)) in then.iter().zip(&now) {
        assert!(before == after, "{} differs", name.display());
    }
    assert!(fs::read(stored.file("image")).unwrap() == fs::read(&snap).unwrap());
    let of_child = |mount: &Path| contents(&mount.join(child.to_string()));
    assert!(of_child(&pinned) == of_child(&stored.path()));
    // The victim waits for children of every kind. A pinned snapshot is one, so it is removed
    // first.
    fs::remove_dir(&pinned).unwrap();
    victim.go(1);
    assert_eq!(victim.event(1), Event::Ok);
    victim.finish();
}

#[test]
fn ordinary_tools_and_nothing_that_acts() {
    let (mut victim, live) = super::mounted_worker();
    let snap = live.snap("snap");
    live.dump(victim.pid(), &snap);
    victim.kill();
    let stored = over_image(&snap);
    let script = r#"
        cd "$1"; mkdir "$2"
        ls -lR . >/dev/null; find . -type f -size +0 | grep -q core; du -s . >/dev/null; stat */image >/dev/null
        tar -cSf "$2/all.tar" .; mkdir "$2/tar"; tar -xf "$2/all.tar" -C "$2/tar"
        rsync -a "$3" "$2/"; cp -a "$3" "$2/cp"; bsdtar -cf "$2/bsd.tar" "$3"
        find "$3" -depth | cpio -o -H newc --quiet > "$2/cpio"
        for copy in "$2/tar/$3" "$2/$3" "$2/cp"; do
            for file in image core info.json maps; do cmp "$copy/$file" "$3/$file"; done
            diff -r "$copy/vmas" "$3/vmas"
        done
        "$4" verify "$2/cp/image" > /dev/null
        file "$3/core" | grep -q 'core file'
        jq -e .pid "$3/info.json" > /dev/null
        [ -z "$(rsync -ain "$3" "$2/")" ]
    "#;
    let pid = victim.pid().to_string();
    let args = [stored.path(), live.snap("copies"), pid.clone().into(), build::ckptfs()];
    let output = tool::shell(script, &args).success();
    assert!(output.stderr.is_empty(), "{}", output.stderr);
    for script in ["echo 1 > \"$1/restore\"", "mkdir \"$1/snapshots\"", "mkdir \"$1/x\"", "rm \"$1/image\""] {
        let refused = tool::shell(script, &[stored.path()]);
        assert!(refused.code != 0, "{script}");
    }
    // The image file of the mount can be restored.
    live.restore(&stored.of(victim.pid(), "image"));
    assert!(victim.is_here());
    super::ends_well(victim);
}

#[test]
fn what_is_no_image_is_not_mounted() {
    let dir = tempfile::tempdir().unwrap();
    let (point, bad) = (dir.path().join("ckpt"), dir.path().join("bad"));
    fs::create_dir(&point).unwrap();
    fs::write(&bad, "not an image at all, but long enough to look like the header of one, perhaps").unwrap();
    for (file, told) in [(bad, "offset 0"), (dir.path().join("none"), "no such file")] {
        let output = tool::run(&[build::ckptfs(), "mount".into(), "--image".into(), file.clone(), point.clone()]);
        output.fails_with(told);
        assert!(
            output.stderr.contains(file.to_str().unwrap()) && output.stderr.lines().count() == 1,
            "{}",
            output.stderr
        );
    }
}
