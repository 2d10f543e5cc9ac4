//! /proc/PID/maps and smaps.

use std::collections::BTreeMap;
use std::io::BufRead;

use crate::error::{Error, Result};
use crate::sys::pid::Pid;
use crate::sys::proc::status::Fields;
use crate::sys::proc::{gone, open, read, unescape};

/// One line of `/proc/PID/maps`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// The first address.
    pub start: u64,
    /// The first address behind it.
    pub end: u64,
    /// PROT_* bits.
    pub prot: i32,
    /// MAP_SHARED.
    pub shared: bool,
    /// Offset in the file, bytes.
    pub offset: u64,
    /// Device, as `st_dev` numbers it.
    pub dev: u64,
    /// Inode, 0 if anonymous.
    pub ino: u64,
    /// Path or `[name]`, unescaped.
    pub name: Vec<u8>,
}

impl Mapping {
    /// Whether the kernel makes this mapping by itself, anew for every process. No image holds it.
    pub fn is_special(&self) -> bool {
        matches!(&self.name[..], b"[vdso]" | b"[vvar]" | b"[vvar_vclock]" | b"[vsyscall]")
    }
}

/// Parses `/proc/PID/maps` or the head lines of `smaps`.
pub fn parse_mapping(line: &[u8]) -> Option<Mapping> {
    let mut rest = line;
    let mut word = || {
        let at = rest.iter().position(|b| *b == b' ').unwrap_or(rest.len());
        let (word, tail) = rest.split_at(at);
        rest = &tail[tail.iter().position(|b| *b != b' ').unwrap_or(tail.len())..];
        std::str::from_utf8(word).ok()
    };
    let (start, end) = word()?.split_once('-')?;
    let perms = word()?.as_bytes();
    let hex = |text: &str| u64::from_str_radix(text, 16).ok();
    let (start, end) = (hex(start)?, hex(end)?);
    let offset = hex(word()?)?;
    let (major, minor) = word()?.split_once(':')?;
    let dev = libc::makedev(hex(major)? as u32, hex(minor)? as u32);
    let ino = word()?.parse().ok()?;
    if perms.len() != 4 {
        return None;
    }
    let bit = |at: usize, letter: u8, value: i32| if perms[at] == letter { value } else { 0 };
    Some(Mapping {
        start,
        end,
        prot: bit(0, b'r', libc::PROT_READ) | bit(1, b'w', libc::PROT_WRITE) | bit(2, b'x', libc::PROT_EXEC),
        shared: perms[3] == b's',
        offset,
        dev,
        ino,
        name: unescape(rest, MAPS_ESCAPED),
    })
}

/// The bytes that `maps` escapes in a path (`seq_path` in fs/proc/task_mmu.c). A backslash is not
/// among them: there a file named `a\012b` looks like one with a newline.
const MAPS_ESCAPED: &[u8] = b"\n";

/// A name as `/proc/PID/maps` writes it.
pub fn escape(name: &[u8]) -> Vec<u8> {
    let octal = |byte: u8| format!("\\{byte:03o}").into_bytes();
    name.iter().flat_map(|byte| if MAPS_ESCAPED.contains(byte) { octal(*byte) } else { vec![*byte] }).collect()
}

/// All mappings of a process, ascending.
pub fn maps(pid: Pid) -> Result<Vec<Mapping>> {
    let path = format!("/proc/{pid}/maps");
    let text = read(&path)?;
    let mut found = Vec::new();
    for line in text.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
        let mapping = parse_mapping(line)
            .ok_or_else(|| Error::os(format_args!("parsing {path}: {}", String::from_utf8_lossy(line)), libc::EIO))?;
        found.push(mapping);
    }
    Ok(found)
}

/// VmFlags of one mapping: codes of two letters, one behind the other. A process may have very many
/// mappings, so they take little memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Codes(Box<str>);

impl Codes {
    fn parse(line: &[u8]) -> Self {
        let text = String::from_utf8_lossy(line);
        Self(text.split_ascii_whitespace().filter(|code| code.len() == CODE_LEN).collect())
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        (0..self.0.len()).step_by(CODE_LEN).filter_map(|at| self.0.get(at..at + CODE_LEN))
    }

    /// Whether `code` is among them.
    pub fn has(&self, code: &str) -> bool {
        self.iter().any(|have| have == code)
    }
}

const CODE_LEN: usize = 2;

/// `VmFlags` and `ProtectionKey` of every mapping, by its start, from `/proc/PID/smaps`. The file
/// is read piece by piece, because it has a kilobyte for each mapping.
pub fn vm_flags(pid: Pid) -> Result<BTreeMap<u64, (Codes, u64)>> {
    let path = format!("/proc/{pid}/smaps");
    let mut text = open(&path)?;
    let (mut found, mut line) = (BTreeMap::new(), Vec::new());
    let (mut start, mut key) = (0, 0);
    loop {
        line.clear();
        if text.read_until(b'\n', &mut line).map_err(|error| gone(&path, &error))? == 0 {
            return Ok(found);
        }
        if let Some(flags) = line.strip_prefix(b"VmFlags:") {
            found.insert(start, (Codes::parse(flags), key));
        } else if let Some(value) = line.strip_prefix(b"ProtectionKey:") {
            key = String::from_utf8_lossy(value).trim().parse().unwrap_or(0);
        } else if let Some(mapping) = parse_mapping(line.trim_ascii_end()) {
            (start, key) = (mapping.start, 0);
        }
    }
}

/// Bytes that only this process has mapped, from `/proc/PID/smaps_rollup`
/// (Documentation/filesystems/proc.rst). Costs a walk over its page tables.
pub fn private_bytes(pid: Pid) -> Result<u64> {
    let sums = Fields::read(&format!("/proc/{pid}/smaps_rollup"))?;
    Ok(["Private_Clean", "Private_Dirty", "Private_Hugetlb"].iter().map(|name| sums.number(name)).sum::<u64>() << 10)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::sys::proc::stat::Stat;

    #[test]
    fn a_mapping_with_spaces_and_newline() {
        let line = b"7f00-8000 rw-s 00001000 fe:01 42                         /tmp/a b\\012c (deleted)";
        let mapping = parse_mapping(line).unwrap();
        assert_eq!(mapping.name, b"/tmp/a b\nc (deleted)");
        assert_eq!((mapping.start, mapping.end, mapping.ino, mapping.offset), (0x7f00, 0x8000, 42, 4096));
        assert!(mapping.shared);
        assert_eq!(mapping.prot, libc::PROT_READ | libc::PROT_WRITE);
        assert_eq!(mapping.dev, libc::makedev(0xfe, 1));
        assert!(parse_mapping(b"Size:   4 kB").is_none());
    }

    #[test]
    fn names_are_bytes() {
        let line = b"7f00-8000 r--p 00000000 fe:01 42 /tmp/\xff\xfe \\01\\012\\040\\";
        let name = parse_mapping(line).unwrap().name;
        assert_eq!(name, b"/tmp/\xff\xfe \\01\n\\040\\");
        assert_eq!(escape(&name), b"/tmp/\xff\xfe \\01\\012\\040\\");
        let stat = Stat::parse(&String::from_utf8_lossy(b"7 (aaaaaaaaaaaaaa\xc3) S 1 7 7")).unwrap();
        assert_eq!((stat.state, stat.ppid()), ('S', 1));
        let status = Fields::parse(&String::from_utf8_lossy(b"Name:\taaaaaaaaaaaaaa\xc3\nTgid:\t7\n"));
        assert_eq!(status.number("Tgid"), 7);
    }
}
