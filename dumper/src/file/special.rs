//! Files of the kernel that are regular files for stat(2), and that no restore can open again. Each
//! is refused by what it is.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::error::Result;
use crate::kind::observed::{DELETED, ObservedFile};

/// Filesystems without a mount of their own, by their magic number (include/uapi/linux/magic.h, or
/// where they are implemented). Their files have no name.
const NAMELESS: [(i64, &str); 5] = [
    (0x1980_0202, "a POSIX message queue"),
    (0x6e73_6673, "a namespace that it is not in"),
    (0x5345_434d, "secret memory (memfd_secret)"),
    (0x5049_4446, "a pidfd"),
    (0x444d_4142, "a DMA buffer"),
];

/// Filesystems whose open files have a state that only the kernel knows: the answer to what was
/// written, how much of a trace was read.
const STATEFUL: [(i64, &str); 6] = [
    (0x6e66_7364, "a control file of the NFS server"),
    (0xf97c_ff8c, "a control file of SELinux"),
    (0x4341_5d53, "a control file of Smack"),
    (0x7363_6673, "a control file of a security module"),
    (0x7472_6163, "a file of the kernel's tracer"),
    (0x6462_6720, "a file of the kernel's debugfs"),
];

/// What a file without a name is, if it is such a file of the kernel.
pub fn nameless(observed: &ObservedFile<'_>) -> Option<&'static str> {
    if !observed.stat.is_file() || !may_be_nameless(&observed.target) {
        return None;
    }
    let found = observed.filesystem().ok()?.filesystem_type().0;
    NAMELESS.iter().find(|(magic, _)| *magic == found).map(|(_, what)| *what)
}

/// Whether the text of a link in /proc can be that of such a file. Asking for the filesystem of
/// every file would take long.
fn may_be_nameless(target: &Path) -> bool {
    !target.is_absolute() || target.parent() == Some(Path::new("/")) || target.as_os_str().as_bytes().ends_with(DELETED)
}

/// Refuses a file that has a name, and a state that is lost if it is opened again. `filesystem` is
/// the type of its filesystem.
pub fn refuse_stateful(observed: &ObservedFile<'_>, filesystem: i64) -> Result<()> {
    match STATEFUL.iter().find(|(magic, _)| *magic == filesystem) {
        Some((_, what)) => Err(observed.refuse(format_args!("{what} ({})", observed.target.display()))),
        None => Ok(()),
    }
}
