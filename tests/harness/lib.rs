//! The base of all tests of ckptfs: programs to be checkpointed, mounts over them, and the four
//! modes in which each program must work. A guard owns each thing made here and removes it on Drop.
//! Every wait has a bound.
//!
//! - [`victim`] starts a program in a directory, a session and a descriptor table of its own, and
//!   speaks its protocol;
//! - [`mounted`] mounts `ckptfs --tree PID` over one of them, prints the log when a test fails, and
//!   unmounts;
//! - [`modes`] runs a victim without a checkpoint, through one, through two in a row, and dumped
//!   but never killed;
//! - [`mountpoint`] is for tests that run `ckptfs mount` in the background themselves;
//! - [`image_header`] changes an image so that its checksums hold;
//! - [`build`] compiles victims and finds the binary under test; [`tool`] runs a command with a
//!   time limit;
//! - [`cgroup`] makes a cgroup and removes it; [`ipc`] removes what a victim leaves behind;
//! - [`pty`] opens a window; [`closed_job`] dumps and kills a job in one;
//! - [`process`] reads about processes in `/proc`; [`wait`] waits for a condition;
//! - [`nobody`] runs scripts as an ordinary user;
//! - [`worker`] is a victim that many tests use.
//!
//! A failure of the harness itself is a failed test, so it panics as the tests do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod build;
pub mod cgroup;
pub mod closed_job;
pub mod image_header;
pub mod ipc;
pub mod modes;
pub mod mounted;
pub mod mountpoint;
pub mod nobody;
pub mod process;
pub mod pty;
pub mod tool;
pub mod victim;
pub mod wait;
pub mod worker;

pub use cgroup::Cgroup;
pub use modes::Mode;
pub use mounted::Mounted;
pub use mountpoint::Mountpoint;
pub use nobody::{NOBODY, as_nobody};
pub use victim::{Event, Link, Spec, Victim};
