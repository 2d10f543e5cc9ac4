//! Kernel to records.

pub mod cow_pages;
pub mod files;
pub mod process;
pub mod pstree;
