//! A file imports only from lower floors and from its own room, and no file imports itself through
//! others. docs/design.md says what each room is for.
//!
//! A room is a folder of `src` with the file of the same name, or a single file. The test reads
//! every `use crate::…` and every path that begins with `crate::`, `super::` or a child module.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use ckptfs_tests::build;

/// Rooms of the engine, lowest floor first.
const ENGINE: &[&[&str]] = &[
    &["error", "key"],
    &["options", "refusals", "image", "sys"],
    &["kind", "freeze", "pstree", "sysv", "read_ahead"],
    &["task", "memory", "cow"],
    &["file"],
    &["records"],
    &["dump", "restore", "checkpoint"],
    &["snapshot"],
    &["lib"],
];

/// Rooms of the daemon, lowest floor first.
const DAEMON: &[&[&str]] =
    &[&["errno", "escape", "process"], &["node"], &["state"], &["tree"], &["fuse"], &["cli"], &["mount"], &["main"]];

/// A fake replaces code below and above its own floor, so the floors do not apply to it.
const ONLY_FOR_TESTS: &[&str] = &["testing"];

/// The name of a module in its crate, such as `["sys", "proc", "stat"]`. The root has an empty
/// name.
type Module = Vec<String>;

/// One source file.
struct Source {
    path: PathBuf,
    text: String,
}

/// A crate's files by module.
struct House {
    files: BTreeMap<Module, Source>,
    floors: &'static [&'static [&'static str]],
}

/// One path in a file: the line, and the segments of the path without `crate`.
struct Import {
    line: usize,
    path: Vec<String>,
}

impl House {
    fn read(src: &str, floors: &'static [&'static [&'static str]]) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(src);
        let mut files = BTreeMap::new();
        for path in build::sources(&root, &["rs"]) {
            let relative = path.strip_prefix(&root).unwrap().with_extension("");
            let mut module: Module = relative.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
            if ["mod", "lib", "main"].contains(&module.last().unwrap().as_str()) {
                module.pop();
            }
            let text = without_comments(&fs::read_to_string(&path).unwrap());
            files.insert(module, Source { path, text });
        }
        Self { files, floors }
    }

    /// The module whose file defines the item of `path`.
    fn module_of(&self, path: &[String]) -> Module {
        let mut module = path.to_vec();
        while !self.files.contains_key(&module) {
            module.pop();
        }
        module
    }

    /// The floor of a module's room. A room that the table does not list is an error in the table.
    fn floor(&self, module: &Module) -> usize {
        let root = self.floors[self.floors.len() - 1][0];
        let room = module.first().map_or(root, String::as_str);
        let floor = self.floors.iter().position(|rooms| rooms.contains(&room));
        floor.unwrap_or_else(|| panic!("{}: the room `{room}` stands on no floor", self.files[module].path.display()))
    }

    /// Everything that a module imports from its own crate.
    fn imports(&self, module: &Module) -> Vec<Import> {
        let text = &self.files[module].text;
        let children: BTreeSet<&String> = self
            .files
            .keys()
            .filter(|it| it.len() == module.len() + 1 && it.starts_with(module))
            .map(|it| &it[module.len()])
            .collect();
        let mut imports = Vec::new();
        let mut at = 0;
        while let Some(end) = text[at..].find("::").map(|found| at + found) {
            at = end + 2;
            let start = text[..end].rfind(|c: char| !c.is_alphanumeric() && c != '_').map_or(0, |before| before + 1);
            let head = &text[start..end];
            let line = text[..end].matches('\n').count() + 1;
            let is_first = !text[..start].ends_with("::");
            let found = match head {
                "crate" if is_first => expand(&text[at..]),
                // In an inline module, `super` is the file itself.
                "super" | "self" if is_first => {
                    let inline = text[..start].rsplit('\n').next().unwrap().starts_with("    ");
                    assert!(inline, "{}:{line}: `{head}::` instead of `crate::`", self.files[module].path.display());
                    continue;
                }
                child if is_first && children.contains(&head.to_owned()) => {
                    vec![module.iter().cloned().chain([child.to_owned()]).collect()]
                }
                _ => continue,
            };
            imports.extend(found.into_iter().map(|path| Import { line, path }));
        }
        imports
    }
}

/// The text without its comments. The number of lines stays the same.
fn without_comments(text: &str) -> String {
    let blank = |line: &str| match line.trim_start().starts_with("//") {
        true => String::new(),
        false => line.split(" // ").next().unwrap().to_owned(),
    };
    text.lines().map(blank).collect::<Vec<_>>().join("\n")
}

/// The paths after `crate::`, which may be one path or a `use` tree.
fn expand(text: &str) -> Vec<Vec<String>> {
    let word = |text: &str| -> String { text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect() };
    let Some(inner) = text.strip_prefix('{') else {
        let first = word(text);
        let rest = text[first.len()..].strip_prefix("::");
        let below = rest.map_or_else(
            || vec![vec![]],
            |rest| match rest.starts_with('*') {
                true => vec![vec![]],
                false => expand(rest),
            },
        );
        let with_first =
            |path: Vec<String>| [first.clone()].into_iter().filter(|it| it != "self").chain(path).collect();
        return below.into_iter().map(with_first).collect();
    };
    let (mut depth, mut from, mut paths) = (0, 0, Vec::new());
    for (at, c) in inner.char_indices() {
        match c {
            '{' => depth += 1,
            ',' | '}' if depth == 0 => {
                let part = inner[from..at].trim();
                paths.extend(if part.is_empty() { vec![] } else { expand(part) });
                from = at + 1;
                if c == '}' {
                    break;
                }
            }
            '}' => depth -= 1,
            _ => {}
        }
    }
    paths
}

/// A path of imports from `module` back to itself, if there is one.
fn circle<'h>(
    module: &'h Module,
    edges: &'h BTreeMap<Module, BTreeSet<Module>>,
    way: &mut Vec<&'h Module>,
    done: &mut BTreeSet<&'h Module>,
) -> Option<Vec<&'h Module>> {
    if let Some(at) = way.iter().position(|it| *it == module) {
        return Some(way[at..].to_vec());
    }
    if !done.insert(module) {
        return None;
    }
    way.push(module);
    let found = edges[module].iter().find_map(|next| circle(next, edges, way, done));
    way.pop();
    found
}

fn check(src: &str, floors: &'static [&'static [&'static str]]) {
    let house = House::read(src, floors);
    let mut edges: BTreeMap<Module, BTreeSet<Module>> = BTreeMap::new();
    let mut wrong = Vec::new();
    for (module, source) in &house.files {
        let is_test = |module: &Module| {
            module
                .iter()
                .any(|part| ["tests", "fake"].contains(&part.as_str()) || ONLY_FOR_TESTS.contains(&part.as_str()))
        };
        let edges = edges.entry(module.clone()).or_default();
        for Import { line, path } in house.imports(module) {
            let other = house.module_of(&path);
            if other == *module || is_test(module) || is_test(&other) {
                continue;
            }
            let name = path.get(other.len());
            let whole = format!("{}:{line}: crate::{}", source.path.display(), path.join("::"));
            let exports_again = |name: &String| {
                let text = &house.files[&other].text;
                text.match_indices("pub use ").any(|(at, _)| {
                    let paths = text[at..].find("::").map(|colon| expand(&text[at + colon + 2..]));
                    paths.is_some_and(|paths| paths.iter().any(|path| path.last() == Some(name)))
                })
            };
            if name.is_some_and(exports_again) {
                wrong.push(format!("{whole} is defined elsewhere: import it from its own file"));
            }
            let is_own_room = module.first() == other.first();
            if !is_own_room && house.floor(&other) >= house.floor(module) {
                wrong.push(format!(
                    "{whole} stands on floor {}, this file on {}",
                    house.floor(&other) + 1,
                    house.floor(module) + 1
                ));
            }
            edges.insert(other);
        }
    }
    let mut done = BTreeSet::new();
    for module in edges.keys() {
        if let Some(way) = circle(module, &edges, &mut Vec::new(), &mut done) {
            let names: Vec<String> = way.iter().map(|it| it.join("::")).collect();
            wrong.push(format!("a circle: {} -> {}", names.join(" -> "), names[0]));
        }
    }
    assert!(wrong.is_empty(), "{src}:\n{}", wrong.join("\n"));
    assert!(edges.values().map(BTreeSet::len).sum::<usize>() > 100, "{src}: the imports were not found");
}

#[test]
fn the_engine_imports_downward_only() {
    check("dumper/src", ENGINE);
}

#[test]
fn the_daemon_imports_downward_only() {
    check("fs/src", DAEMON);
}
