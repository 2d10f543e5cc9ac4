//! Slopes: what one more descriptor, thread, process or mapping costs in a small and in a large
//! process. If the cost is linear, the last column is at most about 1.

use std::time::{Duration, Instant};

use ckptfs_tests::{Event, Mounted, Spec, Victim};

use crate::table::{self, median, ms};
use crate::transfer;

/// Kinds of the victim `many`, the larger count, and how often each is measured.
const KINDS: [(&str, u32, usize); 6] = [
    ("files", 19_000, 3),
    ("eventfds", 4000, 3),
    ("locks", 1000, 3),
    ("threads", 1000, 3),
    ("processes", 500, 3),
    ("mappings", 20_000, 3),
];

/// The smaller count is this part of the larger one.
const PART: u32 = 10;

/// The times of one process or tree: stopped, dumped, restored.
type Times = [Duration; 3];

/// Dumps and restores processes with few and with many of each kind.
pub fn bench() {
    table::head(&[
        "kind",
        "count",
        "stopped, for each",
        "dumped, for each",
        "restored, for each",
        "slopes, to a tenth",
    ]);
    for (kind, most, runs) in KINDS {
        let few = measure(kind, most / PART, runs);
        let many = measure(kind, most, runs);
        let each = |times: Times, count: u32| times.map(|time| format!("{} us", us(time, count)));
        let slope = |at: usize| many[at].as_secs_f64() / f64::from(PART) / few[at].as_secs_f64();
        let [stopped, dumped, restored] = each(few, most / PART);
        table::row(&[kind.to_owned(), (most / PART).to_string(), stopped, dumped, restored, String::new()]);
        let [stopped, dumped, restored] = each(many, most);
        let slopes = format!("{:.2} {:.2} {:.2}", slope(0), slope(1), slope(2));
        table::row(&[String::new(), most.to_string(), stopped, dumped, restored, slopes]);
    }
}

fn us(time: Duration, count: u32) -> String {
    ms(time * 1000 / count)
}

/// The medians for a process with `count` of a kind.
fn measure(kind: &str, count: u32, runs: usize) -> Times {
    let mut victim = Victim::ready(&Spec::c("many").arg(kind).arg(count.to_string()));
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
    victim.go(1);
    assert_eq!(victim.event(1), Event::Ok);
    victim.finish();
    [median(stopped), median(dumped), median(restored)]
}
