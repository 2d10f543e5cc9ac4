//! The results of mkdir and rmdir in `snapshots/`.

use crate::tree::tests::*;

fn pin(tree: &Tree, victim: &Sleeper, name: &str) -> Result<Attr> {
    let folder = in_folder(tree, victim, &["snapshots"])?;
    tree.make_directory(folder.ino, OsStr::new(name), *ROOT_USER)
}

#[test]
fn a_pinned_snapshot_is_a_folder_of_exact_files() {
    let victim = Sleeper::new();
    let tree = tree(&victim);
    let folder = pin(&tree, &victim, "one").unwrap();
    assert!(folder.directory && folder.steady == Steady::Never, "it can be renamed");
    assert_eq!(in_folder(&tree, &victim, &["snapshots", "one"]).unwrap(), folder);
    assert_eq!(names(&tree, folder.ino), ["image", "core", "info.json", "maps", "vmas"]);
    let blocks = |name: &str| tree.lookup_blocks(folder.ino, OsStr::new(name));
    assert!(blocks("core") && !blocks("image") && !blocks("none"));
    let core = in_folder(&tree, &victim, &["snapshots", "one", "core"]).unwrap();
    assert!(!blocks("core") && !tree.attr_blocks(core.ino), "it is made once");
    let live = in_folder(&tree, &victim, &["image"]).unwrap();
    for name in ["image", "core", "info.json", "maps"] {
        let attr = in_folder(&tree, &victim, &["snapshots", "one", name]).unwrap();
        assert!(attr.steady == Steady::Always && attr.time == folder.time && attr.ino != live.ino, "{name}: {attr:?}");
        let handle = tree.open(attr.ino, *READ).unwrap();
        assert_eq!(read_all(&tree, handle).len() as u64, attr.size, "{name}");
        tree.release(handle);
        assert_eq!(in_folder(&tree, &victim, &["snapshots", "one", name]).unwrap(), attr);
    }
    let vmas = in_folder(&tree, &victim, &["snapshots", "one", "vmas"]).unwrap();
    for entry in tree.list(vmas.ino, *ROOT_USER).unwrap() {
        let attr = tree.lookup(vmas.ino, &entry.name, *ROOT_USER).unwrap();
        assert_eq!((attr.ino, attr.size), (entry.ino, Range::parse(entry.name.to_str().unwrap()).unwrap().len()));
    }
    let status: serde_json::Value = serde_json::from_str(&tree.status_text(Viewer::All)).unwrap();
    assert_eq!(status["counters"]["dumps"], 1, "nothing was frozen but for the mkdir");
    assert_eq!(status["pinned"][0]["path"], format!("{}/snapshots/one", victim.pid()));
}

#[test]
fn a_snapshot_is_pinned_where_it_may_be_or_not_at_all() {
    let mut victim = Sleeper::new();
    let tree = tree(&victim);
    let folder = in_folder(&tree, &victim, &["snapshots"]).unwrap();
    let whole = walk(&tree, &["snapshots"]).unwrap();
    let refused =
        |parent, name: &str, caller| errno(&tree.make_directory(parent, OsStr::new(name), caller).unwrap_err());
    for parent in [ROOT, in_folder(&tree, &victim, &[]).unwrap().ino, in_folder(&tree, &victim, &["vmas"]).unwrap().ino]
    {
        assert_eq!(refused(parent, "x", *ROOT_USER), libc::EPERM);
        assert_eq!(errno(&tree.remove_directory(parent, OsStr::new("snapshots")).unwrap_err()), libc::EPERM);
    }
    assert_eq!(refused(folder.ino, &"x".repeat(256), *ROOT_USER), libc::ENAMETOOLONG);
    assert_eq!(
        refused(folder.ino, "x", Caller { thread: victim.pid(), ..*ROOT_USER }),
        libc::EDEADLK,
        "a reader that belongs to it"
    );
    let one = pin(&tree, &victim, "one").unwrap();
    assert_eq!(refused(folder.ino, "one", *ROOT_USER), libc::EEXIST);
    tree.make_directory(whole.ino, OsStr::new("one"), *ROOT_USER).unwrap();
    pin(&tree, &victim, "two").unwrap();
    assert_eq!(refused(folder.ino, "three", *ROOT_USER), libc::ENOSPC);
    tree.rename(folder.ino, OsStr::new("two"), folder.ino, OsStr::new("four")).unwrap();
    let rename = |from: &str, to: &str| tree.rename(folder.ino, OsStr::new(from), folder.ino, OsStr::new(to));
    assert_eq!(errno(&rename("one", "four").unwrap_err()), libc::EEXIST);
    assert_eq!(errno(&rename("two", "five").unwrap_err()), libc::ENOENT);
    assert_eq!(
        errno(&tree.rename(folder.ino, OsStr::new("one"), whole.ino, OsStr::new("two")).unwrap_err()),
        libc::EPERM
    );
    assert_eq!(in_folder(&tree, &victim, &["snapshots", "one"]).unwrap().ino, one.ino);
    victim.kill_unreaped();
    tree.remove_directory(folder.ino, OsStr::new("four")).unwrap();
    assert_eq!(refused(folder.ino, "late", *ROOT_USER), libc::ESRCH);
    tree.close();
    assert_eq!(errno(&tree.attr(folder.ino).unwrap_err()), libc::ENOENT);
}

#[test]
fn what_is_pinned_outlives_its_process_and_its_name() {
    let mut victim = Sleeper::new();
    let tree = tree(&victim);
    let folder = pin(&tree, &victim, "one").unwrap();
    let image = in_folder(&tree, &victim, &["snapshots", "one", "image"]).unwrap();
    let own = in_folder(&tree, &victim, &[]).unwrap();
    victim.kill_unreaped();
    let pid = victim.pid().to_string();
    assert_eq!(names(&tree, ROOT), ["image", "restore", "status", "snapshots", &pid]);
    assert_eq!(names(&tree, own.ino), ["snapshots"]);
    assert!(in_folder(&tree, &victim, &["image"]).is_err() && in_folder(&tree, &victim, &["freeze"]).is_err());
    assert_eq!(in_folder(&tree, &victim, &["snapshots", "one", "image"]).unwrap(), image);
    let handle = tree.open(image.ino, *READ).unwrap();
    let parent = in_folder(&tree, &victim, &["snapshots"]).unwrap();
    tree.remove_directory(parent.ino, OsStr::new("one")).unwrap();
    assert_eq!(names(&tree, ROOT), ["image", "restore", "status", "snapshots"]);
    assert!(tree.list(folder.ino, *ROOT_USER).is_err());
    assert_eq!(errno(&tree.open(image.ino, *READ).unwrap_err()), libc::ENOENT);
    assert_eq!(tree.attr(image.ino).unwrap(), image, "it still is open");
    assert_eq!(read_all(&tree, handle).len() as u64, image.size);
    tree.release(handle);
    assert_eq!(errno(&tree.attr(image.ino).unwrap_err()), libc::ENOENT);
    for (ino, lookups) in [(image.ino, 2), (folder.ino, 3)] {
        tree.forget(ino, lookups);
        assert!(tree.node(ino).is_err(), "the row went with the last lookup");
    }
}
