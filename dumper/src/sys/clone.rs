//! A new process with a chosen id (clone3(2) `set_tid`), which does nothing until it is traced.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::{Error, Kind, Pid, Result};

/// How long a number may still be in use after its process is gone from /proc.
const LINGER: Duration = Duration::from_millis(300);

/// [`fork_as`], patient with a number that is being freed: the kernel takes a process out of /proc before it frees its id
/// (`release_task` in kernel/exit.c), and whoever kills a process and restores it at once comes in between.
pub fn spawn(pid: Pid) -> Result<()> {
    let deadline = Instant::now() + LINGER;
    loop {
        match fork_as(pid) {
            Err(error) if error.kind() == Kind::PidTaken && !Path::new(&format!("/proc/{pid}")).exists() => {
                if Instant::now() >= deadline {
                    return Err(Error::new(
                        Kind::PidTaken,
                        format!("pid {pid} is taken: it is still the process group or session of other processes"),
                    ));
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            done => return done,
        }
    }
}

/// Forks this process as `pid`. The child closes every descriptor, blocks all signals and sleeps; it dies with the thread
/// that called this until somebody changes PR_SET_PDEATHSIG.
///
/// # Errors
/// EEXIST: the id is taken; EPERM: neither CAP_CHECKPOINT_RESTORE nor CAP_SYS_ADMIN in the pid namespace.
fn fork_as(pid: Pid) -> Result<()> {
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
    let parent = std::process::id();
    let set_tid = [pid];
    let args = CloneArgs {
        exit_signal: libc::SIGCHLD as u64,
        set_tid: set_tid.as_ptr() as u64,
        set_tid_size: 1,
        ..CloneArgs::default()
    };
    // SAFETY: the arguments are live. The child is a copy of this thread alone and makes nothing but raw system calls,
    // which need no lock that another thread may have held at the fork.
    let got = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<CloneArgs>()) };
    match got {
        0 => sleep_until_traced(parent),
        -1 => {
            let error = Error::last_os(format_args!("creating pid {pid}"));
            Err(match error.kind() {
                Kind::System(libc::EEXIST) => {
                    Error::new(Kind::PidTaken, format!("pid {pid} is taken: a process with this id is alive"))
                }
                _ => error,
            })
        }
        _ => Ok(()),
    }
}

fn sleep_until_traced(parent: u32) -> ! {
    let all = u64::MAX;
    loop {
        // SAFETY: raw calls on integers and one live local; no library state is touched in this forked child.
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
