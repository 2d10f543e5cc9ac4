//! What shows that a file still has the contents that a process has mapped, although its time of
//! last change is another one: a package was installed again, a backup was put back.
//!
//! A program or a library shows it by its build-id, which the linker makes from its contents. Any
//! other file shows it by a digest of the parts that are mapped. Both are taken when the tree runs
//! again, and only from a file that has not changed since it was collected.

use std::fs::File;
use std::os::unix::fs::FileExt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The proof. Each of the two is in hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Proof {
    /// The build-id of an ELF file.
    BuildId(String),
    /// A digest of parts of the file.
    Digest {
        /// The parts: offset and length, ascending.
        parts: Vec<(u64, u64)>,
        /// SHA-256 of their bytes.
        sha256: String,
    },
}

/// How many bytes of one file are read for a digest.
const DIGEST_MOST: u64 = 16 << 20;

impl Proof {
    /// Takes it of `file`, of `size` bytes. `parts` are those that are mapped. `None` if the file
    /// has no build-id and more is mapped of it than `may_read` lets be read for a digest.
    pub fn of(file: &File, size: u64, parts: &[(u64, u64)], may_read: impl FnOnce(u64) -> bool) -> Option<Self> {
        if let Some(id) = build_id(file) {
            return Some(Self::BuildId(id));
        }
        let parts = merged(size, parts);
        let sha256 = if may_read(bytes(&parts)?) { digest(file, &parts)? } else { return None };
        Some(Self::Digest { parts, sha256 })
    }

    /// Whether `file`, which has the recorded size, has the same contents.
    pub fn holds(&self, file: &File) -> bool {
        match self {
            Self::BuildId(id) => build_id(file).as_ref() == Some(id),
            Self::Digest { parts, sha256 } => digest(file, parts).as_ref() == Some(sha256),
        }
    }
}

/// The parts in ascending order, without overlaps, up to the end of the file.
fn merged(size: u64, parts: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let mut sorted: Vec<(u64, u64)> = parts.to_vec();
    sorted.sort_unstable();
    let mut merged: Vec<(u64, u64)> = Vec::new();
    for (offset, len) in sorted {
        let end = offset.saturating_add(len).min(size);
        match merged.last_mut() {
            Some((first, len)) if offset <= *first + *len => *len = (*len).max(end.saturating_sub(*first)),
            _ if offset < end => merged.push((offset, end - offset)),
            _ => {}
        }
    }
    merged
}

/// The sum of the lengths, unless it is more than is read of one file. An image may name any parts.
fn bytes(parts: &[(u64, u64)]) -> Option<u64> {
    let all = parts.iter().try_fold(0u64, |sum, (_, len)| sum.checked_add(*len));
    all.filter(|all| *all <= DIGEST_MOST)
}

/// SHA-256 of some parts of a file.
fn digest(file: &File, parts: &[(u64, u64)]) -> Option<String> {
    bytes(parts)?;
    let mut sha256 = Sha256::new();
    let mut buf = vec![0; 64 << 10];
    for (offset, len) in parts {
        let mut done = 0;
        while done < *len {
            let some = buf.len().min((len - done) as usize);
            file.read_exact_at(&mut buf[..some], offset.checked_add(done)?).ok()?;
            sha256.update(&buf[..some]);
            done += some as u64;
        }
    }
    Some(hex(&sha256.finalize()))
}

/// PT_NOTE and NT_GNU_BUILD_ID, elf(5).
const NOTE: u64 = 4;
const GNU_BUILD_ID: u64 = 3;
/// Program headers of a file that are read, and bytes of notes.
const HEADERS_MOST: u64 = 64;
const NOTES_MOST: u64 = 64 << 10;

/// The build-id of a 64-bit little-endian ELF file.
fn build_id(file: &File) -> Option<String> {
    let mut header = [0; 64];
    file.read_exact_at(&mut header, 0).ok()?;
    let (start, size, count) = (number(&header, 32, 8)?, number(&header, 54, 2)?, number(&header, 56, 2)?);
    if header[..6] != *b"\x7fELF\x02\x01" || size != 56 || count > HEADERS_MOST {
        return None;
    }
    let mut program = [0; 56];
    for n in 0..count {
        file.read_exact_at(&mut program, start.checked_add(n * size)?).ok()?;
        let (kind, offset, len) = (number(&program, 0, 4)?, number(&program, 8, 8)?, number(&program, 32, 8)?);
        if kind != NOTE || len > NOTES_MOST {
            continue;
        }
        let mut notes = vec![0; len as usize];
        file.read_exact_at(&mut notes, offset).ok()?;
        if let Some(id) = gnu_build_id(&notes) {
            return Some(hex(id));
        }
    }
    None
}

/// The build-id among the notes of a segment: length of the name, length of the contents, type,
/// each of four bytes, then name and contents, padded to four bytes.
fn gnu_build_id(mut notes: &[u8]) -> Option<&[u8]> {
    loop {
        let (name_len, len) = (number(notes, 0, 4)? as usize, number(notes, 4, 4)? as usize);
        let from = 12usize.checked_add(name_len.checked_next_multiple_of(4)?)?;
        let (name, id) = (notes.get(12..12 + name_len)?, notes.get(from..from.checked_add(len)?)?);
        if number(notes, 8, 4)? == GNU_BUILD_ID && name == b"GNU\0" && !id.is_empty() {
            return Some(id);
        }
        notes = notes.get(from + len.checked_next_multiple_of(4)?..)?;
    }
}

/// The little-endian number of `len` bytes at `at`.
fn number(bytes: &[u8], at: usize, len: usize) -> Option<u64> {
    Some(bytes.get(at..at + len)?.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn a_program_shows_its_build_id() {
        let own = File::open("/proc/self/exe").unwrap();
        let libc = std::fs::read_to_string("/proc/self/maps").unwrap();
        let libc = libc.lines().find_map(|line| line.split_whitespace().nth(5).filter(|name| name.contains("libc.so")));
        let libc = File::open(libc.unwrap()).unwrap();
        let Some(proof @ Proof::BuildId(id)) = &Proof::of(&libc, 0, &[], |_| false) else { panic!("no build-id") };
        assert!(id.len() >= 16 && proof.holds(&libc) && !proof.holds(&own));
    }

    #[test]
    fn only_the_mapped_parts_of_other_files_count() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&[7; 20000], 0).unwrap();
        let proof = Proof::of(&file, 20000, &[(16384, 8192), (0, 4096), (2048, 4096)], |_| true).unwrap();
        let Proof::Digest { parts, .. } = &proof else { panic!("a build-id") };
        assert_eq!(*parts, [(0, 6144), (16384, 3616)]);
        file.write_all_at(b"changed", 8000).unwrap();
        assert!(proof.holds(&file));
        file.write_all_at(b"changed", 19990).unwrap();
        assert!(!proof.holds(&file));
        file.set_len(19999).unwrap();
        assert!(!proof.holds(&file));
        assert_eq!(Proof::of(&file, u64::MAX, &[(0, DIGEST_MOST + 1)], |_| true), None);
        assert_eq!(Proof::of(&file, 4096, &[(0, 4096)], |bytes| bytes < 4096), None);
    }

    #[test]
    fn damaged_notes_have_none() {
        let note = |name: u32, len: u32| [name, len, 3].map(u32::to_le_bytes).concat();
        assert_eq!(gnu_build_id(&[note(4, 4), b"GNU\0idid".to_vec()].concat()), Some(&b"idid"[..]));
        for (name, len) in [(u32::MAX, 4), (4, u32::MAX), (400, 4), (4, 400)] {
            assert_eq!(gnu_build_id(&[note(name, len), b"GNU\0idid".to_vec()].concat()), None);
        }
    }
}
