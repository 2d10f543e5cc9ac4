//! `ckptfs install-assets`: installs the manual pages and completions that the program carries.

use std::fs::{self, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use ckptfs_dumper::{Doing, Result};

// `ASSETS`: the path below a prefix, and the bytes. The build makes it.
include!(concat!(env!("OUT_DIR"), "/assets.rs"));

/// Installs every file below `prefix` and names each on `out`.
///
/// # Errors
/// The filesystem's refusal, with the path. Files before it stay installed.
pub fn install(prefix: &Path, out: &mut dyn Write) -> Result<()> {
    for (place, bytes) in ASSETS {
        let path = prefix.join(place);
        replace(&path, bytes)?;
        writeln!(out, "{}", path.display()).doing(|| "writing standard output")?;
    }
    Ok(())
}

/// Writes the file beside its place and renames it. A reader gets the old file or the new one.
fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(dir).doing(|| format!("making the directory {}", dir.display()))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let part = dir.join(format!(".{name}.{}.part", std::process::id()));
    let written = write_new(&part, bytes).doing(|| format!("writing {}", part.display()));
    let placed = written.and_then(|()| fs::rename(&part, path).doing(|| format!("installing {}", path.display())));
    if placed.is_err() {
        // The failure itself is reported. If the part cannot be removed either, it does no harm.
        let _gone = fs::remove_file(&part);
    }
    placed
}

/// Every user may read it, whatever the umask is.
fn write_new(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    file.write_all(bytes)?;
    file.set_permissions(Permissions::from_mode(0o644))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_file_is_replaced_and_no_part_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("share/man/page.1");
        replace(&path, b"old").unwrap();
        replace(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn an_error_names_the_path_and_leaves_no_part() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("page.1");
        fs::create_dir(&path).unwrap();
        let error = replace(&path, b"new").unwrap_err().to_string();
        assert!(error.contains(path.to_str().unwrap()), "{error}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
