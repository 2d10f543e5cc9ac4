//! Programs in a terminal. Each is dumped in one window, killed, and brought to another window of
//! another size.

use std::fs;

use ckptfs_dumper::Pid;
use ckptfs_tests::closed_job::ClosedJob;
use ckptfs_tests::pty::Window;
use ckptfs_tests::{process, wait};

/// Its screen is drawn again, in the size of the new window.
#[test]
fn vim() {
    let dir = tempfile::tempdir().unwrap();
    let script = "vim -u NONE -N -i NONE -n text; echo ended";
    let mut window = Window::run(24, 80, dir.path(), &["sh", "-c", script]);
    window.shows("[New]");
    window.types("ihello from vim\x1b");
    window.shows("hello from vim");
    let dumped = ClosedJob::child("vim", dir, window);
    let mut window = dumped.attached(33, 99);
    window.is_given_to(dumped.pid());
    window.shows("hello from vim");
    window.types(":call writefile([&lines . 'x' . &columns], 'size')\r");
    let size = dumped.dir().join("size");
    wait::until("vim has written its size", || fs::read_to_string(&size).is_ok_and(|text| text == "33x99\n"));
    window.types("A and back\x1b");
    window.shows("and back");
    window.types(":wq\r");
    window.shows("status=0");
    assert_eq!(fs::read_to_string(dumped.dir().join("text")).unwrap(), "hello from vim and back\n");
    assert!(window.echoes(), "the settings of the caller");
}

/// A shell that reads, with a session of its own.
#[test]
fn bash_in_a_terminal() {
    let dir = tempfile::tempdir().unwrap();
    let window = Window::run(24, 80, dir.path(), &["bash", "--norc", "--noprofile", "-i"]);
    window.shows("$ ");
    let mut window = window;
    window.types("name=before; echo ready=$name\n");
    window.shows("ready=before");
    let dumped = ClosedJob::of(window.pid(), dir, window);
    let mut window = dumped.attached(33, 99);
    window.types("echo $name $(stty size)\r");
    window.shows("before 33 99");
    window.types("sleep 1000\r");
    let is_job = |pid: &Pid| process::status(*pid, "Name").as_deref() == Some("sleep");
    let sleeping = || process::children(dumped.pid()).into_iter().find(is_job);
    wait::until("the shell has a job", || sleeping().is_some());
    window.types("\x1a");
    window.shows("Stopped");
    window.types("fg\r");
    wait::until("the job goes on", || sleeping().is_some_and(|pid| process::state(pid) == Some('S')));
    window.types("\x03");
    wait::until("the job has ended", || sleeping().is_none());
    window.types("exit 7\r");
    window.shows("status=7");
}
