//! How a kind is defined: traits only.

pub mod attribute;
pub mod external;
pub mod fd_state;
pub mod object;
pub mod observed;
pub mod open_file;
pub mod phase;
pub mod record_sort;
pub mod refs;
