//! Where nothing is mapped in a process, and what a killed daemon has left mapped there.

use crate::error::Result;
use crate::sys::memory::{MemFile, RemotePtr};
use crate::sys::pid::Pid;
use crate::sys::proc::maps::{self, Mapping};
use crate::sys::remote::batch::{FRAME_AT, SCRATCH_LEN};
use crate::sys::remote::stub;

/// Bytes of address space left free for the restorer of a process. It is twice the scratch, so one
/// half is always clear of the restorer's own vDSO.
pub const HOLE_LEN: u64 = 2 * SCRATCH_LEN;

/// How often a process may be dumped anew while its mappings are listed.
const ATTEMPTS: u32 = 10;

/// The first gap between ascending ranges that is large enough, from low addresses on. The choice
/// is deterministic, and far from where libraries and stacks grow.
pub fn hole(used: impl IntoIterator<Item = (u64, u64)>) -> Option<RemotePtr> {
    const DISTANCE: u64 = 256 << 10;
    let mut end = 0x1_0000;
    for (start, until) in used {
        if start >= end + HOLE_LEN + 2 * DISTANCE {
            return Some(RemotePtr(end + DISTANCE));
        }
        end = end.max(until);
    }
    None
}

/// Where the mappings are.
pub fn ranges(maps: &[Mapping]) -> impl Iterator<Item = (u64, u64)> {
    maps.iter().map(|mapping| (mapping.start, mapping.end))
}

/// The scratch that a killed daemon has left mapped: it begins with the stub. Or the daemon was
/// killed before it wrote the stub: then it has no contents, and lies exactly where this daemon
/// would map its own.
pub fn left_scratches(maps: &[Mapping], mem: &MemFile) -> Result<Vec<(u64, u64)>> {
    let mut found = Vec::new();
    for (at, mapping) in maps.iter().enumerate() {
        let Some(end) = scratch_end(mapping, maps.get(at + 1)) else { continue };
        let mut bytes = vec![0; stub::code().len()];
        mem.read(RemotePtr(mapping.start), &mut bytes)?;
        let is_ours = bytes == stub::code() || bytes.iter().all(|byte| *byte == 0) && is_empty_hole(at, maps, mem)?;
        if is_ours {
            found.push((mapping.start, end));
        }
    }
    Ok(found)
}

/// The mappings of a process that may run, or be dumped meanwhile: without the scratch of a dump
/// that goes on, and without what a killed daemon has left.
pub fn own_maps(pid: Pid) -> Result<Vec<Mapping>> {
    let mut maps = maps::maps(pid)?;
    for _ in 0..ATTEMPTS {
        let may_be = |(at, mapping): (usize, &Mapping)| scratch_end(mapping, maps.get(at + 1)).is_some();
        if !maps.iter().enumerate().any(may_be) {
            break;
        }
        if let Ok(left) = left_scratches(&maps, &MemFile::open(pid)?) {
            maps.retain(|mapping| !left.iter().any(|(start, end)| (*start..*end).contains(&mapping.start)));
            break;
        }
        // A scratch that is unmapped meanwhile cannot be read any more.
        maps = maps::maps(pid)?;
    }
    Ok(maps)
}

/// Where a scratch ends that begins with `mapping`. It is one mapping, or a page of code and one of
/// data (PR_SET_MDWE, prctl(2)).
fn scratch_end(mapping: &Mapping, next: Option<&Mapping>) -> Option<u64> {
    let is_anonymous = |mapping: &Mapping| mapping.ino == 0 && mapping.name.is_empty() && !mapping.shared;
    let end = mapping.start + SCRATCH_LEN;
    if !is_anonymous(mapping) || mapping.prot & libc::PROT_EXEC == 0 {
        return None;
    }
    let goes_on = |next: &&Mapping| is_anonymous(next) && next.start == mapping.end && next.end == end;
    let is_whole = mapping.end == end || mapping.end == mapping.start + FRAME_AT && next.filter(goes_on).is_some();
    is_whole.then_some(end)
}

fn is_empty_hole(at: usize, maps: &[Mapping], mem: &MemFile) -> Result<bool> {
    let mapping = &maps[at];
    let others = ranges(&maps[..at]).chain(ranges(&maps[at + 1..]));
    if mapping.end - mapping.start != SCRATCH_LEN || hole(others) != Some(RemotePtr(mapping.start)) {
        return Ok(false);
    }
    let mut bytes = vec![0; SCRATCH_LEN as usize];
    mem.read(RemotePtr(mapping.start), &mut bytes)?;
    Ok(bytes.iter().all(|byte| *byte == 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(start: u64, end: u64, prot: i32) -> Mapping {
        Mapping { start, end, prot, shared: false, offset: 0, dev: 0, ino: 0, name: Vec::new() }
    }

    #[test]
    fn a_scratch_is_one_mapping_or_two() {
        let (all, code, data) = (7, libc::PROT_READ | libc::PROT_EXEC, libc::PROT_READ | libc::PROT_WRITE);
        let whole = mapping(0x5_0000, 0x5_0000 + SCRATCH_LEN, all);
        assert_eq!(scratch_end(&whole, None), Some(whole.end));
        assert_eq!(scratch_end(&mapping(0x5_0000, 0x6_0000, all), None), None);
        assert_eq!(scratch_end(&mapping(whole.start, whole.end, data), None), None);
        let page = mapping(0x5_0000, 0x5_1000, code);
        assert_eq!(scratch_end(&page, Some(&mapping(0x5_1000, whole.end, data))), Some(whole.end));
        assert_eq!(scratch_end(&page, Some(&mapping(0x5_2000, whole.end, data))), None);
        assert_eq!(scratch_end(&page, None), None);
    }

    #[test]
    fn the_hole_is_the_first_gap_that_is_large_enough() {
        let maps = [mapping(0x40_0000, 0x41_0000, 5), mapping(0x7000_0000, 0x7001_0000, 5)];
        assert_eq!(hole(ranges(&maps)), Some(RemotePtr(0x5_0000)));
        let low = [mapping(0x1_0000, 0x41_0000, 5), mapping(0x7000_0000, 0x7001_0000, 5)];
        assert_eq!(hole(ranges(&low)), Some(RemotePtr(0x45_0000)));
        assert_eq!(hole([]), None);
    }
}
