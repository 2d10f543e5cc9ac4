//! The state of the daemon.

pub mod freezer;
pub mod json_time;
pub mod kill;
pub mod lines;
pub mod open_once;
pub mod pins;
pub mod quota;
pub mod recent;
pub mod restores;
pub mod snapshots;
pub mod status;
pub mod tracers;
pub mod view;
