//! Reading an image: any offset, any order and any tool give the same bytes. Its size is correct
//! from open to close.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;

use ckptfs_tests::{Mounted, Spec, Victim, build, tool};

use crate::{ends_well, goes_on_while_held, mounted_worker};

#[test]
fn sizes_are_true() {
    let (victim, mount) = mounted_worker();
    let path = mount.of(victim.pid(), "image");
    for name in ["image", "core", "info.json", "maps"] {
        let path = mount.of(victim.pid(), name);
        let bound = fs::metadata(&path).unwrap().len();
        let mut file = File::open(&path).unwrap();
        let exact = file.metadata().unwrap().len();
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes.len() as u64, exact, "{name}: the size after open is what is read");
        assert_eq!(file.metadata().unwrap().len(), exact, "{name}: the size does not change while it is open");
        assert!(bound >= exact && exact > 0, "{name}: {exact} bytes, but stat said {bound} before the open");
        assert_eq!(file.read_at(&mut [0; 10], exact).unwrap(), 0, "{name}: no bytes follow the end");
    }
    let held = File::open(&path).unwrap();
    let instant = held.metadata().unwrap();
    goes_on_while_held(&victim);
    let later = held.metadata().unwrap();
    assert_eq!(
        (instant.mtime(), instant.mtime_nsec(), instant.ino()),
        (later.mtime(), later.mtime_nsec(), later.ino())
    );
    drop(held);
    ends_well(victim);
}

#[test]
fn every_tool_reads_the_same_bytes() {
    let (victim, mount) = mounted_worker();
    let image = mount.of(victim.pid(), "image");
    let whole = mount.snap("whole");
    // The tools inherit a descriptor of the shell, so they share its instant.
    let script = r#"
        exec 9< "$1"
        cat "$1" > "$2"
        cmp "$1" "$2"
        dd if="$1" bs=1M skip=3 count=1 status=none | cmp - <(dd if="$2" bs=1M skip=3 count=1 status=none)
        dd if="$1" bs=777 skip=1000 count=50 status=none | cmp - <(dd if="$2" bs=777 skip=1000 count=50 status=none)
        dd if="$1" bs=10k status=none | cmp - "$2"
        dd if="$1" bs=4M iflag=fullblock status=none | cmp - "$2"
        tail -c 100000 "$1" | cmp - <(tail -c 100000 "$2")
        head -c 5000000 "$1" | cmp - <(head -c 5000000 "$2")
        cp "$1" "$2.copy"; cmp "$2" "$2.copy"
        cp --sparse=always "$1" "$2.sparse"; cmp "$2" "$2.sparse"
        install -m 600 "$1" "$2.install"; cmp "$2" "$2.install"
        rsync --whole-file "$1" "$2.rsync"; cmp "$2" "$2.rsync"
        tar -cf - -C "$(dirname "$1")" image | tar -xOf - | cmp - "$2"
        test "$(wc -c < "$1")" = "$(stat -c %s "$2")"
        cmp - "$2" <&9
    "#;
    let output = tool::shell(script, &[&image, &whole]).success();
    assert!(output.stderr.is_empty(), "{}", output.stderr);
    ends_well(victim);
}

#[test]
fn two_readers_at_once() {
    let (victim, mount) = mounted_worker();
    let image = mount.of(victim.pid(), "image");
    let script = r#"
        exec 9< "$1"
        sums=$(for n in 1 2 3 4; do sha256sum < "$1" & done; wait)
        test "$(sort -u <<< "$sums" | wc -l)" = 1 && test "$(wc -l <<< "$sums")" = 4
    "#;
    let _equal = tool::shell(script, &[&image]).success();
    ends_well(victim);
}

#[test]
fn random_access_is_the_same_as_streaming() {
    let (victim, mount) = mounted_worker();
    let file = File::open(mount.of(victim.pid(), "image")).unwrap();
    let len = file.metadata().unwrap().len();
    let mut whole = vec![0; usize::try_from(len).unwrap()];
    file.read_exact_at(&mut whole, 0).unwrap();
    let mut place = 1u64;
    for turn in 0..300u64 {
        place = place.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let offset = (place >> 20) % len;
        let count = usize::try_from((1 + (place >> 40) % 200_000).min(len - offset)).unwrap();
        let mut piece = vec![0; count];
        file.read_exact_at(&mut piece, offset)
            .unwrap_or_else(|error| panic!("turn {turn}: {count} bytes at {offset}: {error}"));
        let begin = usize::try_from(offset).unwrap();
        assert!(piece == whole[begin..begin + count], "turn {turn}: {count} bytes at {offset} differ");
    }
    drop(file);
    ends_well(victim);
}

#[test]
fn verify_and_inspect() {
    let (victim, mount) = mounted_worker();
    let (image, snap, ckptfs) = (mount.of(victim.pid(), "image"), mount.snap("snap"), build::ckptfs());
    let _whole = tool::shell("cat \"$1\" | \"$2\" verify -", &[&image, &ckptfs]).success();
    mount.dump(victim.pid(), &snap);
    let run = |args: &[&str]| {
        let mut argv: Vec<PathBuf> = vec![ckptfs.clone()];
        argv.extend(args.iter().map(PathBuf::from));
        argv.push(snap.clone());
        tool::run(&argv).success().text()
    };
    run(&["verify"]);
    let text = run(&["inspect"]);
    assert!(text.contains(&victim.pid().to_string()) && text.contains("worker"), "{text}");
    let json: serde_json::Value = serde_json::from_str(&run(&["inspect", "--json"])).unwrap();
    assert!(json.to_string().contains(&victim.pid().to_string()));
    let piped = tool::shell("\"$2\" inspect --json - < \"$1\" | jq -e . >/dev/null", &[&snap, &ckptfs]);
    let _valid = piped.success();
    let info = fs::read_to_string(mount.of(victim.pid(), "info.json")).unwrap();
    assert!(serde_json::from_str::<serde_json::Value>(&info).is_ok(), "{info}");
    ends_well(victim);
}

#[test]
fn verify_finds_damage() {
    let (victim, mount) = mounted_worker();
    let (snap, bad, ckptfs) = (mount.snap("snap"), mount.snap("bad"), build::ckptfs());
    mount.dump(victim.pid(), &snap);
    let bytes = fs::read(&snap).unwrap();
    for place in [0, 9, 100, 5000, bytes.len() / 3, bytes.len() / 2, bytes.len() - 2] {
        let mut damaged = bytes.clone();
        damaged[place] ^= 0x10;
        fs::write(&bad, damaged).unwrap();
        let output = tool::run(&[ckptfs.clone(), "verify".into(), bad.clone()]);
        assert!(output.code != 0, "verify did not find that byte {place} is wrong");
        assert!(output.stderr.starts_with("ckptfs: ") && output.stderr.lines().count() == 1, "{}", output.stderr);
    }
    ends_well(victim);
}

#[test]
fn whole_directories_can_be_copied() {
    let (victim, mount) = mounted_worker();
    let script = r#"
        cd "$1"; mkdir "$2" "$2/cp" "$2/rsync"
        tar -cSf "$2/all.tar" "$3"
        tar -tf "$2/all.tar" | grep image > /dev/null
        cp -r "$3" "$2/cp"
        rsync -aS "$3" "$2/rsync"
        for copy in "$2/cp/$3/image" "$2/rsync/$3/image"; do "$4" verify "$copy"; done
        tar -xOf "$2/all.tar" "$3/image" | "$4" verify -
    "#;
    let pid = victim.pid().to_string();
    let output = tool::shell(script, &[mount.path(), mount.snap("copies"), pid.into(), build::ckptfs()]).success();
    assert!(output.stderr.is_empty(), "{}", output.stderr);
    ends_well(victim);
}

#[test]
fn an_unchanged_process_gives_the_same_image() {
    let (mut victim, mount) = mounted_worker();
    let _frozen = mount.write(&mount.of(victim.pid(), "freeze"), "1").success();
    let snaps = [mount.snap("one"), mount.snap("two")];
    for snap in &snaps {
        mount.dump(victim.pid(), snap);
    }
    let [one, two] = snaps.map(|snap| fs::read(snap).unwrap());
    assert_eq!(one.len(), two.len());
    let differences: Vec<usize> = (0..one.len()).filter(|n| one[*n] != two[*n]).collect();
    // Only the time in the header and the clocks in the first record differ, with their checksums,
    // and the digest in the trailer.
    let is_at_an_end = |place: &usize| *place < 4096 || *place >= one.len() - 512;
    assert!(differences.iter().all(is_at_an_end) && differences.len() <= 192, "{differences:?}");
    victim.kill();
}

/// The info.json of the root contains the records of that process and the whole tree.
#[test]
fn the_info_of_a_tree_is_its_roots() {
    let victim = Victim::ready(&Spec::c("fork_one"));
    let mount = Mounted::over(victim.pid());
    let info = fs::read_to_string(mount.of(victim.pid(), "info.json")).unwrap();
    let records = serde_json::from_str::<serde_json::Value>(&info).unwrap()["records"].clone();
    assert_eq!(records["TREE"][0]["processes"].as_array().unwrap().len(), 2, "{info}");
    for tag in ["IDEN", "MMAP", "FDTB", "AREA"] {
        let of = records[tag].as_array().unwrap();
        assert!(of.iter().all(|record| record["tid"] == victim.pid()), "{tag}: {of:?}");
        assert!(!of.is_empty());
    }
    victim.go(1);
    assert_eq!(victim.event(1), ckptfs_tests::Event::Ok);
    victim.finish();
}
