//! How long a pinned snapshot lives: longer than its process, until the last handle is closed, but
//! not longer than the mount.

use crate::{MAPPING, count, ends_well, goes_on_while_held, mounted_worker, names, worker};
use ckptfs_tests::{Cgroup, Mounted, build, process, tool, wait};
use nix::sys::signal::Signal;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::{are_gone, errno, kept, pin, pinned};

/// After its process is killed and reaped, a pinned snapshot is read to the end as before, and the
/// process is restored from it.
#[test]
fn outlives_its_process() {
    let (mut victim, mount) = mounted_worker();
    let folder = pin(&mount, &victim, "one");
    let read = |name: &str| fs::read(folder.join(name)).unwrap();
    let before = ["image", "info.json", "maps"].map(read);
    let second = pin(&mount, &victim, "two");
    victim.kill();
    assert_eq!(names(&mount.path()), [&victim.pid().to_string(), "image", "restore", "snapshots", "status"]);
    assert_eq!(names(&mount.of(victim.pid(), "")), ["snapshots"], "only its snapshots are left");
    assert_eq!(names(&mount.of(victim.pid(), "snapshots")), ["one", "two"]);
    // One has been read and may be in the page cache; the other has not.
    assert!(before == ["image", "info.json", "maps"].map(read));
    let copy = mount.snap("copy");
    let _copied = tool::run(&["cp".into(), second.join("image"), copy.clone()]).success();
    let _whole = tool::run(&[build::ckptfs().as_path(), "verify".as_ref(), &copy]).success();
    assert_eq!(errno(fs::create_dir(pinned(&mount, &victim, "late"))), Some(libc::ESRCH));
    mount.restore(&second.join("image"));
    goes_on_while_held(&victim);
    let own = names(&mount.of(victim.pid(), ""));
    assert_eq!(
        own,
        ["check", "core", "freeze", "image", "info.json", "kill", "maps", "snapshots", "vmas"],
        "the new one's"
    );
    assert_eq!(names(&mount.of(victim.pid(), "snapshots")), ["one", "two"]);
    let third = pin(&mount, &victim, "three");
    assert_eq!(errno(fs::create_dir(pinned(&mount, &victim, "one"))), Some(libc::EEXIST));
    assert!(before == ["image", "info.json", "maps"].map(read), "the old one's");
    let children = kept(&mount);
    assert_eq!(children.len(), 3);
    for folder in [folder, second, third] {
        fs::remove_dir(folder).unwrap();
    }
    are_gone(&children);
    ends_well(victim);
}

/// When the last snapshot of an ended process is removed, the process's folder disappears too.
#[test]
fn the_last_one_of_the_dead() {
    let (mut victim, mount) = mounted_worker();
    let folder = pin(&mount, &victim, "one");
    victim.kill();
    let children = kept(&mount);
    fs::remove_dir(&folder).unwrap();
    assert_eq!(names(&mount.path()), ["image", "restore", "snapshots", "status"]);
    assert!(!mount.of(victim.pid(), "").exists());
    are_gone(&children);
}

/// Whatever a user does to kill the process does not kill its snapshot.
#[test]
fn outlives_whatever_kills_its_process() {
    let cgroup = Cgroup::new("killed");
    for how in ["pkill -KILL -f \"$2\"", "kill -KILL -- -\"$3\"", "echo 1 > \"$4/cgroup.kill\""] {
        let mut victim = worker();
        cgroup.add(victim.pid());
        let mount = Mounted::over(victim.pid());
        let folder = pin(&mount, &victim, "one");
        let argv: [PathBuf; 4] =
            [folder.clone(), victim.dir().join("worker"), victim.pid().to_string().into(), cgroup.path().to_owned()];
        let _killed = tool::shell(how, &argv);
        wait::until("it is dead", || !process::is_alive(victim.pid()));
        victim.kill();
        assert_eq!(cgroup.pids(), [0; 0], "{how}: no process is in the cgroup");
        let snap = mount.snap("snap");
        let _copied = tool::run(&["cp".into(), folder.join("image"), snap.clone()]).success();
        let _whole = tool::run(&[build::ckptfs().as_path(), "verify".as_ref(), &snap]).success();
        mount.restore(&snap);
        fs::remove_dir(&folder).unwrap();
        ends_well(victim);
    }
}

/// It behaves like an unlinked file: an open handle reads on, and the memory is free after the last
/// close.
#[test]
fn removed_while_it_is_open() {
    let (victim, mount) = mounted_worker();
    let folder = pin(&mount, &victim, "one");
    let maps = names(&folder.join("vmas")).into_iter().find(|name| name.starts_with(&format!("{MAPPING:x}-"))).unwrap();
    let (mut image, vma) =
        (File::open(folder.join("image")).unwrap(), File::open(folder.join("vmas").join(maps)).unwrap());
    let len = image.metadata().unwrap().len();
    let mut start = vec![0; 10_000];
    image.read_exact(&mut start).unwrap();
    let children = kept(&mount);
    assert_eq!(children.len(), 1);
    fs::remove_dir(&folder).unwrap();
    assert_eq!(fs::metadata(&folder).unwrap_err().raw_os_error(), Some(libc::ENOENT));
    // The name is free, and a new snapshot under it is another one.
    let again = pin(&mount, &victim, "one");
    assert_ne!(fs::metadata(again.join("image")).unwrap().ino(), image.metadata().unwrap().ino());
    assert_eq!(image.metadata().unwrap().len(), len);
    let mut rest = Vec::new();
    image.read_to_end(&mut rest).unwrap();
    assert_eq!((start.len() + rest.len()) as u64, len);
    let snap = mount.snap("snap");
    fs::write(&snap, [start, rest].concat()).unwrap();
    let _whole = tool::run(&[build::ckptfs().as_path(), "verify".as_ref(), &snap]).success();
    drop(image);
    let mut word = [0; 8];
    vma.read_exact_at(&mut word, 5000 * 8).unwrap();
    assert_eq!(u64::from_le_bytes(word), 5000_u64.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    assert!(process::is_alive(children[0]), "it is still open");
    drop(vma);
    wait::until("its memory is free", || kept(&mount).len() == 1);
    fs::remove_dir(&again).unwrap();
    ends_well(victim);
}

/// A reader that ends in the middle of a read leaves nothing in the daemon.
#[test]
fn the_daemon_does_not_grow() {
    let (victim, mount) = mounted_worker();
    // Count threads by name: those that answer the kernel are started only while the mount is in
    // use.
    let threads = |kind: &str| {
        let tasks = names(Path::new(&format!("/proc/{}/task", mount.daemon())));
        let comm = |tid: &String| fs::read_to_string(format!("/proc/{}/task/{tid}/comm", mount.daemon()));
        tasks.iter().filter_map(|tid| comm(tid).ok()).filter(|comm| comm.starts_with(kind)).count()
    };
    let folders: Vec<PathBuf> = (0..16).map(|n| pin(&mount, &victim, &n.to_string())).collect();
    for folder in &folders {
        let script = r#"dd if="$1/image" of=/dev/null bs=1M count=3 iflag=direct status=none; head -c 3000000 "$1/image" > /dev/null"#;
        let _read = tool::shell(script, &[folder]).success();
    }
    assert_eq!(threads("tracer-"), folders.len());
    wait::until("only the tracers are left", || threads("job") + threads("read-ahead") == 0);
    let resident = process::status(mount.daemon(), "VmRSS").unwrap();
    let kib: u64 = resident.trim_end_matches("kB").trim().parse().unwrap();
    assert!(kib < 64 * 1024, "the daemon holds {resident}");
    folders.iter().for_each(|folder| fs::remove_dir(folder).unwrap());
    wait::until("no tracer is left", || threads("tracer-") == 0);
    ends_well(victim);
}

/// umount(8) loses no pinned snapshot: it fails until the last one is removed.
#[test]
fn umount_with_a_pinned_snapshot_is_refused() {
    let (victim, mut mount) = mounted_worker();
    let umount = |mount: &Mounted| tool::run(&[Path::new("umount"), &mount.path()]);
    let (one, two) = (pin(&mount, &victim, "one"), pin(&mount, &victim, "two"));
    let renamed = one.with_file_name("renamed");
    fs::rename(&one, &renamed).unwrap();
    for folder in [&two, &renamed] {
        umount(&mount).fails_with("busy");
        assert!(fs::read(renamed.join("image")).is_ok());
        fs::remove_dir(folder).unwrap();
    }
    let _unmounted = umount(&mount).success();
    assert!(mount.wait_for_daemon().success(), "{}", mount.log());
    ends_well(victim);
}

/// A lazy unmount and a signal free all pinned snapshots, log that, and leave no child. The process
/// is undisturbed.
#[test]
fn unmounted_with_all_that_is_pinned() {
    for way in ["umount", "signal"] {
        let (mut dead, living) = (worker(), worker());
        let cgroup = Cgroup::new("unmounted");
        [&dead, &living].into_iter().for_each(|victim| cgroup.add(victim.pid()));
        let mut mount = Mounted::with(&["--cgroup".as_ref(), cgroup.path().as_os_str()]);
        let _pinned = [pin(&mount, &dead, "a"), pin(&mount, &living, "b"), pin(&mount, &living, "c")];
        fs::create_dir(mount.file("snapshots/d")).unwrap();
        dead.kill();
        let children = kept(&mount);
        assert_eq!(children.len(), 5);
        match way {
            "umount" => drop(tool::run(&[Path::new("umount"), Path::new("-l"), &mount.path()]).success()),
            _ => process::kill(mount.daemon(), Signal::SIGTERM),
        }
        assert!(mount.wait_for_daemon().success(), "{}", mount.log());
        for path in
            [format!("{}/snapshots/a", dead.pid()), format!("{}/snapshots/c", living.pid()), "snapshots/d".into()]
        {
            let log = mount.log();
            assert!(log.lines().any(|line| line.contains("WARN") && line.contains(&path)), "{path}: {log}");
        }
        are_gone(&children);
        drop(mount);
        ends_well(living);
    }
}

/// A tree that `freeze` holds is pinned as it is, and continues afterwards. The snapshot does not
/// need it to stay stopped.
#[test]
fn of_a_tree_that_is_held() {
    let (mut victim, mount) = mounted_worker();
    let freeze = mount.of(victim.pid(), "freeze");
    let set = |text: &str| drop(mount.write(&freeze, text).success());
    set("1");
    let (one, two) = (pin(&mount, &victim, "one"), pin(&mount, &victim, "two"));
    let image = fs::read(one.join("image")).unwrap();
    let live = fs::read(mount.of(victim.pid(), "image")).unwrap();
    assert_eq!(image.len(), live.len(), "nothing happened in between");
    fs::remove_dir(&two).unwrap();
    set("0");
    // The child that could not be reaped while its parent was stopped is gone. The other one is
    // kept.
    wait::until("one child is left", || process::children(victim.pid()).len() == 1);
    goes_on_while_held(&victim);
    assert!(fs::read(one.join("image")).unwrap() == image);
    // Checkpoint and stop.
    set("1");
    let last = pin(&mount, &victim, "last");
    let at = count(&victim);
    let _killed = mount.write(&mount.of(victim.pid(), "kill"), "1").success();
    victim.kill();
    assert!(fs::read(one.join("image")).unwrap() == image);
    mount.restore(&last.join("image"));
    assert!(count(&victim) >= at);
    goes_on_while_held(&victim);
    let children = kept(&mount);
    [one, last].into_iter().for_each(|folder| fs::remove_dir(folder).unwrap());
    are_gone(&children);
    ends_well(victim);
}

/// A process that several users dump and pin at once, in any order, is left as it was.
#[test]
fn pinned_again_and_again() {
    let (victim, mount) = mounted_worker();
    let script = r#"
        for n in $(seq 15); do
            mkdir "$1/$2"; cat "$1/$2/image" > "$3"; "$4" verify "$3" > "$3.said"; cat "$1/../image" > "$3"; rmdir "$1/$2"
        done
    "#;
    let makers = ["a", "b", "c"].map(|name| {
        let mut maker = tool::command(&["bash", "-euc", script, "test"]);
        let maker = maker.arg(mount.of(victim.pid(), "snapshots")).arg(name).arg(mount.snap(name)).arg(build::ckptfs());
        maker.spawn().unwrap()
    });
    for mut maker in makers {
        assert!(maker.wait().unwrap().success(), "{}", mount.log());
    }
    assert!(names(&mount.of(victim.pid(), "snapshots")).is_empty());
    wait::until("no snapshot child is left", || kept(&mount).is_empty());
    ends_well(victim);
}

/// If the daemon is killed, the snapshot is lost, but not the process.
#[test]
fn lost_with_the_daemon() {
    let (victim, mut mount) = mounted_worker();
    let _folder = pin(&mount, &victim, "one");
    let children = kept(&mount);
    mount.kill_daemon();
    wait::until("the child is dead", || !children.iter().any(|pid| process::is_alive(*pid)));
    goes_on_while_held(&victim);
    drop(mount);
    let mount = Mounted::over(victim.pid());
    drop(File::open(mount.of(victim.pid(), "image")).unwrap());
    ends_well(victim);
}
