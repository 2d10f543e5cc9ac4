//! Compiles the victims and finds the binary under test. Victims are written in C because each one
//! deals with one kernel object directly.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use crate::tool;
use crate::victim::Link;

/// `tests/victims/`.
pub fn victims() -> PathBuf {
    package().join("victims")
}

/// This crate's directory, `tests/`.
pub fn package() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The files below `dir` with one of these endings, in the order of their paths.
pub fn sources(dir: &Path, endings: &[&str]) -> Vec<PathBuf> {
    let (mut dirs, mut files) = (vec![dir.to_owned()], Vec::new());
    while let Some(dir) = dirs.pop() {
        let entries = fs::read_dir(&dir).unwrap_or_else(|error| panic!("listing {}: {error}", dir.display()));
        for path in entries.map(|entry| entry.expect("listing sources").path()) {
            if path.is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(|found| endings.iter().any(|ending| found == *ending)) {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

/// The executable of `victims/NAME.c`. It is compiled once for each content: its file name holds a
/// hash of the source, the headers and the flags. The file appears by rename, so tests that run at
/// once need no lock.
pub fn victim(name: &str, link: Link) -> PathBuf {
    let source = victims().join(name).with_extension("c");
    let mut flags = vec!["-O1", "-g", "-pthread", "-Wall", "-Werror"];
    flags.extend(link.flags());
    let mut hasher = DefaultHasher::new();
    flags.hash(&mut hasher);
    let entries = fs::read_dir(victims()).expect("listing the victims").flatten().map(|entry| entry.path());
    let mut headers: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|ending| ending == "h")).collect();
    headers.sort();
    for path in headers.iter().chain([&source]) {
        fs::read(path).unwrap_or_else(|error| panic!("reading {}: {error}", path.display())).hash(&mut hasher);
    }
    let dir = output_dir().join("victims");
    fs::create_dir_all(&dir).expect("making the directory of the victims");
    let program = dir.join(format!("{name}-{:016x}", hasher.finish()));
    if !program.exists() {
        let scratch = tempfile::tempdir_in(&dir).expect("making a scratch directory");
        let fresh = scratch.path().join(name);
        let mut argv: Vec<PathBuf> = vec!["cc".into(), source];
        argv.extend(["-o".into(), fresh.clone()]);
        argv.extend(flags.iter().map(PathBuf::from));
        let _quiet = tool::run(&argv).success();
        fs::rename(&fresh, &program).expect("putting the victim in its place");
    }
    program
}

/// The `ckptfs` under test: `$CKPTFS_BIN`, or the one that cargo puts beside this test. It is built
/// first if it is missing or older than its sources, because cargo does not build the binary of
/// another package for a test.
pub fn ckptfs() -> PathBuf {
    if let Some(path) = std::env::var_os("CKPTFS_BIN") {
        return path.into();
    }
    let program = output_dir().join("ckptfs");
    let built = fs::metadata(&program).and_then(|meta| meta.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
    let root = package().join("..");
    if ["fs", "dumper", "docs"].iter().any(|room| newest(&root.join(room)) > built) {
        // A build has no time limit, unlike other commands: a first build takes long, but it ends.
        let mut command = Command::new("cargo");
        command.args(["build", "--quiet", "--package", "ckptfs"]);
        if output_dir().ends_with("release") {
            command.arg("--release");
        }
        let status = command.current_dir(&root).status().expect("running cargo");
        assert!(status.success(), "cargo build --package ckptfs: {status}");
    }
    program
}

/// `target/debug` or `target/release`. It is the directory of this executable, or the one above it
/// for a test, whose executable is in `deps/`.
fn output_dir() -> PathBuf {
    let program = std::env::current_exe().expect("finding this very executable");
    let dir = program.parent().expect("target/PROFILE/PROGRAM");
    if dir.ends_with("deps") { dir.parent().expect("target/PROFILE/deps/TEST") } else { dir }.to_owned()
}

/// The time of the last change below `path`.
fn newest(path: &Path) -> SystemTime {
    let changed = |path: &Path| fs::metadata(path).and_then(|meta| meta.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
    let Ok(entries) = fs::read_dir(path) else { return changed(path) };
    entries.flatten().map(|entry| newest(&entry.path())).max().unwrap_or(SystemTime::UNIX_EPOCH)
}
