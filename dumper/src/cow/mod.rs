//! Copy-on-write children: the memory of a snapshot.

pub mod child;
pub mod children;
pub mod reap;
pub mod room;
