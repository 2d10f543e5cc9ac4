//! Comments fit in 100 columns, so that they can be read beside another file.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};

const MOST: usize = 100;

/// The sources below `dir`.
fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display())) {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|ending| ["rs", "c", "h"].iter().any(|known| ending == *known)) {
            found.push(path);
        }
    }
}

fn is_comment(line: &str) -> bool {
    ["//", "/*", "* "].iter().any(|start| line.trim_start().starts_with(start))
}

#[test]
fn they_fit() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut found = Vec::new();
    for room in ["dumper/src", "examples", "fs/src", "tests"] {
        sources(&root.join(room), &mut found);
    }
    assert!(found.len() > 300, "only {} sources", found.len());
    let mut wide = Vec::new();
    for path in found {
        for (number, line) in fs::read_to_string(&path).unwrap().lines().enumerate() {
            if is_comment(line) && line.chars().count() > MOST {
                wide.push(format!("{}:{}: {line}", path.display(), number + 1));
            }
        }
    }
    assert!(wide.is_empty(), "comments of more than {MOST} columns:\n{}", wide.join("\n"));
}
