//! `snapshots/`: mkdir pins an instant. It is a folder of plain files until rmdir, whatever happens
//! to the process.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod lifetime;
mod rsync;

use crate::{MAPPING, ends_well, goes_on, goes_on_while_held, mounted_worker, names, worker};
use ckptfs_tests::{Cgroup, Event, Link, Mounted, NOBODY, Spec, Victim, build, process, tool, wait};
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

/// The path of the snapshot `name`.
fn pinned(mount: &Mounted, victim: &Victim, name: &str) -> PathBuf {
    mount.of(victim.pid(), "snapshots").join(name)
}

/// Pins a snapshot and returns its folder.
fn pin(mount: &Mounted, victim: &Victim, name: &str) -> PathBuf {
    let folder = pinned(mount, victim, name);
    fs::create_dir(&folder).unwrap_or_else(|error| panic!("pinning: {error}\n{}", mount.log()));
    folder
}

/// The copy-on-write children that the daemon holds. A thread of the daemon traces each of them.
pub fn kept(mount: &Mounted) -> Vec<i32> {
    let tracer = |pid: i32| process::status(pid, "TracerPid")?.parse().ok();
    let is_ours = |pid: &i32| {
        process::status(*pid, "Name").as_deref() == Some("ckptfs-snapshot")
            && tracer(*pid).and_then(|tid| process::status(tid, "Tgid")) == Some(mount.daemon().to_string())
    };
    process::all().into_iter().filter(is_ours).collect()
}

fn errno(result: std::io::Result<()>) -> Option<i32> {
    result.expect_err("it succeeded").raw_os_error()
}

fn are_gone(children: &[i32]) {
    wait::until("no snapshot child is left", || children.iter().all(|pid| process::is_free(*pid)));
}

/// All files below `dir`.
fn files(dir: &Path) -> Vec<PathBuf> {
    let text = tool::shell("find \"$1\" -type f", &[dir]).success().text();
    text.lines().map(PathBuf::from).collect()
}

#[test]
fn a_folder_of_one_instant() {
    let (victim, mount) = mounted_worker();
    let folder = pin(&mount, &victim, "one");
    assert_eq!(names(&folder), ["core", "image", "info.json", "maps", "vmas"]);
    assert_eq!(names(&mount.of(victim.pid(), "snapshots")), ["one"]);
    let image = fs::read(folder.join("image")).unwrap();
    goes_on_while_held(&victim);
    assert!(image == fs::read(folder.join("image")).unwrap(), "the pinned image changed");
    let live = fs::read(mount.of(victim.pid(), "image")).unwrap();
    assert!(image != live, "the live image is of now");
    let whole = mount.snap("snap");
    fs::write(&whole, &image).unwrap();
    let _whole = tool::run(&[build::ckptfs().as_path(), "verify".as_ref(), &whole]).success();
    let info: serde_json::Value = serde_json::from_slice(&fs::read(folder.join("info.json")).unwrap()).unwrap();
    assert_eq!(info["pid"], victim.pid());
    assert_eq!(info["image_bytes"], image.len());
    let name = names(&folder.join("vmas")).into_iter().find(|name| name.starts_with(&format!("{MAPPING:x}-"))).unwrap();
    let mut word = [0; 8];
    File::open(folder.join("vmas").join(name)).unwrap().read_exact_at(&mut word, 5000 * 8).unwrap();
    assert_eq!(u64::from_le_bytes(word), 5000_u64.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    fs::remove_dir(&folder).unwrap();
    assert!(names(&mount.of(victim.pid(), "snapshots")).is_empty());
    ends_well(victim);
}

/// Size, times, inode number and owner are known without an open, and never change.
#[test]
fn everything_is_known_and_stands_still() {
    let victim = Victim::ready(&Spec::c("worker").user(NOBODY));
    let mount = Mounted::over(victim.pid());
    let folder = pin(&mount, &victim, "one");
    let facts = || {
        let text = tool::shell("cd \"$1\"; find . -printf '%p %y %m %U %G %s %b %i %n %A@ %T@ %C@\\n'", &[&folder]);
        text.success().text()
    };
    let before = facts();
    goes_on_while_held(&victim);
    for file in files(&folder) {
        let size = fs::metadata(&file).unwrap().len();
        assert_eq!(fs::read(&file).unwrap().len() as u64, size, "{}", file.display());
        let meta = fs::metadata(&file).unwrap();
        assert_eq!((meta.mode() & 0o7777, meta.uid(), meta.gid()), (0o400, NOBODY, NOBODY), "{}", file.display());
        let times = [(meta.mtime(), meta.mtime_nsec()), (meta.ctime(), meta.ctime_nsec())];
        assert_eq!(times, [(meta.atime(), meta.atime_nsec()); 2]);
        assert_eq!(meta.mtime(), fs::metadata(folder.join("image")).unwrap().mtime());
    }
    assert_eq!(facts(), before);
    let status = mount.status();
    let told = &status["pinned"][0];
    let image = fs::metadata(folder.join("image")).unwrap();
    assert_eq!(told["path"], format!("{}/snapshots/one", victim.pid()));
    assert_eq!((&told["pid"], &told["image_bytes"]), (&victim.pid().into(), &image.len().into()));
    let taken = tool::run(&["date", "+%s", "-d", told["taken"].as_str().unwrap()]).success().text();
    assert!((taken.trim().parse::<i64>().unwrap() - image.mtime()).abs() < 2, "{told}");
    fs::remove_dir(&folder).unwrap();
    ends_well(victim);
}

#[test]
fn names_are_names() {
    let (victim, mount) = mounted_worker();
    let folder = mount.of(victim.pid(), "snapshots");
    let odd = [" ", "-rf", "a\nb", "image", &victim.pid().to_string(), &"x".repeat(255)].map(str::to_owned);
    let mut made: Vec<PathBuf> = odd.iter().map(|name| folder.join(name)).collect();
    made.push(folder.join(std::ffi::OsStr::from_bytes(b"\xff\xfe")));
    for path in &made {
        fs::create_dir(path).unwrap();
        assert_eq!(errno(fs::create_dir(path)), Some(libc::EEXIST));
        assert!(path.join("image").exists());
    }
    assert_eq!(fs::read_dir(&folder).unwrap().count(), made.len());
    let _valid = mount.status();
    assert_eq!(errno(fs::create_dir(folder.join("x".repeat(256)))), Some(libc::ENAMETOOLONG));
    made.iter().for_each(|path| fs::remove_dir(path).unwrap());
    assert_eq!(errno(fs::remove_dir(&made[0])), Some(libc::ENOENT));
    ends_well(victim);
}

#[test]
fn only_a_snapshot_is_made_and_removed() {
    let (victim, mount) = mounted_worker();
    let folder = pin(&mount, &victim, "one");
    let live = mount.of(victim.pid(), "");
    for path in
        [mount.file("new"), live.join("new"), live.join("vmas/new"), folder.join("new"), folder.join("vmas/new")]
    {
        assert_eq!(errno(fs::create_dir(&path)), Some(libc::EPERM), "mkdir {}", path.display());
    }
    for path in [live.clone(), live.join("snapshots"), mount.file("snapshots"), live.join("vmas"), folder.join("vmas")]
    {
        assert_eq!(errno(fs::remove_dir(&path)), Some(libc::EPERM), "rmdir {}", path.display());
    }
    let before = fs::read(folder.join("image")).unwrap();
    for script in
        ["rm -r \"$1\"", "rm -rf \"$1\"", "echo x > \"$1/image\"", "touch \"$1/new\"", "chmod 600 \"$1/image\""]
    {
        assert!(tool::shell(script, &[&folder]).code != 0, "{script}");
    }
    assert!(before == fs::read(folder.join("image")).unwrap());
    // Its name can be changed within its folder, and nothing is ever replaced.
    let second = pin(&mount, &victim, "two");
    let ino = fs::metadata(folder.join("image")).unwrap().ino();
    assert_eq!(errno(fs::rename(&folder, &second)), Some(libc::EEXIST));
    assert_eq!(errno(fs::rename(&folder, mount.file("snapshots/one"))), Some(libc::EPERM));
    assert_eq!(errno(fs::rename(live.join("vmas"), live.join("other"))), Some(libc::EPERM));
    let third = pinned(&mount, &victim, "three");
    fs::rename(&folder, &third).unwrap();
    assert_eq!(names(&live.join("snapshots")), ["three", "two"]);
    assert_eq!(fs::metadata(third.join("image")).unwrap().ino(), ino);
    assert!(before == fs::read(third.join("image")).unwrap());
    let _kept = tool::shell("rmdir \"$1\" \"$2\"", &[third, second]).success();
    ends_well(victim);
}

/// A user that may read an image may pin one.
#[test]
fn pinned_by_its_owner() {
    let victim = Victim::ready(&Spec::c("worker").user(NOBODY));
    // Let the user enter the mount's directory, which belongs to the test.
    let mount = Mounted::over(victim.pid());
    let _open = tool::run(&["chmod".as_ref(), "755".as_ref(), mount.path().parent().unwrap().as_os_str()]).success();
    let script = r#"cd "$1"; mkdir mine; cat mine/image | wc -c; rmdir mine; mkdir mine"#;
    let by = |user: &str| {
        let argv = ["setpriv", "--reuid", user, "--regid", user, "--clear-groups", "bash", "-euc", script, "test"];
        let mut argv: Vec<PathBuf> = argv.iter().map(PathBuf::from).collect();
        argv.push(mount.of(victim.pid(), "snapshots"));
        tool::run(&argv)
    };
    by("12345").fails_with("Permission denied");
    let _pinned = by(&NOBODY.to_string()).success();
    fs::remove_dir(pinned(&mount, &victim, "mine")).unwrap();
    ends_well(victim);
}

/// mkdir fails as an open of `image` does, and leaves nothing behind.
#[test]
fn refused_with_the_reason_of_an_image() {
    let victim = Victim::start(&Spec::c("holder").arg("pidfd"));
    assert_eq!(victim.event(0), Event::Ready(1));
    let mount = Mounted::over(victim.pid());
    assert_eq!(errno(fs::create_dir(pinned(&mount, &victim, "one"))), Some(libc::EOPNOTSUPP));
    assert_eq!(File::open(mount.of(victim.pid(), "image")).unwrap_err().raw_os_error(), Some(libc::EOPNOTSUPP));
    let log = mount.log();
    let told: Vec<&str> = log.lines().filter_map(|line| line.split_once("dump: ")).map(|(_, told)| told).collect();
    assert!(told.len() == 2 && told[0] == told[1], "{log}");
    assert!(names(&mount.of(victim.pid(), "snapshots")).is_empty());
    assert!(process::children(victim.pid()).is_empty());
}

/// If no child can be made, an image is read from the stopped tree. A pinned snapshot cannot be
/// kept in that way.
#[test]
fn of_a_process_that_cannot_be_forked() {
    let program = build::victim("worker", Link::Dynamic);
    let name = Path::new(".").join(program.file_name().unwrap());
    // The user has no other process: the limit counts all tasks of the user, and the worker has
    // two.
    let spec = Spec::command("prlimit").arg("--nproc=2:2").arg(name).file(program).user(NOBODY - 7);
    let victim = Victim::ready(&spec);
    let mount = Mounted::over(victim.pid());
    assert_eq!(errno(fs::create_dir(pinned(&mount, &victim, "one"))), Some(libc::EAGAIN));
    goes_on(&victim);
    mount.dump(victim.pid(), &mount.snap("snap"));
    // The same is true while `freeze` holds the tree.
    let freeze = mount.of(victim.pid(), "freeze");
    let _held = mount.write(&freeze, "1").success();
    assert_eq!(errno(fs::create_dir(pinned(&mount, &victim, "one"))), Some(libc::EAGAIN));
    let _thawed = mount.write(&freeze, "0").success();
    ends_well(victim);
}

#[test]
fn as_many_as_there_may_be() {
    let victim = worker();
    let tree = victim.pid().to_string();
    let mount = Mounted::with(&["--tree", &tree, "-o", "pinned-max=2"]);
    let one = pin(&mount, &victim, "one");
    let all = mount.file("snapshots/all");
    fs::create_dir(&all).unwrap();
    assert_eq!(errno(fs::create_dir(pinned(&mount, &victim, "two"))), Some(libc::ENOSPC));
    assert!(mount.log().contains("2 snapshots are pinned already (-o pinned-max=2)"), "{}", mount.log());
    fs::remove_dir(&one).unwrap();
    let two = pin(&mount, &victim, "two");
    fs::remove_dir(two).unwrap();
    fs::remove_dir(all).unwrap();
    drop(mount);
    ends_well(victim);
}

/// The memory of a pinned snapshot is what it shares with no other process: almost nothing at
/// first, and all of the process's memory once the process is gone.
#[test]
fn as_much_memory_as_there_may_be() {
    let mut victim = worker();
    let tree = victim.pid().to_string();
    let mount = Mounted::with(&["--tree", &tree, "-o", "pinned-memory=5M"]);
    let memory = || mount.status()["pinned"][0]["memory_bytes"].as_u64().unwrap();
    let folder = pin(&mount, &victim, "one");
    assert!(memory() < 1 << 20, "{}", memory());
    let snap = mount.snap("snap");
    let _copied = tool::run(&["cp".into(), folder.join("image"), snap.clone()]).success();
    victim.kill();
    wait::until("it holds the six MiB that were written", || memory() > 6 << 20);
    assert!(memory() < 16 << 20, "{}", memory());
    mount.restore(&snap);
    assert_eq!(errno(fs::create_dir(pinned(&mount, &victim, "two"))), Some(libc::ENOSPC));
    assert!(mount.log().contains("bytes of memory already (-o pinned-memory=5242880)"), "{}", mount.log());
    fs::remove_dir(&folder).unwrap();
    let two = pin(&mount, &victim, "two");
    fs::remove_dir(two).unwrap();
    drop(mount);
    ends_well(victim);
}

/// A pinned container at one instant, with a folder for each of its processes.
#[test]
fn of_the_container() {
    let cgroup = Cgroup::new("pinned");
    let mut victims = [worker(), worker()];
    victims.iter().for_each(|victim| cgroup.add(victim.pid()));
    let mount = Mounted::with(&["--cgroup".as_ref(), cgroup.path().as_os_str()]);
    let folder = mount.file("snapshots/all");
    fs::create_dir(&folder).unwrap();
    let mut expected = victims.each_ref().map(|victim| victim.pid().to_string()).to_vec();
    expected.push("image".to_owned());
    expected.sort();
    assert_eq!(names(&folder), expected);
    for victim in &victims {
        let own = folder.join(victim.pid().to_string());
        assert_eq!(names(&own), ["core", "info.json", "maps", "vmas"]);
        let info: serde_json::Value = serde_json::from_slice(&fs::read(own.join("info.json")).unwrap()).unwrap();
        assert_eq!(info["pid"], victim.pid());
    }
    victims.iter().for_each(goes_on_while_held);
    victims.iter_mut().for_each(Victim::kill);
    assert_eq!(names(&mount.path()), ["image", "restore", "snapshots", "status"]);
    mount.restore(&folder.join("image"));
    victims.iter().for_each(goes_on_while_held);
    fs::remove_dir(&folder).unwrap();
    drop(mount);
    victims.into_iter().for_each(ends_well);
}

/// In a pinned tree, the root's files are in the folder itself. Each other process has a folder of
/// its own.
#[test]
fn of_a_tree() {
    let mut victim = Victim::ready(&Spec::c("crowd").arg("3"));
    let mount = Mounted::over(victim.pid());
    let folder = pin(&mount, &victim, "one");
    let pids: Vec<String> = process::tree(victim.pid(), victim.dir()).iter().skip(1).map(ToString::to_string).collect();
    assert!(!pids.is_empty());
    let mut expected: Vec<String> = ["core", "image", "info.json", "maps", "vmas"].map(str::to_owned).to_vec();
    expected.extend(pids.clone());
    expected.sort();
    assert_eq!(names(&folder), expected);
    for pid in pids {
        assert_eq!(names(&folder.join(pid)), ["core", "info.json", "maps", "vmas"]);
    }
    victim.kill();
    mount.restore(&folder.join("image"));
    fs::remove_dir(&folder).unwrap();
    wait::until("no snapshot child is left", || kept(&mount).is_empty());
    victim.go(1);
    assert_eq!(victim.event(1), Event::Ok);
    victim.finish();
}

/// Several readers at once; one of them maps the file.
#[test]
fn read_by_several() {
    let (victim, mount) = mounted_worker();
    let folder = pin(&mount, &victim, "one");
    let script = r#"
        cat "$1/image" > "$2.1" & one=$!
        dd if="$1/image" of="$2.2" bs=4k status=none & two=$!
        dd if="$1/image" of="$2.3" bs=1M iflag=direct status=none & three=$!
        python3 -c 'import mmap,sys; f=open(sys.argv[1],"rb"); sys.stdout.buffer.write(mmap.mmap(f.fileno(),0,prot=mmap.PROT_READ))' "$1/image" > "$2.4"
        wait $one; wait $two; wait $three
        for n in 1 2 3 4; do cmp "$1/image" "$2.$n"; "$3" verify "$2.$n" > "$2.said"; done
        tail -c 1000 "$1/image" | cmp - <(tail -c 1000 "$2.1")
    "#;
    let output = tool::shell(script, &[folder.clone(), mount.snap("snap"), build::ckptfs()]).success();
    assert_eq!(output.stderr, "");
    fs::remove_dir(&folder).unwrap();
    ends_well(victim);
}

/// Every tool that stores files stores pinned snapshots.
#[test]
fn kept_by_every_tool() {
    let (mut victim, mount) = mounted_worker();
    let folder = pin(&mount, &victim, "one");
    for script in [
        r#"find "$1" -ls > "$2.find""#,
        r#"du -a "$1" > "$2.du""#,
        r#"ls -laRis "$1" > "$2.ls""#,
        r#"tar -cf "$2.tar" -C "$1/.." one; mkdir "$2.tar.d"; tar -xf "$2.tar" -C "$2.tar.d"; diff -r "$1" "$2.tar.d/one""#,
        r#"tar -cSf "$2.tars" -C "$1/.." one; mkdir "$2.tars.d"; tar -xf "$2.tars" -C "$2.tars.d"; diff -r "$1" "$2.tars.d/one""#,
        r#"rsync -a "$1" "$2.rsync"; diff -r "$1" "$2.rsync/one""#,
        r#"cp -a "$1" "$2.cp"; diff -r "$1" "$2.cp""#,
        r#"cp -r --sparse=always "$1" "$2.sparse"; diff -r "$1" "$2.sparse""#,
        r#"(cd "$1" && find . -type f -print0 | xargs -0 sha256sum) > "$2.sums"; (cd "$2.cp" && sha256sum --quiet -c "$2.sums")"#,
    ] {
        let output = tool::shell(script, &[folder.clone(), mount.snap("kept")]).success();
        assert_eq!(output.stderr, "", "{script}");
    }
    // cpio(1) uses the size from before the open.
    let script = r#"cd "$1"; find . | busybox cpio -o -H newc > "$2.cpio"; mkdir "$2.cpio.d"; cd "$2.cpio.d"; busybox cpio -i < "$2.cpio"; diff -r "$1" ."#;
    let _archived = tool::shell(script, &[folder.clone(), mount.snap("kept")]).success();
    // rsync sends nothing again, because size and time are the same.
    let again = tool::shell(r#"rsync -ai "$1" "$2.rsync""#, &[folder.clone(), mount.snap("kept")]).success();
    assert_eq!((again.text().as_str(), again.stderr.as_str()), ("", ""));
    // Holes stay holes. Without them, a quarter of the mapping of 8 MiB would be stored as zeros.
    let vma = names(&folder.join("vmas")).into_iter().find(|name| name.starts_with(&format!("{MAPPING:x}-"))).unwrap();
    for copy in ["kept.cp", "kept.sparse", "kept.tars.d/one"] {
        let copy = fs::metadata(mount.snap(copy).join("vmas").join(&vma)).unwrap();
        let of = fs::metadata(folder.join("vmas").join(&vma)).unwrap();
        assert_eq!((copy.len(), of.blocks() * 512), (of.len(), 6 << 20));
        assert!(copy.blocks() * 512 < 7 << 20, "{} bytes", copy.blocks() * 512);
    }
    let kept = ["kept.tar.d/one/image", "kept.rsync/one/image", "kept.cp/image"].map(|name| mount.snap(name));
    fs::remove_dir(&folder).unwrap();
    for image in kept {
        goes_on(&victim);
        victim.kill();
        mount.restore(&image);
    }
    ends_well(victim);
}

/// An archiver that reads a whole mount ends, touches no control file, and includes the pinned
/// snapshots.
#[test]
fn a_whole_mount_is_archived() {
    let (victim, mount) = mounted_worker();
    let folder = pin(&mount, &victim, "one");
    let all = mount.file("snapshots/all");
    fs::create_dir(&all).unwrap();
    let dumps = || mount.status()["counters"]["dumps"].as_u64().unwrap();
    let before = dumps();
    let output = tool::shell(r#"tar -cSf "$2" -C "$1" ."#, &[mount.path(), mount.snap("tar")]).success();
    assert_eq!(output.stderr, "");
    // Each live file is opened once and freezes its tree at most once. Pinned files freeze nothing.
    let live = names(&mount.of(victim.pid(), "vmas")).len() as u64 + 5;
    assert!(dumps() - before <= live, "{} dumps for {live} files", dumps() - before);
    assert_eq!(mount.status()["counters"]["restores"], 0);
    assert_eq!(fs::read_to_string(mount.of(victim.pid(), "freeze")).unwrap(), "0\n");
    let script = r#"mkdir "$2.d"; tar -xf "$2" -C "$2.d"; diff -r "$1" "$2.d/$3/snapshots/one""#;
    let argv = [folder.clone(), mount.snap("tar"), victim.pid().to_string().into()];
    let _same = tool::shell(script, &argv).success();
    [folder, all].into_iter().for_each(|folder| fs::remove_dir(folder).unwrap());
    ends_well(victim);
}
