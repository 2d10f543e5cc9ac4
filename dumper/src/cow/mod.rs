//! Copy-on-write children: the memory of an instant.

pub mod child;
pub mod children;
