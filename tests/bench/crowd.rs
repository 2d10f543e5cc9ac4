//! Trees of many small processes: the cost of each process.

use std::time::{Duration, Instant};

use ckptfs_tests::{Event, Mounted, Spec, Victim};

use crate::table::{self, median, ms};
use crate::transfer;

/// How many processes a tree has, and how often it is measured.
const CROWDS: [(u32, usize); 3] = [(5, 5), (50, 5), (500, 3)];

/// Dumps and restores trees with growing numbers of processes.
pub fn bench() {
    table::head(&["processes", "stopped, for each", "dumped, for each", "restored, for each"]);
    for (count, runs) in CROWDS {
        let mut victim = Victim::ready(&Spec::c("crowd").arg(count.to_string()));
        let mount = Mounted::over(victim.pid());
        let (image, snap) = (mount.of(victim.pid(), "image"), mount.snap("snap"));
        let (mut stopped, mut dumped, mut restored) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..runs {
            let begun = Instant::now();
            transfer::copy(&image, &snap);
            dumped.push(begun.elapsed());
            let freezes = mount.status()["freezes"].as_array().expect("freezes").clone();
            let last = freezes.last().and_then(|freeze| freeze["stopped_ms"].as_f64()).expect("a time");
            stopped.push(Duration::from_secs_f64(last / 1e3));
            victim.kill();
            restored.push(transfer::copy(&snap, &mount.file("restore")));
        }
        let each = |times: Vec<Duration>| format!("{} ms", ms(median(times) / (count + 1)));
        table::row(&[(count + 1).to_string(), each(stopped), each(dumped), each(restored)]);
        victim.go(1);
        assert_eq!(victim.event(1), Event::Ok);
        victim.finish();
    }
}
