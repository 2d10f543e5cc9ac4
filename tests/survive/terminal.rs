//! The controlling terminal is restored by its path. The harness holds the master side. Killing the
//! session leader hangs up the terminal, and the restored leader opens it again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{Read, Write};

use ckptfs_tests::{Event, Mode, Spec, Victim, modes, pty, wait};

fn run(name: &str, mode: Mode) {
    let (mut master, slave) = pty::open();
    let mut victim = Victim::ready(&Spec::c(name).terminal(slave));
    modes::checkpoint(&mut victim, mode);
    victim.go(1);
    if name == "terminal_async" {
        wait::until("the victim listens", || victim.output().contains("listening"));
        master.write_all(b"typed\n").unwrap();
    }
    assert_eq!(victim.event(1), Event::Ok);
    victim.finish();
    if name == "terminal" {
        let mut text = [0; 4];
        master.read_exact(&mut text).unwrap();
        assert_eq!(&text, b"seen");
    }
}

#[test]
fn untouched() {
    run("terminal", Mode::Untouched);
    run("terminal_async", Mode::Untouched);
    run("terminal_jobs", Mode::Untouched);
}

#[test]
fn dumped_three_times() {
    run("terminal", Mode::Dumped);
    run("terminal_async", Mode::Dumped);
    run("terminal_jobs", Mode::Dumped);
}

#[test]
fn restored() {
    run("terminal", Mode::Restored);
    run("terminal_async", Mode::Restored);
    run("terminal_jobs", Mode::Restored);
}

#[test]
fn restored_twice() {
    run("terminal", Mode::RestoredTwice);
    run("terminal_async", Mode::RestoredTwice);
    run("terminal_jobs", Mode::RestoredTwice);
}
