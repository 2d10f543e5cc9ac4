//! The benchmark: `cargo run --release -p ckptfs-tests --bin bench`, run as root, prints a Markdown
//! table.
//!
//! Every figure is a ratio of two things that are measured in one run, one directly after the
//! other. Absolute times would depend more on the machine than on ckptfs. Memory is warmed first:
//! in a virtual machine the first touch of a page that the host has not provided yet is far slower
//! than later ones. Each figure is a median.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod null;
mod signed;
mod slopes;
mod subject;
mod table;
mod transfer;

use std::path::Path;
use std::time::Duration;

use ckptfs_tests::{Mounted, Spec, Victim, build, process, wait};

use null::Server;
use subject::Subject;
use table::{median, ms};
use transfer::{CAT, Pass, TAR};

/// Sizes in MiB, and how often each of them is measured.
const SIZES: [(u64, usize); 3] = [(4, 9), (256, 7), (2048, 3)];

/// The size at which the stopped time is also compared with the process's own clock, and how often.
const CLOCK: (u64, usize) = (1024, 5);

/// Memory to warm, in MiB: a process of the largest size, its image, and a second such process.
const WARM: u64 = 3 * 2048 + 512;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    match args.get(1).map(String::as_str) {
        None => bench(),
        Some("--signed") => signed::bench(),
        Some("--slopes") => slopes::bench(),
        Some("--null") if args.len() == 3 => null::serve(Path::new(&args[2])),
        Some(_) => panic!("usage: bench [--signed | --slopes]"),
    }
}

fn bench() {
    // Find the binary first, because it may have to be built.
    let _program = build::ckptfs();
    let cold = subject::touch(WARM);
    let warm = subject::touch(WARM);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("reading the kernel's version");
    let cpus = std::thread::available_parallelism().expect("counting processors");
    let per_gib = |time: Duration| ms(time * 1024 / WARM as u32);
    let load = std::fs::read_to_string("/proc/loadavg").expect("reading the load");
    let load = load.split(' ').next().unwrap_or_default();
    println!("{cpus} CPUs, Linux {}, load average {load}; ratios of medians, the medians in brackets.", kernel.trim());
    println!("First touch of memory: {} ms/GiB cold, {} ms/GiB warm.", per_gib(cold), per_gib(warm));

    let null = Server::start();
    let mut stopped = Vec::new();
    let mut moved = Vec::new();
    for (mib, runs) in SIZES {
        let mut subject = Subject::start(mib, runs);
        stopped.push((mib, stops(&subject)));
        moved.push(transfers(&mut subject, &null, mib, runs));
        subject.finish();
    }
    let subject = Subject::start(CLOCK.0, CLOCK.1);
    stopped.push((CLOCK.0, stops(&subject)));
    subject.finish();
    stopped.sort_unstable();

    table::head(&["process", "stopped : bare fork()", "stopped, info.json : the process's own clock"]);
    for (mib, [fork, clock]) in &stopped {
        table::row(&[&table::size(*mib), fork, clock]);
    }
    table::head(&[
        "process",
        "`cat image` : null server",
        "the reading alone",
        "O_DIRECT : null server",
        "10 KiB reads : 1 MiB reads",
        "the same, pinned",
        "restore : touching memory",
        "daemon's peak",
    ]);
    moved.iter().for_each(|row| table::row(row));
    signed::bench();
    slopes::bench();
    small();
}

/// The stopped time compared with a fork and with the process's own clock.
fn stops(subject: &Subject) -> [String; 2] {
    let stops = subject.stops();
    let told = median(stops.iter().map(|stop| stop.told));
    let lost = median(stops.iter().map(|stop| stop.lost));
    [table::times(told, median(subject.forks())), table::times(told, lost)]
}

/// Reads and restores images, and measures what that costs the daemon.
fn transfers(subject: &mut Subject, null: &Server, mib: u64, runs: usize) -> [String; 8] {
    let pid = subject.victim().pid();
    let image = subject.mount().of(pid, "image");
    let mut passes: [Vec<Pass>; 6] = Default::default();
    // The first pass warms up the daemon and gives the size for the null server.
    for _ in 0..=runs {
        let live = |unit, flags| {
            let pass = transfer::pass(&image, unit, flags);
            subject.settled();
            pass
        };
        let (cat, direct, tar) = (live(CAT, 0), live(CAT, libc::O_DIRECT), live(TAR, 0));
        let all = [cat, transfer::pass(&null.file(cat.bytes), CAT, 0), direct, tar];
        passes.iter_mut().zip(all).for_each(|(passes, pass)| passes.push(pass));
    }
    let pinned = subject.mount().of(pid, "snapshots/bench");
    std::fs::create_dir(&pinned).expect("pinning a snapshot");
    for (unit, at) in [(CAT, 4), (TAR, 5)].repeat(runs + 1) {
        let file = pinned.join("image");
        transfer::forget(&file);
        passes[at].push(transfer::pass(&file, unit, 0));
    }
    std::fs::remove_dir(&pinned).expect("freeing the pinned snapshot");
    let rates = |ours: usize, theirs: usize, rate: fn(&Pass) -> f64| {
        let rate = |which: usize| median(passes[which][1..].iter().map(rate));
        table::rates(rate(ours), rate(theirs))
    };

    let place = tempfile::Builder::new().prefix("ckptfs-bench-").tempdir_in("/dev/shm").expect("a place in tmpfs");
    let snap = place.path().join("snap");
    transfer::copy(&image, &snap);
    subject.settled();
    let mut restored = Vec::new();
    for _ in 0..runs {
        subject.victim().kill();
        let touched = subject::touch(mib);
        restored.push((transfer::copy(&snap, &subject.mount().file("restore")), touched));
        assert!(subject.victim().is_here(), "the process does not live again");
    }
    let restore = median(restored.iter().map(|pair| pair.0));
    let touch = median(restored.iter().map(|pair| pair.1));
    let peak = process::status(subject.mount().daemon(), "VmHWM").expect("a living daemon");
    let peak: f64 = peak.trim_end_matches(" kB").parse().expect("a number of kB");
    [
        table::size(mib),
        rates(0, 1, Pass::whole_rate),
        rates(0, 1, Pass::rate),
        rates(2, 1, Pass::rate),
        rates(3, 0, Pass::rate),
        rates(5, 4, Pass::rate),
        table::times(restore, touch),
        format!("{:.1} MiB", peak / 1024.0),
    ]
}

/// Measures a small program that every system has.
fn small() {
    const RUNS: usize = 9;
    let mut victim = Victim::start(&Spec::command("sleep").arg("1000"));
    let pid = victim.pid();
    wait::until("sleep sleeps", || {
        process::status(pid, "Name").as_deref() == Some("sleep") && process::state(pid) == Some('S')
    });
    let mount = Mounted::over(pid);
    let image = mount.of(pid, "image");
    let snap = mount.snap("snap");
    let (mut dumps, mut restores) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        dumps.push(transfer::copy(&image, &snap));
        wait::until("the snapshot's child is gone", || process::children(pid).is_empty());
    }
    for _ in 0..RUNS {
        victim.kill();
        restores.push(transfer::copy(&snap, &mount.file("restore")));
        assert!(victim.is_here(), "the process does not live again");
    }
    println!("\n`sleep 1000`: dumped in {} ms, restored in {} ms.", ms(median(dumps)), ms(median(restores)));
}
