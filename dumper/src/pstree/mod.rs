//! The process tree: its record, the plan by which its processes are made, their terminals.

pub mod fork_plan;
pub mod record;
pub mod terminal;
