//! What the kernel keeps of the files, and is told of them unasked.
//!
//! Images of live processes go through the page cache, because an archiver that reads 10 KiB at a time would otherwise pay a round trip to
//! this program for each: with read-ahead it is four times faster. An open throws away the pages of earlier instants. The size is exact
//! only from the open on, and must be known to the kernel by then: splice(2) and mmap(2) go by what it knows, and an end that is told by
//! short reads is lost where several are under way (`fuse_read_update_size` in fs/fuse/file.c), which gives zeros behind it. An open has
//! no attributes in its reply, so they are asked for, by a name that only this program can look up, before it is answered. Behind the
//! last close they are taken back. Attributes that were on their way to the kernel by then count for nothing there (`attr_version` in
//! fs/fuse/inode.c).

use std::ffi::OsStr;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use ckptfs_dumper::{Pid, Result};
use fuser::{INodeNo, Notifier};

use crate::fuse::probe::Probe;
use crate::process;

/// Names of the root that are nobody's but ours: this, and the number of an inode.
const BY_NUMBER: &str = ".inode-";

/// The other end of `/dev/fuse`.
pub struct PageCache {
    mountpoint: PathBuf,
    asker: Probe,
    /// Whether it was said that the mount is not found where it was made.
    is_told: AtomicBool,
    notifier: OnceLock<Notifier>,
}

impl PageCache {
    /// The one that has the mount on `mountpoint`.
    pub fn new(mountpoint: PathBuf) -> Result<PageCache> {
        Ok(PageCache { mountpoint, asker: Probe::start()?, is_told: AtomicBool::new(false), notifier: OnceLock::new() })
    }

    /// From now on it can be told something.
    pub fn connect(&self, notifier: Notifier) {
        let _ = self.notifier.set(notifier);
    }

    /// The inode that this program asks for, if the thread `asker` is one of its own.
    pub(super) fn asked_by_number(&self, parent: INodeNo, name: &OsStr, asker: Pid) -> Option<u64> {
        let number = name.to_str()?.strip_prefix(BY_NUMBER)?.parse().ok()?;
        let is_ours = || process::process_of_thread(asker) == Some(std::process::id() as Pid);
        (parent == INodeNo::ROOT && is_ours()).then_some(number)
    }

    /// Has it ask what stat(2) tells of a file that was just opened; whether it did. Not for a thread that answers it.
    pub(super) fn learn_attributes(&self, ino: INodeNo) -> bool {
        // Whatever is told of it just now tells of no instant.
        self.forget_attributes(ino);
        let path = self.mountpoint.join(format!("{BY_NUMBER}{}", ino.0));
        let has_asked = self.asker.inode(path) == Some(ino.0);
        if !has_asked && !self.is_told.swap(true, Ordering::Relaxed) {
            let place = self.mountpoint.display();
            log::warn!("{place} does not lead to this mount any more: images do not go through the page cache");
        }
        has_asked
    }

    /// Has it forget what stat(2) told of a file. May be called while requests wait: nothing of theirs is waited for.
    pub(super) fn forget_attributes(&self, ino: INodeNo) {
        self.tell(ino, -1);
    }

    /// Has it forget the contents of a file too, which gives the memory back. Waits for reads under way, of which there must be none: not
    /// for a thread that answers them, and not while it is open.
    pub(super) fn forget_contents(&self, ino: INodeNo) {
        self.tell(ino, 0);
    }

    fn tell(&self, ino: INodeNo, from: i64) {
        let Some(notifier) = self.notifier.get() else { return };
        // ENOENT is no error here: the kernel knows nothing of the file. Else the mount is over.
        if let Err(error) = notifier.inval_inode(ino, from, 0) {
            log::debug!("inode {ino}: telling the kernel to forget it: {error}");
        }
    }
}
