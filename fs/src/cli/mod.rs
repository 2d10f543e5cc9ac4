//! The command line.

pub mod arguments;
pub mod core;
pub mod daemon;
pub mod inspect;
pub mod logging;
pub mod mount_helper;
pub mod options;
pub mod progress;
pub mod restore;
