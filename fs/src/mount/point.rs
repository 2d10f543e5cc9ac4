//! A mount in the kernel: mount(2), umount(2), and what keeps it in use.

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ckptfs_dumper::{Context, Doing, Error, Kind, Result};
use nix::mount::{MntFlags, mount, umount2};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, Statx, StatxFlags, statx};

use crate::cli::options::MountOptions;
use crate::cli::plan::Plan;

const DEVICE: &str = "/dev/fuse";

/// STATX_MNT_ID_UNIQUE of `linux/stat.h` (Linux 6.8): an id that no later mount gets.
const MNT_ID_UNIQUE: StatxFlags = StatxFlags::from_bits_retain(0x4000);

/// How far the kernel reads ahead of the reader of an image, KiB.
const READ_AHEAD_KIB: u32 = 2048;

/// A mount in the kernel. Drop unmounts it, if it is still mounted.
pub struct Mounted {
    mountpoint: PathBuf,
    /// Distinguishes this mount from others on the same directory.
    id: u64,
    /// The number by which mountinfo calls it. A later mount may get it again.
    number: u64,
    /// Its device number. sysfs has the settings of its page cache under this number.
    bdi: (u32, u32),
}

impl Mounted {
    /// Mounts (mount(2), fuse(4)). Returns the descriptor that the kernel's requests come from.
    ///
    /// fuser itself would try fusermount3 if mount(2) is not permitted. A user that may not mount
    /// may not freeze or restore either, so the errno of mount(2) is the better answer.
    pub fn new(plan: &Plan) -> Result<(OwnedFd, Mounted)> {
        let MountOptions { flags, fsname, allow_other, .. } = &plan.options;
        let mountpoint = &plan.mountpoint;
        let doing = || format!("mounting {}", mountpoint.display());
        let device = File::options().read(true).write(true).open(DEVICE).doing(|| DEVICE).on(doing)?;
        let mut data = format!(
            "fd={},rootmode=40000,user_id={},group_id={},default_permissions",
            device.as_raw_fd(),
            nix::unistd::geteuid(),
            nix::unistd::getegid(),
        );
        if *allow_other {
            data.push_str(",allow_other");
        }
        mount(Some(fsname.as_str()), mountpoint, Some("fuse.ckptfs"), *flags, Some(data.as_str())).doing(doing)?;
        match mount_facts(mountpoint).and_then(|facts| Ok((facts, mount_number(mountpoint)?))) {
            Ok((facts, number)) => {
                let (id, bdi) = (facts.stx_mnt_id, (facts.stx_dev_major, facts.stx_dev_minor));
                Ok((OwnedFd::from(device), Mounted { mountpoint: mountpoint.clone(), id, number, bdi }))
            }
            Err(error) => {
                // The descriptor is the only one of the connection: a lazy unmount leaves nothing
                // behind.
                umount2(mountpoint, MntFlags::MNT_DETACH).doing(doing)?;
                Err(error)
            }
        }
    }

    /// The device number of its files: major and minor.
    pub fn device(&self) -> (u32, u32) {
        self.bdi
    }

    /// Raises the kernel's read-ahead for the page cache
    /// (Documentation/ABI/testing/sysfs-class-bdi). The INIT reply, which comes before this, can
    /// lower that bound but not raise it.
    pub fn raise_read_ahead(&self) {
        let file = format!("/sys/class/bdi/{}:{}/read_ahead_kb", self.bdi.0, self.bdi.1);
        if let Err(error) = std::fs::write(&file, READ_AHEAD_KIB.to_string()) {
            log::info!("{file}: {error}; images are read in smaller pieces");
        }
    }

    /// A descriptor that keeps the mount in use. It is only a place in the tree of files (O_PATH),
    /// so the kernel does not ask this daemon for it. `None`: something else is mounted over it.
    pub fn hold(&self) -> Option<OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let place = rustix::fs::open(&self.mountpoint, flags, Mode::empty()).ok()?;
        let facts = statx(&place, "", AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC, MNT_ID_UNIQUE).ok()?;
        (facts.stx_mnt_id == self.id).then_some(place)
    }

    /// Whether this mount namespace has the mount, even if something is mounted over it.
    pub fn is_attached(&self) -> bool {
        let Ok(mounts) = std::fs::read_to_string("/proc/self/mountinfo") else { return true };
        let number = self.number.to_string();
        mounts.lines().any(|line| line.split(' ').next() == Some(&number))
    }

    /// Unmounts, unless that has happened. Processes that still use the mount get ENOTCONN.
    pub fn unmount(&self) -> Result<()> {
        let doing = || format!("unmounting {}", self.mountpoint.display());
        match mount_facts(&self.mountpoint) {
            Ok(facts) if facts.stx_mnt_id == self.id => {}
            _ => return Ok(()),
        }
        // MNT_FORCE aborts the connection: all requests end, and so does the session, even if
        // another mount namespace has a copy of the mount.
        umount2(&self.mountpoint, MntFlags::MNT_FORCE | MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW).doing(doing)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Err(error) = self.unmount() {
            log::error!("{error}");
        }
    }
}

/// Id and device of the mount on `path`. The kernel answers without this daemon (statx(2),
/// AT_STATX_DONT_SYNC).
fn mount_facts(path: &Path) -> Result<Statx> {
    let flags = AtFlags::STATX_DONT_SYNC | AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    let facts = statx(CWD, path, flags, MNT_ID_UNIQUE).doing(|| format!("statx of {}", path.display()))?;
    if facts.stx_mask & MNT_ID_UNIQUE.bits() == 0 {
        let sentence = "statx(2) has no unique mount ids: Linux 6.8 or newer is needed";
        return Err(Error::new(Kind::System(libc::ENOSYS), sentence));
    }
    Ok(facts)
}

/// The number of the mount on `path` in mountinfo.
fn mount_number(path: &Path) -> Result<u64> {
    let flags = AtFlags::STATX_DONT_SYNC | AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    let facts = statx(CWD, path, flags, StatxFlags::MNT_ID).doing(|| format!("statx of {}", path.display()))?;
    Ok(facts.stx_mnt_id)
}

/// The changes of the mounts of this namespace.
pub struct MountChanges(File);

impl MountChanges {
    /// The changes from now on.
    pub fn new() -> Result<MountChanges> {
        File::open("/proc/self/mountinfo").doing(|| "opening /proc/self/mountinfo").map(MountChanges)
    }

    /// Waits for the next change (proc_pid_mounts(5): an exceptional condition).
    pub fn wait(&mut self) {
        let mut file = [PollFd::new(&self.0, PollFlags::PRI)];
        if poll(&mut file, None).is_err() {
            // Interrupted, or short of memory.
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn two_mounts_have_two_ids_and_one_has_one() {
        let id = |path: &str| mount_facts(Path::new(path)).unwrap().stx_mnt_id;
        assert_eq!(id("/proc"), id("/proc/self"));
        assert_ne!(id("/proc"), id("/dev"));
        let number = |path: &str| mount_number(Path::new(path)).unwrap();
        assert_eq!(number("/proc"), number("/proc/self"));
        assert_ne!(number("/proc"), number("/dev"));
    }
}
