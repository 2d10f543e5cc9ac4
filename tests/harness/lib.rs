//! What every test of ckptfs stands on: programs to be checkpointed, mounts over them, and the four ways in which each
//! program must come through. Everything here belongs to a guard that takes it away again, and every wait has a bound.
//!
//! - [`victim`] starts a program in a directory, a session and a descriptor table of its own, and speaks its protocol;
//! - [`mounted`] mounts `ckptfs --tree PID` over one of them, shows the log when a test fails, and unmounts;
//! - [`modes`] drives a victim without a checkpoint, through one, through two in a row, and dumped but never killed;
//! - [`build`] compiles victims and finds the binary under test; [`tool`] runs a command with a bound;
//! - [`cgroup`] makes a cgroup and removes it; [`ipc`] removes what a victim leaves behind;
//! - [`process`] looks at processes through `/proc`; [`wait`] waits for a condition;
//! - [`worker`] is a victim that many tests share.
//!
//! A failure of the harness itself is a failed test, so it panics like the tests do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod build;
pub mod cgroup;
pub mod ipc;
pub mod modes;
pub mod mounted;
pub mod process;
pub mod tool;
pub mod victim;
pub mod wait;
pub mod worker;

pub use cgroup::Cgroup;
pub use modes::Mode;
pub use mounted::Mounted;
pub use victim::{Event, Link, Spec, Victim};

/// The user that owns nothing: `nobody`.
pub const NOBODY: u32 = 65534;
