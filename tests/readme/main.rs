//! Checks README.md, docs/ and their neighbours against the project: the promises against the tests
//! that show them, in both directions; the commands by running them; the sentences against the
//! source; the links against the files.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod links;
mod programs;
mod recipes;
mod sentences;
mod support;

use std::path::{Path, PathBuf};

/// The root of the sources.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A file, as a path relative to the root of the sources.
fn read(path: &str) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The text below a heading of a document.
fn section(document: &str, heading: &str) -> String {
    let text = read(document);
    let (_, section) = text.split_once(&format!("\n## {heading}\n")).expect("the heading");
    section.split_once("\n## ").map_or(section, |(section, _)| section).to_owned()
}

/// The first code block below a heading.
fn commands(document: &str, heading: &str) -> String {
    let section = section(document, heading);
    let (_, block) = section.split_once("```\n").expect("a code block");
    block.split_once("```").expect("the end of the block").0.to_owned()
}

/// The rows of three cells in the tables of a text.
fn rows(text: &str) -> Vec<[String; 3]> {
    let cells = |line: &str| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
    text.lines().filter(|line| line.starts_with("| ")).filter_map(|line| cells(line).try_into().ok()).collect()
}

/// The parts between backticks.
fn quoted(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}
