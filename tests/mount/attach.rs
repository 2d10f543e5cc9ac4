//! `ckptfs restore --attach`: a job comes to another window, as `fg` of a shell brings it. The test
//! plays the windows.

use std::fs;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use ckptfs_tests::closed_job::ClosedJob;
use ckptfs_tests::pty::Window;
use ckptfs_tests::{NOBODY, build, process, tool, wait};
use nix::sys::signal::Signal;

/// Echoes what is typed; tells of ^C, and at the end of a line of its window when that has changed.
const READER: &str = r#"
trap 'echo interrupted' INT
trap 'echo "size $(stty size)"' WINCH
stty -echo
echo "ready $$"
while :; do
    read -r line || [ $? -gt 128 ] || exit 9
    case $line in
        end*) exit "${line#end }" ;;
        ?*) echo "got $line" ;;
    esac
    line=
done
"#;

fn reader_in(dir: &Path) -> String {
    let path = dir.join("reader.sh");
    fs::write(&path, READER).unwrap();
    path.display().to_string()
}

/// A job of a shell, which is not in the image.
fn reader_of_a_shell() -> ClosedJob {
    let dir = tempfile::tempdir().unwrap();
    let script = format!("bash {}; echo ended", reader_in(dir.path()));
    let window = Window::run(24, 80, dir.path(), &["sh", "-c", &script]);
    window.shows("ready");
    ClosedJob::child("bash", dir, window)
}

/// A tree with its own session and controlling terminal.
fn reader_with_a_session() -> ClosedJob {
    let dir = tempfile::tempdir().unwrap();
    let window = Window::run(24, 80, dir.path(), &["bash", &reader_in(dir.path())]);
    window.shows("ready");
    ClosedJob::of(window.pid(), dir, window)
}

/// Types a line, which the reader echoes.
fn says(window: &mut Window, line: &str) {
    window.types(&format!("{line}\r"));
    window.shows(&format!("got {line}\r\n"));
}

#[test]
fn a_job_of_a_shell_is_stopped_continued_and_interrupted() {
    let dumped = reader_of_a_shell();
    let job = dumped.pid();
    let mut window = dumped.shell();
    window.types(&format!("{}\n", dumped.command()));
    window.is_given_to(job);
    says(&mut window, "hello");
    says(&mut window, "you");
    window.shows("size 40 132");
    assert!(!window.echoes(), "the settings of the job");
    window.types("\x03");
    window.shows("interrupted");
    for turn in 0..2 {
        window.clear();
        window.types("\x1a");
        window.shows("Stopped");
        window.is_given_to(window.pid());
        assert_eq!(process::state(job), Some('T'));
        window.types("fg\n");
        window.is_given_to(job);
        says(&mut window, &format!("again {turn}"));
        assert!(!window.echoes(), "the settings of the job");
    }
    window.clear();
    window.resize(50, 100);
    says(&mut window, "resized");
    window.shows("size 50 100");
    window.types("end 3\n");
    window.is_given_to(window.pid());
    window.types("echo status=$?\n");
    window.shows("status=3");
    window.types("exit\n");
    assert!(window.ends().success());
}

/// The job was stopped by ^Z before the dump, and its user may not open the new terminal by name.
/// The image comes by a pipe, so standard input is no terminal.
#[test]
fn a_stopped_job_of_another_user_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
    let mut window = Window::run(24, 80, dir.path(), &["bash", "--norc", "--noprofile", "-i"]);
    let nobody = format!("setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups");
    window.types(&format!("{nobody} bash {}\n", reader_in(dir.path())));
    window.shows("ready ");
    window.types("\x1a");
    window.shows("Stopped");
    let dumped = ClosedJob::child("bash", dir, window);
    let mut window = dumped.shell();
    window.types(&format!("cat snap | {} restore --attach -\n", build::ckptfs().display()));
    window.is_given_to(dumped.pid());
    assert_eq!(process::status(dumped.pid(), "Uid").unwrap().split_whitespace().next(), Some("65534"));
    says(&mut window, "hello");
    window.types("end 4\n");
    window.is_given_to(window.pid());
    window.types("echo status=$?\n");
    window.shows("status=4");
}

/// In the background the job is stopped when it reads, and `fg` brings it back.
#[test]
fn a_job_in_the_background_is_stopped_when_it_reads() {
    let dumped = reader_of_a_shell();
    let job = dumped.pid();
    let mut window = dumped.shell();
    window.types(&format!("{}\n", dumped.command()));
    window.is_given_to(job);
    // It runs: the SIGCONT that it gets first would undo the stop.
    says(&mut window, "first");
    window.types("\x1a");
    window.shows("Stopped");
    window.is_given_to(window.pid());
    window.types("bg\n");
    wait::until("the job reads and is stopped", || process::state(job) == Some('T'));
    window.types("fg\n");
    window.is_given_to(job);
    says(&mut window, "hello");
    window.types("end 0\n");
    window.is_given_to(window.pid());
    window.types("echo status=$?\n");
    window.shows("status=0");
}

#[test]
fn the_exit_status_is_that_of_the_job_and_the_settings_come_back() {
    let dumped = reader_of_a_shell();
    for (typed, signal, status) in [("end 0\n", None, 0), ("end 3\n", None, 3), ("", Some(Signal::SIGKILL), 137)] {
        let mut window = dumped.attached(30, 90);
        window.is_given_to(dumped.pid());
        says(&mut window, "hello");
        window.types(typed);
        signal.into_iter().for_each(|signal| process::kill(dumped.pid(), signal));
        window.shows(&format!("status={status}"));
        assert!(window.echoes(), "the settings of the caller");
        window.is_given_to(window.pid());
        window.types("\n");
        assert!(window.ends().success());
    }
}

#[test]
fn a_signal_to_the_command_is_passed_on() {
    let dumped = reader_of_a_shell();
    let mut window = dumped.attached(30, 90);
    window.is_given_to(dumped.pid());
    says(&mut window, "hello");
    let command = process::children(window.pid())[0];
    process::kill(command, Signal::SIGTERM);
    window.shows("status=143");
    assert!(window.echoes(), "the settings of the caller");
}

#[test]
fn a_tree_with_its_own_session_gets_a_terminal_of_its_own() {
    let dumped = reader_with_a_session();
    for (typed, signal, status) in [("end 3\n", None, 3), ("", Some(Signal::SIGKILL), 137)] {
        let mut window = dumped.attached(30, 90);
        says(&mut window, "hello");
        says(&mut window, "you");
        window.shows("size 30 90");
        assert_ne!(process::link(dumped.pid(), "fd/0").as_deref(), Some(window.path()));
        window.types("\x03");
        window.shows("interrupted");
        window.resize(50, 100);
        // The command hears of it, and tells the reader.
        wait::until("the reader knows of the new size", || {
            says(&mut window, "resized");
            window.text().contains("size 50 100")
        });
        window.types(&typed.replace('\n', "\r"));
        signal.into_iter().for_each(|signal| process::kill(dumped.pid(), signal));
        window.shows(&format!("status={status}"));
        assert!(window.echoes(), "the settings of the caller");
    }
}

/// Nothing is restored, and the exit status cannot be that of a job.
#[test]
fn it_needs_a_terminal_and_the_foreground() {
    let ckptfs = build::ckptfs().display().to_string();
    let output = tool::run(&["setsid", "--wait", &ckptfs, "restore", "--attach", "/dev/null"]);
    output.fails_with("this command has no controlling terminal");
    assert_eq!(output.code, 125);
    tool::run(&[&ckptfs, "restore", "--attach", "a", "b"]).fails_with("--attach takes one FILE");
    let dir = tempfile::tempdir().unwrap();
    let mut window = Window::run(24, 80, dir.path(), &["bash", "--norc", "--noprofile", "-i"]);
    window.types(&format!("{ckptfs} restore --attach /dev/null & wait $!; echo status=$?\n"));
    window.shows("not in the foreground of its terminal");
    window.shows("status=125");
    window.types(&format!("{ckptfs} restore --attach /dev/null; echo other=$?\n"));
    window.shows("other=125");
    assert_eq!(window.foreground(), window.pid());
}

/// A restore that fails leaves the terminal as it was.
#[test]
fn a_pid_that_is_taken_is_named_and_the_terminal_comes_back() {
    let dumped = reader_of_a_shell();
    let first = dumped.attached(30, 90);
    first.is_given_to(dumped.pid());
    let mut second = dumped.attached(30, 90);
    second.shows("is taken");
    second.shows("status=125");
    second.is_given_to(second.pid());
    assert!(second.echoes(), "the settings of the caller");
    second.types("\n");
    assert!(second.ends().success());
}
