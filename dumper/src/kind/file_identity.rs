//! Which file stood at a name at the dump. A restore opens it by its name, and another file may
//! stand there by then.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;

use serde::{Deserialize, Serialize};

/// A file by the facts that a user cannot give to a file of another user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileIdentity {
    /// Its device.
    dev: u64,
    /// Its inode number.
    ino: u64,
    /// Its owner.
    uid: u32,
    /// Its group.
    gid: u32,
    /// Its type and permission bits, st_mode.
    mode: u32,
}

impl FileIdentity {
    /// The file with these facts.
    pub fn of(facts: &Metadata) -> Self {
        Self { dev: facts.dev(), ino: facts.ino(), uid: facts.uid(), gid: facts.gid(), mode: facts.mode() }
    }

    /// Whether it is `now`. A filesystem without a device of its own (overlay, btrfs, tmpfs) gets
    /// another number at each mount.
    pub fn is_same(&self, now: &Self) -> bool {
        let has_device = |dev: u64| libc::major(dev) != 0;
        let device = if has_device(self.dev) || has_device(now.dev) { now.dev } else { self.dev };
        Self { dev: device, ..*now } == *self
    }
}

impl std::fmt::Display for FileIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { dev, ino, uid, gid, mode } = self;
        let (major, minor) = (libc::major(*dev), libc::minor(*dev));
        write!(f, "device {major}:{minor}, inode {ino}, owner {uid}:{gid}, mode {mode:o}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_owner_inode_or_disk_is_another_file() {
        let disk = libc::makedev(8, 1);
        let file = FileIdentity { dev: disk, ino: 7, uid: 1000, gid: 1000, mode: 0o100_644 };
        assert!(file.is_same(&file));
        for other in [
            FileIdentity { ino: 8, ..file },
            FileIdentity { uid: 0, ..file },
            FileIdentity { gid: 0, ..file },
            FileIdentity { mode: 0o100_600, ..file },
            FileIdentity { dev: libc::makedev(8, 2), ..file },
            FileIdentity { dev: libc::makedev(0, 2), ..file },
        ] {
            assert!(!file.is_same(&other), "{other}");
        }
        let on = |minor| FileIdentity { dev: libc::makedev(0, minor), ..file };
        assert!(on(40).is_same(&on(41)), "mounted again");
        assert_eq!(file.to_string(), "device 8:1, inode 7, owner 1000:1000, mode 100644");
    }
}
