//! Ordinary users that take what all users of a mount share. Each has a bound, and root a share of
//! its own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs::{self, File};

use ckptfs_tests::{Event, Mounted, NOBODY, Spec, Victim, process, tool, wait};

use crate::{as_nobody, ends_well, worker};

/// A worker of `nobody` and a mount over it with these options.
fn of_nobody(options: &str) -> (Victim, Mounted) {
    let victim = Victim::ready(&Spec::c("worker").user(NOBODY));
    let options = format!("freeze-timeout=120,{options}");
    let mount = Mounted::with(&["--tree", &victim.pid().to_string(), "-o", &options]);
    (victim, mount)
}

fn memory_of(daemon: i32) -> u64 {
    let text = process::status(daemon, "VmRSS").unwrap();
    text.trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

/// A removed snapshot counts until the last file of it is closed: until then it takes what it took.
#[test]
fn a_user_pins_half_and_leaves_a_share_for_root() {
    let (victim, mount) = of_nobody("pinned-max=4");
    let script = r#"
        cd "$1/$2/snapshots"
        mkdir one two
        ! mkdir three 2> /dev/null
        exec 3< two/image
        rmdir two
        ! mkdir three 2> /dev/null
        cat <&3 > /dev/null
        exec 3<&-
        for n in {1..300}; do mkdir three 2> /dev/null && exit 0; sleep 0.1; done
        exit 1
    "#;
    let _bounded = as_nobody(script, &mount, &victim).success();
    let log = mount.log();
    assert!(log.contains(&format!("user {NOBODY} has pinned 2 snapshots already, half of -o pinned-max=4")), "{log}");
    let pin = |name: &str| fs::create_dir(mount.of(victim.pid(), "snapshots").join(name));
    pin("roots").unwrap();
    pin("roots_too").unwrap();
    let full = pin("roots_again").unwrap_err();
    assert_eq!(full.raw_os_error(), Some(nix::errno::Errno::ENOSPC as i32), "{full}");
    for name in ["one", "three", "roots", "roots_too"] {
        fs::remove_dir(mount.of(victim.pid(), "snapshots").join(name)).unwrap();
    }
    ends_well(victim);
}

/// Those that are being taken count as well.
#[test]
fn opens_at_the_same_time_are_bounded_too() {
    let (victim, mount) = of_nobody("");
    let script = r#"exec python3 -c '
import errno, os, sys, time
image, told, go = sys.argv[1], os.pipe(), os.pipe()
begin = os.pipe()
children = []
for n in range(48):
    child = os.fork()
    if child == 0:
        os.close(go[1]); os.close(begin[1])
        os.read(begin[0], 1)
        try:
            fd = os.open(image, os.O_RDONLY)
            os.write(told[1], b"o")
        except OSError as error:
            os.write(told[1], b"m" if error.errno == errno.EMFILE else b"x")
        os.read(go[0], 1)
        os._exit(0)
    children.append(child)
os.close(begin[1])
said = b""
while len(said) < 48: said += os.read(told[0], 48)
print("".join(sorted(said.decode())), flush=True)
open(sys.argv[2], "w").close()
while not os.path.exists(sys.argv[2] + ".done"): time.sleep(0.01)
' "$1/$2/image" "$3/opened""#;
    let dir = victim.dir().to_owned();
    std::thread::scope(|scope| {
        let attack = scope.spawn(|| as_nobody(script, &mount, &victim));
        wait::until("all have opened it or not", || dir.join("opened").exists() || attack.is_finished());
        mount.dump(victim.pid(), &mount.snap("of_root"));
        fs::write(dir.join("opened.done"), "").unwrap();
        let said = attack.join().unwrap().success().text();
        assert_eq!(said.trim(), format!("{}{}", "m".repeat(16), "o".repeat(32)));
    });
    ends_well(victim);
}

/// Each open file takes some memory of the daemon.
#[test]
fn a_user_has_a_bounded_number_of_files_open() {
    let (victim, mount) = of_nobody("");
    let script = r#"exec python3 -c '
import os, resource, sys, time
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
told, go = os.pipe(), os.pipe()
for n in range(6):
    if os.fork() == 0:
        os.close(go[1])
        files = []
        try:
            while len(files) < 900: files.append(os.open(sys.argv[1], os.O_RDONLY))
        except OSError: pass
        os.write(told[1], b"%4d" % len(files))
        os.read(go[0], 1)
        os._exit(0)
print(sum(int(os.read(told[0], 4)) for n in range(6)), flush=True)
open(sys.argv[2], "w").close()
while not os.path.exists(sys.argv[2] + ".done"): time.sleep(0.01)
' "$1/restore" "$3/opened""#;
    let dir = victim.dir().to_owned();
    std::thread::scope(|scope| {
        let attack = scope.spawn(|| as_nobody(script, &mount, &victim));
        wait::until("all is open", || dir.join("opened").exists() || attack.is_finished());
        assert!(mount.status()["counters"].is_object(), "root opens files as ever");
        fs::write(dir.join("opened.done"), "").unwrap();
        assert_eq!(attack.join().unwrap().success().text().trim(), "4096");
    });
    ends_well(victim);
}

/// The daemon holds descriptors for each process of a snapshot.
#[test]
fn a_user_leaves_descriptors_for_the_snapshots_of_others() {
    let victim = Victim::ready(&Spec::c("many").user(NOBODY).arg("processes").arg("11"));
    let mount = Mounted::over(victim.pid());
    // A user may have a sixteenth of it: 16 processes.
    let _lowered = tool::run(&["prlimit", "--pid", &mount.daemon().to_string(), "--nofile=256"]).success();
    let script = r#"
        exec 3< "$1/$2/image"
        bash -c 'exec 3<&-; cat "$1" > /dev/null' test "$1/$2/image"
    "#;
    as_nobody(script, &mount, &victim).fails_with("Too many open files");
    assert!(mount.log().contains(&format!("user {NOBODY} may have 16 processes in its snapshots")), "{}", mount.log());
    let held = File::open(mount.of(victim.pid(), "image")).unwrap();
    mount.dump(victim.pid(), &mount.snap("of_root"));
    drop(held);
    drop(mount);
    victim.go(1);
    assert_eq!(victim.event(1), Event::Ok);
    victim.finish();
}

/// Each tree that is held has a thread of the daemon.
#[test]
fn a_user_holds_no_more_trees_than_it_may() {
    let victim = Victim::ready(&Spec::c("many").user(NOBODY).arg("processes").arg("40"));
    let mount = Mounted::over(victim.pid());
    let script = r#"
        held=0
        for pid in $(cat "/proc/$2/task/$2/children"); do
            echo 1 > "$1/$pid/freeze" || { echo "$held"; exit 0; }
            held=$((held + 1))
        done
        exit 7
    "#;
    assert_eq!(as_nobody(script, &mount, &victim).success().text().trim(), "32");
    let known = as_nobody("cat \"$1/status\"", &mount, &victim).success().text();
    assert!(known.contains(&format!("user {NOBODY} holds 32 trees already")), "{known}");
    let others = process::children(victim.pid());
    let _held = mount.write(&mount.of(others[39], "freeze"), "1").success();
    drop(mount);
    victim.go(1);
    assert_eq!(victim.event(1), Event::Ok);
    victim.finish();
}

/// What is open shares the lines, however often it is open.
#[test]
fn opens_of_restore_take_no_memory() {
    let victim = worker();
    let mount = Mounted::over(victim.pid());
    for _ in 0..1000 {
        drop(File::options().write(true).open(mount.file("restore")).unwrap());
    }
    let text = || fs::read_to_string(mount.file("restore")).unwrap();
    wait::until("all attempts have ended", || text().lines().count() == 1000);
    let before = memory_of(mount.daemon());
    let open: Vec<File> = (0..800).map(|_| File::open(mount.file("restore")).unwrap()).collect();
    let grown = memory_of(mount.daemon()).saturating_sub(before);
    let copies = (open.len() * text().len()) as u64;
    assert!(copies > 64 << 20, "{copies} bytes in copies");
    assert!(grown < 16 << 20, "{grown} bytes");
    drop(open);
    ends_well(victim);
}
