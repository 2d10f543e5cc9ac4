//! The promises about the image format: old images keep their meaning, and no input causes harm.
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
mod signed;
