//! /proc, proc(5): parsers take text and do no I/O; readers name the path in every error.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::{Error, Kind, Pid, Result};

/// Reads a whole file of /proc. A task that is gone gives [`Kind::NoProcess`].
pub fn read(path: &str) -> Result<Vec<u8>> {
    // Such a file has no size to go by, and std::fs::read begins with 32 bytes then: most files take nine calls, here two.
    let mut bytes = Vec::with_capacity(4096);
    let file = File::open(path).map_err(|error| gone(path, &error))?;
    file.take(u64::MAX).read_to_end(&mut bytes).map_err(|error| gone(path, &error))?;
    Ok(bytes)
}

/// Reads a text file of /proc; bytes that are no UTF-8 are replaced.
pub fn read_text(path: &str) -> Result<String> {
    Ok(String::from_utf8_lossy(&read(path)?).into_owned())
}

/// Bytes that nobody has mapped but this process, from `/proc/PID/smaps_rollup` (Documentation/filesystems/proc.rst). Costs a walk over its
/// page tables.
pub fn private_bytes(pid: Pid) -> Result<u64> {
    let sums = Fields::read(&format!("/proc/{pid}/smaps_rollup"))?;
    Ok(["Private_Clean", "Private_Dirty", "Private_Hugetlb"].iter().map(|name| sums.number(name)).sum::<u64>() << 10)
}

/// Reads a link of /proc.
pub fn read_link(path: &str) -> Result<PathBuf> {
    std::fs::read_link(path).map_err(|error| gone(path, &error))
}

fn gone(path: &str, error: &std::io::Error) -> Error {
    let told = Error::io(format_args!("reading {path}"), error);
    match error.raw_os_error() {
        // A task that ends while it is read gives ESRCH; one that has ended has no directory.
        Some(libc::ESRCH) => told.kind_is(Kind::NoProcess),
        Some(libc::ENOENT) if !Path::new(path).parent().is_some_and(Path::exists) => told.kind_is(Kind::NoProcess),
        _ => told,
    }
}

/// The numeric entries of a directory: pids of /proc, tids of task/, descriptors of fd/; ascending.
pub fn numbers(path: &str) -> Result<Vec<i32>> {
    let entries = std::fs::read_dir(path).map_err(|error| gone(path, &error))?;
    let mut found: Vec<i32> = entries.flatten().filter_map(|e| e.file_name().to_str()?.parse().ok()).collect();
    found.sort_unstable();
    Ok(found)
}

/// Whether `path`, which is absolute and holds no links, is in a mount of this type, `/proc/self/mountinfo`. Asks no filesystem.
pub fn is_in_mount_of(kind: &str, path: &Path) -> Result<bool> {
    Ok(mounts_of(kind, &read_text("/proc/self/mountinfo")?).iter().any(|mountpoint| path.starts_with(mountpoint)))
}

/// Mountpoints are told with spaces, tabs, newlines and backslashes in octal.
fn mounts_of(kind: &str, text: &str) -> Vec<PathBuf> {
    let mountpoint = |line: &str| {
        let (before, after) = line.split_once(" - ")?;
        let told = before.split(' ').nth(4)?;
        let undone = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
        let path = undone.iter().fold(told.to_owned(), |path, (code, character)| path.replace(code, character));
        (after.split(' ').next() == Some(kind)).then_some(PathBuf::from(path))
    };
    text.lines().filter_map(mountpoint).collect()
}

/// `/proc/PID/stat`, the fields behind the command name by their number in proc_pid_stat(5).
#[derive(Clone, Debug)]
pub struct Stat {
    fields: Vec<u64>,
    /// One letter.
    pub state: char,
}

impl Stat {
    /// Of a process or thread, e.g. `/proc/1/task/1/stat`.
    pub fn read(path: &str) -> Result<Self> {
        Self::parse(&read_text(path)?).ok_or_else(|| Error::os(format_args!("parsing {path}"), libc::EIO))
    }

    /// Parses the one line; the name may hold spaces and parentheses.
    pub fn parse(text: &str) -> Option<Self> {
        let (_, rest) = text.rsplit_once(')')?;
        let mut words = rest.split_ascii_whitespace();
        let state = words.next()?.chars().next()?;
        // Negative fields (nice, tpgid) keep their two's complement.
        let fields = words
            .map(|word| word.parse().or_else(|_| word.parse::<i64>().map(i64::cast_unsigned)).unwrap_or(0))
            .collect();
        Some(Self { fields, state })
    }

    /// A field by its number in the man page, from 4 (ppid) on.
    pub fn field(&self, number: usize) -> u64 {
        self.fields.get(number.wrapping_sub(4)).copied().unwrap_or(0)
    }

    /// Parent.
    pub fn ppid(&self) -> Pid {
        self.field(4) as Pid
    }

    /// The signal sent to the parent at the end: 0 for a snapshot child.
    pub fn exit_signal(&self) -> u64 {
        self.field(38)
    }
}

/// `/proc/PID/status` (also `fdinfo`): lines of `Name: value`.
#[derive(Clone, Debug)]
pub struct Fields(BTreeMap<String, String>);

impl Fields {
    /// Reads and parses a file of `Name: value` lines.
    pub fn read(path: &str) -> Result<Self> {
        Ok(Self::parse(&read_text(path)?))
    }

    /// Parses; the first of equal names wins.
    pub fn parse(text: &str) -> Self {
        let mut fields = BTreeMap::new();
        for line in text.lines() {
            if let Some((name, value)) = line.split_once(':') {
                fields.entry(name.to_owned()).or_insert_with(|| value.trim().to_owned());
            }
        }
        Self(fields)
    }

    /// A value, empty if missing.
    pub fn text(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    /// Whether there is such a line.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// The first number, in decimal.
    pub fn number(&self, name: &str) -> u64 {
        self.numbers(name).first().copied().unwrap_or(0)
    }

    /// All decimal numbers of a line.
    pub fn numbers(&self, name: &str) -> Vec<u64> {
        self.text(name).split_ascii_whitespace().filter_map(|word| word.parse().ok()).collect()
    }

    /// A number in hexadecimal (signal masks, capabilities).
    pub fn hex(&self, name: &str) -> u64 {
        u64::from_str_radix(self.text(name), 16).unwrap_or(0)
    }

    /// A number in octal (umask, flags of a descriptor).
    pub fn octal(&self, name: &str) -> u64 {
        u64::from_str_radix(self.text(name), 8).unwrap_or(0)
    }
}

/// One line of `/proc/PID/maps`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// First address.
    pub start: u64,
    /// First address behind.
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
    /// Path or `[name]`; escapes undone.
    pub name: Vec<u8>,
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
        name: unescape(rest),
    })
}

/// The kernel writes a newline in a path as `\012` (and nothing else, seq_path in fs/proc/task_mmu.c).
fn unescape(name: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((&byte, tail)) = rest.split_first() {
        if let Some(tail) = rest.strip_prefix(b"\\012") {
            out.push(b'\n');
            rest = tail;
        } else {
            out.push(byte);
            rest = tail;
        }
    }
    out
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

/// `VmFlags` (two-letter codes) and `ProtectionKey` of every mapping, by its start, from `/proc/PID/smaps`.
pub fn vm_flags(pid: Pid) -> Result<BTreeMap<u64, (Vec<String>, u64)>> {
    let text = read(&format!("/proc/{pid}/smaps"))?;
    let mut found = BTreeMap::new();
    let (mut start, mut key) = (0, 0);
    for line in text.split(|b| *b == b'\n') {
        if let Some(flags) = line.strip_prefix(b"VmFlags:") {
            let flags = String::from_utf8_lossy(flags);
            found.insert(start, (flags.split_ascii_whitespace().map(str::to_owned).collect(), key));
        } else if let Some(value) = line.strip_prefix(b"ProtectionKey:") {
            key = String::from_utf8_lossy(value).trim().parse().unwrap_or(0);
        } else if let Some(mapping) = parse_mapping(line) {
            (start, key) = (mapping.start, 0);
        }
    }
    Ok(found)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_command_name_may_hold_parentheses() {
        let stat = Stat::parse("12 (a) R (b)) S 7 8 9 0 -1 4194560").unwrap();
        assert_eq!((stat.state, stat.ppid(), stat.field(5), stat.field(8).cast_signed()), ('S', 7, 8, -1));
    }

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
    fn mountpoints_of_a_type() {
        let text = "36 35 0:40 / /a\\040b rw shared:1 - fuse.ckptfs ckptfs rw\n37 35 0:41 / /c rw - ext4 /dev/x rw\n";
        assert_eq!(super::mounts_of("fuse.ckptfs", text), [std::path::Path::new("/a b")]);
    }

    #[test]
    fn fields_of_all_bases() {
        let fields = Fields::parse("Umask:\t0022\nSigCgt:\t00000000000000ff\nUid:\t1 2 3 4\n");
        assert_eq!((fields.octal("Umask"), fields.hex("SigCgt")), (0o22, 255));
        assert_eq!(fields.numbers("Uid"), [1, 2, 3, 4]);
        assert_eq!(fields.number("None"), 0);
    }
}
