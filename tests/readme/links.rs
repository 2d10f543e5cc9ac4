//! README.md is short, and every link in it and in the other documents leads to something.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{read, root};

/// The number of bytes of README.md that a newcomer can be expected to read.
const README_MOST: usize = 8192;

/// All documents, as paths relative to the root of the sources.
fn documents() -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = Vec::new();
    for dir in ["", "docs", "docs/adr"] {
        let entries = std::fs::read_dir(root().join(dir)).into_iter().flatten().flatten();
        let names = entries.map(|entry| Path::new(dir).join(entry.file_name()));
        found.extend(names.filter(|path| path.extension().is_some_and(|ending| ending == "md")));
    }
    found.sort_unstable();
    found
}

/// The lines of a document, without its code blocks.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut is_code = false;
    text.lines().filter(move |line| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence
    })
}

/// The targets of the links in a document.
fn links(text: &str) -> Vec<String> {
    let lines = prose(text).flat_map(|line| line.split("](").skip(1).collect::<Vec<_>>());
    lines.filter_map(|rest| Some(rest.split_once(')')?.0.to_owned())).collect()
}

/// The anchors of a document's headings, as GitHub makes them.
fn anchors(text: &str) -> Vec<String> {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let headings =
        prose(text).filter_map(|line| line.trim_start_matches('#').strip_prefix(' ').filter(|_| line.starts_with('#')));
    let mut anchors = Vec::new();
    for heading in headings {
        let kept = heading
            .to_lowercase()
            .chars()
            .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
            .collect::<String>();
        let anchor = kept.replace(' ', "-");
        let count = seen.entry(anchor.clone()).or_default();
        anchors.push(if *count == 0 { anchor } else { format!("{anchor}-{count}") });
        *count += 1;
    }
    anchors
}

#[test]
fn the_readme_is_short() {
    let len = read("README.md").len();
    assert!(len <= README_MOST, "README.md has {len} bytes: what is more than {README_MOST} belongs into docs/");
}

#[test]
fn every_link_leads_somewhere() {
    let mut broken = Vec::new();
    let mut count = 0;
    for document in documents() {
        let text = read(document.to_str().unwrap());
        for link in links(&text).into_iter().filter(|link| !link.starts_with("http")) {
            count += 1;
            let (path, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let there = match path {
                "" => document.clone(),
                path => document.parent().unwrap().join(path),
            };
            let is_there = match anchor {
                "" => root().join(&there).exists(),
                anchor => std::fs::read_to_string(root().join(&there))
                    .is_ok_and(|text| anchors(&text).iter().any(|it| it == anchor)),
            };
            if !is_there {
                broken.push(format!("{}: {link}", document.display()));
            }
        }
    }
    assert!(count > 50, "the links are not found: {count}");
    assert_eq!(broken, Vec::<String>::new());
}

/// README.md must link to every document, because a reader would not find the others.
#[test]
fn the_readme_names_every_document() {
    let named = links(&read("README.md"));
    let missing: Vec<PathBuf> = documents()
        .into_iter()
        .filter(|path| !path.ends_with("README.md") && !path.starts_with("docs/adr"))
        .filter(|path| !named.iter().any(|link| Path::new(link) == path))
        .collect();
    assert_eq!(missing, Vec::<PathBuf>::new());
}
