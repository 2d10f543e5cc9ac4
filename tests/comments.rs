//! Comments fit in 100 columns, so that they can be read beside another file.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use ckptfs_tests::build;

const MOST: usize = 100;

/// Whether the line of a file with this ending is a comment. A line of C may also end in one.
fn has_comment(line: &str, ending: &str) -> bool {
    let text = line.trim_start();
    let starts_with = |starts: &[&str]| starts.iter().any(|start| text.starts_with(start));
    match ending {
        "rs" => starts_with(&["//"]),
        "c" | "h" => starts_with(&["/*", "* ", "//"]) || text.contains("; /* "),
        _ => starts_with(&["#"]),
    }
}

#[test]
fn they_fit() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut sources = 0;
    let mut wide = Vec::new();
    for ending in ["rs", "c", "h", "sh", "bash", "pl"] {
        for path in
            ["dumper/src", "examples", "fs", "tests"].map(|room| build::sources(&root.join(room), &[ending])).concat()
        {
            sources += 1;
            for (number, line) in fs::read_to_string(&path).unwrap().lines().enumerate() {
                if has_comment(line, ending) && line.len() > MOST {
                    wide.push(format!("{}:{}: {line}", path.display(), number + 1));
                }
            }
        }
    }
    assert!(sources > 500, "only {sources} sources");
    assert!(wide.is_empty(), "comments of more than {MOST} columns:\n{}", wide.join("\n"));
}

#[test]
fn a_comment_is_no_code() {
    for (line, ending) in [("    // why", "rs"), (" * and so on", "c"), ("call(); /* why */", "h"), ("  # why", "sh")] {
        assert!(has_comment(line, ending), "{line}");
    }
    for (line, ending) in [("let at = 1;", "rs"), ("exec 3< \"$1\"", "sh"), ("#define A", "c"), ("*at = 0;", "c")] {
        assert!(!has_comment(line, ending), "{line}");
    }
}
