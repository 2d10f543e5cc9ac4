//! Users without permission, and readers that cannot be served.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::os::unix::fs::MetadataExt;

use ckptfs_tests::{Event, Mounted, NOBODY, Spec, Victim, process, tool, wait};

use crate::{as_nobody, count, ends_well, mounted_worker, worker};

/// The modes decide: a user reads the images of its own processes only, and only root restores.
#[test]
fn the_modes_keep_other_users_out() {
    let of_root = worker();
    let mount = Mounted::over(of_root.pid());
    let _listed = as_nobody("ls -l \"$1/$2\"", &mount, &of_root).success();
    for script in [
        "cat \"$1/$2/image\"",
        "ls \"$1/$2/vmas\" && cat \"$1/$2\"/vmas/*",
        "cat \"$1/$2/info.json\"",
        "cat \"$1/$2/maps\"",
        "echo x > \"$1/restore\"",
        "echo 1 > \"$1/$2/kill\"",
        "echo 1 > \"$1/$2/freeze\"",
    ] {
        as_nobody(script, &mount, &of_root).fails_with("Permission denied");
    }
    let of_nobody = Victim::ready(&Spec::c("worker").user(NOBODY));
    let mount = Mounted::over(of_nobody.pid());
    let _read = as_nobody("cat \"$1/$2/image\" > /dev/null", &mount, &of_nobody).success();
    let _written = as_nobody("echo 1 > \"$1/$2/freeze\"; echo 0 > \"$1/$2/freeze\"", &mount, &of_nobody).success();
    ends_well(of_nobody);
    ends_well(of_root);
}

/// A file that shows a whole tree, or acts on it, is only for a user that owns the whole tree. A
/// user's process may have set-user-ID programs below it.
#[test]
fn a_tree_of_two_users_is_for_root_only() {
    let victim = Victim::ready(&Spec::c("mixed_owners"));
    let child = process::children(victim.pid())[0];
    let mount = Mounted::over(victim.pid());
    assert_eq!(fs::metadata(mount.of(victim.pid(), "info.json")).unwrap().uid(), NOBODY);
    let refused = [
        "cat \"$1/$2/image\"",
        "echo 1 > \"$1/$2/freeze\"",
        "echo 1 > \"$1/$2/kill\"",
        "mkdir \"$1/$2/snapshots/his\"",
    ];
    for script in refused {
        as_nobody(script, &mount, &victim).fails_with("Permission denied");
    }
    let _own = as_nobody("cat \"$1/$2/info.json\" \"$1/$2/core\" > /dev/null", &mount, &victim).success();
    // A snapshot that root has pinned belongs to both users as well.
    fs::create_dir(mount.of(victim.pid(), "snapshots/roots")).unwrap();
    as_nobody("cat \"$1/$2/snapshots/roots/image\"", &mount, &victim).fails_with("Permission denied");
    fs::remove_dir(mount.of(victim.pid(), "snapshots/roots")).unwrap();
    assert!(process::is_alive(child) && !matches!(process::state(child), Some('t' | 'T')));
    drop(mount);
    victim.go(1);
    assert_eq!(victim.event(1), Event::Ok);
    victim.finish();
}

/// A process that may not be read through /proc may not be read here.
#[test]
fn only_root_reads_a_process_that_is_not_dumpable() {
    let victim = Victim::ready(&Spec::c("mixed_owners").arg("private"));
    let mount = Mounted::over(victim.pid());
    for script in ["cat \"$1/$2/core\"", "cat \"$1/$2/info.json\"", "ls \"$1/$2/vmas\" && cat \"$1/$2\"/vmas/*"] {
        as_nobody(script, &mount, &victim).fails_with("Permission denied");
    }
    mount.dump(victim.pid(), &mount.snap("of_root"));
    drop(mount);
    victim.go(1);
    assert_eq!(victim.event(1), Event::Ok);
    victim.finish();
}

/// A process that reads the image of its own tree would wait for itself. It gets EDEADLK at once.
#[test]
fn a_reader_that_belongs_to_the_tree() {
    let dir = tempfile::tempdir().unwrap();
    let script = "echo $$ > pid; while [ ! -e image ]; do :; done; read -r image < image; exec cat \"$image\" > /dev/null 2> said";
    let mut reader = tool::command(&["setsid", "dash", "-c", script]);
    let mut reader = reader.current_dir(dir.path()).stdout(std::process::Stdio::null()).spawn().unwrap();
    let read_pid = || fs::read_to_string(dir.path().join("pid")).ok()?.trim().parse().ok();
    let pid = wait::poll(wait::LONG, read_pid).expect("the reader says its pid");
    let mount = Mounted::over(pid);
    fs::write(dir.path().join("fresh"), format!("{}\n", mount.of(pid, "image").display())).unwrap();
    fs::rename(dir.path().join("fresh"), dir.path().join("image")).unwrap();
    let status = reader.wait().unwrap();
    let said = fs::read_to_string(dir.path().join("said")).unwrap();
    assert!(!status.success() && said.contains("Resource deadlock avoided"), "{status}: {said}");
}

/// The dump gives up a process that cannot be stopped in time: the reader gets EBUSY, and the
/// process continues. Here vfork(2) keeps the tree from being stopped: the parent is in
/// uninterruptible sleep until the child execs or exits.
#[test]
fn a_process_that_does_not_stop() {
    let victim = Victim::ready(&Spec::c("vforked"));
    let mount = Mounted::with(&["--tree", &victim.pid().to_string(), "-o", "freeze-timeout=1"]);
    let output = tool::run(&["cat".into(), mount.of(victim.pid(), "image")]);
    assert!(output.code != 0 && mount.log().contains(&victim.pid().to_string()), "{}", output.stderr);
    assert_eq!(process::status(victim.pid(), "TracerPid").as_deref(), Some("0"));
    victim.go(1);
    assert_eq!(victim.event(1), ckptfs_tests::Event::Ok);
    victim.finish();
}

#[test]
fn many_readers_and_crawlers_at_once() {
    let (victim, mount) = mounted_worker();
    let before = count(&victim);
    let script = r#"
        for n in 1 2 3 4 5 6; do
            (for m in 1 2 3 4 5; do cat "$1/$2/image" > /dev/null; done) &
            (for m in 1 2 3 4 5; do find "$1" -ls > /dev/null; cat "$1/status" > /dev/null; done) &
        done
        for job in $(jobs -p); do wait $job; done
    "#;
    let _all = tool::shell(script, &[mount.path().into_os_string(), victim.pid().to_string().into()]).success();
    assert!(count(&victim) > before);
    ends_well(victim);
}
