//! A stop is bounded, whatever the process holds, and ends with the reader that waits for it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::process::{Child, Command, Stdio};

use ckptfs_tests::{Event, Mounted, Spec, Victim, process, tool, wait};
use nix::sys::signal::Signal;

/// A process with so many eventfds that nearly all of its stop is the look at them.
fn with_eventfds() -> Victim {
    Victim::ready(&Spec::c("many").arg("eventfds").arg("19000"))
}

/// A mount over it that lets it stand still for so many seconds.
fn over(victim: &Victim, timeout: f64) -> Mounted {
    let options = format!("freeze-timeout={timeout}");
    Mounted::with(&["--tree", &victim.pid().to_string(), "-o", &options])
}

/// For how many ms a dump stops it on this machine.
fn stopped_ms(victim: &Victim) -> f64 {
    let mount = over(victim, 600.0);
    mount.dump(victim.pid(), &mount.snap("snap"));
    let freezes = mount.status()["freezes"].as_array().unwrap().clone();
    freezes.last().unwrap()["stopped_ms"].as_f64().unwrap()
}

fn reads(victim: &Victim, mount: &Mounted) -> Child {
    let mut cat = Command::new("cat");
    cat.arg(mount.of(victim.pid(), "image")).stdout(Stdio::null()).spawn().unwrap()
}

/// Nobody traces it or holds it stopped, and what it holds still works.
fn is_unharmed(victim: Victim) {
    let is_free = || process::status(victim.pid(), "TracerPid").as_deref() == Some("0");
    wait::until("it is let go", || is_free() && process::state(victim.pid()) != Some('t'));
    victim.go(1);
    assert_eq!(victim.event(1), Event::Ok);
    victim.finish();
}

#[test]
fn what_cannot_be_examined_in_time_goes_on() {
    let victim = with_eventfds();
    let takes = stopped_ms(&victim);
    // A third of the time that it takes, in whole ms; less if that was a busy moment.
    let is_refused = [3.0, 10.0, 30.0, 100.0].into_iter().any(|part| {
        let timeout = (takes / part).ceil() / 1000.0;
        let mount = over(&victim, timeout);
        let output = tool::run(&["cat".into(), mount.of(victim.pid(), "image")]);
        if output.code != 0 {
            output.fails_with("Connection timed out");
            let log = mount.log();
            assert!(log.contains(&format!("within {timeout} s (freeze-timeout)")), "{log}");
        }
        output.code != 0
    });
    assert!(is_refused, "it was dumped in a hundredth of {takes} ms");
    is_unharmed(victim);
}

/// The reader sleeps in open(2) until it is answered. Its end is noticed while the descriptors are
/// examined, unless all were examined before: then another one tries.
#[test]
fn a_reader_that_is_killed_ends_the_stop() {
    let victim = with_eventfds();
    let mount = over(&victim, 600.0);
    let is_noticed = (0..ATTEMPTS).any(|_| {
        let mut reader = reads(&victim, &mount);
        wait::until_at_once("it is stopped", || process::state(victim.pid()) == Some('t'));
        process::kill(reader.id() as i32, Signal::SIGINT);
        wait::until("the reader ends", || reader.try_wait().unwrap().is_some());
        mount.log().contains("which waited for the snapshot, was killed")
    });
    assert!(is_noticed, "{}", mount.log());
    is_unharmed(victim);
}

/// How many readers are killed.
const ATTEMPTS: u32 = 20;

/// The same while a process is waited for that does not stop.
#[test]
fn a_reader_that_is_killed_ends_the_wait_for_a_stop() {
    let victim = Victim::ready(&Spec::c("vforked"));
    let mount = Mounted::with(&["--tree", &victim.pid().to_string(), "-o", "freeze-timeout=600"]);
    let mut reader = reads(&victim, &mount);
    let is_traced = || process::status(victim.pid(), "TracerPid").is_some_and(|tracer| tracer != "0");
    wait::until_at_once("it is asked to stop", is_traced);
    process::kill(reader.id() as i32, Signal::SIGKILL);
    wait::until("the reader ends", || reader.try_wait().unwrap().is_some());
    is_unharmed(victim);
}
