//! The command line.

pub mod arguments;
pub mod assets;
pub mod attach;
pub mod check;
pub mod commands;
pub mod core;
pub mod daemon;
pub mod failure;
pub mod inspect;
pub mod key_file;
pub mod logging;
pub mod mount_helper;
pub mod options;
pub mod plan;
pub mod progress;
pub mod ps;
pub mod restore;
pub mod restore_options;
pub mod why;
