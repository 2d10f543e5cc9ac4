//! The tree without a mount: the results of stat, ls, cat and echo.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod pinned;

use std::collections::HashSet;
use std::sync::LazyLock;

use ckptfs_dumper::{Error, Kind, ReadAhead};

use crate::node::Steady;
use crate::process::Range;
use crate::process::caller::{Caller, Viewer};
use crate::process::container::MountTarget;
use crate::testing::{Sleeper, options};
use crate::tree::entry::Access;
use crate::tree::inodes::ROOT;
use crate::tree::*;

/// This process, which may do anything.
static ROOT_USER: LazyLock<Caller> =
    LazyLock::new(|| Caller { thread: std::process::id() as ckptfs_dumper::Pid, uid: 0, gid: 0 });
static READ: LazyLock<Access> =
    LazyLock::new(|| Access { read: true, write: false, append: false, truncate: false, caller: *ROOT_USER });
static WRITE: LazyLock<Access> = LazyLock::new(|| Access { read: false, write: true, ..*READ });

const LIMITS: Limits = Limits { count: 3, memory: None };

fn tree(victim: &Sleeper) -> Tree {
    let container = Container::new(MountTarget::tree(victim.pid()).unwrap(), Box::new(|_| false));
    // One caller has all inodes open.
    Tree::new(container, options(), None, LIMITS, "/ckpt".into(), Box::new(|_| (1..10_000).collect())).unwrap()
}

fn walk(tree: &Tree, path: &[&str]) -> Result<Attr> {
    path.iter().try_fold(tree.attr(ROOT)?, |at, name| tree.lookup(at.ino, OsStr::new(name), *ROOT_USER))
}

fn in_folder(tree: &Tree, victim: &Sleeper, path: &[&str]) -> Result<Attr> {
    let pid = victim.pid().to_string();
    walk(tree, &[&[pid.as_str()], path].concat())
}

fn names(tree: &Tree, ino: u64) -> Vec<String> {
    tree.list(ino, *ROOT_USER).unwrap().into_iter().map(|entry| entry.name.into_string().unwrap()).collect()
}

/// Everything that a handle returns, read in uneven pieces.
fn read_all(tree: &Tree, handle: u64) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        let bytes = tree.read(handle, all.len() as u64, 10_007, ReadAhead::Ours).unwrap();
        if bytes.is_empty() {
            return all;
        }
        all.extend_from_slice(&bytes);
    }
}

fn write(tree: &Tree, handle: u64, offset: u64, bytes: &[u8]) -> Result<()> {
    tree.write(handle, offset, bytes, *ROOT_USER)
}

fn line_count(tree: &Tree) -> usize {
    tree.journal.text(Viewer::All).read(0, usize::MAX).iter().filter(|byte| **byte == b'\n').count()
}

fn errno(error: &Error) -> i32 {
    crate::errno::errno(error.kind())
}

#[test]
fn the_layout_is_the_documented_one() {
    let victim = Sleeper::new();
    let tree = tree(&victim);
    assert_eq!(names(&tree, ROOT), ["image", "restore", "status", "snapshots", &victim.pid().to_string()]);
    let folder = in_folder(&tree, &victim, &[]).unwrap();
    assert_eq!(
        names(&tree, folder.ino),
        ["image", "core", "info.json", "maps", "check", "freeze", "kill", "vmas", "snapshots"]
    );
    let vmas = in_folder(&tree, &victim, &["vmas"]).unwrap();
    assert!(vmas.directory && !names(&tree, vmas.ino).is_empty());
    for control in ["freeze", "kill"] {
        let attr = in_folder(&tree, &victim, &[control]).unwrap();
        assert_eq!((attr.size, attr.mode), (0, 0o644), "{control}");
    }
    assert!(walk(&tree, &["status"]).unwrap().size > 0);
}

#[test]
fn looking_at_everything_freezes_nobody_and_sizes_are_never_zero() {
    let victim = Sleeper::new();
    let tree = tree(&victim);
    for name in ["image", "core", "info.json", "maps"] {
        let attr = in_folder(&tree, &victim, &[name]).unwrap();
        assert!(attr.size > 0 && attr.blocks > 0 && attr.mode == 0o400, "{name}: {attr:?}");
    }
    let vmas = in_folder(&tree, &victim, &["vmas"]).unwrap();
    for entry in tree.list(vmas.ino, *ROOT_USER).unwrap() {
        let (attr, range) = (tree.attr(entry.ino).unwrap(), Range::parse(entry.name.to_str().unwrap()).unwrap());
        assert_eq!(attr.size, range.len());
        assert!(attr.blocks > 0);
    }
    let status: serde_json::Value = serde_json::from_str(&tree.status_text(Viewer::All)).unwrap();
    assert_eq!((&status["counters"]["dumps"], &status["counters"]["dump_failures"]), (&0.into(), &0.into()));
}

#[test]
fn names_that_are_not_there_are_not_there() {
    let (victim, stranger) = (Sleeper::new(), Sleeper::new());
    let tree = tree(&victim);
    let padded = format!("0{}", victim.pid());
    for name in
        [stranger.pid().to_string().as_str(), padded.as_str(), "0", "-1", "x", "maps", "99999999999999999999", ""]
    {
        assert_eq!(errno(&walk(&tree, &[name]).unwrap_err()), libc::ENOENT, "{name}");
    }
    assert!(in_folder(&tree, &victim, &["vmas", "1000-2000"]).is_err());
    assert_eq!(errno(&tree.attr(4711).unwrap_err()), libc::ENOENT);
}

#[test]
fn inode_numbers_are_unique_and_stay_through_forget() {
    let victim = Sleeper::new();
    let tree = tree(&victim);
    let folder = in_folder(&tree, &victim, &[]).unwrap();
    let vmas = in_folder(&tree, &victim, &["vmas"]).unwrap();
    let all = || -> Vec<u64> {
        [ROOT, folder.ino, vmas.ino]
            .iter()
            .flat_map(|&ino| tree.list(ino, *ROOT_USER).unwrap())
            .map(|entry| entry.ino)
            .collect()
    };
    let first = all();
    assert_eq!(first.iter().collect::<HashSet<_>>().len(), first.len());
    for &ino in &first {
        tree.forget(ino, 1);
    }
    assert_eq!(all(), first);
}

#[test]
fn the_dead_leave_no_entry() {
    let mut victim = Sleeper::new();
    let tree = tree(&victim);
    let folder = in_folder(&tree, &victim, &[]).unwrap();
    let image = in_folder(&tree, &victim, &["image"]).unwrap();
    victim.kill_unreaped();
    assert_eq!(names(&tree, ROOT), ["image", "restore", "status", "snapshots"]);
    for ino in [folder.ino, image.ino] {
        assert_eq!(errno(&tree.attr(ino).unwrap_err()), libc::ENOENT);
    }
    assert_eq!(errno(&tree.open(image.ino, *READ).unwrap_err()), libc::ESRCH);
    assert!(tree.list(folder.ino, *ROOT_USER).is_err() && in_folder(&tree, &victim, &[]).is_err());
    tree.forget(image.ino, 1);
    assert!(tree.node(image.ino).is_err(), "the row went with the last lookup");
}

#[test]
fn sizes_and_times_are_the_snapshots_while_it_is_open() {
    let victim = Sleeper::new();
    let tree = tree(&victim);
    let before = in_folder(&tree, &victim, &["image"]).unwrap();
    let handle = tree.open(before.ino, *READ).unwrap();
    let open = tree.attr(before.ino).unwrap();
    assert_eq!((before.steady, open.steady), (Steady::Never, Steady::WhileOpen));
    let bytes = read_all(&tree, handle);
    assert_eq!(bytes.len() as u64, open.size);
    assert!(open.time > before.time, "the instant is after the start of the process");
    assert_eq!(&*tree.read(handle, 5, 100, ReadAhead::Ours).unwrap(), &bytes[5..105]);
    for name in ["info.json", "maps"] {
        let attr = in_folder(&tree, &victim, &[name]).unwrap();
        let text = tree.open(attr.ino, *READ).unwrap();
        assert_eq!(read_all(&tree, text).len() as u64, attr.size, "{name}: exact, because the snapshot is open");
        assert_eq!(attr.time, open.time, "one instant");
        tree.release(text);
    }
    assert_eq!(in_folder(&tree, &victim, &[]).unwrap().time, before.time, "a directory's time stands still");
    let second = tree.open(before.ino, *READ).unwrap();
    assert!(tree.release(handle).is_none(), "one of two");
    assert_eq!(tree.attr(before.ino).unwrap(), open, "still open");
    assert!(tree.release(second).is_some(), "the last one");
    let after = tree.attr(before.ino).unwrap();
    assert_eq!((after.time, after.steady), (before.time, Steady::Never));
    let again = tree.open(before.ino, *READ).unwrap();
    assert!(tree.attr(before.ino).unwrap().time > open.time, "a new instant");
    tree.release(again);
}

#[test]
fn the_image_of_the_container_is_root_s_and_has_its_size() {
    let victim = Sleeper::new();
    let tree = tree(&victim);
    let image = walk(&tree, &["image"]).unwrap();
    assert_eq!((image.mode, image.uid, image.directory), (0o400, nix::unistd::geteuid().as_raw(), false));
    assert!(image.size > 0 && image.blocks > 0);
    assert_eq!(errno(&tree.open(image.ino, *WRITE).unwrap_err()), libc::EACCES);
    assert_eq!(
        errno(
            &tree
                .open(image.ino, Access { caller: Caller { thread: victim.pid(), ..*ROOT_USER }, ..*READ })
                .unwrap_err()
        ),
        libc::EDEADLK,
        "a reader that belongs to it"
    );
    let held = in_folder(&tree, &victim, &["freeze"]).unwrap().ino;
    let held = tree.open(held, *WRITE).unwrap();
    write(&tree, held, 0, b"1").unwrap();
    let handle = tree.open(image.ino, *READ).unwrap();
    let open = tree.attr(image.ino).unwrap();
    assert_eq!(read_all(&tree, handle).len() as u64, open.size);
    assert!(open.time > image.time && open.ino == image.ino);
    tree.release(handle);
    write(&tree, held, 0, b"0").unwrap();
    assert_eq!(tree.attr(image.ino).unwrap().time, image.time);
}

#[test]
fn the_whole_pid_namespace_cannot_be_one_image() {
    let container = Container::new(MountTarget::All, Box::new(|_| false));
    let tree = Tree::new(container, options(), None, LIMITS, "/ckpt".into(), Box::new(|_| Vec::new())).unwrap();
    let image = walk(&tree, &["image"]).unwrap();
    let error = tree.open(image.ino, *READ).unwrap_err();
    assert_eq!(errno(&error), libc::EDEADLK);
    assert!(error.to_string().contains("--cgroup"), "{error}");
    let snapshots = walk(&tree, &["snapshots"]).unwrap();
    let pinned = tree.make_directory(snapshots.ino, OsStr::new("one"), *ROOT_USER).unwrap_err();
    assert_eq!((pinned.kind(), pinned.to_string()), (error.kind(), error.to_string()));
}

#[test]
fn what_is_open_outlives_its_process() {
    let mut victim = Sleeper::new();
    let tree = tree(&victim);
    let image = in_folder(&tree, &victim, &["image"]).unwrap().ino;
    let handle = tree.open(image, *READ).unwrap();
    let open = tree.attr(image).unwrap();
    victim.kill_unreaped();
    assert_eq!(tree.attr(image).unwrap(), open);
    assert_eq!(read_all(&tree, handle).len() as u64, open.size);
    tree.release(handle);
    assert_eq!(errno(&tree.attr(image).unwrap_err()), libc::ENOENT);
}

#[test]
fn a_mapping_is_read_to_its_end_and_sought_for_holes() {
    let victim = Sleeper::new();
    let tree = tree(&victim);
    let vmas = in_folder(&tree, &victim, &["vmas"]).unwrap();
    let entry = tree.list(vmas.ino, *ROOT_USER).unwrap().remove(0);
    let handle = tree.open(entry.ino, *READ).unwrap();
    let attr = tree.attr(entry.ino).unwrap();
    assert_eq!(read_all(&tree, handle).len() as u64, attr.size);
    if let Ok(data) = tree.seek(handle, 0, true) {
        assert!(data < attr.size && tree.seek(handle, data, false).unwrap() > data);
    }
    assert_eq!(errno(&tree.seek(handle, attr.size, true).unwrap_err()), libc::ENXIO);
    assert_eq!(errno(&tree.seek(handle, attr.size, false).unwrap_err()), libc::ENXIO);
    tree.release(handle);
}

#[test]
fn only_controls_take_writes_and_only_sensible_ones() {
    let victim = Sleeper::new();
    let tree = tree(&victim);
    for path in [&["image"][..], &["maps"], &["info.json"]] {
        let ino = in_folder(&tree, &victim, path).unwrap().ino;
        assert_eq!(errno(&tree.open(ino, *WRITE).unwrap_err()), libc::EACCES, "{path:?}");
        assert_eq!(errno(&tree.truncate(ino, 0).unwrap_err()), libc::EPERM);
    }
    let freeze = in_folder(&tree, &victim, &["freeze"]).unwrap().ino;
    assert_eq!(tree.truncate(freeze, 0).unwrap().size, 0);
    let handle = tree.open(freeze, *WRITE).unwrap();
    assert_eq!(errno(&write(&tree, handle, 0, b"yes").unwrap_err()), libc::EINVAL);
    assert_eq!(read_all(&tree, tree.open(freeze, *READ).unwrap()), b"0\n");
    let own = Access { caller: Caller { thread: victim.pid(), ..*ROOT_USER }, ..*WRITE };
    let handle = tree.open(freeze, own).unwrap();
    let itself = tree.write(handle, 0, b"1", own.caller).unwrap_err();
    assert_eq!(errno(&itself), libc::EDEADLK, "it would wait for itself");
    let kill = in_folder(&tree, &victim, &["kill"]).unwrap().ino;
    let handle = tree.open(kill, *WRITE).unwrap();
    for text in ["0", "9", ""] {
        assert_eq!(errno(&write(&tree, handle, 0, text.as_bytes()).unwrap_err()), libc::EINVAL, "{text:?}");
    }
    assert!(in_folder(&tree, &victim, &[]).is_ok(), "it lives");
}

#[test]
fn a_written_1_freezes_and_kills() {
    let victim = Sleeper::new();
    let tree = tree(&victim);
    let freeze = in_folder(&tree, &victim, &["freeze"]).unwrap().ino;
    let handle = tree.open(freeze, Access { read: true, ..*WRITE }).unwrap();
    write(&tree, handle, 0, b" 1\n").unwrap();
    assert_eq!(&*tree.read(handle, 0, 100, ReadAhead::Ours).unwrap(), b"1\n");
    write(&tree, handle, 0, b"1").unwrap();
    assert!(tree.status_text(Viewer::All).contains(&format!("\"frozen\": [\n    {}\n  ]", victim.pid())));
    write(&tree, handle, 0, b"0").unwrap();
    assert_eq!(&*tree.read(handle, 0, 100, ReadAhead::Ours).unwrap(), b"0\n");
    write(&tree, handle, 0, b"1").unwrap();
    let kill = in_folder(&tree, &victim, &["kill"]).unwrap().ino;
    write(&tree, tree.open(kill, *WRITE).unwrap(), 0, b"1\n").unwrap();
    victim.wait_end();
    assert!(tree.freezer.held().is_empty());
    assert_eq!(errno(&write(&tree, handle, 0, b"1").unwrap_err()), libc::ESRCH);
}

#[test]
fn restore_takes_bytes_in_order_and_tells_what_became_of_them() {
    let victim = Sleeper::new();
    let tree = tree(&victim);
    let restore = walk(&tree, &["restore"]).unwrap();
    assert_eq!((restore.size, restore.mode), (0, 0o644));
    let untouched = tree.open(restore.ino, *WRITE).unwrap();
    tree.flush(untouched).unwrap();
    tree.release(untouched);
    let text = || String::from_utf8(read_all(&tree, tree.open(restore.ino, *READ).unwrap())).unwrap();
    let line = |text: &str| serde_json::from_str::<serde_json::Value>(text.lines().last().unwrap()).unwrap();
    let why = line(&text())["error"].as_str().unwrap().to_owned();
    assert!(why.starts_with("restore: offset 0: empty: there is no image"), "{why}");

    let handle = tree.open(restore.ino, *WRITE).unwrap();
    assert_eq!(errno(&write(&tree, handle, 1, b"x").unwrap_err()), libc::ESPIPE);
    let garbage = [b'x'; 65536];
    let error =
        (0..64).find_map(|part| write(&tree, handle, part * 65536, &garbage).err()).expect("garbage is refused");
    assert_eq!(error.kind(), Kind::Damaged);
    assert!(tree.flush(handle).is_err());
    tree.release(handle);
    let text = text();
    assert_eq!(text.lines().count(), 2, "{text}");
    let line = line(&text);
    assert_eq!((&line["errno"], &line["error"]), (&"EINVAL".into(), &error.to_string().into()));
}

#[test]
fn an_appender_may_name_any_offset() {
    let victim = Sleeper::new();
    let tree = tree(&victim);
    let restore = walk(&tree, &["restore"]).unwrap().ino;
    let handle = tree.open(restore, Access { append: true, ..*WRITE }).unwrap();
    for offset in [4096, 0, 7] {
        if let Err(error) = write(&tree, handle, offset, b"x") {
            assert_ne!(errno(&error), libc::ESPIPE);
        }
    }
}

#[test]
fn an_image_that_breaks_off_is_told_at_close() {
    let victim = Sleeper::new();
    let tree = tree(&victim);
    let image = in_folder(&tree, &victim, &["image"]).unwrap().ino;
    let source = tree.open(image, *READ).unwrap();
    let start = tree.read(source, 0, 100, ReadAhead::Ours).unwrap().to_vec();
    tree.release(source);
    let restore = walk(&tree, &["restore"]).unwrap().ino;
    let handle = tree.open(restore, *WRITE).unwrap();
    // The first bytes of an image are its header, which alone restores nothing.
    if write(&tree, handle, 0, &start).is_ok() {
        let error = tree.flush(handle).unwrap_err();
        assert_eq!(errno(&error), libc::EINVAL);
        assert!(error.to_string().contains("truncated"), "{error}");
    }
    assert!(tree.flush(handle).is_err() || line_count(&tree) == 1, "reported once");
    tree.release(handle);
}

#[test]
fn directories_stand_still_until_rewound() {
    let victim = Sleeper::new();
    let tree = tree(&victim);
    let handle = tree.open(ROOT, *READ).unwrap();
    assert_eq!(tree.read_directory(ROOT, handle, true, *ROOT_USER).unwrap().len(), 5);
    drop(victim);
    assert_eq!(tree.read_directory(ROOT, handle, false, *ROOT_USER).unwrap().len(), 5);
    assert_eq!(tree.read_directory(ROOT, handle, true, *ROOT_USER).unwrap().len(), 4);
    assert_eq!(errno(&tree.read_directory(ROOT, 4711, true, *ROOT_USER).unwrap_err()), libc::EBADF);
    tree.release(handle);
}

#[test]
fn status_has_its_size_when_it_is_open() {
    let victim = Sleeper::new();
    let tree = tree(&victim);
    let ino = walk(&tree, &["status"]).unwrap().ino;
    let handle = tree.open(ino, *READ).unwrap();
    let size = tree.attr(ino).unwrap().size;
    // Meanwhile an event lengthens the text.
    tree.status.failed("test", ProcId::CONTAINER, &Error::unsupported("a long sentence"));
    assert_eq!(tree.attr(ino).unwrap().size, size);
    assert_eq!(read_all(&tree, handle).len() as u64, size);
    tree.release(handle);
    assert!(tree.attr(ino).unwrap().size > size);
}
