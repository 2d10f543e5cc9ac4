//! A pipe or FIFO with one end held by a process outside the tree. The dump goes on, and the
//! contents stay outside. The restore connects to the same pipe. If no process holds that any more,
//! the restore's options say what takes its place. The holder is the test itself.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs::{self, File, OpenOptions};
use std::io::{Read, pipe};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;

use ckptfs_tests::{Event, Mounted, Spec, Victim, build, tool};
use tempfile::TempDir;

/// A pipe or FIFO that the test reads, and its name in sentences.
struct Outside {
    reader: File,
    /// The path at which a victim can open it.
    path: PathBuf,
    shown: String,
    _dir: TempDir,
}

impl Outside {
    fn pipe() -> Outside {
        let reader = File::from(OwnedFd::from(pipe().unwrap().0));
        let path = PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), reader.as_raw_fd()));
        let shown = fs::read_link(&path).unwrap().display().to_string();
        Outside { reader, path, shown, _dir: tempfile::tempdir().unwrap() }
    }

    fn fifo() -> Outside {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fifo");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let reader = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&path).unwrap();
        Outside { reader, shown: format!("FIFO {}", path.display()), path, _dir: dir }
    }

    /// The number by which an option names it.
    fn id(&self) -> u64 {
        self.reader.metadata().unwrap().ino()
    }

    /// The text in it, once all writers are gone.
    fn text(mut self) -> String {
        let mut text = String::new();
        self.reader.read_to_string(&mut text).unwrap();
        text
    }
}

/// A victim that writes to the pipe.
fn victim(outside: &Outside) -> Victim {
    Victim::ready(&Spec::c("external").terminal(outside.path.clone()))
}

/// A victim that finds no reader after its restore.
fn lonely(outside: &Outside) -> Victim {
    Victim::ready(&Spec::c("external").arg("alone").terminal(outside.path.clone()))
}

fn with(victim: &Victim, options: &str) -> Mounted {
    Mounted::with(&["--tree", &victim.pid().to_string(), "-o", options])
}

fn finish(victim: Victim) {
    victim.go(1);
    assert_eq!(victim.event(1), Event::Ok);
    victim.finish();
}

/// Dumps and kills the victim.
fn dumped(mount: &Mounted, victim: &mut Victim) -> PathBuf {
    let snap = mount.snap("snap");
    mount.dump(victim.pid(), &snap);
    victim.kill();
    snap
}

/// The newest line of `restore`.
fn told(mount: &Mounted) -> String {
    fs::read_to_string(mount.file("restore")).unwrap().lines().last().unwrap().to_owned()
}

/// Dumped, killed and restored twice, the victim still writes to the same pipe.
fn connected_again(outside: Outside, options: &str) {
    let mut victim = victim(&outside);
    let mount = with(&victim, options);
    for _ in 0..2 {
        let snap = dumped(&mount, &mut victim);
        let shown = tool::run(&[build::ckptfs().as_path(), "inspect".as_ref(), &snap]).success().text();
        assert!(shown.contains(&format!(", held outside of the tree by pid {} (", std::process::id())), "{shown}");
        mount.restore(&snap);
        assert!(victim.is_here());
    }
    finish(victim);
    assert_eq!(outside.text(), "before after", "text in the pipe is neither lost nor doubled");
}

#[test]
fn a_pipe_is_connected_again() {
    connected_again(Outside::pipe(), "rw");
}

#[test]
fn a_fifo_is_connected_again() {
    connected_again(Outside::fifo(), "rw");
}

/// What is held is connected, whatever the options name for the case that it is lost.
#[test]
fn a_held_pipe_needs_no_replacement() {
    connected_again(Outside::pipe(), "external-pipes=keep");
    let outside = Outside::pipe();
    let options = format!("external-pipes=null,pipe:{}=/dev/null", outside.id());
    connected_again(outside, &options);
}

/// Nothing is restored, and the sentence names the options. With them the same image is restored.
fn refused_until_named(outside: Outside) {
    let mut victim = victim(&outside);
    let mount = Mounted::over(victim.pid());
    let snap = dumped(&mount, &mut victim);
    let Outside { reader, shown, .. } = &outside;
    let id = outside.id();
    // Another writer does not make up for the reader.
    let _writer = OpenOptions::new().write(true).open(format!("/proc/self/fd/{}", reader.as_raw_fd())).unwrap();
    let shown = shown.clone();
    drop(outside);
    mount.try_restore(&snap).fails_with("No such file or directory");
    let (told, named) = (told(&mount), format!("-o pipe:{id}=PATH, or -o external-pipes=null or new"));
    assert!(told.contains(&shown) && told.contains("nobody holds it any more") && told.contains(&named), "{told}");
    let restore = r#""$1" restore "$2""#;
    tool::shell(restore, &[build::ckptfs(), snap.clone()]).fails_with(&named);
    let file = mount.snap("file");
    fs::write(&file, "old ").unwrap();
    let restore = r#"cd "${2%/*}"; "$1" restore -o external-pipes=new,pipe:$3=file "$2""#;
    let args = [build::ckptfs().into_os_string(), snap.into(), id.to_string().into()];
    let output = tool::shell(restore, &args).success();
    assert_eq!(output.stderr, "", "what is asked for needs no warning");
    assert!(victim.is_here());
    finish(victim);
    assert_eq!(fs::read_to_string(file).unwrap(), "old after");
}

#[test]
fn a_lost_pipe_is_refused_until_a_file_is_named() {
    refused_until_named(Outside::pipe());
}

#[test]
fn a_lost_fifo_is_refused_until_a_file_is_named() {
    refused_until_named(Outside::fifo());
}

/// The restore goes on without the pipe, and says so.
fn restored_without(outside: Outside, mut victim: Victim, option: &str, warning: &str) {
    let mount = with(&victim, option);
    let snap = dumped(&mount, &mut victim);
    let shown = outside.shown.clone();
    drop(outside.reader);
    mount.restore(&snap);
    let told = told(&mount);
    assert!(told.contains("warnings") && told.contains(&shown) && told.contains(warning), "{told}");
    // What takes the place of the pipe can be dumped and restored as well.
    let snap = dumped(&mount, &mut victim);
    mount.restore(&snap);
    finish(victim);
}

#[test]
fn null_takes_the_place_of_a_lost_pipe() {
    for outside in [Outside::pipe(), Outside::fifo()] {
        let victim = victim(&outside);
        restored_without(outside, victim, "external-pipes=null", "/dev/null takes its place");
    }
}

#[test]
fn a_new_pipe_has_no_end_outside() {
    for outside in [Outside::pipe(), Outside::fifo()] {
        let victim = lonely(&outside);
        restored_without(outside, victim, "external-pipes=new", "a new pipe takes its place");
    }
}
