//! The kernel, wrapped: the only room with `unsafe`.
//!
//! Each file wraps one interface and knows no kind of record. The higher floors decide what a call
//! means for a checkpoint. Every call returns [`crate::error::Result`].

#![allow(unsafe_code)]

pub mod cgroup;
pub mod clock;
pub mod clone;
pub mod cpuid;
pub mod epoll;
pub mod errno;
pub mod fd;
pub mod file_handle;
pub mod futex;
pub mod identity;
pub mod inotify;
pub mod kcmp;
pub mod marks;
pub mod memory;
pub mod mm_map;
pub mod open;
pub mod pagemap;
pub mod pid;
pub mod pid_in_use;
pub mod pidfd;
pub mod proc;
pub mod ptrace;
pub mod remote;
pub mod restarted_call;
pub mod sched;
pub mod signal;
pub mod socket;
pub mod sysvipc;
pub mod task_limits;
pub mod thaw_watchdog;
pub mod timerfd;
pub mod tracee;
pub mod tty;
pub mod wait;
mod watchdog;
