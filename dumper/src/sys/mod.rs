//! The kernel, wrapped: the only room with `unsafe`.
//!
//! Each file wraps one interface and knows no kernel object of ours: what a call means for a checkpoint is decided above.

pub mod batch;
pub mod cgroup;
pub mod clone;
pub mod cpu;
pub mod errno;
pub mod fd;
pub mod frame;
pub mod gadget;
pub mod hijack;
pub mod holder;
pub mod ipc;
pub mod memory;
pub mod owned;
pub mod pagemap;
pub mod pid;
pub mod proc;
pub mod ptrace;
pub mod query;
pub mod remote;
pub mod scm;
pub mod stub;
pub mod watcher;
