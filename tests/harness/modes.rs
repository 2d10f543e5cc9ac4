//! The four ways in which every victim must come through. A victim that fails without a checkpoint is wrong itself.

use std::path::PathBuf;

use crate::victim::{Event, Spec, Victim};
use crate::{Mounted, build, process, tool};

/// What happens to a victim wherever it says `ready`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Nothing.
    Untouched,
    /// It is dumped three times and goes on by itself.
    Dumped,
    /// It is dumped, killed and restored.
    Restored,
    /// It is dumped, killed and restored, and the restored one once more.
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

/// Does to a waiting victim what the mode says.
pub fn checkpoint(victim: &mut Victim, mode: Mode) {
    match mode {
        Mode::Untouched => {}
        Mode::Dumped => dump(victim, 3),
        Mode::Restored => cycle(victim, 1),
        Mode::RestoredTwice => cycle(victim, 2),
    }
}

/// Dumps a victim that goes on: the images must be whole, and nothing may be left beside it.
pub fn dump(victim: &Victim, times: usize) {
    let mount = Mounted::over(victim.pid());
    for _ in 0..times {
        let snap = mount.snap("snap");
        mount.dump(victim.pid(), &snap);
        let _whole = tool::run(&[build::ckptfs(), PathBuf::from("verify"), snap]).success();
        assert!(process::is_alive(victim.pid()), "the victim did not live through its dump");
    }
}

/// Dumps, kills and restores a victim, `times` in a row, on one mount.
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

/// The four tests of a victim, in a module of its name: `survives!(tls);`, or with what makes it special:
/// `survives!(counter_static, Spec::c("counter").link(Link::Static));`.
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

/// The four tests of whatever takes a [`Mode`].
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
