//! /proc, proc(5). Parsers take text and do no I/O. Readers name the path in every error.

pub mod locks;
pub mod maps;
pub mod mountinfo;
pub mod process;
pub mod stat;
pub mod status;
pub mod tables;

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use crate::error::{Error, Kind, Result};

/// Reads a whole file of /proc. If the task is gone the error is [`Kind::NoProcess`].
pub fn read(path: &str) -> Result<Vec<u8>> {
    // A file of /proc has no size. std::fs::read then begins with 32 bytes, and needs nine calls
    // for most files. This needs two.
    let mut bytes = Vec::with_capacity(4096);
    let file = File::open(path).map_err(|error| gone(path, &error))?;
    file.take(u64::MAX).read_to_end(&mut bytes).map_err(|error| gone(path, &error))?;
    Ok(bytes)
}

/// Opens a large file of /proc, to be read piece by piece.
pub fn open(path: &str) -> Result<BufReader<File>> {
    let file = File::open(path).map_err(|error| gone(path, &error))?;
    Ok(BufReader::with_capacity(64 << 10, file))
}

/// Reads a text file of /proc. Bytes that are not UTF-8 are replaced.
pub fn read_text(path: &str) -> Result<String> {
    let text = String::from_utf8(read(path)?);
    Ok(text.unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
}

/// Major and minor number of a device as `fdinfo` shows it: MKDEV of include/linux/kdev_t.h, unlike
/// `st_dev` of stat(2).
pub fn kernel_device(device: u64) -> (u32, u32) {
    ((device >> 20) as u32, (device & 0xf_ffff) as u32)
}

/// Reads a link of /proc.
pub fn read_link(path: &str) -> Result<PathBuf> {
    std::fs::read_link(path).map_err(|error| gone(path, &error))
}

fn gone(path: &str, error: &std::io::Error) -> Error {
    let is_gone = match error.raw_os_error() {
        // The error is ESRCH for a task that ends while it is read. A task that has ended has no
        // directory.
        Some(libc::ESRCH) => true,
        Some(libc::ENOENT) => !Path::new(path).parent().is_some_and(Path::exists),
        _ => false,
    };
    let error = Error::os(format_args!("reading {path}"), error.raw_os_error().unwrap_or(libc::EIO));
    if is_gone { error.kind_is(Kind::NoProcess) } else { error }
}

/// The numeric entries of a directory, ascending: pids of /proc, tids of task/, descriptors of fd/.
pub fn numbers(path: &str) -> Result<Vec<i32>> {
    let entries = std::fs::read_dir(path).map_err(|error| gone(path, &error))?;
    let mut found: Vec<i32> = entries.flatten().filter_map(|e| e.file_name().to_str()?.parse().ok()).collect();
    found.sort_unstable();
    Ok(found)
}

/// How many mappings a process may have (vm.max_map_count, proc_sys_vm(5)).
pub fn max_map_count() -> Option<usize> {
    read_text("/proc/sys/vm/max_map_count").ok()?.trim().parse().ok()
}

/// The id of this boot of the machine (random(4)). Some ids of the kernel are unique only within
/// one boot.
pub fn boot_id() -> Result<String> {
    Ok(read_text("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// Undoes `mangle_path` of fs/seq_file.c, which writes each of the bytes `escaped` as a backslash
/// and three octal digits.
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
