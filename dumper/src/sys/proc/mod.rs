//! /proc, proc(5): parsers take text and do no I/O; readers name the path in every error.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Kind, Result};
use crate::sys::pid::Pid;

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
    Ok(mounts()?.iter().any(|mount| mount.kind == kind.as_bytes() && path.starts_with(&mount.mountpoint)))
}

/// One line of `/proc/PID/mountinfo` (proc_pid_mountinfo(5)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// The directory of the filesystem that is seen there.
    pub root: PathBuf,
    /// Where.
    pub mountpoint: PathBuf,
    /// The filesystem's type.
    pub kind: Vec<u8>,
}

/// What is mounted for this process.
pub fn mounts() -> Result<Vec<Mount>> {
    Ok(parse_mounts(&read("/proc/self/mountinfo")?))
}

/// Parses `/proc/PID/mountinfo`; paths are any bytes.
pub fn parse_mounts(text: &[u8]) -> Vec<Mount> {
    let path = |word: &[u8]| PathBuf::from(OsString::from_vec(unescape(word, MOUNTINFO_ESCAPED)));
    let parse = |line: &[u8]| {
        let mut words = line.split(|byte| *byte == b' ').skip(3);
        let (root, mountpoint) = (path(words.next()?), path(words.next()?));
        // Optional fields of any number, up to a dash.
        let kind = words.skip_while(|word| *word != b"-").nth(1)?.to_vec();
        Some(Mount { root, mountpoint, kind })
    };
    text.split(|byte| *byte == b'\n').filter_map(parse).collect()
}

/// The unit of times that /proc tells: USER_HZ of x86-64, whatever the kernel's own HZ.
pub const TICKS_PER_SECOND: u64 = 100;

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

    /// Whether it has begun to end (`PF_EXITING`, include/linux/sched.h): it may have no memory nor descriptors any more.
    pub fn is_exiting(&self) -> bool {
        const PF_EXITING: u64 = 0x4;
        self.field(9) & PF_EXITING != 0
    }

    /// Whether it is a thread of the kernel, without a program of its own.
    pub fn is_kernel_thread(&self) -> bool {
        // include/linux/sched.h.
        const PF_KTHREAD: u64 = 0x0020_0000;
        self.field(9) & PF_KTHREAD != 0
    }

    /// How many threads the process has.
    pub fn threads(&self) -> u64 {
        self.field(20)
    }

    /// When it started, in ticks after boot ([`TICKS_PER_SECOND`]).
    pub fn started(&self) -> u64 {
        self.field(22)
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

impl Mapping {
    /// Whether the kernel makes it by itself, anew for every process: no image holds it.
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

/// What a path of `maps` is written without (`seq_path` in fs/proc/task_mmu.c). A backslash is not among it: a file that is named `a\012b`
/// looks there like one with a newline.
const MAPS_ESCAPED: &[u8] = b"\n";
/// The same of mountinfo (`show_mountinfo` in fs/proc_namespace.c).
const MOUNTINFO_ESCAPED: &[u8] = b" \t\n\\";

/// A name as `/proc/PID/maps` writes it.
pub fn escape(name: &[u8]) -> Vec<u8> {
    let octal = |byte: u8| format!("\\{byte:03o}").into_bytes();
    name.iter().flat_map(|byte| if MAPS_ESCAPED.contains(byte) { octal(*byte) } else { vec![*byte] }).collect()
}

/// Undoes `mangle_path` of fs/seq_file.c, which writes each of the bytes `escaped` as a backslash and three octal digits.
fn unescape(name: &[u8], escaped: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((&byte, tail)) = rest.split_first() {
        let code = tail.get(..3).filter(|_| byte == b'\\').and_then(|digits| std::str::from_utf8(digits).ok());
        let meant = code.and_then(|digits| u8::from_str_radix(digits, 8).ok()).filter(|byte| escaped.contains(byte));
        out.push(meant.unwrap_or(byte));
        rest = if meant.is_some() { &tail[3..] } else { tail };
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

    #[test]
    fn mountpoints_of_a_type() {
        let text = b"36 35 0:40 / /a\\040\xff\\134 rw shared:1 - fuse.ckptfs ckptfs rw\n37 35 0:41 /r\\012 /c rw - ext4 /dev/x rw\n";
        let mount = |root: &[u8], mountpoint: &[u8], kind: &[u8]| {
            let [root, mountpoint] = [root, mountpoint].map(|path| OsString::from_vec(path.to_vec()).into());
            Mount { root, mountpoint, kind: kind.to_vec() }
        };
        assert_eq!(parse_mounts(text), [mount(b"/", b"/a \xff\\", b"fuse.ckptfs"), mount(b"/r\n", b"/c", b"ext4")]);
    }

    #[test]
    fn fields_of_all_bases() {
        let fields = Fields::parse("Umask:\t0022\nSigCgt:\t00000000000000ff\nUid:\t1 2 3 4\n");
        assert_eq!((fields.octal("Umask"), fields.hex("SigCgt")), (0o22, 255));
        assert_eq!(fields.numbers("Uid"), [1, 2, 3, 4]);
        assert_eq!(fields.number("None"), 0);
    }
}
