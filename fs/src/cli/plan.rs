//! The plan of a mount: the command line, checked.

use std::path::{Path, PathBuf};

use ckptfs_dumper::{Doing, Error, RestoreOptions, Result};
use nix::mount::MsFlags;

use crate::cli::arguments::MountArgs;
use crate::cli::failure::Failure;
use crate::cli::options::MountOptions;
use crate::process::container::MountTarget;

/// The plan of a mount.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The directory to mount on, absolute.
    pub mountpoint: PathBuf,
    /// Which processes it shows.
    pub target: MountTarget,
    /// The mount options.
    pub options: MountOptions,
    /// What a restore decides, with the key.
    pub restore: RestoreOptions,
}

impl Plan {
    /// The plan that the command line describes.
    pub fn new(arguments: &MountArgs) -> std::result::Result<Plan, Failure> {
        let is_root = nix::unistd::geteuid().is_root();
        let mut options = MountOptions::parse(&arguments.options, is_root).map_err(Failure::usage)?;
        if let Some(log) = &mut options.log {
            // The daemon leaves this directory.
            *log = std::path::absolute(&*log).doing(|| format!("-o log={}", log.display()))?;
        }
        let restore = options.restore.clone().read()?;
        let target = match (&arguments.cgroup, &arguments.image, arguments.tree) {
            (Some(dir), ..) => MountTarget::cgroup(dir)?,
            (_, Some(file), _) => MountTarget::image(file)?,
            (.., Some(pid)) => MountTarget::tree(pid)?,
            (None, None, None) => MountTarget::All,
        };
        if let MountTarget::Image(_) = target {
            options.flags.insert(MsFlags::MS_RDONLY);
        }
        Ok(Plan { mountpoint: mountpoint(&arguments.mountpoint)?, target, options, restore })
    }
}

/// A path that can be mounted on, absolute and without links.
fn mountpoint(path: &Path) -> Result<PathBuf> {
    let doing = || format!("mounting {}", path.display());
    let absolute = path.canonicalize().doing(doing)?;
    let facts = std::fs::metadata(&absolute).doing(doing)?;
    if facts.is_dir() { Ok(absolute) } else { Err(Error::os(doing(), libc::ENOTDIR)) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_mountpoint_is_a_directory_that_is_there() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(mountpoint(&folder.path().join(".")).unwrap(), folder.path().canonicalize().unwrap());
        let missing = folder.path().join("missing");
        let text = mountpoint(&missing).unwrap_err().to_string();
        assert_eq!(text, format!("mounting {}: no such file or directory", missing.display()));
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        let text = mountpoint(&file).unwrap_err().to_string();
        assert_eq!(text, format!("mounting {}: not a directory", file.display()));
    }
}
