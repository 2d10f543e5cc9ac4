//! `freeze` and `kill`, which work like cgroup.freeze and cgroup.kill.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;

use ckptfs_tests::{Event, Mounted, Victim, process, tool, wait};

use crate::{count, ends_well, goes_on, mounted_worker, pids};

/// Whether a tracer or a stop holds every thread of the process.
fn stands_still(victim: &Victim) -> bool {
    let tasks = fs::read_dir(format!("/proc/{}/task", victim.pid())).unwrap();
    let mut states = tasks.map(|task| process::state(task.unwrap().file_name().to_str().unwrap().parse().unwrap()));
    states.all(|state| matches!(state, Some('t' | 'T')))
}

fn set(mount: &Mounted, victim: &Victim, name: &str, value: &str) {
    let _set = mount.write(&mount.of(victim.pid(), name), value).success();
}

fn is_frozen(mount: &Mounted, victim: &Victim) -> String {
    fs::read_to_string(mount.of(victim.pid(), "freeze")).unwrap().trim().to_owned()
}

#[test]
fn freeze_and_thaw() {
    let (victim, mount) = mounted_worker();
    for _ in 0..3 {
        assert_eq!(is_frozen(&mount, &victim), "0");
        set(&mount, &victim, "freeze", "1");
        assert_eq!(is_frozen(&mount, &victim), "1");
        assert!(stands_still(&victim));
        let count_before = count(&victim);
        mount.dump(victim.pid(), &mount.snap("snap")); // read from the stopped tree itself, which stays stopped
        set(&mount, &victim, "freeze", "1\n");
        assert!(stands_still(&victim));
        assert_eq!(count(&victim), count_before);
        set(&mount, &victim, "freeze", "0\n");
        assert_eq!(is_frozen(&mount, &victim), "0");
        set(&mount, &victim, "freeze", "0");
        goes_on(&victim);
    }
    ends_well(victim);
}

#[test]
fn freeze_image_kill_restore() {
    let (mut victim, mount) = mounted_worker();
    set(&mount, &victim, "freeze", "1");
    let frozen_at = count(&victim);
    let snap = mount.snap("snap");
    mount.dump(victim.pid(), &snap);
    set(&mount, &victim, "kill", "1");
    assert_eq!(count(&victim), frozen_at, "nothing runs between the checkpoint and the end");
    victim.kill(); // it is dead already; this reaps it
    mount.restore(&snap);
    assert!(victim.is_here());
    assert_eq!(is_frozen(&mount, &victim), "0");
    wait::until("it counts on", || count(&victim) > frozen_at);
    ends_well(victim);
}

#[test]
fn kill_kills() {
    let (mut victim, mount) = mounted_worker();
    set(&mount, &victim, "kill", "1\n");
    wait::until("the victim is dead", || !process::is_alive(victim.pid()));
    victim.kill(); // reaps it
    assert!(pids(&mount).is_empty());
}

#[test]
fn nonsense_is_refused() {
    let (victim, mount) = mounted_worker();
    for name in ["freeze", "kill"] {
        for value in ["2", "yes", "11", "-1", " 1 1"] {
            mount.write(&mount.of(victim.pid(), name), value).fails_with("Invalid argument");
        }
    }
    assert_eq!(is_frozen(&mount, &victim), "0");
    ends_well(victim);
}

#[test]
fn a_frozen_process_goes_on_when_the_mount_goes() {
    let (victim, mut mount) = mounted_worker();
    set(&mount, &victim, "freeze", "1");
    assert!(stands_still(&victim));
    mount.kill_daemon();
    goes_on(&victim);
    drop(mount);
    let mount = Mounted::over(victim.pid());
    set(&mount, &victim, "freeze", "1");
    drop(mount); // umount
    goes_on(&victim);
    victim.go(1);
    assert_eq!(victim.event(1), Event::Ok);
    victim.finish();
}

/// A user may thaw a stopped tree immediately after closing its image, although the kernel reports
/// the close to the daemon only later. A test in fs/src/state/open_once.rs shows how long the
/// daemon waits for that report. Here the report may always come in time.
#[test]
fn thawed_right_after_a_close() {
    let (victim, mount) = mounted_worker();
    let script = r#"
        cd "$1/$2"
        for n in {1..40}; do
            echo 1 > freeze
            exec 3< image; head -c 100000 <&3 > /dev/null; exec 3<&-
            echo 0 > freeze
        done
        for n in {1..10}; do echo 1 > freeze; cat image ../image > /dev/null; echo 0 > freeze; done
    "#;
    let output = tool::shell(script, &[mount.path(), victim.pid().to_string().into()]).success();
    assert_eq!(output.stderr, "");
    ends_well(victim);
}

/// While another reader still reads an image from before the freeze, the image of a held tree is
/// refused: it would be the older one.
#[test]
fn no_older_image_of_what_is_held() {
    let (victim, mount) = mounted_worker();
    let refused = |name: &str| match fs::File::open(mount.of(victim.pid(), name)) {
        Ok(_) => panic!("{name} was opened"),
        Err(error) => assert_eq!(error.raw_os_error(), Some(libc::EBUSY), "{name}: {error}"),
    };
    let held = || set(&mount, &victim, "freeze", "1");
    let reader = fs::File::open(mount.of(victim.pid(), "maps")).unwrap();
    held();
    ["image", "core", "info.json"].into_iter().for_each(refused);
    assert!(mount.log().contains("before it was frozen"), "{}", mount.log());
    drop(reader);
    wait::until("the reader's file is closed", || fs::File::open(mount.of(victim.pid(), "image")).is_ok());
    set(&mount, &victim, "freeze", "0");
    // A walk through the mount reads one instant too, so the same holds for it.
    let script = r#"
import os, sys
top = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECTORY)
open(os.path.join(sys.argv[1], sys.argv[2], "maps")).read()
open(os.path.join(sys.argv[1], sys.argv[2], "freeze"), "w").write("1")
for name in os.path.join(sys.argv[2], "image"), "image":
    try:
        open(os.path.join(sys.argv[1], name), "rb")
        raise SystemExit(name + " was opened")
    except OSError as error:
        assert error.errno == 16, error
os.close(top)
for n in range(1000):
    try:
        open(os.path.join(sys.argv[1], "image"), "rb").read()
        break
    except OSError as error:
        assert error.errno == 16 and n < 999, error
"#;
    let argv = ["python3".into(), "-c".into(), script.into(), mount.path(), victim.pid().to_string().into()];
    let _walked = tool::run(&argv).success();
    set(&mount, &victim, "freeze", "0");
    ends_well(victim);
}
