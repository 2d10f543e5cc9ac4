//! docs/troubleshooting.md explains sentences that the program prints. Each of them must be in the
//! source.

use std::path::Path;

use ckptfs_tests::build;

use super::{quoted, read, root};

/// The text of all sources below `dir`, with a gap for each part that is filled in at run time.
fn text_of(dir: &Path) -> String {
    build::sources(dir, &["rs"]).iter().map(|path| with_gaps(&std::fs::read_to_string(path).unwrap())).collect()
}

/// The source with continued literals joined, and with `…` in place of `{name}`.
fn with_gaps(source: &str) -> String {
    let mut joined = String::new();
    let mut rest = source;
    while let Some((before, after)) = rest.split_once("\\\n") {
        joined += before;
        rest = after.trim_start();
    }
    joined += rest;
    let mut text = String::new();
    let mut parts = joined.split('{');
    text += parts.next().unwrap_or_default();
    for part in parts {
        let is_part = |c: char| c.is_ascii_alphanumeric() || "_:#?.".contains(c);
        match part.split_once('}') {
            Some((name, after)) if name.chars().all(is_part) => text += &format!("…{after}"),
            _ => text += &format!("{{{part}"),
        }
    }
    text
}

/// Whether the source has these words, in one literal or in two that meet at a space.
fn says(source: &str, words: &str) -> bool {
    let meets = |(at, _): (usize, &str)| {
        let (left, right) = words.split_at(at);
        source.contains(left.trim_end_matches([' ', ',', ':'])) && source.contains(&right[1..])
    };
    source.contains(words) || words.match_indices(' ').any(meets)
}

#[test]
fn every_sentence_is_in_the_source() {
    let mut source = String::new();
    for dir in ["dumper/src", "fs/src"] {
        source += &text_of(&root().join(dir));
    }
    let document = read("docs/troubleshooting.md");
    let cells = document.lines().filter(|line| line.starts_with("| `")).filter_map(|line| line.split('|').nth(1));
    let sentences: Vec<String> = cells.flat_map(quoted).collect();
    assert!(sentences.len() > 80, "the tables are not found: {sentences:?}");
    let mut unknown = Vec::new();
    for sentence in &sentences {
        let parts = sentence.split('…').map(|part| part.trim_matches([' ', ':', ',', '(', ')']));
        unknown.extend(
            parts.filter(|part| part.len() > 2 && !says(&source, part)).map(|part| format!("{part:?} in {sentence:?}")),
        );
    }
    assert_eq!(unknown, Vec::<String>::new());
}
