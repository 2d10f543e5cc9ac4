//! What a descriptor can *be*: the table of kinds, nothing else.

mod device;
pub mod open_file;
mod regular;
pub mod sharing;
mod terminal;

use open_file::Row;

/// Every kind; the first that takes a file has it. Terminals stand before the other character devices.
pub const KINDS: &[&dyn Row] = &[&regular::Regular, &terminal::Terminal, &device::Device];
