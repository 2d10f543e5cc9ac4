//! The process that is measured (victims/heap.c), and the times that it prints.

use std::fs::File;
use std::time::Duration;

use ckptfs_tests::{Event, Mounted, Spec, Victim, process, wait};
use nix::time::{ClockId, clock_gettime};

/// A running heap and a mount over it.
pub struct Subject {
    victim: Victim,
    mount: Mounted,
    stops: u32,
}

/// One stop, measured by two clocks.
#[derive(Clone, Copy, Debug)]
pub struct Stop {
    /// `stopped_us` of info.json.
    pub told: Duration,
    /// The longest time that the process's spinning thread lost while the image was opened.
    pub lost: Duration,
}

fn spec(mib: u64, forks: usize, stops: usize) -> Spec {
    [mib, forks as u64, stops as u64].iter().fold(Spec::c("heap"), |spec, number| spec.arg(number.to_string()))
}

/// How long a process needs to touch this much fresh memory.
pub fn touch(mib: u64) -> Duration {
    let mut victim = Victim::ready(&spec(mib, 0, 0));
    let touched = told(&victim, "touch");
    victim.kill();
    touched[0]
}

/// The times in the lines that begin with `word`.
fn told(victim: &Victim, word: &str) -> Vec<Duration> {
    let output = victim.output();
    let times = output.lines().filter_map(|line| line.strip_prefix(word)?.strip_prefix(' ')?.parse().ok());
    times.map(Duration::from_nanos).collect()
}

fn now() -> Duration {
    clock_gettime(ClockId::CLOCK_MONOTONIC).expect("reading the clock").into()
}

/// The time between two stops. The kernel must have dropped what the last stop cached, because most
/// backups run alone.
const APART: Duration = Duration::from_millis(200);

impl Subject {
    /// Starts a process that forks `runs` times and can be stopped `runs` times.
    pub fn start(mib: u64, runs: usize) -> Subject {
        let victim = Victim::ready(&spec(mib, runs, runs));
        let mount = Mounted::over(victim.pid());
        Subject { victim, mount, stops: u32::try_from(runs).expect("a small number") }
    }

    /// The mount.
    pub fn mount(&self) -> &Mounted {
        &self.mount
    }

    /// The process.
    pub fn victim(&mut self) -> &mut Victim {
        &mut self.victim
    }

    /// The times of its own forks.
    pub fn forks(&self) -> Vec<Duration> {
        told(&self.victim, "fork")
    }

    /// Stops it `runs` times. Its spinning thread has ended afterwards.
    pub fn stops(&self) -> Vec<Stop> {
        let stops = (1..=self.stops).map(|n| self.stop(n)).collect();
        assert_eq!(self.victim.event(self.stops), Event::Ready(self.stops + 1));
        stops
    }

    fn stop(&self, n: u32) -> Stop {
        assert_eq!(self.victim.event(n - 1), Event::Ready(n));
        std::thread::sleep(APART);
        let from = now();
        let image = File::open(self.mount.of(self.victim.pid(), "image")).expect("opening the image");
        let upto = now();
        let info = std::fs::read(self.mount.of(self.victim.pid(), "info.json")).expect("reading info.json");
        drop(image);
        self.settled();
        self.victim.go(n);
        let end = format!("told {n}");
        wait::until("the gaps are printed", || self.victim.output().lines().any(|line| line == end));
        let info: serde_json::Value = serde_json::from_slice(&info).expect("decoding info.json");
        let told = Duration::from_micros(info["stopped_us"].as_u64().expect("stopped_us"));
        // The process's clock is that of the whole machine, so gaps outside this stop can be
        // excluded.
        let gaps = self.gaps();
        let within = gaps.iter().filter(|(start, length)| *start < upto && start.saturating_add(*length) > from);
        Stop { told, lost: within.map(|(_, length)| *length).max().unwrap_or_default() }
    }

    fn gaps(&self) -> Vec<(Duration, Duration)> {
        let output = self.victim.output();
        let gaps = output.lines().filter_map(|line| {
            let (start, length) = line.strip_prefix("gap ")?.split_once(' ')?;
            Some((Duration::from_nanos(start.parse().ok()?), Duration::from_nanos(length.parse().ok()?)))
        });
        gaps.collect()
    }

    /// Waits until the last snapshot is gone.
    pub fn settled(&self) {
        let pid = self.victim.pid();
        wait::until("the snapshot's child is gone", || process::children(pid).is_empty());
    }

    /// Lets it check its memory and end.
    pub fn finish(self) {
        let last = self.stops + 1;
        self.victim.go(last);
        assert_eq!(self.victim.event(last), Event::Ok);
        self.victim.finish();
    }
}
