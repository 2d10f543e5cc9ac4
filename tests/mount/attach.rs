//! `ckptfs restore --attach`: a job comes to another window, as `fg` of a shell brings it. The test
//! plays the windows.

use std::fs;
use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use ckptfs_tests::closed_job::ClosedJob;
use ckptfs_tests::pty::{self, Window};
use ckptfs_tests::{Mounted, NOBODY, Spec, Victim, build, process, tool, wait};
use nix::sys::signal::Signal;

/// Echoes what is typed; tells of ^C, of SIGCONT, and at the end of a line of its window when that
/// has changed.
const READER: &str = r#"
trap 'echo interrupted' INT
trap 'echo "size $(stty size)"' WINCH
trap 'echo continued' CONT
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

/// The job in the foreground of a shell in a new window.
fn in_a_shell(dumped: &ClosedJob) -> Window {
    let mut window = dumped.shell();
    window.types(&format!("{}\n", dumped.command()));
    window.is_given_to(dumped.pid());
    window
}

/// Ends the job, and asks the shell for its exit status.
fn ends_with(window: &mut Window, status: u8) {
    window.types(&format!("end {status}\r"));
    window.is_given_to(window.pid());
    window.types("echo status=$?\n");
    window.shows(&format!("status={status}"));
}

/// The command that has restored the job, a child of a shell.
fn command_in(window: &Window) -> i32 {
    process::children(window.pid())[0]
}

#[test]
fn a_job_of_a_shell_is_stopped_continued_and_interrupted() {
    let dumped = reader_of_a_shell();
    let job = dumped.pid();
    let mut window = in_a_shell(&dumped);
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
    ends_with(&mut window, 3);
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
    ends_with(&mut window, 4);
}

/// In the background the job is stopped when it reads, and `fg` brings it back.
#[test]
fn a_job_in_the_background_is_stopped_when_it_reads() {
    let dumped = reader_of_a_shell();
    let job = dumped.pid();
    let mut window = in_a_shell(&dumped);
    // It runs: the SIGCONT that it gets first would undo the stop.
    says(&mut window, "first");
    window.types("\x1a");
    window.shows("Stopped");
    window.is_given_to(window.pid());
    window.clear();
    window.types("bg\n");
    window.shows("continued");
    wait::until("the job reads and is stopped", || process::state(job) == Some('T'));
    window.types("fg\n");
    window.is_given_to(job);
    says(&mut window, "hello");
    ends_with(&mut window, 0);
}

/// Stops the command and not the job. Its shell takes the terminal. A read of the job that waits
/// already gets one more line (n_tty_read in drivers/tty/n_tty.c); the next one stops the job.
fn stop_alone(window: &mut Window, dumped: &ClosedJob, signal: Signal) {
    process::kill(command_in(window), signal);
    window.is_given_to(window.pid());
    window.types("\n");
    wait::until("the job reads and is stopped", || process::state(dumped.pid()) == Some('T'));
}

/// Its shell takes the terminal then, while the job goes on.
#[test]
fn the_job_has_the_terminal_again_after_a_stop_of_the_command_alone() {
    let dumped = reader_of_a_shell();
    let mut window = in_a_shell(&dumped);
    says(&mut window, "first");
    for stop in [Signal::SIGSTOP, Signal::SIGTSTP] {
        stop_alone(&mut window, &dumped, stop);
        window.types("fg\n");
        window.is_given_to(dumped.pid());
        says(&mut window, &format!("after {stop}"));
        window.clear();
    }
    ends_with(&mut window, 0);
}

/// Continued in the background, it leaves the terminal to the shell, also when the job ends.
#[test]
fn the_shell_keeps_the_terminal_that_it_has_taken() {
    let dumped = reader_of_a_shell();
    let mut window = in_a_shell(&dumped);
    says(&mut window, "first");
    stop_alone(&mut window, &dumped, Signal::SIGSTOP);
    process::kill(dumped.pid(), Signal::SIGKILL);
    window.types("kill -CONT %1; wait; echo still $((6 * 7))\n");
    window.shows("still 42");
    assert_eq!(window.foreground(), window.pid());
}

#[test]
fn the_shell_has_the_terminal_after_the_command_was_killed() {
    let dumped = reader_of_a_shell();
    let mut window = in_a_shell(&dumped);
    says(&mut window, "first");
    process::kill(command_in(&window), Signal::SIGKILL);
    window.is_given_to(window.pid());
    // A read of the job that waits already gets a line still. The next one fails, because nobody
    // could continue the job.
    window.types("\n");
    window.shows("Input/output error");
    window.types("echo status=$?\n");
    window.shows("status=137");
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
    process::kill(command_in(&window), Signal::SIGTERM);
    window.shows("status=143");
    assert!(window.echoes(), "the settings of the caller");
}

#[test]
fn a_signal_is_passed_on_to_a_tree_with_a_terminal_of_its_own() {
    let dumped = reader_with_a_session();
    let mut window = dumped.attached(30, 90);
    says(&mut window, "hello");
    process::kill(command_in(&window), Signal::SIGTERM);
    window.shows("status=143");
    assert!(window.echoes(), "the settings of the caller");
}

/// The window is no raw line while the shell has it.
#[test]
fn a_command_that_copies_bytes_is_stopped_and_goes_on() {
    let dumped = reader_with_a_session();
    let mut window = dumped.shell();
    window.types(&format!("{}\n", dumped.command()));
    says(&mut window, "hello");
    for turn in 0..2 {
        window.clear();
        process::kill(command_in(&window), Signal::SIGTSTP);
        window.is_given_to(window.pid());
        window.shows("Stopped");
        window.types("stty -a | tr ' ;' '\\n\\n' | grep -x -e icanon -e -icanon | sed s/^/is:/\n");
        window.shows("is:icanon");
        assert_ne!(process::state(dumped.pid()), Some('T'), "the job goes on");
        window.types("fg\n");
        wait::until("the command has the terminal", || window.foreground() == command_in(&window));
        says(&mut window, &format!("again {turn}"));
    }
    ends_with(&mut window, 5);
}

/// Its user may open it by name.
#[test]
fn a_new_terminal_belongs_to_the_user_of_the_job() {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
    let user = NOBODY.to_string();
    let argv = ["setpriv", "--reuid", &user, "--regid", &user, "--clear-groups", "bash", &reader_in(dir.path())];
    let window = Window::run(24, 80, dir.path(), &argv);
    window.shows("ready");
    let dumped = ClosedJob::of(window.pid(), dir, window);
    let mut window = dumped.attached(30, 90);
    says(&mut window, "hello");
    let terminal = process::link(dumped.pid(), "fd/0").unwrap();
    assert_eq!(fs::metadata(terminal).unwrap().uid(), NOBODY);
    window.types("end 0\r");
    window.shows("status=0");
}

/// The job runs by then, and has the terminal.
#[test]
fn what_follows_the_image_is_told_and_the_job_goes_on() {
    let dumped = reader_of_a_shell();
    let snap = dumped.dir().join("snap");
    let image = fs::read(&snap).unwrap();
    for (tail, told) in [
        (&b"no image"[..], "neither zeros nor an image stand behind a complete image"),
        (&image[..], "restores one image, and another one follows"),
    ] {
        fs::write(&snap, [&image, tail].concat()).unwrap();
        let mut window = in_a_shell(&dumped);
        window.shows(told);
        says(&mut window, "hello");
        ends_with(&mut window, 6);
    }
}

/// Nothing is restored then.
#[test]
fn a_tree_that_one_terminal_cannot_serve_is_refused() {
    let (_master, other) = pty::open();
    let other = other.display();
    for (script, told) in [
        (
            format!("setsid --ctty sleep 1000 <{other} >{other} 2>&1 & echo ready; read -r line"),
            "have a controlling terminal each",
        ),
        (format!("exec 5<>{other}; echo ready; read -r line"), "are both in the image"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let window = Window::run(24, 80, dir.path(), &["sh", "-c", &script]);
        window.shows("ready");
        let dumped = ClosedJob::of(window.pid(), dir, window);
        let window = dumped.attached(30, 90);
        window.shows(told);
        window.shows("status=125");
    }
    let mut daemon = Victim::ready(&Spec::c("worker"));
    let mount = Mounted::over(daemon.pid());
    let snap = mount.snap("snap");
    mount.dump(daemon.pid(), &snap);
    daemon.kill();
    let script =
        format!("{} restore --attach {}; echo \"status=$?\"; read -r line", build::ckptfs().display(), snap.display());
    let window = Window::run(24, 80, Path::new("/"), &["sh", "-c", &script]);
    window.shows("leads a session without a terminal");
    window.shows("status=125");
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
