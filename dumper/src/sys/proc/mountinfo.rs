//! /proc/PID/mountinfo.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use crate::error::Result;
use crate::sys::proc::{read, unescape};

/// One line of `/proc/PID/mountinfo` (proc_pid_mountinfo(5)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Its id, as in `fdinfo`.
    pub id: u64,
    /// The device number of the filesystem, as `MAJOR:MINOR`.
    pub device: String,
    /// The directory of the filesystem that is visible at the mount point.
    pub root: PathBuf,
    /// The directory where it is mounted.
    pub mountpoint: PathBuf,
    /// The filesystem's type.
    pub kind: Vec<u8>,
    /// The options of the filesystem itself, separated by commas. A cgroup hierarchy of version 1
    /// names its controllers there.
    pub options: Vec<u8>,
}

/// All mounts that are visible to this process.
pub fn mounts() -> Result<Vec<Mount>> {
    mounts_of("/proc/self")
}

/// All mounts that a task sees, whose directory in /proc is `task`.
pub fn mounts_of(task: &str) -> Result<Vec<Mount>> {
    Ok(parse_mounts(&read(&format!("{task}/mountinfo"))?))
}

/// Parses `/proc/PID/mountinfo`. Paths are any bytes.
pub fn parse_mounts(text: &[u8]) -> Vec<Mount> {
    let path = |word: &[u8]| PathBuf::from(OsString::from_vec(unescape(word, MOUNTINFO_ESCAPED)));
    let parse = |line: &[u8]| {
        let mut words = line.split(|byte| *byte == b' ');
        let mut text = || std::str::from_utf8(words.next()?).ok();
        let (id, _parent, device) = (text()?.parse().ok()?, text()?, text()?.to_owned());
        let (root, mountpoint) = (path(words.next()?), path(words.next()?));
        // Any number of optional fields, up to a dash.
        let mut words = words.skip_while(|word| *word != b"-").skip(1);
        let kind = words.next()?.to_vec();
        // The source comes before the options.
        let options = words.nth(1).unwrap_or_default().to_vec();
        Some(Mount { id, device, root, mountpoint, kind, options })
    };
    text.split(|byte| *byte == b'\n').filter_map(parse).collect()
}

/// The bytes that `mountinfo` escapes in a path (`show_mountinfo` in fs/proc_namespace.c).
pub const MOUNTINFO_ESCAPED: &[u8] = b" \t\n\\";

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn mountpoints_of_a_type() {
        let text = b"36 35 0:40 / /a\\040\xff\\134 rw shared:1 - fuse.ckptfs ckptfs rw\n37 35 0:41 /r\\012 /c rw - ext4 /dev/x rw\n";
        let mount = |id: u64, device: &str, root: &[u8], mountpoint: &[u8], kind: &[u8]| {
            let [root, mountpoint] = [root, mountpoint].map(|path| OsString::from_vec(path.to_vec()).into());
            let (kind, options) = (kind.to_vec(), b"rw".to_vec());
            Mount { id, device: device.to_owned(), root, mountpoint, kind, options }
        };
        let first = mount(36, "0:40", b"/", b"/a \xff\\", b"fuse.ckptfs");
        assert_eq!(parse_mounts(text), [first, mount(37, "0:41", b"/r\n", b"/c", b"ext4")]);
    }
}
