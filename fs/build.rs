//! The man page ckptfs(1), made from the command line's definition, ckptfs(5), written by hand, and the completions of shells. They stand in
//! `assets/` beside the program (`target/release/assets` of a release build).

#![allow(missing_docs)]

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use clap::CommandFactory;

#[path = "src/cli.rs"]
mod cli;
#[path = "build/completions.rs"]
mod completions;

/// Where the format is drawn.
const FORMAT: &str = "../dumper/src/image/format.rs";

fn main() -> std::io::Result<()> {
    println!("cargo::rerun-if-changed=src/cli.rs");
    println!("cargo::rerun-if-changed=build");
    println!("cargo::rerun-if-changed=man/ckptfs.5");
    println!("cargo::rerun-if-changed={FORMAT}");
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or_else(|| std::io::Error::other("no OUT_DIR"))?);
    // OUT_DIR is PROFILE/build/ckptfs-HASH/out.
    let beside_program = out.ancestors().nth(3).unwrap_or(&out);
    let (man, completions) = (beside_program.join("assets/man"), beside_program.join("assets/completions"));
    fs::create_dir_all(&man)?;
    fs::create_dir_all(&completions)?;
    completions::write(&mut cli::Cli::command(), &completions)?;
    pages(&man)
}

fn pages(man: &Path) -> std::io::Result<()> {
    clap_mangen::generate_to(cli::Cli::command(), man)?;
    let page = fs::read_to_string("man/ckptfs.5")?.replace("@VERSION@", env!("CARGO_PKG_VERSION"));
    fs::write(man.join("ckptfs.5"), page.replace("@FORMAT@", &drawing(&fs::read_to_string(FORMAT)?)))
}

/// The drawing of the format, which stands in its module's documentation and nowhere else.
fn drawing(source: &str) -> String {
    let lines = source.lines().skip_while(|line| *line != "//! ```text").skip(1).take_while(|line| *line != "//! ```");
    let text: Vec<String> = lines.map(|line| line.trim_start_matches("//!").replace('\\', "\\e")).collect();
    // A line that begins with a dot or a quote would be a request.
    text.iter().map(|line| format!("\\&{line}\n")).collect()
}
