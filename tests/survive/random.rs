//! Trees of processes that did at random what processes do (`victims/random_tree.c`): all that each of them can see of itself is the same
//! after a checkpoint, byte for byte. `CKPTFS_SEEDS=500` tries that many (30 without it), `CKPTFS_SEEDS=17-17` the one that failed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::ops::RangeInclusive;

use ckptfs_tests::{Mode, Spec, modes};

/// What `CKPTFS_SEEDS` asks for: a number of seeds, or the first and the last.
fn seeds() -> RangeInclusive<u64> {
    let asked = std::env::var("CKPTFS_SEEDS").unwrap_or("30".into());
    let number = |text: &str| text.parse().unwrap_or_else(|error| panic!("CKPTFS_SEEDS={asked}: {error}"));
    match asked.split_once('-') {
        Some((first, last)) => number(first)..=number(last),
        None => 1..=number(&asked),
    }
}

fn run(mode: Mode) {
    for seed in seeds() {
        // Shown only with a failure.
        println!("seed {seed}");
        modes::run(&Spec::c("random_tree").arg(seed.to_string()), mode);
    }
}

ckptfs_tests::in_four_modes!(run);
