//! The image format as promised: images of old still mean the same, and no bytes whatsoever do harm.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod cuts;
mod damaged;
mod events;
mod forge;
mod forged;
mod format_md;
mod golden;
mod index;
mod sample;
