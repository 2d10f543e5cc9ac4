//! The process tree: its record, the plan for making its processes, their terminals.

pub mod clocks;
pub mod fork_plan;
pub mod outside_terminal;
pub mod record;
pub mod terminal;
