//! Trees of processes that did random things (`victims/random_tree.c`). Everything that each of
//! them can observe about itself is the same after a checkpoint, byte for byte. `CKPTFS_SEEDS=500`
//! tries that many (the default is 30), `CKPTFS_SEEDS=17-17` tries one that failed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::ops::RangeInclusive;

use ckptfs_tests::{Mode, Spec, modes};

/// The range of seeds in `CKPTFS_SEEDS`: a number of seeds, or the first and the last.
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
        // The test harness shows this only for a failed test.
        println!("seed {seed}");
        modes::run(&Spec::c("random_tree").arg(seed.to_string()), mode);
    }
}

ckptfs_tests::in_four_modes!(run);
