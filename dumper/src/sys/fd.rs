//! Descriptors of other processes: a duplicate of the same open file description (pidfd_getfd(2)), and what can be asked of it.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2};

use crate::error::{Error, Kind, Result};
use crate::sys::pid::Pid;
use crate::sys::wait;

/// A pidfd: names a process without the danger of pid reuse.
#[derive(Debug)]
pub struct PidFd {
    pid: Pid,
    fd: OwnedFd,
}

impl PidFd {
    /// pidfd_open(2) of a process (not a thread).
    pub fn open(pid: Pid) -> Result<Self> {
        Self::with(pid, 0)
    }

    /// pidfd_open(2) of any thread (PIDFD_THREAD, since Linux 6.9): what is pulled is from its own table.
    pub fn of_thread(tid: Pid) -> Result<Self> {
        const PIDFD_THREAD: i32 = libc::O_EXCL;
        match Self::with(tid, PIDFD_THREAD) {
            // A kernel without it: right for whoever leads its process.
            Err(error) if error.kind() == Kind::System(libc::EINVAL) => Self::open(tid),
            done => done,
        }
    }

    fn with(pid: Pid, flags: i32) -> Result<Self> {
        // SAFETY: no memory is passed; a descriptor returned is ours alone.
        let got = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, flags) };
        if got == -1 {
            let error = Error::last_os(format_args!("pid {pid}: pidfd_open"));
            return Err(match error.kind() {
                Kind::System(libc::ESRCH) => error.kind_is(Kind::NoProcess),
                _ => error,
            });
        }
        // SAFETY: just made, owned by nobody else.
        Ok(Self { pid, fd: unsafe { OwnedFd::from_raw_fd(got as i32) } })
    }

    /// The process's id.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Duplicates descriptor `fd` of the process into this one (close-on-exec).
    pub fn pull(&self, fd: i32) -> Result<OwnedFd> {
        // SAFETY: no memory is passed; a descriptor returned is ours alone.
        let got = unsafe { libc::syscall(libc::SYS_pidfd_getfd, self.fd.as_raw_fd(), fd, 0) };
        if got == -1 {
            return Err(Error::last_os(format_args!("pid {} fd {fd}: pidfd_getfd", self.pid)));
        }
        // SAFETY: just made, owned by nobody else.
        Ok(unsafe { OwnedFd::from_raw_fd(got as i32) })
    }
}

impl PidFd {
    /// Whether the process has ended, all its threads, be it reaped or not (pidfd_open(2): it polls readable then).
    pub fn has_ended(&self) -> bool {
        let mut poll = libc::pollfd { fd: self.fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one live struct.
        unsafe { libc::poll(&raw mut poll, 1, 0) > 0 }
    }

    /// pidfd_send_signal(2).
    pub fn kill(&self, signal: i32) -> std::result::Result<(), i32> {
        let none = std::ptr::null::<libc::siginfo_t>();
        // SAFETY: no memory is passed.
        let got = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, self.fd.as_raw_fd(), signal, none, 0) };
        if got == -1 { Err(wait::last()) } else { Ok(()) }
    }

    /// Waits until it, which has been killed, has ended and is reaped, as far as that is for us to do: for this thread alone, or for any
    /// of this process. At most `patience`; polls, as [`wait::wait_ended`] does and says why.
    ///
    /// # Errors
    /// ECHILD: nothing of it is ours (any more); ETIMEDOUT: it does not end.
    pub fn wait_ended(&self, this_thread: bool, patience: Duration) -> std::result::Result<(), i32> {
        let begun = Instant::now();
        let whose = if this_thread { libc::__WALL | libc::__WNOTHREAD } else { libc::__WALL };
        let flags = libc::WEXITED | libc::WNOHANG | whose;
        loop {
            // SAFETY: all-zero is a valid value of this plain struct.
            let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
            // SAFETY: `info` is a live local.
            if unsafe { libc::waitid(libc::P_PIDFD, self.fd.as_raw_fd().cast_unsigned(), &raw mut info, flags) } == -1 {
                return Err(wait::last());
            }
            // A ptrace-stop is told of as well.
            if info.si_signo != 0 && [libc::CLD_EXITED, libc::CLD_KILLED, libc::CLD_DUMPED].contains(&info.si_code) {
                return Ok(());
            }
            if begun.elapsed() >= patience {
                return Err(libc::ETIMEDOUT);
            }
            std::thread::sleep(Duration::from_micros(100));
        }
    }
}

/// Reaps children of this thread as they end, until none is left.
///
/// By poll(2) and not by a sleeping waitpid(2): that would steal the ptrace-stops of a child that another thread of this
/// daemon traces (kernel/exit.c, `wait_consider_task`: a tracer in the parent's own thread group).
pub fn reap(mut children: Vec<PidFd>) {
    while !children.is_empty() {
        let poll = |child: &PidFd| libc::pollfd { fd: child.fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        let mut polls: Vec<libc::pollfd> = children.iter().map(poll).collect();
        // SAFETY: a live array and its length.
        if unsafe { libc::poll(polls.as_mut_ptr(), polls.len() as libc::nfds_t, -1) } < 0 {
            continue;
        }
        let mut ended = polls.iter().map(|poll| poll.revents != 0);
        children.retain(|child| {
            if !ended.next().unwrap_or(false) {
                return true;
            }
            let mut status = 0;
            // SAFETY: `status` is a live local.
            match unsafe { libc::waitpid(child.pid, &raw mut status, libc::__WALL | libc::WNOHANG) } {
                // Killed while one of our tracer threads held it: that thread has to let go first.
                0 => {
                    std::thread::sleep(Duration::from_millis(2));
                    return true;
                }
                -1 => log::info!("pid {}: ended", child.pid),
                _ => log::info!("pid {}: ended with status {status:#x}", child.pid),
            }
            false
        });
    }
}

/// Who is signalled by a description: fcntl(2), "Managing signals".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Owner {
    /// F_OWNER_*.
    pub kind: i32,
    /// A thread, process or group, as this process numbers them; 0 for nobody, and for one that is gone.
    pub id: i32,
    /// F_GETSIG; 0 is SIGIO without a siginfo.
    pub signal: i32,
    /// Of whoever set it.
    pub uid: u32,
    /// Of whoever set it.
    pub euid: u32,
}

/// F_GETOWN_EX, F_GETSIG, F_GETOWNER_UIDS.
pub fn owner(fd: &OwnedFd) -> Result<Owner> {
    let (mut owner, mut ids) = ([0_i32; 2], [0_u32; 2]);
    // SAFETY: the kernel writes a struct of two ints into a live array of two.
    if unsafe { libc::fcntl(fd.as_raw_fd(), F_GETOWN_EX, owner.as_mut_ptr()) } == -1 {
        return Err(Error::last_os("F_GETOWN_EX"));
    }
    // SAFETY: no memory is passed.
    let signal = unsafe { libc::fcntl(fd.as_raw_fd(), F_GETSIG) };
    if signal == -1 {
        return Err(Error::last_os("F_GETSIG"));
    }
    // SAFETY: the kernel writes two ids into a live array of two.
    if unsafe { libc::fcntl(fd.as_raw_fd(), F_GETOWNER_UIDS, ids.as_mut_ptr()) } == -1 {
        return Err(Error::last_os("F_GETOWNER_UIDS"));
    }
    Ok(Owner { kind: owner[0], id: owner[1], signal, uid: ids[0], euid: ids[1] })
}

/// FIONREAD: bytes that wait to be read (of a pipe through either end, pipe(7)).
pub fn readable(fd: &OwnedFd) -> Result<u64> {
    let mut bytes: i32 = 0;
    // SAFETY: the kernel writes one int into a live local.
    let got = unsafe { libc::ioctl(fd.as_raw_fd(), libc::FIONREAD, &raw mut bytes) };
    if got == -1 { Err(Error::last_os("FIONREAD")) } else { Ok(u64::from(bytes.cast_unsigned())) }
}

/// name_to_handle_at(2) of what a link of /proc leads to: the handle's type and bytes, to tell by, not to open (AT_HANDLE_FID).
pub fn file_handle(link: &str) -> Result<(i32, Vec<u8>)> {
    const AT_HANDLE_FID: i32 = 0x200;
    const MOST: usize = 128;
    /// struct file_handle with room for the largest (MAX_HANDLE_SZ).
    #[repr(C)]
    struct Handle {
        len: u32,
        kind: i32,
        bytes: [u8; MOST],
    }
    let doing = || format!("the file handle of {link}");
    let path = std::ffi::CString::new(link).map_err(|_| Error::os(doing(), libc::EINVAL))?;
    let mut handle = Handle { len: MOST as u32, kind: 0, bytes: [0; MOST] };
    let (mut mount, flags) = (0_i32, libc::AT_SYMLINK_FOLLOW | AT_HANDLE_FID);
    let (to, mount) = (&raw mut handle, &raw mut mount);
    // SAFETY: a string that ends, a live struct that says its room, and a live int.
    let got = unsafe { libc::syscall(libc::SYS_name_to_handle_at, libc::AT_FDCWD, path.as_ptr(), to, mount, flags) };
    if got == -1 {
        return Err(Error::last_os(doing()));
    }
    Ok((handle.kind, handle.bytes[..(handle.len as usize).min(MOST)].to_vec()))
}

/// A descriptor's new offset (lseek(2) SEEK_SET).
pub fn seek(fd: &OwnedFd, position: u64) -> Result<()> {
    // SAFETY: no memory is passed.
    let got = unsafe { libc::lseek(fd.as_raw_fd(), position.cast_signed(), libc::SEEK_SET) };
    if got == -1 { Err(Error::last_os(format_args!("lseek to {position}"))) } else { Ok(()) }
}

/// Opens `path`, a name that an image holds; `flags`: O_* without O_CREAT, close-on-exec comes of itself.
///
/// The names that /proc tells hold no symbolic link, so none is followed (openat2(2), RESOLVE_NO_SYMLINKS): whoever owns a directory on
/// the way could have put one there since, and would be given by us, who may open anything, what it leads to.
///
/// # Errors
/// [`Kind::NotFound`] if the name is gone, ELOOP if a symbolic link stands on the way.
pub fn open_name(path: &Path, flags: i32) -> Result<OwnedFd> {
    let flags = OFlag::from_bits_retain(flags) | OFlag::O_CLOEXEC;
    let how = OpenHow::new().flags(flags).resolve(ResolveFlag::RESOLVE_NO_SYMLINKS);
    openat2(AT_FDCWD, path, how).map_err(|errno| not_opened(path, errno as i32))
}

/// Why `path` could not be opened.
pub fn not_opened(path: &Path, errno: i32) -> Error {
    let path = path.display();
    match errno {
        libc::ENOENT => Error::os(format_args!("opening {path}"), errno).kind_is(Kind::NotFound),
        libc::ELOOP => Error::os(format_args!("opening {path}: a symbolic link stands there now"), errno),
        _ => Error::os(format_args!("opening {path}"), errno),
    }
}

/// Opens a terminal without making it ours.
pub fn open_terminal(path: &str) -> Result<OwnedFd> {
    std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NOCTTY)
        .open(path)
        .map(OwnedFd::from)
        .map_err(|error| Error::io(format_args!("opening terminal {path}"), &error))
}

const F_GETSIG: i32 = 11;
const F_GETOWN_EX: i32 = 16;
const F_GETOWNER_UIDS: i32 = 17;
