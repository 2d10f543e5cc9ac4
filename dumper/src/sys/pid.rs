//! The number of a process or thread.

/// A process or thread id, as the daemon's own pid namespace numbers it.
pub type Pid = i32;
