//! Hostile images: whatever is changed in an image, nothing of it lives on half, and the daemon
//! goes on.

use std::fs::{self, File};
use std::io::Write;

use ckptfs_tests::worker::{ends_well, goes_on, worker};
use ckptfs_tests::{Mounted, process, wait};

use crate::{Numbers, rounds};

/// Changes some bytes, or cuts, doubles or moves a piece.
fn mutated(image: &[u8], numbers: &mut Numbers) -> Vec<u8> {
    let mut bytes = image.to_vec();
    // Most records are at the beginning.
    let reach = if numbers.below(2) == 0 { 20_000.min(image.len() as u64) } else { image.len() as u64 };
    let at = numbers.below(reach) as usize;
    let len = (1 + numbers.below(64) as usize).min(bytes.len() - at);
    match numbers.below(5) {
        0 => bytes[at] ^= 1 << numbers.below(8),
        1 => bytes[at..at + len].iter_mut().for_each(|byte| *byte = numbers.below(256) as u8),
        2 => drop(bytes.drain(at..at + len)),
        3 => {
            let piece = bytes[at..at + len].to_vec();
            let to = numbers.below(reach) as usize;
            drop(bytes.splice(to..to, piece));
        }
        _ => bytes.truncate(at),
    }
    bytes
}

/// Writes an image to `restore`. One that ends too early fails at close(2), and a child of another
/// test that closes its copy first may be the one that is told. So the result does not count.
fn write(mount: &Mounted, image: &[u8]) {
    let mut restore = File::options().write(true).open(mount.file("restore")).unwrap();
    let _refused = restore.write_all(image);
}

#[test]
fn a_changed_image_restores_nothing() {
    let mut victim = worker();
    let mount = Mounted::over(victim.pid());
    let snap = mount.snap("snap");
    mount.dump(victim.pid(), &snap);
    victim.kill();
    let image = fs::read(&snap).unwrap();
    let mut numbers = Numbers(3);
    let turns = rounds(100);
    for turn in 0..turns {
        let bytes = mutated(&image, &mut numbers);
        if bytes == image {
            continue;
        }
        write(&mount, &bytes);
        wait::until("nothing is left of it", || process::is_free(victim.pid()));
        assert!(process::is_alive(mount.daemon()), "turn {turn}");
    }
    mount.restore(&snap);
    goes_on(&victim);
    println!("{turns} changed images: refused, nothing left");
    ends_well(victim);
}
