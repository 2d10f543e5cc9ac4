//! What the kernel caches of the files, and how this program changes it.
//!
//! Images of live processes go through the page cache. Otherwise an archiver that reads 10 KiB at a
//! time would pay a round trip to this program for each read. With read-ahead it is four times
//! faster. An open drops the pages of earlier instants.
//!
//! The size is exact only from the open on, and the kernel must have it before it uses the open
//! file, because splice(2) and mmap(2) use the kernel's size. If only short reads show the end, it
//! is lost when several reads are in progress (`fuse_read_update_size` in fs/fuse/file.c), and
//! zeros follow the end. The reply to an open has no attributes. So, before it answers the open,
//! this program makes the kernel ask for the attributes, with a name that only this program can
//! look up.
//!
//! After the last close the attributes are invalidated. The kernel ignores attributes that are on
//! their way to it at that moment (`attr_version` in fs/fuse/inode.c).

use std::ffi::OsStr;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use ckptfs_dumper::{Pid, Result};
use fuser::{INodeNo, Notifier};

use crate::fuse::probe::Probe;
use crate::process;

/// The prefix of names in the root that only this program can look up. The number of an inode
/// follows.
const BY_NUMBER: &str = ".inode-";

/// The page cache and the attribute cache of the kernel for this mount.
pub struct PageCache {
    mountpoint: PathBuf,
    probe: Probe,
    /// Whether the log already has the message that the mountpoint no longer leads to this mount.
    is_logged: AtomicBool,
    notifier: OnceLock<Notifier>,
}

impl PageCache {
    /// The caches of the mount on `mountpoint`.
    pub fn new(mountpoint: PathBuf) -> Result<PageCache> {
        Ok(PageCache {
            mountpoint,
            probe: Probe::start()?,
            is_logged: AtomicBool::new(false),
            notifier: OnceLock::new(),
        })
    }

    /// From now on caches can be invalidated, through `notifier`.
    pub fn connect(&self, notifier: Notifier) {
        let _ = self.notifier.set(notifier);
    }

    /// The inode that `name` stands for, if it is a name with [`BY_NUMBER`] and `thread` is one of
    /// this program.
    pub(super) fn inode_by_name(&self, parent: INodeNo, name: &OsStr, thread: Pid) -> Option<u64> {
        let number = name.to_str()?.strip_prefix(BY_NUMBER)?.parse().ok()?;
        let is_ours = || process::process_of_thread(thread) == Some(std::process::id() as Pid);
        (parent == INodeNo::ROOT && is_ours()).then_some(number)
    }

    /// Makes the kernel ask for the attributes of a file that was just opened. Returns whether it
    /// did. Must not be called on a thread that answers the kernel.
    pub(super) fn learn_attributes(&self, ino: INodeNo) -> bool {
        // Attributes that are being returned right now are not those of the instant.
        self.forget_attributes(ino);
        let path = self.mountpoint.join(format!("{BY_NUMBER}{}", ino.0));
        let has_asked = self.probe.inode(path) == Some(ino.0);
        if !has_asked && !self.is_logged.swap(true, Ordering::Relaxed) {
            let place = self.mountpoint.display();
            log::warn!("{place} does not lead to this mount any more: images do not go through the page cache");
        }
        has_asked
    }

    /// Makes the kernel drop the attributes of a file. It does not wait for requests in progress,
    /// so it may be called during them.
    pub(super) fn forget_attributes(&self, ino: INodeNo) {
        self.invalidate(ino, -1);
    }

    /// Makes the kernel drop the contents of a file too, which frees the memory. It waits for reads
    /// in progress, so it must not be called on a thread that answers the kernel, nor while the
    /// file is open.
    pub(super) fn forget_contents(&self, ino: INodeNo) {
        self.invalidate(ino, 0);
    }

    fn invalidate(&self, ino: INodeNo, from: i64) {
        let Some(notifier) = self.notifier.get() else { return };
        // ENOENT is no failure: the kernel has cached nothing of the file. Any other error means
        // that the mount has ended.
        if let Err(error) = notifier.inval_inode(ino, from, 0) {
            log::debug!("inode {ino}: invalidating the page cache: {error}");
        }
    }
}
