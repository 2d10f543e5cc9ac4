//! Files of an overlay (overlayfs) that have lost their name, for example by a package upgrade
//! inside a container. The kernel never writes to a lower layer: there the file keeps its name and
//! its link count of one, and only the overlay hides the name.

use std::os::unix::fs::MetadataExt;

use crate::kind::observed::ObservedFile;
use crate::sys::file_handle::{self, FileHandle};

/// OVERLAYFS_SUPER_MAGIC, statfs(2).
const OVERLAY: i64 = 0x794c_7630;
/// OVL_FILEID_V1, fs/overlayfs/overlayfs.h.
const FILE_ID: i32 = 0xf8;
/// The offset of `flags` in a struct ovl_fh, and the flag of a file in the upper layer
/// (OVL_FH_FLAG_PATH_UPPER).
const FLAGS_AT: usize = 6;
const IN_UPPER: u8 = 4;

/// Whether a file that has lost its name has no other name either, although its link count is one.
/// Then it is in a lower layer, and the link is the hidden name. In the upper layer a remaining
/// link is a name in use. A file that was copied up looks like a file of a lower layer, so another
/// name of it is searched for in its directory.
pub fn is_hidden_below(observed: &ObservedFile<'_>) -> bool {
    let is_overlay = || observed.filesystem().is_ok_and(|filesystem| filesystem.filesystem_type().0 == OVERLAY);
    observed.stat.nlink() == 1
        && is_overlay()
        && is_not_of_upper(&observed.link())
        && observed.hard_link_beside().is_none()
}

/// Whether the file handle shows a layer other than the upper one. A layer without file handles
/// shows nothing.
fn is_not_of_upper(link: &str) -> bool {
    let is_not = |FileHandle { kind, bytes }: FileHandle| {
        kind == FILE_ID && bytes.get(FLAGS_AT).is_some_and(|flags| flags & IN_UPPER == 0)
    };
    file_handle::of(link).is_ok_and(is_not)
}
