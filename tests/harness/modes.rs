//! The four modes in which every victim must work. A victim that fails without a checkpoint is
//! itself wrong.

use std::path::PathBuf;

use crate::victim::{Event, Spec, Victim};
use crate::{Mounted, build, process, tool};

/// What happens to a victim each time it prints `ready`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Nothing.
    Untouched,
    /// It is dumped three times and continues without a restore.
    Dumped,
    /// It is dumped, killed and restored.
    Restored,
    /// It is dumped, killed and restored; the restored one is dumped, killed and restored again.
    RestoredTwice,
}

/// Runs a victim from start to end in one mode.
pub fn run(spec: &Spec, mode: Mode) {
    let mut victim = Victim::start(spec);
    let mut seen = 0;
    while let Event::Ready(n) = victim.event(seen) {
        checkpoint(&mut victim, mode);
        victim.go(n);
        seen = n;
    }
    assert!(seen > 0, "the victim never said where to checkpoint it");
    victim.finish();
}

/// Does what the mode asks for to a waiting victim.
pub fn checkpoint(victim: &mut Victim, mode: Mode) {
    match mode {
        Mode::Untouched => {}
        Mode::Dumped => dump(victim, 3),
        Mode::Restored => cycle(victim, 1),
        Mode::RestoredTwice => cycle(victim, 2),
    }
}

/// Dumps a victim that continues. The images must be complete, and no other process may be left.
pub fn dump(victim: &Victim, times: usize) {
    let mount = Mounted::over(victim.pid());
    for _ in 0..times {
        let snap = mount.snap("snap");
        mount.dump(victim.pid(), &snap);
        let _whole = tool::run(&[build::ckptfs(), PathBuf::from("verify"), snap]).success();
        assert!(process::is_alive(victim.pid()), "the victim did not live through its dump");
    }
}

/// Dumps, kills and restores a victim `times` times, on one mount.
pub fn cycle(victim: &mut Victim, times: usize) {
    let mount = Mounted::over(victim.pid());
    for _ in 0..times {
        let snap = mount.snap("snap");
        mount.dump(victim.pid(), &snap);
        victim.kill();
        mount.restore(&snap);
        assert!(victim.is_here(), "after the restore pid {} is not the victim", victim.pid());
    }
}

/// The four tests of a victim, in a module of its name: `survives!(tls);`. A second argument gives
/// its options: `survives!(counter_static, Spec::c("counter").link(Link::Static));`.
#[macro_export]
macro_rules! survives {
    ($name:ident) => {
        $crate::survives!(@tests $name, $crate::Spec::c(stringify!($name)),);
    };
    ($name:ident, $spec:expr) => {
        $crate::survives!(@tests $name, $spec, use super::*;);
    };
    (@tests $name:ident, $spec:expr, $($import:item)?) => {
        mod $name {
            $($import)?
            $crate::in_four_modes!(|mode| $crate::modes::run(&$spec, mode));
        }
    };
}

/// The four tests of a function that takes a [`Mode`].
#[macro_export]
macro_rules! in_four_modes {
    ($run:expr) => {
        #[test]
        fn untouched() {
            ($run)($crate::Mode::Untouched);
        }
        #[test]
        fn dumped_three_times() {
            ($run)($crate::Mode::Dumped);
        }
        #[test]
        fn restored() {
            ($run)($crate::Mode::Restored);
        }
        #[test]
        fn restored_twice() {
            ($run)($crate::Mode::RestoredTwice);
        }
    };
}
