//! The call that a thread sleeps in through restart_syscall(2), which hides the number of the call.

use crate::sys::pid::Pid;
use crate::sys::proc;
use crate::sys::ptrace::Regs;

/// The call of a thread that sleeps on after it was stopped. It had a relative timeout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestartedCall {
    /// nanosleep or clock_nanosleep.
    Nanosleep,
    /// poll.
    Poll,
    /// A futex wait.
    Futex,
}

impl RestartedCall {
    /// The call that a running thread sleeps in, if it sleeps in restart_syscall.
    pub fn of(pid: Pid, tid: Pid) -> Option<Self> {
        let call = proc::read_text(&format!("/proc/{pid}/task/{tid}/syscall")).ok()?;
        let number = call.split(' ').next()?.parse::<i64>().ok()?;
        if number != libc::SYS_restart_syscall {
            return None;
        }
        Self::at(&proc::read_text(&format!("/proc/{pid}/task/{tid}/wchan")).ok()?)
    }

    /// By /proc/PID/wchan. The restart function of nanosleep jumps into the scheduler without a
    /// frame of its own, so its place appears as the system call entry.
    fn at(place: &str) -> Option<Self> {
        match place {
            place if place.contains("futex") => Some(Self::Futex),
            place if place.contains("poll") => Some(Self::Poll),
            place if place.contains("nanosleep") || place.contains("do_syscall") => Some(Self::Nanosleep),
            _ => None,
        }
    }

    /// The number of the original call. Its arguments are still in the registers.
    pub fn number(self, regs: &Regs) -> i64 {
        match self {
            Self::Futex => libc::SYS_futex,
            Self::Poll => libc::SYS_poll,
            // The first argument is a clock in one call and a pointer in the other.
            Self::Nanosleep if regs.rdi < 0x1000 || regs.rdi.cast_signed() < 0 => libc::SYS_clock_nanosleep,
            Self::Nanosleep => libc::SYS_nanosleep,
        }
    }

    /// The number of the call that a stopped thread was in. `this` is what it showed before.
    pub fn number_of(this: Option<Self>, regs: &Regs) -> Option<i64> {
        match regs.orig_rax.cast_signed() {
            libc::SYS_restart_syscall => this.map(|call| call.number(regs)),
            nr => Some(nr),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_tells_the_call() {
        assert_eq!(RestartedCall::at("futex_wait_queue"), Some(RestartedCall::Futex));
        assert_eq!(RestartedCall::at("do_poll.constprop.0"), Some(RestartedCall::Poll));
        assert_eq!(RestartedCall::at("do_syscall_64"), Some(RestartedCall::Nanosleep));
        assert_eq!(RestartedCall::at("0"), None);
    }
}
