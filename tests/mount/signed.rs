//! `-o key=FILE`: images are signed, and nothing else is restored.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::ffi::OsString;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{FileExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use ckptfs_dumper::Pid;
use ckptfs_tests::{Cgroup, Mounted, NOBODY, Victim, build, image_header, process, tool, wait};

use crate::{ends_well, goes_on, mounted_worker, worker};

const REJECTED: &str = "Key was rejected by service";
const WRONG: &str = "the image was signed with another key, or was changed after it was signed";
const NOT_SIGNED: &str = "the image is not signed: with a key, only images signed with it are accepted";

/// Files of keys.
struct Keys(tempfile::TempDir);

impl Keys {
    fn new() -> Keys {
        Keys(tempfile::tempdir().unwrap())
    }

    /// The file of the key `name`, for its owner only.
    fn file(&self, name: &str) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, name.repeat(20)).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        path
    }

    /// A mount over `pid` with the key `name`.
    fn over(&self, pid: Pid, name: &str) -> Mounted {
        let option = format!("freeze-timeout=30,key={}", self.file(name).display());
        Mounted::with(&["--tree", &pid.to_string(), "-o", &option])
    }
}

/// The worker, a mount over it with the key `mine`, and two images of it.
struct Images {
    keys: Keys,
    victim: Victim,
    mount: Mounted,
    /// Signed with `mine`.
    snap: PathBuf,
    unsigned: PathBuf,
}

impl Images {
    /// The worker goes on.
    fn taken() -> Images {
        let (keys, victim) = (Keys::new(), worker());
        let mount = keys.over(victim.pid(), "mine");
        let (snap, unsigned) = (mount.snap("snap"), mount.snap("unsigned"));
        mount.dump(victim.pid(), &snap);
        Mounted::over(victim.pid()).dump(victim.pid(), &unsigned);
        Images { keys, victim, mount, snap, unsigned }
    }
}

/// Runs ckptfs.
fn ckptfs(args: &[&Path]) -> tool::Output {
    let program = build::ckptfs();
    let argv: Vec<&Path> = [program.as_path()].into_iter().chain(args.iter().copied()).collect();
    tool::run(&argv)
}

fn verify(key: &Path, image: &Path) -> tool::Output {
    ckptfs(&["verify".as_ref(), "--key".as_ref(), key, image])
}

/// The sentence of the last restore, which has failed.
fn last_error(mount: &Mounted) -> String {
    let text = fs::read_to_string(mount.file("restore")).unwrap();
    let line: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!(line["errno"], "EKEYREJECTED");
    line["error"].as_str().unwrap().to_owned()
}

/// Asserts that `mount` refuses to restore `snap` with this sentence, and that nothing is left.
fn is_refused(mount: &Mounted, snap: &Path, victim: &Victim, told: &str) {
    mount.try_restore(snap).fails_with(REJECTED);
    assert!(last_error(mount).ends_with(told), "{}", last_error(mount));
    wait::until("nothing is left of it", || {
        process::is_free(victim.pid()) && process::children(mount.daemon()).is_empty()
    });
}

#[test]
fn a_mount_restores_what_it_has_signed_and_nothing_else() {
    let Images { keys, mut victim, mount, snap, unsigned } = Images::taken();
    let (other, without) = (keys.over(victim.pid(), "other"), Mounted::over(victim.pid()));
    victim.kill();
    is_refused(&mount, &unsigned, &victim, NOT_SIGNED);
    mount.restore(&snap);
    goes_on(&victim);
    victim.kill();

    is_refused(&other, &snap, &victim, WRONG);
    without.restore(&snap);
    goes_on(&victim);
    victim.kill();

    // A change that only the signature shows.
    let (mut bytes, changed) = (fs::read(&snap).unwrap(), mount.snap("changed"));
    image_header::change_time(&mut bytes);
    fs::write(&changed, bytes).unwrap();
    is_refused(&mount, &changed, &victim, WRONG);
    without.restore(&changed);
    goes_on(&victim);
    victim.kill();
    mount.restore(&snap);

    // The bytes of the key are told nobody.
    for told in [mount.log(), mount.status().to_string(), fs::read_to_string(mount.file("restore")).unwrap()] {
        assert!(!told.is_empty() && !told.contains("minemine"), "{told}");
    }
    ends_well(victim);
}

#[test]
fn restore_and_verify_take_a_key() {
    let Images { keys, mut victim, mount: _mount, snap, unsigned } = Images::taken();
    victim.kill();

    let (mine, other) = (keys.file("mine"), keys.file("other"));
    let told = verify(&mine, &snap).success().text();
    assert!(told.starts_with(&format!("{}: whole, signed with the key: 1 image, ", snap.display())), "{told}");
    verify(&other, &snap).fails_with(WRONG);
    verify(&mine, &unsigned).fails_with(&format!("offset 64: {NOT_SIGNED}"));
    let _whole = ckptfs(&["verify".as_ref(), &snap]).success();

    let restore = |key: &Path, image: &Path| {
        let option = PathBuf::from(format!("key={}", key.display()));
        ckptfs(&["restore".as_ref(), "-o".as_ref(), &option, image])
    };
    restore(&other, &snap).fails_with(WRONG);
    restore(&mine, &unsigned).fails_with(NOT_SIGNED);
    assert!(process::is_free(victim.pid()));
    let _lives = restore(&mine, &snap).success();
    goes_on(&victim);
    victim.kill();
    wait::until("it is reaped", || process::is_free(victim.pid()));
    let _lives = ckptfs(&["restore".as_ref(), &snap]).success();
    ends_well(victim);
}

/// Reads `ranges` of a file into one buffer.
fn read_ranges(file: &File, whole: &mut [u8], ranges: impl Iterator<Item = (usize, usize)>) {
    for (from, upto) in ranges {
        file.read_exact_at(&mut whole[from..upto], from as u64).unwrap();
    }
}

/// Each way of reading is the first reader of a snapshot of its own, so that its signature is made
/// of what this reader has read.
#[test]
fn every_reader_gets_the_same_signed_bytes() {
    let (keys, victim) = (Keys::new(), worker());
    let mount = keys.over(victim.pid(), "mine");
    let key = keys.file("mine");
    let snap = mount.snap("snap");
    for (n, step) in [777, 4096, 100_003, 1 << 20].into_iter().enumerate() {
        let pinned = mount.of(victim.pid(), "snapshots").join(format!("back-{n}"));
        fs::create_dir(&pinned).unwrap();
        let image = pinned.join("image");
        let file = File::open(&image).unwrap();
        let len = file.metadata().unwrap().len() as usize;
        let mut whole = vec![0; len];
        let ranges = (0..len).step_by(step).map(|from| (from, len.min(from + step)));
        read_ranges(&file, &mut whole, ranges.rev());
        fs::write(&snap, &whole).unwrap();
        let _signed = verify(&key, &snap).success();
        assert!(fs::read(&image).unwrap() == whole, "backwards in steps of {step}");
        fs::remove_dir(&pinned).unwrap();
    }
    let scripts = [
        "cat \"$1\" > \"$2\"",
        "dd if=\"$1\" of=\"$2\" bs=777 status=none",
        "dd if=\"$1\" of=\"$2\" bs=10001 status=none",
        "dd if=\"$1\" of=\"$2\" bs=3M status=none",
        "tail -c 100 \"$1\" > /dev/null; cat \"$1\" > \"$2\"",
        "cat \"$1\" > /dev/null & cat \"$1\" > /dev/null & dd if=\"$1\" of=\"$2\" bs=65537 status=none; wait",
    ];
    for script in scripts {
        let pinned = mount.of(victim.pid(), "snapshots").join("one");
        fs::create_dir(&pinned).unwrap();
        let image = pinned.join("image");
        let _quiet = tool::shell(script, &[&image, &snap]).success();
        let _signed = verify(&key, &snap).success();
        assert!(fs::read(&image).unwrap() == fs::read(&snap).unwrap(), "{script}");
        fs::remove_dir(&pinned).unwrap();
    }
    ends_well(victim);
}

#[test]
fn the_image_of_a_whole_mount_is_signed() {
    let (keys, victim, cgroup) = (Keys::new(), worker(), Cgroup::new("signed"));
    cgroup.add(victim.pid());
    let option = format!("key={}", keys.file("mine").display());
    let mount = Mounted::with(&["--cgroup".as_ref(), cgroup.path().as_os_str(), "-o".as_ref(), option.as_ref()]);
    let snap = mount.snap("snap");
    let _quiet = tool::shell("cat \"$1\" > \"$2\"", &[mount.file("image"), snap.clone()]).success();
    let _signed = verify(&keys.file("mine"), &snap).success();
    verify(&keys.file("other"), &snap).fails_with(WRONG);
    ends_well(victim);
}

#[test]
fn a_stored_image_is_mounted_only_if_it_is_signed_with_the_key() {
    let Images { keys, victim, mount, snap, unsigned } = Images::taken();
    let option = |name: &str| OsString::from(format!("key={}", keys.file(name).display()));
    let stored = Mounted::with(&["--image".as_ref(), snap.as_os_str(), "-o".as_ref(), &option("mine")]);
    assert!(fs::read(stored.file("image")).unwrap() == fs::read(&snap).unwrap());
    let point = mount.snap("point");
    fs::create_dir(&point).unwrap();
    for (image, name, told) in [(&snap, "other", WRONG), (&unsigned, "mine", NOT_SIGNED)] {
        let option = option(name);
        let words = [Path::new("mount"), Path::new("--image"), image, Path::new("-o"), Path::new(&option), &point];
        ckptfs(&words).fails_with(told);
    }
    ends_well(victim);
}

#[test]
fn a_key_that_others_may_have_is_refused_before_the_mount() {
    let (keys, (victim, mount)) = (Keys::new(), mounted_worker());
    let (snap, point) = (mount.snap("snap"), mount.snap("point"));
    mount.dump(victim.pid(), &snap);
    fs::create_dir(&point).unwrap();
    let (open, short, foreign) = (keys.file("open"), keys.file("x"), keys.file("foreign"));
    fs::set_permissions(&open, Permissions::from_mode(0o640)).unwrap();
    chown(&foreign, Some(NOBODY), None).unwrap();
    fs::write(&short, "short").unwrap();
    let missing = keys.0.path().join("missing");
    for (key, told) in [
        (&open, "users other than its owner may read or write it (mode 0640): chmod 600 it"),
        (&foreign, "it belongs to another user, uid 65534"),
        (&short, "it has 5 bytes, a key has 16 to 4096"),
        (&missing, "opening it: no such file or directory"),
    ] {
        let told = format!("key {}: {told}", key.display());
        let option = PathBuf::from(format!("key={}", key.display()));
        let pid = PathBuf::from(victim.pid().to_string());
        for foreground in ["-f", "-ofreeze-timeout=9"] {
            let [mount, tree, foreground, o] = ["mount", "--tree", foreground, "-o"].map(Path::new);
            let refused = ckptfs(&[mount, tree, &pid, foreground, o, &option, &point]);
            refused.fails_with(&told);
            assert_eq!((refused.code, refused.stderr.lines().count()), (1, 1), "{}", refused.stderr);
            assert!(!point.join("status").exists());
        }
        verify(key, &snap).fails_with(&told);
        for (attach, code) in [("--changed-files=warn", 1), ("--attach", 125)] {
            let refused = ckptfs(&["restore".as_ref(), attach.as_ref(), "-o".as_ref(), &option, &snap]);
            refused.fails_with(&told);
            assert_eq!(refused.code, code, "{attach}");
        }
    }
    ends_well(victim);
}

#[test]
fn inspect_says_that_it_is_signed_and_diff_does_not_compare_it() {
    let Images { victim, mount, snap, unsigned, .. } = Images::taken();
    let info: serde_json::Value =
        serde_json::from_slice(&fs::read(mount.of(victim.pid(), "info.json")).unwrap()).unwrap();
    assert_eq!(info["records"]["SIGN"], serde_json::json!([{"mac": "blake3"}]), "{info}");
    let inspect = |image: &Path| ckptfs(&["inspect".as_ref(), image]).success().text();
    let line = |text: String| text.lines().find(|line| line.contains("format 2")).unwrap().to_owned();
    assert!(line(inspect(&snap)).ends_with(", signed"), "{}", inspect(&snap));
    assert!(!line(inspect(&unsigned)).contains("signed"));
    let records = ckptfs(&["inspect".as_ref(), "--records".as_ref(), &snap]).success().text();
    assert!(records.lines().any(|line| line.ends_with("mac=blake3")), "{records}");
    // The worker works on, so there are differences. None is about the signature.
    let told = ckptfs(&["diff".as_ref(), &snap, &unsigned]).text();
    assert!(told.contains("total: ") && !told.contains("SIGN") && !told.contains("mac"), "{told}");
    ends_well(victim);
}
