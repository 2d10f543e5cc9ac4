//! A process that cannot be checkpointed yet is refused when its image is opened. The reader gets
//! EOPNOTSUPP, or EBUSY where another process traces it. A sentence that names the process and the
//! unsupported object is in the log, in `status` and in place of `info.json`. The process
//! continues.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::process::Stdio;

use ckptfs_tests::{Event, Mounted, Spec, Victim, process, pty, tool, wait};

pub const UNSUPPORTED: &str = "Operation not supported";

/// One row of the table: the kind of holder, and a word of the sentence that names the object.
macro_rules! refused {
    ($($name:ident: $word:literal;)*) => {
        $(#[test]
        fn $name() {
            refused(stringify!($name), $word);
        })*
    };
}

refused! {
    unix: "socket";
    tcp: "socket";
    udp: "socket";
    pidfd: "pidfd";
    ptmx: "ptmx";
    hidden_lock: "lock";
    memfd_lease: "lease";
    signal_parent: "not in the tree";
    dnotify: "signals from directory";
    unlinked_hidden: "hard link";
    path_gone: "gone";
    fifo_elsewhere: "fifo";
    fdinfo: "of one descriptor";
    fd_link: "of one descriptor";
    notification_pipe: "notification pipe";
    sysv_huge: "system v";
    undo_of_two: "shares with pid";
    undo_of_thread: "of one thread alone";
    timer_of_thread: "clock of a thread that does not show";
    timer_of_ended: "which has ended";
    lease_broken: "that is being broken";
    other_namespace: "a namespace that it is not in (uts:[";
    message_queue: "a posix message queue (/ckptfs-victim";
    secret_memory: "secret memory";
    secret_mapping: "secret memory";
    tracer_file: "a file of the kernel's tracer";
    protection_key: "protection key 1";
    no_vdso: "without vdso";
    vdso_part: "a part of its vdso";
    crowded: "vm.max_map_count";
    io_uring: "io_uring";
    userfaultfd: "userfaultfd";
    seccomp: "seccomp";
    pid_for_children: "another pid_for_children namespace";
    time_for_children: "another time_for_children namespace";
    time_apart: "another time";
    thread_net: "another net namespace";
}

fn refused(kind: &str, word: &str) {
    let victim = Victim::start(&Spec::c("holder").arg(kind));
    if victim.event(0) == Event::Ok {
        assert!(victim.output().contains("unavailable"), "{}", victim.output());
        return; // this kernel has no such thing
    }
    refuses(&victim, UNSUPPORTED, word);
    victim.go(1);
    assert_eq!(victim.event(1), Event::Ok);
    victim.finish();
}

/// Sentences that only a stopped process gives a reason for. docs/limits.md lists them.
const ONLY_STOPPED: [&str; 6] = [
    "an inotify instance has events that have not been read",
    "shares with pid",
    "of one thread alone",
    "clock of a thread that does not show",
    "which is shared",
    "the copy is shorter",
];

/// Every open of the image fails with `message`, and the log, `status` and `info.json` contain the
/// sentence.
pub fn refuses(victim: &Victim, message: &str, word: &str) {
    let mount = Mounted::over(victim.pid());
    for _ in 0..2 {
        tool::run(&["cat".into(), mount.of(victim.pid(), "image")]).fails_with(message);
    }
    let told = |text: String| {
        text.lines().any(|line| line.contains(&victim.pid().to_string()) && line.to_lowercase().contains(word))
    };
    assert!(told(mount.log()), "the log does not say why:\n{}", mount.log());
    let status = fs::read_to_string(mount.file("status")).unwrap().replace('\n', " ");
    assert!(told(status.clone()), "status does not say why:\n{status}");
    // `info.json` has the sentence only for a process that is not supported. For one that another
    // process traces at this moment it has neither the sentence nor its usual content.
    if message == UNSUPPORTED {
        let info = fs::read_to_string(mount.of(victim.pid(), "info.json")).unwrap().replace('\n', " ");
        assert!(told(info.clone()), "info.json does not say why:\n{info}");
    }
    // Without a stop, `check` has the same sentence.
    let check = fs::read_to_string(mount.of(victim.pid(), "check")).unwrap();
    let last = mount.status()["last_error"][victim.pid().to_string()].as_str().unwrap().to_owned();
    assert_eq!(check.lines().any(|line| line == last), !ONLY_STOPPED.contains(&word), "{last}\nin check:\n{check}");
    // Its own tracer, if it has one, may stop it for a moment.
    wait::until("the process goes on", || matches!(process::state(victim.pid()), Some('R' | 'S')));
    assert_eq!(process::status(victim.pid(), "TracerPid").as_deref(), tracer(victim).as_deref());
}

fn tracer(victim: &Victim) -> Option<String> {
    // An earlier tracer still traces it. The daemon does not trace a process that it refused.
    let tracer = fs::read_to_string(victim.dir().join("tracer")).unwrap_or("0".into());
    Some(tracer)
}

/// A program that reads its events is soon in another state.
#[test]
fn inotify_unread() {
    let victim = Victim::ready(&Spec::c("holder").arg("inotify_unread"));
    refuses(&victim, "Device or resource busy", "an inotify instance has events that have not been read");
    victim.go(1);
    assert_eq!(victim.event(1), Event::Ok);
    victim.finish();
}

#[test]
fn traced_already() {
    let victim = Victim::ready(&Spec::c("counter"));
    let mut tracer = tool::command(&["strace", "-f", "-p", &victim.pid().to_string()]);
    let mut tracer = tracer.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait::until("the tracer holds the victim", || {
        process::status(victim.pid(), "TracerPid").is_some_and(|tracer| tracer != "0")
    });
    let holder = process::status(victim.pid(), "TracerPid").unwrap();
    fs::write(victim.dir().join("tracer"), &holder).unwrap();
    refuses(&victim, "Device or resource busy", &holder);
    process::kill(holder.parse().unwrap(), nix::sys::signal::Signal::SIGTERM);
    tracer.wait().unwrap();
    victim.go(1);
    assert_eq!(victim.event(1), Event::Ready(2));
    victim.go(2);
    assert_eq!(victim.event(2), Event::Ok);
    victim.finish();
}

/// A terminal that was hung up cannot be opened again at the restore.
#[test]
fn hung_up() {
    let (_master, slave) = pty::open();
    let victim = Victim::ready(&Spec::c("holder").arg("hung_up").terminal(slave));
    refuses(&victim, UNSUPPORTED, "hung up");
    victim.go(1);
    assert_eq!(victim.event(1), Event::Ok);
    victim.finish();
}

/// A process that waits in vfork(2) cannot be stopped before its child execs or exits. The refusal
/// names both. The other processes are stopped only for a moment.
#[test]
fn vfork_parent() {
    let victim = Victim::ready(&Spec::c("vfork_parent"));
    let parent = process::children(victim.pid())[0];
    let child = process::children(parent)[0];
    let mount = Mounted::with(&["--tree", &victim.pid().to_string(), "-o", "freeze-timeout=1"]);
    tool::run(&["cat".into(), mount.of(victim.pid(), "image")]).fails_with(UNSUPPORTED);
    let sentence = format!("pid {parent}: it waits in vfork(2) for pid {child}");
    assert!(mount.log().contains(&sentence), "the log does not say why:\n{}", mount.log());
    let info = fs::read_to_string(mount.of(victim.pid(), "info.json")).unwrap();
    assert!(info.contains(&sentence), "info.json does not say why:\n{info}");
    let check = fs::read_to_string(mount.of(victim.pid(), "check")).unwrap();
    assert!(check.lines().any(|line| line == sentence), "check does not say why:\n{check}");
    for pid in [victim.pid(), parent, child] {
        wait::until("it is not traced", || process::status(pid, "TracerPid").as_deref() == Some("0"));
    }
    victim.go(1);
    assert_eq!(victim.event(1), Event::Ok);
    victim.finish();
}

/// The dump refuses what a restore could not do. Here a job is stopped without the shell that
/// controls it, and a stop signal of the terminal does not stop a process of an orphaned group.
#[test]
fn job_below() {
    let victim = Victim::ready(&Spec::c("job_below"));
    let job = process::children(victim.pid())[0];
    let below = process::children(job)[0];
    let mount = Mounted::over(victim.pid());
    tool::run(&["cat".into(), mount.of(job, "image")]).fails_with(UNSUPPORTED);
    let sentence = format!("pid {below}: stopped by SIGTSTP, and its parent has not asked for that yet");
    assert!(mount.log().contains(&sentence), "the log does not say why:\n{}", mount.log());
    for pid in [job, below] {
        wait::until("it is stopped as before", || process::state(pid) == Some('T'));
    }
    // With the shell it is one tree, and the group is not orphaned.
    mount.dump(victim.pid(), &mount.snap("whole"));
    victim.go(1);
    assert_eq!(victim.event(1), Event::Ok);
    victim.finish();
}

/// An object that is shared with a process outside the tree would be lost, whichever process that
/// is.
#[test]
fn outsiders_share() {
    let victim = Victim::ready(&Spec::c("outsiders_share"));
    let children = process::children(victim.pid());
    let has_children = |pid: &&i32| !process::children(**pid).is_empty();
    let middle = *children.iter().find(has_children).expect("the parent of the two");
    let orphan = *children.iter().find(|pid| **pid != middle).expect("the orphan");
    let pair = process::children(middle);
    assert_eq!((children.len(), pair.len()), (2, 2));
    let mount = Mounted::over(victim.pid());
    let three = [pair[0], pair[1], orphan];
    for root in three {
        tool::run(&["cat".into(), mount.of(root, "image")]).fails_with(UNSUPPORTED);
        let log = mount.log();
        let names = |other: &i32| {
            log.contains(&format!(
                "pid {root}: it shares its descriptor table with pid {other}, which is outside the tree"
            ))
        };
        assert!(three.iter().any(names), "the log does not say why:\n{log}");
        let check = fs::read_to_string(mount.of(root, "check")).unwrap();
        let begins = format!("pid {root}: it shares its descriptor table with pid ");
        assert!(check.lines().any(|line| line.starts_with(&begins)), "check does not say why:\n{check}");
    }
    victim.go(1);
    assert_eq!(victim.event(1), Event::Ok);
    victim.finish();
}
