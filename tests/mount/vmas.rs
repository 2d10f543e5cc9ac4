//! `maps` and `vmas/`: the memory of one instant, one file for each mapping, with holes where the
//! image has no pages.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;

use ckptfs_tests::{Event, Mounted, Spec, Victim, tool};

use crate::{MAPPING, ends_well, mounted_worker, names};

const LEN: u64 = 8 << 20;

/// The file of the worker's mapping. Its name is found by the start address, because the kernel may
/// have merged the mapping with a neighbour.
fn mapping(mount: &Mounted, victim: &Victim) -> PathBuf {
    let name = format!("{MAPPING:x}-");
    let dir = mount.of(victim.pid(), "vmas");
    let found = names(&dir).into_iter().find(|file| file.starts_with(&name));
    dir.join(found.unwrap_or_else(|| panic!("no {name}* in {:?}", names(&dir))))
}

#[test]
fn names_are_the_ranges_of_proc_maps() {
    let (victim, mount) = mounted_worker();
    let maps = fs::read_to_string(format!("/proc/{}/maps", victim.pid())).unwrap();
    let seen = names(&mount.of(victim.pid(), "vmas"));
    for line in maps.lines().filter(|line| !line.contains("[v")) {
        let range = line.split(' ').next().unwrap();
        assert!(seen.iter().any(|name| name == range), "no {range} in {seen:?}");
        let (start, end) = range.split_once('-').unwrap();
        let len = u64::from_str_radix(end, 16).unwrap() - u64::from_str_radix(start, 16).unwrap();
        assert_eq!(fs::metadata(mount.of(victim.pid(), "vmas").join(range)).unwrap().len(), len);
    }
    let ours = fs::read_to_string(mount.of(victim.pid(), "maps")).unwrap();
    for line in maps.lines().filter(|line| !line.contains("[v")) {
        assert!(ours.contains(line.split("  ").next().unwrap()), "{line:?} is not in\n{ours}");
    }
    ends_well(victim);
}

#[test]
fn of_a_process_whose_first_thread_has_ended() {
    let victim = Victim::ready(&Spec::c("leader_exited"));
    let mount = Mounted::over(victim.pid());
    let stack = names(&mount.of(victim.pid(), "vmas")).pop().expect("it has memory");
    assert!(!fs::read(mount.of(victim.pid(), "vmas").join(stack)).unwrap().is_empty());
    victim.go(1);
    assert_eq!(victim.event(1), Event::Ok);
    victim.finish();
}

#[test]
fn contents_and_holes() {
    let (victim, mount) = mounted_worker();
    let path = mapping(&mount, &victim);
    let file = File::open(&path).unwrap();
    assert_eq!(file.metadata().unwrap().len(), LEN);
    let mut bytes = vec![1; usize::try_from(LEN).unwrap()];
    file.read_exact_at(&mut bytes, 0).unwrap();
    for (n, word) in bytes.chunks_exact(8).enumerate() {
        let n = n as u64;
        let expected = if (n / 512).is_multiple_of(4) { 0 } else { n.wrapping_mul(0x9e37_79b9_7f4a_7c15) };
        assert_eq!(u64::from_le_bytes(word.try_into().unwrap()), expected, "word {n}");
    }
    // Three of four pages are stored, and nothing beyond them.
    assert_eq!(file.metadata().unwrap().blocks() * 512, LEN / 4 * 3);
    drop(file);
    ends_well(victim);
}

#[test]
fn sparse_copies_stay_sparse() {
    let (victim, mount) = mounted_worker();
    let path = mapping(&mount, &victim);
    // The tools inherit a descriptor of the shell, so they share its instant.
    let script = r#"
        exec 9< "$1"
        cp --sparse=auto "$1" "$2"
        cmp "$1" "$2"
        test "$(stat -c %s "$2")" = "$(stat -c %s "$1")"
        test "$(du -k "$2" | cut -f1)" -le 6200
        tar -cSf "$2.tar" -C "$(dirname "$1")" "$(basename "$1")"
        test "$(du -k "$2.tar" | cut -f1)" -le 6300
        tar -xOf "$2.tar" | cmp - "$2"
    "#;
    let _sparse = tool::shell(script, &[&path, &mount.snap("copy")]).success();
    ends_well(victim);
}

#[test]
fn a_view_and_the_image_share_the_instant() {
    let (victim, mount) = mounted_worker();
    let held = File::open(mount.of(victim.pid(), "image")).unwrap();
    let info = || fs::read(mount.of(victim.pid(), "info.json")).unwrap();
    let first = info();
    crate::goes_on_while_held(&victim);
    assert!(first == info(), "info.json changed while the image of its instant was open");
    drop(held);
    ends_well(victim);
}
