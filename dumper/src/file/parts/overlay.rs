//! Files of an overlay (overlayfs) that have lost their name, as by a package upgrade inside a container. A lower layer is never written to:
//! there the file keeps its name and its number of links, one, and only the overlay hides it.

use std::os::unix::fs::MetadataExt;

use crate::kind::observed::ObservedFile;
use crate::sys::fd;

/// OVERLAYFS_SUPER_MAGIC, statfs(2).
const OVERLAY: i64 = 0x794c_7630;
/// OVL_FILEID_V1, fs/overlayfs/overlayfs.h.
const FILE_ID: i32 = 0xf8;
/// Where `flags` stands in a struct ovl_fh, and the one that says that the file was made in the upper layer (OVL_FH_FLAG_PATH_UPPER).
const FLAGS_AT: usize = 6;
const IN_UPPER: u8 = 4;

/// Whether a file whose name is gone has no other one either, although it has a link: it is of a lower layer, where that link is the name
/// that is hidden. In the upper layer a link that is left is a name that somebody still uses; one that was copied up cannot be told
/// from a lower one, so its other name is looked for where it would be.
pub fn is_hidden_below(seen: &ObservedFile<'_>) -> bool {
    let is_overlay = || seen.filesystem().is_ok_and(|filesystem| filesystem.filesystem_type().0 == OVERLAY);
    seen.stat.nlink() == 1 && is_overlay() && is_not_of_upper(&seen.link()) && seen.hard_link_beside().is_none()
}

/// As the file handle tells. A layer without file handles tells nothing.
fn is_not_of_upper(link: &str) -> bool {
    fd::file_handle(link)
        .is_ok_and(|(kind, handle)| kind == FILE_ID && handle.get(FLAGS_AT).is_some_and(|flags| flags & IN_UPPER == 0))
}
