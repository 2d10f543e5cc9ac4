//! Long runs: the daemon is killed at any instant, works for long, and gets hostile images
//! and users.
//!
//! `cargo test` runs a short form. `CKPTFS_SOAK=50 cargo test -p ckptfs-tests --test soak` is fifty
//! times as long: its figures stand in docs/reliability.md.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod daemon;
mod images;
mod kills;
mod users;

use std::env;

/// `short` rounds in `cargo test`, and a multiple of them in a long run.
fn rounds(short: u32) -> u32 {
    let factor = env::var("CKPTFS_SOAK").map_or(1, |text| text.parse().expect("CKPTFS_SOAK is a number"));
    short * factor
}

/// A sequence of numbers that looks random and is the same in each run: xorshift, by G. Marsaglia.
struct Numbers(u64);

impl Numbers {
    /// The next number below `end`.
    fn below(&mut self, end: u64) -> u64 {
        for shift in [13_i32, -7, 17] {
            self.0 ^= if shift > 0 { self.0 << shift } else { self.0 >> -shift };
        }
        self.0 % end
    }
}
