//! Tests of `migrate.sh`, from a mount here to a mount in a pid namespace of its own. In that
//! namespace the pids are free while they are still used here.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use ckptfs_dumper::Pid;
use ckptfs_tests::worker::{count, ends_well, worker};
use ckptfs_tests::{Mounted, Victim, build, mounted, process, tool, wait};
use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::{Running, files, program, run, run_in, tmpdir};

/// Another machine: an init that reaps orphans, and a mount over it. Drop kills all of it.
struct Elsewhere {
    dir: TempDir,
    unshare: Child,
    init: Pid,
}

impl Elsewhere {
    fn new() -> Elsewhere {
        let dir = tempfile::Builder::new().prefix("ckptfs-elsewhere-").tempdir().unwrap();
        fs::create_dir(dir.path().join("ckpt")).unwrap();
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork", "--mount-proc", "--kill-child=KILL", "sh", "-c"]);
        // The new mount namespace has a copy of every mount, those of other tests too. Those mounts
        // could not end while the namespace exists, so they are unmounted in it.
        let init = "umount -l -a -t fuse.ckptfs; \"$1\" mount -f --tree 1 \"$2/ckpt\" > \"$2/log\" 2>&1 & \
                    while :; do sleep 1; done";
        command.arg(init).arg("init");
        command.arg(build::ckptfs()).arg(dir.path());
        let unshare = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut elsewhere = Elsewhere { dir, unshare, init: 0 };
        wait::until("the other mount answers", || {
            let above = Pid::try_from(elsewhere.unshare.id()).unwrap();
            elsewhere.init = process::children(above).first().copied().unwrap_or_default();
            elsewhere.init != 0 && elsewhere.root().join("status").exists()
        });
        elsewhere
    }

    /// The path of its mountpoint from here.
    fn root(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{}/ckpt", self.init, self.dir.path().display()))
    }

    /// Its mountpoint as the script's argument.
    fn target(&self) -> String {
        format!("elsewhere:{}/ckpt", self.dir.path().display())
    }

    /// A file beside the mount.
    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The `CKPTFS_SSH` variable. `how` is a script that calls `there`, which runs the command on
    /// the other machine. `D` is the directory.
    fn ssh(&self, how: &str) -> Vec<String> {
        let path = self.file("ssh");
        let init = self.init;
        let text = format!(
            "#!/bin/sh\nD={}\ncommand=$2\nthere() {{ nsenter -t {init} -m -p sh -c \"$command\"; }}\n{how}\n",
            self.dir.path().display()
        );
        program(&path, &text);
        vec![format!("CKPTFS_SSH={}", path.display())]
    }

    fn daemon(&self) -> Pid {
        let is_daemon = |pid: &Pid| process::status(*pid, "Name").as_deref() == Some("ckptfs");
        process::children(self.init).into_iter().find(is_daemon).expect("the other daemon")
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = fs::read_to_string(self.dir.path().join("log"));
            eprintln!("--- log of the daemon elsewhere:\n{}", log.unwrap_or_default());
        }
        // When the init ends, the namespace and its mounts end too.
        if self.init != 0 {
            process::kill(self.init, Signal::SIGKILL);
        }
        let ended = wait::poll(wait::LONG, || self.unshare.try_wait().ok().flatten());
        if ended.is_none() {
            let _gone = self.unshare.kill();
            let _status = self.unshare.wait();
        }
        assert!(!mounted::is_mounted(&self.dir.path().join("ckpt")), "the mount was not its own");
    }
}

fn args(mount: &Mounted, victim: &Victim, target: &str) -> [String; 5] {
    ["--patience", "20", mount.path().to_str().unwrap(), &victim.pid().to_string(), target].map(str::to_owned)
}

/// All living processes of this victim, here and there, stopped or not.
fn living(victim: &Victim) -> Vec<Pid> {
    process::tree(0, victim.dir()).into_iter().filter(|pid| process::is_alive(*pid)).collect()
}

/// Asserts that it continues here, undisturbed.
fn stayed(victim: Victim, mount: &Mounted) {
    wait::until("it lives here and nowhere else", || living(&victim) == [victim.pid()]);
    assert_eq!(fs::read_to_string(mount.of(victim.pid(), "freeze")).unwrap().trim(), "0");
    ends_well(victim);
}

/// The script's sentence about a tree that stayed.
fn here_as_before(victim: &Victim) -> String {
    format!("pid {} is here as before", victim.pid())
}

/// Asserts that it continues there and ends well.
fn moved(victim: &Victim) {
    assert!(!process::is_alive(victim.pid()));
    let [there] = living(victim)[..] else { panic!("alive: {:?}", living(victim)) };
    let before = count(victim);
    wait::until("it counts on there", || count(victim) > before + 2);
    victim.go(1);
    wait::until("it ends well there", || {
        assert!(!victim.output().contains("FAIL"), "{}", victim.output());
        victim.output().lines().any(|line| line == "ok")
    });
    wait::until("it has ended", || !process::is_alive(there));
}

/// A mounted worker and another machine.
fn scene() -> (Victim, Mounted, Elsewhere) {
    let victim = worker();
    let mount = Mounted::over(victim.pid());
    (victim, mount, Elsewhere::new())
}

#[test]
fn moves() {
    let (victim, mount, elsewhere) = scene();
    let said = run("migrate.sh", &elsewhere.ssh("there"), &args(&mount, &victim, &elsewhere.target())).success();
    assert!(said.text().contains("lives at elsewhere:") && said.stderr.is_empty(), "{}{}", said.text(), said.stderr);
    assert!(elsewhere.root().join(victim.pid().to_string()).exists());
    moved(&victim);
}

/// The target is a mountpoint of this machine, where the process itself has the pid.
#[test]
fn the_pid_is_taken() {
    let victim = worker();
    let mount = Mounted::over(victim.pid());
    let said = run("migrate.sh", &[], &args(&mount, &victim, mount.path().to_str().unwrap()));
    said.fails_with("is taken");
    said.fails_with(&here_as_before(&victim));
    assert_eq!(said.code, 1);
    stayed(victim, &mount);
}

/// Names may be relative, and may begin like an option.
#[test]
fn odd_names() {
    let victim = worker();
    let mount = Mounted::over(victim.pid());
    let dir = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(mount.path(), dir.path().join("-m")).unwrap();
    let pid = victim.pid().to_string();
    run_in(dir.path(), "migrate.sh", &[], &["--", "-m", &pid, "./-m"]).fails_with(&here_as_before(&victim));
    let hosts = run_in(dir.path(), "migrate.sh", &["CKPTFS_SSH=false".into()], &["--", "-m", &pid, "-host:/ckpt"]);
    assert_eq!(hosts.code, 2, "ssh would take it as an option: {}", hosts.stderr);
    stayed(victim, &mount);
}

#[test]
fn no_mount_there_and_none_here() {
    let (victim, mount, elsewhere) = scene();
    let nowhere = format!("elsewhere:{}", elsewhere.dir.path().display());
    run("migrate.sh", &elsewhere.ssh("there"), &args(&mount, &victim, &nowhere)).fails_with("not a mount of ckptfs");
    let other = elsewhere.dir.path().to_str().unwrap().to_owned();
    assert_eq!(run("migrate.sh", &[], &[other.as_str(), "1", "/ckpt"]).code, 2);
    run("migrate.sh", &elsewhere.ssh("exit 255"), &args(&mount, &victim, &elsewhere.target())).fails_with("broken");
    stayed(victim, &mount);
}

#[test]
fn what_cannot_be_dumped() {
    let (victim, elsewhere) = (crate::refused(), Elsewhere::new());
    let mount = Mounted::over(victim.pid());
    let said = run("migrate.sh", &elsewhere.ssh("there"), &args(&mount, &victim, &elsewhere.target()));
    said.fails_with("cannot be dumped: pid");
    assert_eq!(fs::read_to_string(mount.of(victim.pid(), "freeze")).unwrap().trim(), "0");
    assert_eq!(living(&victim), [victim.pid()]);
}

/// Passes a megabyte on, makes the file `middle`, and waits for the file `go`.
const HALF_WAY: &str = "{ head -c 1000000; : > $D/middle; while [ ! -e $D/go ]; do sleep 0.02; done; cat; } | there";

/// Starts the script, calls `disturb` in the middle, lets it continue, and returns its exit status
/// and standard error. The script must leave no temporary file.
fn in_the_middle(scene: &(Victim, Mounted, Elsewhere), disturb: impl FnOnce(&Running)) -> (Option<i32>, String) {
    let (victim, mount, elsewhere) = scene;
    let mut variables = elsewhere.ssh(HALF_WAY);
    let temporary = elsewhere.file("tmp");
    fs::create_dir(&temporary).unwrap();
    variables.push(tmpdir(&temporary));
    let mut running = Running::start("migrate.sh", &variables, &args(mount, victim, &elsewhere.target()));
    wait::until("half of it is there", || elsewhere.file("middle").exists());
    assert_eq!(fs::read_to_string(mount.of(victim.pid(), "freeze")).unwrap().trim(), "1");
    disturb(&running);
    fs::write(elsewhere.file("go"), "").unwrap();
    let code = running.end().code();
    assert_eq!(files(&temporary), Vec::<PathBuf>::new());
    (code, running.said())
}

#[test]
fn a_pause_in_the_middle_is_none_of_these() {
    let scene = scene();
    assert_eq!(in_the_middle(&scene, |_| {}), (Some(0), String::new()));
    moved(&scene.0);
}

#[test]
fn the_daemon_there_is_killed_in_the_middle() {
    let scene = scene();
    let daemon = scene.2.daemon();
    let (code, said) = in_the_middle(&scene, |_| {
        process::kill(daemon, Signal::SIGKILL);
        wait::until("the other daemon is dead", || !process::is_alive(daemon));
    });
    assert!(code == Some(1) && said.contains(&here_as_before(&scene.0)), "{code:?}: {said}");
    stayed(scene.0, &scene.1);
}

#[test]
fn a_signal_in_the_middle() {
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        let scene = scene();
        let (code, said) = in_the_middle(&scene, |running| running.signal(signal));
        assert!(code == Some(1) && said.contains(&here_as_before(&scene.0)), "{signal}: {code:?}: {said}");
        stayed(scene.0, &scene.1);
    }
}

#[test]
fn the_connection_breaks_in_the_middle() {
    let (victim, mount, elsewhere) = scene();
    let ssh = elsewhere.ssh("head -c 1000000 | there > $D/answer; exit 255");
    run("migrate.sh", &ssh, &args(&mount, &victim, &elsewhere.target())).fails_with("did not take it");
    let answer = fs::read_to_string(elsewhere.file("answer")).unwrap();
    assert!(answer.contains("migrate:failed"), "{answer}");
    stayed(victim, &mount);
}

/// The tree lives there, but the answer is lost. The script asks again and learns that.
#[test]
fn the_answer_is_lost() {
    let (victim, mount, elsewhere) = scene();
    let ssh = elsewhere.ssh("if [ -e $D/asked ]; then there; else : > $D/asked; there | head -n 1; exit 255; fi");
    let said = run("migrate.sh", &ssh, &args(&mount, &victim, &elsewhere.target())).success();
    assert!(said.stderr.contains("asking again"), "{}", said.stderr);
    moved(&victim);
}

/// The last byte is lost, so the tree does not live there. The script asks again and learns that.
#[test]
fn the_last_byte_is_lost() {
    let (victim, mount, elsewhere) = scene();
    let size = fs::metadata(mount.of(victim.pid(), "image")).unwrap().len();
    assert!(size > 1_000_000);
    let how = "if [ -e $D/asked ]; then there; else : > $D/asked; \
               { dd bs=1M iflag=fullblock,count_bytes count=$(($(cat $D/size) - 1)); } 2> /dev/null | there | head -n 1; exit 255; fi";
    // While the tree is frozen, the size is that of the image to come.
    let _frozen = mount.write(&mount.of(victim.pid(), "freeze"), "1").success();
    let len = tool::shell("exec 4< \"$1\"; stat -Lc %s /dev/fd/4", &[mount.of(victim.pid(), "image")]).success();
    fs::write(elsewhere.file("size"), len.text().trim()).unwrap();
    let said = run("migrate.sh", &elsewhere.ssh(how), &args(&mount, &victim, &elsewhere.target()));
    said.fails_with("asking again");
    assert_eq!(said.code, 1, "{}", said.stderr);
    assert_eq!(living(&victim), [victim.pid()]);
    assert_eq!(fs::read_to_string(mount.of(victim.pid(), "freeze")).unwrap().trim(), "1", "as it was before");
    let _thawed = mount.write(&mount.of(victim.pid(), "freeze"), "0").success();
    stayed(victim, &mount);
}

/// The daemon here holds the tree stopped, and is killed once the tree lives there. The script must
/// kill the tree, or it would run here too.
#[test]
fn the_daemon_here_is_killed_at_the_end() {
    let (victim, mount, elsewhere) = scene();
    let daemon = mount.daemon();
    let how = format!(
        "there | while read -r line; do case $line in *restored*) kill -9 {daemon}; sleep 0.2 ;; esac; echo \"$line\"; done"
    );
    let said = run("migrate.sh", &elsewhere.ssh(&how), &args(&mount, &victim, &elsewhere.target())).success();
    assert!(said.stderr.contains(&format!("sending SIGKILL to {}", victim.pid())), "{}", said.stderr);
    wait::until("it lives there alone", || living(&victim).len() == 1 && !process::is_alive(victim.pid()));
    moved(&victim);
}

/// The script cannot find out whether the tree lives there. The tree stays stopped here until a
/// person decides.
#[test]
fn the_target_cannot_be_asked() {
    let (victim, mount, elsewhere) = scene();
    let ssh = elsewhere.ssh("if [ ! -e $D/asked ]; then : > $D/asked; there | head -n 1; fi; exit 255");
    let mut args = args(&mount, &victim, &elsewhere.target());
    args[1] = "2".into();
    let said = run("migrate.sh", &ssh, &args);
    said.fails_with("is not known");
    assert_eq!(said.code, 3);
    assert_eq!(fs::read_to_string(mount.of(victim.pid(), "freeze")).unwrap().trim(), "1");
    assert!(Path::new(&elsewhere.root().join(victim.pid().to_string())).exists());
    assert_eq!(living(&victim).len(), 2, "one of them stopped");
    let _killed = mount.write(&mount.of(victim.pid(), "kill"), "1").success();
    moved(&victim);
}
