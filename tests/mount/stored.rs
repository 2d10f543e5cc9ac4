//! A stored image shows what the snapshot showed that it was copied from: all processes, to the
//! byte.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use ckptfs_dumper::{Checkpoint, Options, Pid, ReadAhead, Snapshot, SnapshotUse, StoredImage, Target, Tracer};
use ckptfs_tests::{Spec, Victim};

fn tracer(victim: &Victim) -> Tracer {
    let options = Options { freeze_timeout: Duration::from_secs(5), ..Options::default() };
    Tracer::new(Target::tree(victim.pid()), options, None)
}

fn store(snapshot: &Snapshot, path: &Path) {
    let mut bytes = Vec::new();
    while (bytes.len() as u64) < snapshot.image_len() {
        bytes.extend_from_slice(&snapshot.read_image(bytes.len() as u64, 1 << 20, ReadAhead::Ours).unwrap());
    }
    fs::write(path, bytes).unwrap();
}

/// The ranges with data. Everything else is a hole.
fn data(instant: &dyn Checkpoint, pid: Pid, start: u64) -> Vec<(u64, u64)> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(data) = instant.seek_vma(pid, start, at, true).unwrap() {
        at = instant.seek_vma(pid, start, data, false).unwrap().unwrap();
        found.push((data, at));
    }
    found
}

fn same(live: &dyn Checkpoint, stored: &dyn Checkpoint) {
    assert_eq!(live.image_len(), stored.image_len());
    assert_eq!((live.taken(), live.stopped()), (stored.taken(), stored.stopped()));
    assert!(live.stopped().is_some());
    let pids = live.processes().unwrap();
    assert_eq!(pids, stored.processes().unwrap());
    for pid in pids {
        assert_eq!(live.maps(pid).unwrap(), stored.maps(pid).unwrap());
        assert_eq!(live.info_json(pid).unwrap(), stored.info_json(pid).unwrap());
        for vma in live.vmas(pid).unwrap() {
            let pieces = data(live, pid, vma.start);
            assert_eq!(pieces, data(stored, pid, vma.start), "pid {pid} {:x}", vma.start);
            assert_eq!(pieces.iter().map(|(from, upto)| upto - from).sum::<u64>(), vma.stored);
            // The reads begin before the data and end after it.
            for (from, upto) in pieces {
                let (from, len) = (from.saturating_sub(100), (upto - from) as usize + 200);
                let read = |instant: &dyn Checkpoint| {
                    let mut bytes = vec![0xee; len];
                    let got = instant.read_vma(pid, vma.start, from, &mut bytes).unwrap();
                    bytes.truncate(got);
                    bytes
                };
                assert!(read(live) == read(stored), "pid {pid} {:x} at {from:x}", vma.start);
            }
        }
        let (live, stored) = (live.core(pid).unwrap(), stored.core(pid).unwrap());
        assert_eq!(live.len(), stored.len());
        let (mut at, mut theirs, mut ours) = (0, vec![0; 1 << 20], vec![0xee; 1 << 20]);
        while at < live.len() {
            assert_eq!(live.seek(at, true).unwrap(), stored.seek(at, true).unwrap());
            let len = live.read_at(at, &mut theirs).unwrap();
            assert_eq!(len, stored.read_at(at, &mut ours).unwrap());
            assert!(theirs[..len] == ours[..len], "core of pid {pid} from {at:x} on");
            at += len as u64;
        }
    }
}

fn run(name: &str) {
    let victim = Victim::ready(&Spec::c(name));
    let tracer = tracer(&victim);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("snap");
    let snapshot = tracer.snapshot(None, SnapshotUse::Stream).unwrap();
    store(&snapshot, &path);
    same(&snapshot, &StoredImage::open(&path, None).unwrap());
    drop(snapshot);
    // The stored bytes must be those of the process. It is stopped now, so that they can be
    // compared.
    tracer.freeze(None).unwrap();
    let snapshot = tracer.snapshot(None, SnapshotUse::Stream).unwrap();
    store(&snapshot, &path);
    let stored = StoredImage::open(&path, None).unwrap();
    same(&snapshot, &stored);
    for pid in stored.processes().unwrap() {
        true_to_life(&stored, pid);
    }
    drop(snapshot);
    tracer.thaw().unwrap();
}

/// Every stored page equals that of the process, except for the CPU numbers in the threads' rseq
/// areas.
fn true_to_life(stored: &dyn Checkpoint, pid: Pid) {
    // The first thread may have ended.
    let tasks = || fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let readable = |mem: &File| mem.read_at(&mut [0], stored.vmas(pid).unwrap()[0].start).is_ok();
    let mem = tasks().filter_map(|task| File::open(task.path().join("mem")).ok()).find(readable).unwrap();
    let mut differ = 0;
    for vma in stored.vmas(pid).unwrap() {
        for (from, upto) in data(stored, pid, vma.start) {
            let (mut ours, mut theirs) = (vec![0; (upto - from) as usize], vec![0; (upto - from) as usize]);
            stored.read_vma(pid, vma.start, from, &mut ours).unwrap();
            mem.read_exact_at(&mut theirs, vma.start + from).unwrap();
            differ += ours.iter().zip(&theirs).filter(|(a, b)| a != b).count();
        }
    }
    let threads = tasks().count();
    assert!(differ <= 28 * threads, "pid {pid}: {differ} bytes are not the process's");
}

#[test]
fn one_process() {
    for name in ["threads_count", "debugged", "sparse"] {
        run(name);
    }
}

#[test]
fn pages_of_makers() {
    for name in ["cow_pages", "cow_changed", "fork_deep", "fork_with_threads"] {
        run(name);
    }
}

#[test]
fn memory_that_is_shared() {
    for name in ["share_vm", "shared_anon", "memfd", "sysv_shm", "shm_file", "unlinked_mapping", "unlinked_executable"]
    {
        run(name);
    }
}

#[test]
fn the_dead_and_the_stopped() {
    for name in ["zombies", "leader_exited", "stopped", "fork_advice", "guard_page"] {
        run(name);
    }
}

#[test]
fn a_page_that_is_damaged_is_never_given() {
    let victim = Victim::ready(&Spec::c("contents"));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("snap");
    let pid = victim.pid();
    store(&tracer(&victim).snapshot(None, SnapshotUse::Stream).unwrap(), &path);
    let mut bytes = fs::read(&path).unwrap();
    let vmas = StoredImage::open(&path, None).unwrap().vmas(pid).unwrap();
    // Chunks start at a multiple of 4096. The last one belongs to the last mapping with pages.
    let last = vmas.iter().rfind(|vma| vma.stored > 0).unwrap();
    let at = bytes.len() / 4096 * 4096 - 4096;
    bytes[at + 17] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let stored = StoredImage::open(&path, None).unwrap();
    let mut buf = vec![0; (last.end - last.start) as usize];
    let told = stored.read_vma(pid, last.start, 0, &mut buf).unwrap_err();
    assert!(told.to_string().contains("the CRC of the pages from"), "{told}");
    assert!(told.to_string().starts_with(&path.display().to_string()));
    let first = vmas.iter().find(|vma| vma.stored > 0).unwrap();
    stored.read_vma(pid, first.start, 0, &mut [0; 4096]).unwrap();
}
