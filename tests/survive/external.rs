//! A pipe with one end held by a process outside the tree. The dump refuses it and names the
//! holder, or, with `-o external-pipes=keep`, the restore finds it again. The holder is the test
//! itself.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs::{File, OpenOptions};
use std::io::{PipeReader, PipeWriter, Read, pipe};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use ckptfs_tests::{Event, Mounted, Spec, Victim, tool};

/// A victim that writes to the pipe or FIFO at `path`.
fn victim(path: PathBuf) -> Victim {
    Victim::ready(&Spec::c("external").terminal(path))
}

/// A pipe, its ends, and the path at which a victim can open it.
fn ours() -> (PipeReader, PipeWriter, PathBuf) {
    let (reader, writer) = pipe().unwrap();
    let path = format!("/proc/{}/fd/{}", std::process::id(), reader.as_raw_fd());
    (reader, writer, path.into())
}

/// A FIFO, and our reader of it.
fn fifo(dir: &Path) -> (File, PathBuf) {
    let path = dir.join("fifo");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let reader = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&path).unwrap();
    (reader, path)
}

fn keeping(victim: &Victim) -> Mounted {
    Mounted::with(&["--tree", &victim.pid().to_string(), "-o", "external-pipes=keep"])
}

fn finish(victim: Victim) {
    victim.go(1);
    assert_eq!(victim.event(1), Event::Ok);
    victim.finish();
}

fn refused(victim: Victim, what: &str) {
    let mount = Mounted::over(victim.pid());
    // The test's threads have names of their own. The process has the name of its main thread.
    let us = std::fs::read_to_string(format!("/proc/{}/comm", std::process::id())).unwrap();
    let held = format!("is held by pid {} ({}), which is not of the tree", std::process::id(), us.trim_end());
    let sentence = format!("pid {} fd 4: the other end of {what} {held}", victim.pid());
    for _ in 0..2 {
        tool::run(&["cat".into(), mount.of(victim.pid(), "image")]).fails_with("Operation not supported");
        assert!(mount.log().contains(&sentence), "the log does not say {sentence:?}:\n{}", mount.log());
    }
    drop(mount);
    finish(victim);
}

#[test]
fn a_pipe_is_refused_by_its_holder() {
    let (mut reader, writer, path) = ours();
    drop(writer);
    let victim = victim(path);
    let shown = std::fs::read_link(format!("/proc/self/fd/{}", reader.as_raw_fd())).unwrap();
    refused(victim, shown.to_str().unwrap());
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text, "before after");
}

#[test]
fn a_fifo_is_refused_by_its_holder() {
    let dir = tempfile::tempdir().unwrap();
    let (mut reader, path) = fifo(dir.path());
    refused(victim(path.clone()), path.to_str().unwrap());
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text, "before after");
}

/// Dumped, killed and restored twice, the victim still writes to the pipe that `reader` reads.
fn kept(mut reader: impl Read, mut victim: Victim) {
    let mount = keeping(&victim);
    for _ in 0..2 {
        let snap = mount.snap("snap");
        mount.dump(victim.pid(), &snap);
        victim.kill();
        mount.restore(&snap);
        assert!(victim.is_here());
    }
    finish(victim);
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text, "before after", "text in the pipe is neither lost nor doubled");
}

#[test]
fn a_pipe_is_kept() {
    let (reader, writer, path) = ours();
    drop(writer);
    kept(reader, victim(path));
}

#[test]
fn a_fifo_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let (reader, path) = fifo(dir.path());
    kept(reader, victim(path));
}

#[test]
fn a_pipe_that_is_gone_is_missed_by_name() {
    let (reader, writer, path) = ours();
    drop(writer);
    let mut victim = victim(path);
    let mount = keeping(&victim);
    let snap = mount.snap("snap");
    mount.dump(victim.pid(), &snap);
    victim.kill();
    let shown = std::fs::read_link(format!("/proc/self/fd/{}", reader.as_raw_fd())).unwrap();
    drop(OwnedFd::from(reader));
    mount.try_restore(&snap).fails_with("No such file or directory");
    let told = std::fs::read_to_string(mount.file("restore")).unwrap();
    assert!(told.contains(shown.to_str().unwrap()) && told.contains("nobody holds it"), "{told}");
}
