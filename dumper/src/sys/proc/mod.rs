//! /proc, proc(5): parsers take text and do no I/O; readers name the path in every error.

pub mod locks;
pub mod maps;
pub mod mountinfo;
pub mod process;
pub mod stat;
pub mod status;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::error::{Error, Kind, Result};
use crate::sys::pid::Pid;
use crate::sys::proc::maps::MAPS_ESCAPED;
use crate::sys::proc::status::Fields;

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

/// A name as `/proc/PID/maps` writes it.
pub fn escape(name: &[u8]) -> Vec<u8> {
    let octal = |byte: u8| format!("\\{byte:03o}").into_bytes();
    name.iter().flat_map(|byte| if MAPS_ESCAPED.contains(byte) { octal(*byte) } else { vec![*byte] }).collect()
}

/// Undoes `mangle_path` of fs/seq_file.c, which writes each of the bytes `escaped` as a backslash and three octal digits.
pub fn unescape(name: &[u8], escaped: &[u8]) -> Vec<u8> {
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::proc::Stat;
    use crate::sys::proc::maps::parse_mapping;

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
