//! A mount from its beginning to its end: the kernel's side, the session, signals.

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ckptfs_dumper::{CgroupFreezer, Context, Doing, Error, Kind, Options, Result};
use fuser::{Config, Session, SessionACL};
use nix::mount::{MntFlags, mount, umount2};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rustix::fs::{AtFlags, CWD, Statx, StatxFlags, statx};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::cli::logging::LogFile;
use crate::cli::options::MountOptions;
use crate::fuse::Fuse;
use crate::fuse::page_cache::PageCache;
use crate::fuse::workers::Workers;
use crate::process::container::{Container, MountTarget};
use crate::tree::Tree;

const DEVICE: &str = "/dev/fuse";

/// Threads that answer the kernel. What blocks runs beside them (jobs.rs); these copy.
const THREADS: usize = 8;

/// STATX_MNT_ID_UNIQUE of `linux/stat.h` (Linux 6.8): an id that no later mount gets.
const MNT_ID_UNIQUE: StatxFlags = StatxFlags::from_bits_retain(0x4000);

/// How far the kernel reads ahead of who reads an image, KiB.
const READ_AHEAD_KIB: u32 = 2048;

/// What a mount is made of.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where; absolute.
    pub mountpoint: PathBuf,
    /// Whom it shows.
    pub target: MountTarget,
    /// How.
    pub options: MountOptions,
}

/// What SIGHUP means.
pub enum Hangup {
    /// The terminal is gone: an end.
    Unmounts,
    /// The log was rotated: nothing else is behind it where no terminal is.
    Reopens(Option<LogFile>),
}

/// Mounts, says `ready` once the mount answers, and serves it until it is unmounted by anybody or a signal.
pub fn serve(plan: &Plan, hangup: Hangup, ready: impl FnOnce() -> Result<()>) -> Result<()> {
    // Before any thread: from here on a signal is a request, not an end.
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP]).doing(|| "catching signals")?;
    if let Err(error) = descriptors() {
        log::warn!("{error}");
    }
    let tree = Arc::new(tree(plan)?);
    let jobs = Arc::new(Workers::default());
    let (device, mounted) = Mounted::new(plan)?;
    let mounted = Arc::new(mounted);

    let mut config = Config::default();
    config.n_threads = Some(THREADS);
    config.clone_fd = true;
    config.acl = if plan.options.allow_other { SessionACL::All } else { SessionACL::Owner };
    let failed = || format!("mounting {}: starting the session", plan.mountpoint.display());
    let kernel = Arc::new(PageCache::new(plan.mountpoint.clone())?);
    let fuse = Fuse::new(Arc::clone(&tree), Arc::clone(&jobs), Arc::clone(&kernel));
    let session = Session::from_fd(fuse, device, config.acl, config).doing(failed)?;
    kernel.connect(session.notifier());
    mounted.read_ahead();
    let session = session.spawn().doing(failed)?;

    let stop = signals.handle();
    let unmounter = Arc::clone(&mounted);
    let watcher = std::thread::Builder::new().name("signals".into()).spawn(move || {
        for signal in signals.forever() {
            if let (SIGHUP, Hangup::Reopens(log)) = (signal, &hangup) {
                if let Some(Err(error)) = log.as_ref().map(LogFile::reopen) {
                    log::error!("signal {signal}: {error}");
                }
                continue;
            }
            log::info!("signal {signal}: unmounting");
            if let Err(error) = unmounter.unmount() {
                log::error!("{error}");
            }
        }
    });
    let watcher = watcher.doing(|| "starting a thread")?;

    log::info!("{}: mounted, showing {}", plan.mountpoint.display(), plan.target);
    ready()?;

    let ended = session.join().doing(|| format!("serving {}", plan.mountpoint.display()));
    stop.close();
    if watcher.join().is_err() {
        log::error!("the thread that waits for signals has panicked");
    }
    // A dump under way ends by itself, and what it stopped goes on.
    if !jobs.wait(plan.options.freeze_timeout + Duration::from_secs(1)) {
        log::warn!("a request did not end in time");
    }
    // Whoever is held and whatever is pinned goes before the process does; open snapshots go with the tree.
    tree.close();
    drop(tree);
    log::info!("{}: unmounted", plan.mountpoint.display());
    ended
}

/// As many descriptors as are allowed: a process that is dumped or restored costs a few.
fn descriptors() -> Result<()> {
    let doing = || "raising the limit of descriptors (RLIMIT_NOFILE)";
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).doing(doing)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).doing(doing)
}

fn tree(plan: &Plan) -> Result<Tree> {
    let cgroup = match &plan.target {
        MountTarget::Cgroup(dir) => CgroupFreezer::new(dir)?,
        MountTarget::All | MountTarget::Tree(_) | MountTarget::Image(_) => None,
    };
    let MountOptions { freeze_timeout, keep_external_pipes, owned_sysv_ipc, changed_files, .. } = plan.options;
    let options = Options { freeze_timeout, cgroup, keep_external_pipes, owned_sysv_ipc, changed_files };
    let container = Container::new(plan.target.clone(), Box::new(ckptfs_dumper::is_snapshot_child));
    Tree::new(container, options, plan.options.pinned, plan.mountpoint.display().to_string())
}

/// A path that can be mounted on, absolute and without links.
pub fn mountpoint(path: &Path) -> Result<PathBuf> {
    let doing = || format!("mounting {}", path.display());
    let absolute = path.canonicalize().doing(doing)?;
    let facts = std::fs::metadata(&absolute).doing(doing)?;
    if facts.is_dir() { Ok(absolute) } else { Err(Error::os(doing(), libc::ENOTDIR)) }
}

/// The kernel's side of a mount. Unmounts on Drop, if nobody else has.
struct Mounted {
    mountpoint: PathBuf,
    /// Tells this mount from another at the same place.
    id: u64,
    /// Its device number, by which sysfs knows how it is cached.
    bdi: (u32, u32),
}

impl Mounted {
    /// Mounts (mount(2), fuse(4)) and gives the descriptor that the kernel's requests come from.
    ///
    /// fuser's own way tries fusermount3 where mount(2) is not permitted; who may not mount may not freeze and restore
    /// either, and the errno of the first try is the better answer.
    fn new(plan: &Plan) -> Result<(OwnedFd, Mounted)> {
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
        match mount_facts(mountpoint) {
            Ok(facts) => {
                let (id, bdi) = (facts.stx_mnt_id, (facts.stx_dev_major, facts.stx_dev_minor));
                Ok((OwnedFd::from(device), Mounted { mountpoint: mountpoint.clone(), id, bdi }))
            }
            Err(error) => {
                // The descriptor is the last holder of the connection: a lazy unmount leaves nothing behind.
                umount2(mountpoint, MntFlags::MNT_DETACH).doing(doing)?;
                Err(error)
            }
        }
    }

    /// Has the kernel read ahead of the page cache's readers (Documentation/ABI/testing/sysfs-class-bdi): INIT, which comes before this, can
    /// lower its bound but not raise it.
    fn read_ahead(&self) {
        let file = format!("/sys/class/bdi/{}:{}/read_ahead_kb", self.bdi.0, self.bdi.1);
        if let Err(error) = std::fs::write(&file, READ_AHEAD_KIB.to_string()) {
            log::info!("{file}: {error}; images are read in smaller pieces");
        }
    }

    /// Unmounts, unless that has happened. Whoever still stands in the mount loses it (ENOTCONN).
    fn unmount(&self) -> Result<()> {
        let doing = || format!("unmounting {}", self.mountpoint.display());
        match mount_facts(&self.mountpoint) {
            Ok(facts) if facts.stx_mnt_id == self.id => {}
            _ => return Ok(()),
        }
        // MNT_FORCE aborts the connection: all requests end, and so does the session, also where another mount namespace has a copy.
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

/// Id and device of the mount that stands at `path`, asked of the kernel alone (statx(2), AT_STATX_DONT_SYNC).
fn mount_facts(path: &Path) -> Result<Statx> {
    let flags = AtFlags::STATX_DONT_SYNC | AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    let facts = statx(CWD, path, flags, MNT_ID_UNIQUE)
        .map_err(|errno| Error::os(format!("statx of {}", path.display()), errno.raw_os_error()))?;
    if facts.stx_mask & MNT_ID_UNIQUE.bits() == 0 {
        let sentence = "statx(2) knows no unique mount ids: Linux 6.8 or newer is needed";
        return Err(Error::new(Kind::System(libc::ENOSYS), sentence));
    }
    Ok(facts)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_mountpoint_is_a_directory_that_is_there() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(mountpoint(&folder.path().join(".")).unwrap(), folder.path().canonicalize().unwrap());
        let missing = folder.path().join("missing");
        let text = mountpoint(&missing).unwrap_err().to_string();
        assert_eq!(text, format!("mounting {}: no such file or directory", missing.display()));
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        let text = mountpoint(&file).unwrap_err().to_string();
        assert_eq!(text, format!("mounting {}: not a directory", file.display()));
    }

    #[test]
    fn two_mounts_have_two_ids_and_one_has_one() {
        let id = |path: &str| mount_facts(Path::new(path)).unwrap().stx_mnt_id;
        assert_eq!(id("/proc"), id("/proc/self"));
        assert_ne!(id("/proc"), id("/dev"));
    }
}
