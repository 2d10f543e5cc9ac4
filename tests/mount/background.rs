//! The daemon in the background: what it leaves to whoever started it.

use std::fs;
use std::path::{Path, PathBuf};

use ckptfs_tests::{Victim, build, mounted, tool};
use tempfile::TempDir;

use super::{ends_well, worker};

/// A place to mount on. Drop unmounts it.
struct Point(TempDir);

impl Point {
    fn new() -> Point {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("ckpt")).unwrap();
        Point(dir)
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("ckpt")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Runs a script whose `$1` is ckptfs, `$2` the victim, `$3` this, `$4` a file beside it.
    fn run(&self, script: &str, victim: &Victim, file: &str) -> tool::Output {
        let args = [build::ckptfs(), victim.pid().to_string().into(), self.path(), self.file(file)];
        tool::shell(script, &args)
    }
}

impl Drop for Point {
    fn drop(&mut self) {
        if mounted::is_mounted(&self.path()) {
            let _unmounted = tool::run(&[Path::new("umount"), &self.path()]);
        }
    }
}

#[test]
fn it_keeps_nothing_of_its_starter() {
    let (victim, point) = (worker(), Point::new());
    // Who reads a descriptor sees its end, and a lock is free with the shell that took it.
    let script = r#"
        timeout 20 sh -c '"$1" mount --tree "$2" "$3" 9>&1 | cat' sh "$1" "$2" "$3"; umount "$3"
        (exec 9> "$4"; flock 9; "$1" mount --tree "$2" "$3"); flock -n "$4" true
    "#;
    let _quiet = point.run(script, &victim, "lock").success();
    assert!(mounted::is_mounted(&point.path()));
    ends_well(victim);
}

/// An empty RUST_LOG is none, in the foreground as well as behind it.
#[test]
fn an_empty_level_is_none() {
    let (victim, point) = (worker(), Point::new());
    let script = r#"RUST_LOG= "$1" mount --tree "$2" -o "log=$4" "$3"; cat "$4""#;
    let told = point.run(script, &victim, "log").success().text();
    assert!(told.contains("mounted, showing tree"), "{told}");
    ends_well(victim);
}
