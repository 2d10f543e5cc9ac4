//! Checks that docs/format.md is what the engine's sources say about the format. It has the drawing
//! and the prose of `image/format.rs`. For each record it has the comment on the tag and the fields
//! of the body. ckptfs(5) is made from the document.

mod fields;
mod source;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use fields::Field;
use source::{Engine, File, Tagged};

/// Folders of the engine, in the order of their records in an image.
const ORDER: [&str; 6] = ["pstree", "task", "sysv", "kind", "file", "memory"];

/// The constants that the drawing names.
const LIMITS: [&str; 6] = ["VERSION", "PAGE_SIZE", "HEADER_LEN", "MAX_PAGES", "MAX_JSON", "MAX_BLOB"];

const COMMAND: &str = "CKPTFS_WRITE_DOCS=1 cargo test -p ckptfs-tests --test format format_md";

#[test]
fn the_document_is_what_the_engine_says() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let (page, file) = (document(&root.join("dumper/src")), root.join("docs/format.md"));
    if std::env::var_os("CKPTFS_WRITE_DOCS").is_some() {
        std::fs::write(&file, &page).unwrap();
    }
    let committed = std::fs::read_to_string(&file).unwrap_or_default();
    let differs = committed.lines().zip(page.lines()).position(|(old, new)| old != new);
    let line = differs.unwrap_or(committed.lines().count().min(page.lines().count())) + 1;
    assert!(committed == page, "docs/format.md:{line} is not what the engine says. This writes it again:\n{COMMAND}");
}

/// The whole document. `src`: the sources of the engine.
fn document(src: &Path) -> String {
    let engine = Engine::read(src);
    let format = engine.file("image/format.rs");
    let mut page = format!("# The image format\n\n<!-- Made from the sources of the engine by:\n{COMMAND} -->\n\n");
    // The headings of the module are one level below that of the document.
    for line in format.module_doc().lines() {
        page += &if line.starts_with("# ") { format!("#{line}\n") } else { format!("{line}\n") };
    }
    page += "\n## Limits\n\n| name | value | what |\n| --- | --- | --- |\n";
    for name in LIMITS {
        let (value, doc) = format.number(name);
        writeln!(page, "| `{name}` | {value} | {} |", one_line(doc.split("\n-").next().unwrap_or_default())).unwrap();
    }
    let (_, history) = format.number("VERSION");
    page += "\n## Versions\n\n";
    for line in history.lines().filter(|line| line.starts_with("- ")) {
        page += &format!("{line}\n");
    }
    page += "\n## Records\n";
    let mut files: Vec<&File> = engine.files().filter(|file| rank(file).is_some()).collect();
    files.sort_by_key(|file| (rank(file), file.path()));
    let mut said = BTreeSet::new();
    for file in files {
        for tagged in engine.tagged(file) {
            page += &section(&engine, file, &tagged, &mut said);
        }
    }
    for tag in engine.files().flat_map(File::tags) {
        assert!(page.contains(&format!("### {tag}\n")), "record {tag} is in no folder of {ORDER:?}, or in no constant");
    }
    page
}

fn rank(file: &File) -> Option<usize> {
    ORDER.iter().position(|folder| file.path().starts_with(folder))
}

/// `said` holds the comments on kinds that were already written.
fn section(engine: &Engine, file: &File, tagged: &Tagged<'_>, said: &mut BTreeSet<String>) -> String {
    let mut text = tagged.doc.clone();
    if let Some(scope) = &tagged.scope {
        text += &format!(" {}", engine.scope(scope));
    }
    if file.opens_pages() {
        text += " Flag: PAGES.";
    }
    let mut page = format!("\n### {}\n\n{}\n", tagged.tag, wrapped(&text));
    let parts = [tagged.around, tagged.body].into_iter().flatten();
    page += &table(&parts.flat_map(|(file, part)| fields::of(engine, file, part)).collect::<Vec<_>>());
    for kind in engine.kinds(tagged) {
        let about = match said.insert(kind.doc.clone()) {
            true => wrapped(&kind.doc),
            // The object of this kind has come before. Its comment is that of the same file.
            false => format!("A description of the object of kind `{}`.", kind.name),
        };
        page += &format!("\n#### {} of kind `{}`\n\n{about}\n", tagged.tag, kind.name);
        page += &table(&fields::of(engine, kind.body.0, kind.body.1));
    }
    page
}

fn table(fields: &[Field]) -> String {
    let mut page = "\n| field | type | what |\n| --- | --- | --- |\n".to_owned();
    for Field { path, sort, doc } in fields {
        writeln!(page, "| `{path}` | {sort} | {} |", one_line(doc).replace('|', "\\|")).unwrap();
    }
    page
}

/// A comment as running text: without line ends, and with source names as code.
fn one_line(doc: &str) -> String {
    let words: Vec<&str> = doc.split_whitespace().collect();
    words.join(" ").replace("[`", "`").replace("`]", "`")
}

fn wrapped(text: &str) -> String {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let last = lines.last_mut().unwrap();
        match last.len() + 1 + word.len() {
            _ if last.is_empty() => last.push_str(word),
            len if len > 100 => lines.push(word.to_owned()),
            _ => *last += &format!(" {word}"),
        }
    }
    lines.join("\n")
}
