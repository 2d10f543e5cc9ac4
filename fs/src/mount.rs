//! A mount from beginning to end: mount(2), the FUSE session, signals, unmounting.

pub mod point;

use std::ffi::OsString;
use std::io;
use std::process::ExitCode;
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use ckptfs_dumper::{CgroupFreezer, Doing, Options, Result, signal_name};
use fuser::{Config, Session, SessionACL};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::cli::arguments::MountArgs;
use crate::cli::daemon;
use crate::cli::failure::Failure;
use crate::cli::logging::{self, LogFile};
use crate::cli::options::MountOptions;
use crate::cli::plan::Plan;
use crate::fuse::Fuse;
use crate::fuse::page_cache::PageCache;
use crate::fuse::workers::Workers;
use crate::mount::point::{MountChanges, Mounted};
use crate::process::container::{Container, MountTarget};
use crate::process::descriptors;
use crate::tree::Tree;

/// How many threads answer the kernel. They copy bytes. Requests that block run on threads of their
/// own (fuse/workers.rs).
const THREADS: usize = 8;

/// How long a session may take to end after a signal has unmounted it. It takes milliseconds.
const SESSION_TIMEOUT: Duration = Duration::from_secs(2);

/// The meaning of SIGHUP.
pub enum Hangup {
    /// The terminal is gone: unmount.
    Unmounts,
    /// The log was rotated. A daemon has no terminal, so the signal has no other meaning.
    Reopens(Option<LogFile>),
}

/// `ckptfs mount`. `command_line` are the arguments of this program, for the daemon. `is_daemon`
/// means that this is the daemon.
pub fn run(
    arguments: &MountArgs,
    is_daemon: bool,
    command_line: impl Iterator<Item = OsString>,
) -> std::result::Result<ExitCode, Failure> {
    let plan = Plan::new(arguments)?;
    let log = &plan.options.log;
    if is_daemon {
        daemon::detach()?;
        let log_file = match log {
            Some(file) => Some(logging::to_file(file)?),
            None => logging::to_syslog().map(|()| None)?,
        };
        serve(&plan, Hangup::Reopens(log_file), daemon::ready)?;
    } else if arguments.foreground {
        match log {
            Some(file) => drop(logging::to_file(file)?),
            None => logging::to_stderr()?,
        }
        serve(&plan, Hangup::Unmounts, || Ok(()))?;
    } else {
        return Ok(daemon::start(command_line, &plan.mountpoint)?);
    }
    Ok(ExitCode::SUCCESS)
}

/// Mounts, calls `ready` once the mount answers, and serves it until umount(8) or a signal unmounts
/// it.
fn serve(plan: &Plan, hangup: Hangup, ready: impl FnOnce() -> Result<()>) -> Result<()> {
    // Before any thread is started: from here on a signal is a request and does not kill.
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP]).doing(|| "catching signals")?;
    if let Err(error) = raise_descriptor_limit() {
        log::warn!("{error}");
    }
    let device_number = Arc::new(OnceLock::new());
    let tree = Arc::new(tree(plan, Arc::clone(&device_number))?);
    let workers = Arc::new(Workers::default());
    let (device, mounted) = Mounted::new(plan)?;
    let _ = device_number.set(mounted.device());
    let mounted = Arc::new(mounted);

    let mut config = Config::default();
    config.n_threads = Some(THREADS);
    config.clone_fd = true;
    config.acl = if plan.options.allow_other { SessionACL::All } else { SessionACL::Owner };
    let failed = || format!("mounting {}: starting the session", plan.mountpoint.display());
    let page_cache = Arc::new(PageCache::new(plan.mountpoint.clone())?);
    let fuse = Fuse::new(Arc::clone(&tree), Arc::clone(&workers), Arc::clone(&page_cache));
    let session = Session::from_fd(fuse, device, config.acl, config).doing(failed)?;
    page_cache.connect(session.notifier());
    mounted.raise_read_ahead();
    hold_while_pinned(&tree, &mounted)?;
    let session = session.spawn().doing(failed)?;

    let stop = signals.handle();
    let (by_signal, end) = mpsc::channel();
    let by_session = by_signal.clone();
    let unmounter = Arc::clone(&mounted);
    let signal_thread = std::thread::Builder::new().name("signals".into()).spawn(move || {
        for signal in signals.forever() {
            let name = signal_name(signal);
            if let (SIGHUP, Hangup::Reopens(log)) = (signal, &hangup) {
                if let Some(Err(error)) = log.as_ref().map(LogFile::reopen) {
                    log::error!("{name}: {error}");
                }
                continue;
            }
            log::info!("{name}: unmounting");
            if let Err(error) = unmounter.unmount() {
                log::error!("{error}");
            }
            let _ended_already = by_signal.send(End::Signal);
        }
    });
    let signal_thread = signal_thread.doing(|| "starting a thread")?;
    let session_thread = std::thread::Builder::new().name("session".into()).spawn(move || {
        let _ended_already = by_session.send(End::Session(session.join()));
    });
    drop(session_thread.doing(|| "starting a thread")?);

    log::info!("{}: mounted, showing {}", plan.mountpoint.display(), plan.target);
    ready()?;

    let ended = wait_for_end(&end).doing(|| format!("serving {}", plan.mountpoint.display()));
    stop.close();
    if signal_thread.join().is_err() {
        log::error!("the thread that waits for signals has panicked");
    }
    // A dump in progress ends by itself and thaws the processes that it has stopped.
    if !workers.wait(plan.options.freeze_timeout + Duration::from_secs(1)) {
        log::warn!("a request did not end in time");
    }
    // Frozen trees and pinned snapshots end before this process exits. Open snapshots end with the
    // tree.
    tree.close();
    drop(tree);
    log::info!("{}: unmounted", plan.mountpoint.display());
    ended
}

/// Has each pinned snapshot keep the mount in use: umount(8) fails with EBUSY, and nobody loses
/// snapshots by mistake. A lazy unmount takes the mount away nevertheless. Then nobody can reach
/// the snapshots any more, and the mount is released.
fn hold_while_pinned(tree: &Arc<Tree>, mounted: &Arc<Mounted>) -> Result<()> {
    let place = Arc::downgrade(mounted);
    tree.hold_mount_while_pinned(Box::new(move || place.upgrade().and_then(|mounted| mounted.hold())));
    let (tree, mounted) = (Arc::downgrade(tree), Arc::downgrade(mounted));
    let mut changes = MountChanges::new()?;
    let watch = move || {
        while let Some(mounted) = mounted.upgrade() {
            if !mounted.is_attached() {
                tree.upgrade().iter().for_each(|tree| tree.release_mount());
                return;
            }
            drop(mounted);
            changes.wait();
        }
    };
    // The thread ends with this process at the latest.
    drop(std::thread::Builder::new().name("mounts".into()).spawn(watch).doing(|| "starting a thread")?);
    Ok(())
}

/// What ends a mount.
enum End {
    /// The session has ended, because the mount is gone.
    Session(io::Result<()>),
    /// A signal was answered: this namespace has the mount no more.
    Signal,
}

/// Waits until the session ends, or until a signal should have ended it. The session goes on if the
/// mount was gone from here before the signal, and another mount namespace has a copy of it. The
/// end of this process then ends the copy (ENOTCONN).
fn wait_for_end(end: &Receiver<End>) -> io::Result<()> {
    match end.recv() {
        Ok(End::Session(ended)) => return ended,
        Ok(End::Signal) | Err(_) => {}
    }
    let deadline = Instant::now() + SESSION_TIMEOUT;
    while let Ok(end) = end.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
        if let End::Session(ended) = end {
            return ended;
        }
    }
    log::warn!("the mount is still in use elsewhere, perhaps as a copy in another mount namespace; it ends there too");
    Ok(())
}

/// Raises the soft limit of descriptors to the hard limit, because each process that is dumped or
/// restored needs a few.
fn raise_descriptor_limit() -> Result<()> {
    let doing = || "raising the limit of descriptors (RLIMIT_NOFILE)";
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).doing(doing)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).doing(doing)
}

/// The tree of a mount that will have the device number `device`.
fn tree(plan: &Plan, device: Arc<OnceLock<(u32, u32)>>) -> Result<Tree> {
    let freezer = match &plan.target {
        MountTarget::Cgroup(dir) => CgroupFreezer::new(dir)?,
        MountTarget::All | MountTarget::Tree(_) | MountTarget::Image(_) => None,
    };
    let MountOptions { freeze_timeout, owned_sysv_ipc, .. } = plan.options;
    let options = Options { freeze_timeout, owned_sysv_ipc, restore: plan.restore.clone() };
    let container = Container::new(plan.target.clone(), Box::new(ckptfs_dumper::is_snapshot_child));
    let held = move |thread| device.get().map(|device| descriptors::inodes_on(*device, thread)).unwrap_or_default();
    let place = plan.mountpoint.display().to_string();
    Tree::new(container, options, freezer, plan.options.pinned, place, Box::new(held))
}
