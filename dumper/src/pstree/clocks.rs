//! The clocks that a tree sees: CLOCK_MONOTONIC and CLOCK_BOOTTIME, which a time namespace may have
//! moved (time_namespaces(7)).
//!
//! Both count from the boot of the machine. On a machine that booted later they are behind, and a
//! process that sleeps until a point of them would sleep for days. There the tree gets a time
//! namespace, in which they go on from the instant of the image.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::options::ClockRule;
use crate::sys::clock::clock_ns;
use crate::sys::pid::Pid;
use crate::sys::proc;

/// What the clocks show at one instant. The record of the tree holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clocks {
    /// CLOCK_MONOTONIC, in ns.
    pub monotonic_ns: i64,
    /// CLOCK_BOOTTIME, in ns.
    pub boottime_ns: i64,
}

/// By how much a time namespace has moved its clocks from those of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Offsets(Clocks);

impl Clocks {
    /// What this program sees now.
    pub fn now() -> Self {
        let clock = |id| i64::try_from(clock_ns(id)).unwrap_or(i64::MAX);
        Self { monotonic_ns: clock(libc::CLOCK_MONOTONIC), boottime_ns: clock(libc::CLOCK_BOOTTIME) }
    }

    /// What a process sees now, in whatever time namespace.
    pub fn now_of(pid: Pid) -> Result<Self> {
        let (Offsets(own), Offsets(its)) = (Offsets::of("self")?, Offsets::of(&pid.to_string())?);
        Ok(Self::now().plus(its.minus(own)))
    }

    /// The clocks that a restored tree gets, if they are not those of this program. `self` is from
    /// the image.
    ///
    /// # Errors
    /// The clocks are behind, and the rule refuses that. The image has no sensible clocks.
    pub fn to_continue(self, now: Self, rule: ClockRule) -> Result<Option<Self>> {
        let range = 0..=i64::MAX / 4;
        if !range.contains(&self.monotonic_ns) || !range.contains(&self.boottime_ns) {
            return Err(Error::damaged(format!("the clocks of the image: {self:?}")));
        }
        let is_behind = now.monotonic_ns < self.monotonic_ns || now.boottime_ns < self.boottime_ns;
        match rule {
            ClockRule::Refuse if is_behind => Err(Error::unsupported(format!(
                "CLOCK_MONOTONIC and CLOCK_BOOTTIME are at {} s and {} s here, and were at {} s and {} s: they must not go back, and with -o clock=auto they go on in a time namespace",
                now.monotonic_ns / SECOND,
                now.boottime_ns / SECOND,
                self.monotonic_ns / SECOND,
                self.boottime_ns / SECOND
            ))),
            ClockRule::Auto if is_behind => Ok(Some(self)),
            ClockRule::Continue => Ok(Some(self)),
            ClockRule::Auto | ClockRule::Host | ClockRule::Refuse => Ok(None),
        }
    }

    /// The lines of /proc/PID/timens_offsets for a new time namespace in which the clocks show this
    /// at the instant `now` of this program.
    pub fn offsets(self, now: Self) -> Result<String> {
        let Offsets(own) = Offsets::of("self")?;
        Ok(Offsets(self.minus(now).plus(own)).to_string())
    }

    fn plus(self, other: Self) -> Self {
        Self {
            monotonic_ns: self.monotonic_ns.saturating_add(other.monotonic_ns),
            boottime_ns: self.boottime_ns.saturating_add(other.boottime_ns),
        }
    }

    fn minus(self, other: Self) -> Self {
        Self {
            monotonic_ns: self.monotonic_ns.saturating_sub(other.monotonic_ns),
            boottime_ns: self.boottime_ns.saturating_sub(other.boottime_ns),
        }
    }
}

const SECOND: i64 = 1_000_000_000;

impl Offsets {
    /// Those of the namespace that the children of a process are born in. All zero on a kernel
    /// without time namespaces.
    fn of(process: &str) -> Result<Self> {
        let path = format!("/proc/{process}/timens_offsets");
        let text = match proc::read_text(&path) {
            Err(error) if error.errno() == Some(libc::ENOENT) && proc::read_text("/proc/self/stat").is_ok() => {
                String::new()
            }
            text => text?,
        };
        Ok(Self::parse(&text))
    }

    fn parse(text: &str) -> Self {
        let of = |name: &str| {
            let mut words = text.lines().map(str::split_ascii_whitespace);
            let mut words = words.find_map(|mut words| (words.next() == Some(name)).then_some(words))?;
            let mut number = || words.next()?.parse::<i64>().ok();
            Some(number()? * SECOND + number()?)
        };
        let of = |name| of(name).unwrap_or(0);
        Self(Clocks { monotonic_ns: of("monotonic"), boottime_ns: of("boottime") })
    }
}

impl std::fmt::Display for Offsets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self(Clocks { monotonic_ns, boottime_ns }) = self;
        for (name, ns) in [("monotonic", monotonic_ns), ("boottime", boottime_ns)] {
            writeln!(f, "{name} {} {}", ns.div_euclid(SECOND), ns.rem_euclid(SECOND))?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn clocks(monotonic_ns: i64, boottime_ns: i64) -> Clocks {
        Clocks { monotonic_ns, boottime_ns }
    }

    #[test]
    fn offsets_are_written_as_they_are_read() {
        let text = "monotonic           1         5\nboottime           -2         999999999\n";
        let offsets = Offsets::parse(text);
        assert_eq!(offsets, Offsets(clocks(SECOND + 5, -SECOND - 1)));
        assert_eq!(Offsets::parse(&offsets.to_string()), offsets);
        assert_eq!(Offsets::parse(""), Offsets(clocks(0, 0)));
    }

    #[test]
    fn the_rule_decides_about_clocks_that_are_behind() {
        let (image, behind, ahead) = (clocks(100, 200), clocks(100, 199), clocks(100, 200));
        let decides = |now, rule| image.to_continue(now, rule).map_err(|_| ());
        assert_eq!(decides(behind, ClockRule::Auto), Ok(Some(image)));
        assert_eq!(decides(ahead, ClockRule::Auto), Ok(None));
        assert_eq!(decides(behind, ClockRule::Host), Ok(None));
        assert_eq!(decides(ahead, ClockRule::Continue), Ok(Some(image)));
        assert_eq!(decides(behind, ClockRule::Refuse), Err(()));
        assert_eq!(decides(ahead, ClockRule::Refuse), Ok(None));
        assert!(clocks(-1, 0).to_continue(ahead, ClockRule::Host).is_err());
        assert!(clocks(0, i64::MAX).to_continue(ahead, ClockRule::Host).is_err());
    }

    #[test]
    fn the_clocks_of_this_process_are_its_own() {
        let before = Clocks::now();
        let seen = Clocks::now_of(std::process::id() as Pid).unwrap();
        let after = Clocks::now();
        assert!(before.monotonic_ns <= seen.monotonic_ns && seen.boottime_ns <= after.boottime_ns);
    }
}
