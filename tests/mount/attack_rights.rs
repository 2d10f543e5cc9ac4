//! An ordinary user that wants to read or to control a process that is not its own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;

use ckptfs_tests::{Event, Mounted, NOBODY, Spec, Victim, as_nobody, nobody, process, tool, wait};

/// A process of `nobody` that turns into one of root, and a mount over it.
fn turning(how: &str) -> (Victim, Mounted) {
    let victim = nobody::turning(how);
    let mount = Mounted::over(victim.pid());
    (victim, mount)
}

/// In a user namespace of its own a user has all capabilities. They must not count outside of it,
/// and the right to an open file must not outlive the right to the process.
#[test]
fn an_open_control_file_acts_on_no_process_of_root() {
    for (name, written) in [("kill", "1"), ("freeze", "1")] {
        let (mut victim, mount) = turning("once");
        let script = format!(
            r#"exec unshare -U -r bash -c "
                exec 3> $1/$2/{name}; echo > $3/opened
                until [ -e $3/turned ]; do sleep 0.01; done
                echo {written} >&3
            ""#
        );
        let dir = victim.dir().to_owned();
        std::thread::scope(|scope| {
            let attack = scope.spawn(|| as_nobody(&script, &mount, &victim));
            wait::until("the file is open", || dir.join("opened").exists());
            victim.go(1);
            assert_eq!(victim.event(1), Event::Ready(2));
            fs::write(dir.join("turned"), "").unwrap();
            attack.join().unwrap().fails_with("Permission denied");
        });
        assert!(process::is_alive(victim.pid()));
        assert_eq!(fs::read_to_string(mount.of(victim.pid(), "freeze")).unwrap(), "0\n");
        assert!(mount.log().contains("may not read it, or act on it"), "{}", mount.log());
        victim.kill();
    }
}

/// A program of root that writes to a descriptor that a user gave it does not act for the user.
#[test]
fn a_program_of_root_is_no_deputy() {
    let (mut victim, mount) = turning("once");
    let dir = victim.dir().to_owned();
    let script = r#"
        exec 3> "$1/$2/kill"; echo > "$3/opened"
        until [ -e "$3/done" ]; do sleep 0.01; done
    "#;
    std::thread::scope(|scope| {
        let attack = scope.spawn(|| as_nobody(script, &mount, &victim));
        wait::until("the file is open", || dir.join("opened").exists());
        victim.go(1);
        assert_eq!(victim.event(1), Event::Ready(2));
        let holder = process::all()
            .into_iter()
            .find(|pid| process::link(*pid, "fd/3").is_some_and(|file| file == mount.of(victim.pid(), "kill")));
        let open = format!("/proc/{}/fd/3", holder.expect("the attacker has it open"));
        // Root gets the descriptor itself: a second open would be root's own.
        let pull = r#"
import ctypes, os, sys
pid = int(sys.argv[1])
fd = ctypes.CDLL(None).syscall(438, os.pidfd_open(pid), 3, 0)
try: os.write(fd, b"1")
except PermissionError: sys.exit(7)
"#;
        let holder = holder.unwrap().to_string();
        assert_eq!(tool::run(&["python3", "-c", pull, &holder]).code, 7, "{open}");
        fs::write(dir.join("done"), "").unwrap();
        let _ended = attack.join().unwrap();
    });
    assert!(process::is_alive(victim.pid()));
    victim.kill();
}

/// A process executes a set-user-ID program between the check of the mode bits and the dump. What
/// the program holds in memory is not for the user, whatever its user namespace.
#[test]
fn the_memory_of_a_set_user_id_program_is_not_read() {
    let (mut victim, mount) = turning("often");
    victim.go(1);
    let script = r#"
        for n in {1..60}; do
            for name in core info.json maps image; do
                cat "$1/$2/$name" >> "$3/loot" 2> /dev/null || :
                unshare -U -r cat "$1/$2/$name" >> "$3/loot" 2> /dev/null || :
            done
        done
    "#;
    let _tried = as_nobody(script, &mount, &victim).success();
    let loot = fs::read(victim.dir().join("loot")).unwrap_or_default();
    assert!(!loot.is_empty(), "while it is the user's, the user may read it");
    let secret = b"the secret of root's process";
    assert!(!loot.windows(secret.len()).any(|window| window == secret), "read in {} bytes", loot.len());
    victim.kill();
}

/// Whom a debugger of the user may not attach to, the user may not dump.
#[test]
fn the_kernel_decides_who_is_read() {
    for how in ["group", "capability"] {
        let victim = Victim::ready(&Spec::c("other_rights").arg(how));
        let mount = Mounted::over(victim.pid());
        for name in ["image", "core", "info.json", "maps"] {
            as_nobody(&format!("cat \"$1/$2/{name}\""), &mount, &victim).fails_with("Permission denied");
        }
        as_nobody("mkdir \"$1/$2/snapshots/mine\"", &mount, &victim).fails_with("Permission denied");
        assert!(mount.log().contains("may not read it"), "{}", mount.log());
        mount.dump(victim.pid(), &mount.snap("of_root"));
        drop(mount);
        victim.go(1);
        assert_eq!(victim.event(1), Event::Ok);
        victim.finish();
    }
}

/// What a process may not read itself is not for its user because an image has it.
#[test]
fn an_image_shows_nothing_that_its_user_may_not_read() {
    for (what, sentence, files) in [
        ("file", "is open for writing only, and its process may not read it", &["image"][..]),
        ("queue", "the processes that use it may not read it", &["image"]),
        ("thread", "it has other credentials than its process", &["image", "core", "info.json", "maps"]),
    ] {
        let victim = Victim::ready(&Spec::c("not_its_own").user(0).arg(what));
        let mount = Mounted::over(victim.pid());
        for name in files {
            as_nobody(&format!("cat \"$1/$2/{name}\""), &mount, &victim).fails_with("Permission denied");
        }
        as_nobody("mkdir \"$1/$2/snapshots/mine\"", &mount, &victim).fails_with("Permission denied");
        assert!(mount.log().contains(sentence), "{sentence}: {}", mount.log());
        if files.len() == 1 {
            let _own = as_nobody("cat \"$1/$2/core\" \"$1/$2/info.json\" > /dev/null", &mount, &victim).success();
        }
        mount.dump(victim.pid(), &mount.snap("of_root"));
        drop(mount);
        victim.go(1);
        assert_eq!(victim.event(1), Event::Ok);
        if let Some(id) = victim.output().lines().find_map(|line| line.strip_prefix("queue ").map(str::to_owned)) {
            let _removed = tool::run(&["ipcrm", "-q", &id]).success();
        }
        victim.finish();
    }
}

/// A file that a process has open for writing only, and could open for reading as well, is its own.
#[test]
fn an_image_shows_what_its_user_could_read() {
    let victim = Victim::ready(&Spec::c("not_its_own").user(NOBODY).arg("own"));
    let mount = Mounted::over(victim.pid());
    let _read = as_nobody("cat \"$1/$2/image\" > /dev/null", &mount, &victim).success();
    drop(mount);
    victim.go(1);
    assert_eq!(victim.event(1), Event::Ok);
    victim.finish();
}
