//! The manual pages and the completions of shells, made from the command line's definition. The
//! program carries them. They are also in `assets/` beside it (`target/release/assets` of a release
//! build).

#![allow(missing_docs)]

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use clap::CommandFactory;

#[path = "build/assets.rs"]
mod assets;
#[path = "src/cli/arguments.rs"]
mod cli;
#[path = "build/completions.rs"]
mod completions;
#[path = "build/format_page.rs"]
mod format_page;
#[path = "build/mount_page.rs"]
mod mount_page;
#[path = "build/pages.rs"]
mod pages;
#[path = "build/roff.rs"]
mod roff;

/// Where the format is described.
const FORMAT: &str = "../docs/format.md";

/// Where the mount is described.
const MOUNT: &str = "../docs/mount.md";

fn main() -> std::io::Result<()> {
    for source in ["build.rs", "build", "src/cli/arguments.rs", "man", FORMAT, MOUNT] {
        println!("cargo::rerun-if-changed={source}");
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or_else(|| std::io::Error::other("no OUT_DIR"))?);
    let (man, shells) = (out.join("assets/man"), out.join("assets/completions"));
    for dir in [&man, &shells] {
        // Files of an earlier build may have no page or name any more.
        match fs::remove_dir_all(dir) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => fs::create_dir_all(dir)?,
        }
    }
    completions::write(&mut cli::Cli::command(), &shells)?;
    pages::write(cli::Cli::command(), Path::new(FORMAT), Path::new(MOUNT), &man)?;
    // OUT_DIR is PROFILE/build/ckptfs-HASH/out.
    assets::write([&man, &shells], &out, out.ancestors().nth(3).unwrap_or(&out))
}
