//! The manual pages and the completions of shells, made from the command line's definition. They stand in `assets/` beside the program
//! (`target/release/assets` of a release build).

#![allow(missing_docs)]

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use clap::CommandFactory;

#[path = "src/cli/arguments.rs"]
mod cli;
#[path = "build/completions.rs"]
mod completions;
#[path = "build/mount_page.rs"]
mod mount_page;
#[path = "build/format_page.rs"]
mod format_page;
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
    // OUT_DIR is PROFILE/build/ckptfs-HASH/out.
    let beside_program = out.ancestors().nth(3).unwrap_or(&out);
    let (man, shells) = (beside_program.join("assets/man"), beside_program.join("assets/completions"));
    fs::create_dir_all(&man)?;
    fs::create_dir_all(&shells)?;
    completions::write(&mut cli::Cli::command(), &shells)?;
    pages::write(cli::Cli::command(), Path::new(FORMAT), Path::new(MOUNT), &man)
}
