//! The manual pages and completions as a table for the program, which carries them to install them,
//! and as files beside it.

use std::fs;
use std::io::{Error, Result};
use std::path::{Path, PathBuf};

/// Writes the table, `assets.rs`, into `out`: where each file of `dirs` belongs below a prefix, and
/// its bytes. Copies the files to `beside`.
pub fn write(dirs: [&Path; 2], out: &Path, beside: &Path) -> Result<()> {
    let mut files: Vec<PathBuf> = Vec::new();
    for dir in dirs {
        for entry in fs::read_dir(dir)? {
            files.push(entry?.path());
        }
    }
    files.sort();
    let mut rows = String::new();
    for file in files {
        let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let place = place(name).ok_or_else(|| Error::other(format!("{name}: where is it installed?")))?;
        let copy = beside.join(file.strip_prefix(out).map_err(Error::other)?);
        fs::create_dir_all(copy.parent().unwrap_or(beside))?;
        fs::copy(&file, copy)?;
        rows += &format!("    ({place:?}, include_bytes!({file:?})),\n");
    }
    fs::write(out.join("assets.rs"), format!("const ASSETS: &[(&str, &[u8])] = &[\n{rows}];\n"))
}

/// Where man(1) and the shells look for a file with this name, below a prefix.
fn place(name: &str) -> Option<String> {
    Some(match name.rsplit_once('.') {
        Some((_, section @ ("1" | "5"))) => format!("share/man/man{section}/{name}"),
        // bash-completion(7) looks for the name of the command.
        Some((command, "bash")) => format!("share/bash-completion/completions/{command}"),
        Some((_, "fish")) => format!("share/fish/vendor_completions.d/{name}"),
        None if name.starts_with('_') => format!("share/zsh/site-functions/{name}"),
        _ => return None,
    })
}
