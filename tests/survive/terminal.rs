//! The controlling terminal comes back by its path. The harness holds the master side; killing the session's leader hangs the terminal
//! up, and the restored leader opens it anew.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::Read;

use ckptfs_tests::{Event, Mode, Spec, Victim, modes};
use nix::fcntl::OFlag;
use nix::pty::{PtyMaster, grantpt, posix_openpt, ptsname_r, unlockpt};

fn run(mode: Mode) {
    let mut master: PtyMaster = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let slave = ptsname_r(&master).unwrap();
    let mut victim = Victim::ready(&Spec::c("terminal").terminal(slave.into()));
    modes::checkpoint(&mut victim, mode);
    victim.go(1);
    assert_eq!(victim.event(1), Event::Ok);
    victim.finish();
    let mut text = [0; 4];
    master.read_exact(&mut text).unwrap();
    assert_eq!(&text, b"seen");
}

#[test]
fn untouched() {
    run(Mode::Untouched);
}

#[test]
fn dumped_three_times() {
    run(Mode::Dumped);
}

#[test]
fn restored() {
    run(Mode::Restored);
}

#[test]
fn restored_twice() {
    run(Mode::RestoredTwice);
}
