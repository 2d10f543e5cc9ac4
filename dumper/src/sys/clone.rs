//! Makes a process with a chosen id (clone3(2) `set_tid`), which does nothing until it is traced.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::OFlag;

use crate::error::{Doing, Kind, Result};
use crate::sys::pid::Pid;
use crate::sys::pid_in_use::WantedPid;
use crate::sys::remote::batch::Call;
use crate::sys::wait;

/// How long the end of a short-lived process may take. Its work is done by then.
const END_LIMIT: Duration = Duration::from_secs(10);

/// Makes a process with the id `pid`, a child of this thread. Waits if the pid is being freed.
///
/// # Errors
/// [`Kind::PidTaken`]: the id stays taken. EPERM: neither CAP_CHECKPOINT_RESTORE nor CAP_SYS_ADMIN
/// in the pid namespace.
pub fn spawn(pid: Pid) -> Result<()> {
    let parent = std::process::id();
    wait_for_pid(pid, || {
        // SAFETY: the child makes nothing but raw system calls.
        match unsafe { fork_as(Some(pid)) }? {
            0 => sleep_until_traced(parent),
            _ => Ok(()),
        }
    })
}

/// A process that has ended. It keeps its directory in /proc until it is dropped, and reaped.
pub struct EndedProcess(Pid);

impl EndedProcess {
    /// Makes one with the id `pid`.
    ///
    /// # Errors
    /// [`Kind::PidTaken`]: the id stays taken.
    pub fn make(pid: Pid) -> Result<Self> {
        wait_for_pid(pid, || {
            // SAFETY: the child makes nothing but one raw system call, again and again.
            match unsafe { fork_as(Some(pid)) }? {
                0 => loop {
                    // SAFETY: as above.
                    unsafe { libc::syscall(libc::SYS_exit_group, 0) };
                },
                child => Ok(Self(child)),
            }
        })
    }
}

impl Drop for EndedProcess {
    fn drop(&mut self) {
        if let Err(error) = wait::reap(self.0, END_LIMIT) {
            log::warn!("{error}");
        }
    }
}

/// Repeats `fork` while `pid` is taken and may become free.
fn wait_for_pid<T>(pid: Pid, fork: impl Fn() -> nix::Result<T>) -> Result<T> {
    let wanted = WantedPid::new(pid);
    loop {
        match fork() {
            Err(Errno::EEXIST) => wanted.wait()?,
            done => return done.doing(|| format!("creating pid {pid}")),
        }
    }
}

/// Forks this process, with the id `pid` if that is given. Returns the child's number, or 0 in the
/// child.
///
/// # Errors
/// EEXIST: the id is taken. EPERM: neither CAP_CHECKPOINT_RESTORE nor CAP_SYS_ADMIN in the pid
/// namespace.
///
/// # Safety
/// The child is a copy of this thread alone. It may make only raw system calls, which need no lock
/// that another thread may have held at the fork, and it must not return.
unsafe fn fork_as(pid: Option<Pid>) -> nix::Result<Pid> {
    #[repr(C)]
    #[derive(Default)]
    struct CloneArgs {
        flags: u64,
        pidfd: u64,
        child_tid: u64,
        parent_tid: u64,
        exit_signal: u64,
        stack: u64,
        stack_size: u64,
        tls: u64,
        set_tid: u64,
        set_tid_size: u64,
        cgroup: u64,
    }
    let set_tid = [pid.unwrap_or(0)];
    let args = CloneArgs {
        exit_signal: libc::SIGCHLD as u64,
        set_tid: if pid.is_some() { set_tid.as_ptr() as u64 } else { 0 },
        set_tid_size: u64::from(pid.is_some()),
        ..CloneArgs::default()
    };
    // SAFETY: the arguments are live. The caller promises what the child does.
    let got = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<CloneArgs>()) };
    Errno::result(got).map(|got| got as Pid)
}

/// The child closes every descriptor, blocks all signals and sleeps. It dies with the thread that
/// made it, until PR_SET_PDEATHSIG is changed.
fn sleep_until_traced(parent: u32) -> ! {
    let all = u64::MAX;
    loop {
        // SAFETY: raw calls on integers and one live local; no library state is touched in this
        // forked child.
        unsafe {
            libc::syscall(libc::SYS_prctl, libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0);
            // The parent may have died before the line above took effect.
            if libc::syscall(libc::SYS_getppid) != i64::from(parent) {
                libc::syscall(libc::SYS_exit_group, 1);
            }
            libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const all, 0, 8);
            libc::syscall(libc::SYS_close_range, 0, u32::MAX, 0);
            libc::syscall(libc::SYS_pause);
        }
    }
}

/// The process that a call is made as.
#[derive(Clone, Copy, Debug)]
pub struct Creator {
    /// Its pid. If a process with this pid is alive, another pid takes its place.
    pub pid: Pid,
    /// Its user.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
}

impl Creator {
    /// This daemon's own user and group under another pid. 0 means any pid.
    pub fn own(pid: Pid) -> Self {
        Self { pid, uid: nix::unistd::geteuid().as_raw(), gid: nix::unistd::getegid().as_raw() }
    }
}

/// Makes calls, up to the first that fails, in a short-lived process with the pid and the ids of
/// another that is gone. Returns the raw result of the last call. The process is a copy of this
/// one, so the memory that the calls read and write is a copy of this process's memory.
pub fn call_as(creator: Creator, calls: &[Call]) -> Result<i64> {
    call_as_seen(creator, calls, None)
}

/// Like [`call_as`]. The process itself writes the result to `witness` first, as 8 bytes, even if
/// this daemon is killed meanwhile.
pub fn call_as_seen(creator: Creator, calls: &[Call], witness: Option<RawFd>) -> Result<i64> {
    let doing = || format!("a call in the name of pid {}", creator.pid);
    let (from, to) = nix::unistd::pipe2(OFlag::O_CLOEXEC).doing(doing)?;
    let fork = |pid| {
        // SAFETY: the child makes nothing but raw system calls.
        match unsafe { fork_as(pid) }? {
            0 => make_calls(creator, calls, [witness, Some(to.as_raw_fd())]),
            child => Ok(child),
        }
    };
    let child = match wait_for_pid(creator.pid, || fork((creator.pid > 0).then_some(creator.pid))) {
        Err(error) if error.kind() == Kind::PidTaken || error.errno() == Some(libc::EINVAL) => {
            fork(None).doing(doing)?
        }
        done => done?,
    };
    drop(to);
    let mut got = [0; 8];
    let read = File::from(from).read_exact(&mut got);
    let _ = wait::reap(child, END_LIMIT);
    read.doing(doing)?;
    Ok(i64::from_le_bytes(got))
}

fn make_calls(creator: Creator, calls: &[Call], to: [Option<RawFd>; 2]) -> ! {
    let keep = u32::MAX;
    // SAFETY: raw calls on integers, live locals and what the caller placed; no library state is
    // touched in this forked child.
    unsafe {
        let mut got = libc::syscall(libc::SYS_setresgid, keep, creator.gid, keep);
        if got == 0 {
            got = libc::syscall(libc::SYS_setresuid, keep, creator.uid, keep);
        }
        for call in calls {
            if got == -1 {
                break;
            }
            let [a, b, c, d, e, f] = call.args;
            got = libc::syscall(call.nr, a, b, c, d, e, f);
        }
        // The wrapper's error number is in this copy's own memory.
        let got = if got == -1 { -i64::from(*libc::__errno_location()) } else { got };
        for to in to.into_iter().flatten() {
            libc::syscall(libc::SYS_write, to, &raw const got, 8);
        }
        loop {
            libc::syscall(libc::SYS_exit_group, 0);
        }
    }
}
