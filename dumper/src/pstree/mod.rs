//! The process tree: what is recorded of it, and the plan by which it is made again.

pub mod fork_plan;
pub mod record;
pub mod terminal;
