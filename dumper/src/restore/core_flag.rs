//! The core bit of a process that has ended: whoever is to have left a core file must leave one. It goes into a directory that
//! vanishes at once.

use std::path::Path;

use tempfile::TempDir;

use crate::error::{Doing, Error, Result};
use crate::pstree::record::Ended;
use crate::restore::process::NewProcess;
use crate::sys::proc;
use crate::sys::remote::batch::Batch;

/// Sees to it that `made`, which is about to die, leaves a small core file in the directory that is given back.
///
/// # Errors
/// EOPNOTSUPP: /proc/sys/kernel/core_pattern (core(5)) sends core files to a program, a socket or a place of its own.
pub fn anywhere(made: &mut NewProcess, ended: &Ended) -> Result<TempDir> {
    let pid = made.pid;
    let pattern = proc::read_text("/proc/sys/kernel/core_pattern")?;
    if pattern.trim().is_empty() || pattern.starts_with(['|', '@']) || pattern.contains('/') {
        let told =
            format!("pid {pid}: it left a core file, and core_pattern {:?} lets none be made here", pattern.trim());
        return Err(Error::os(told, libc::EOPNOTSUPP));
    }
    let doing = || format!("pid {pid}: making room for a core file");
    let dir = tempfile::Builder::new().prefix("ckptfs-core-").tempdir().doing(doing)?;
    nix::unistd::chown(dir.path(), Some(ended.uid.into()), Some(ended.gid.into())).doing(doing)?;
    // No memory at all: what is left is a few KiB.
    let filter = format!("/proc/{pid}/coredump_filter");
    std::fs::write(&filter, "0").doing(|| format!("pid {pid}: writing {filter}"))?;
    enter(made, dir.path())?;
    Ok(dir)
}

fn enter(made: &mut NewProcess, dir: &Path) -> Result<()> {
    use std::os::unix::ffi::OsStrExt;
    let mut batch = Batch::new(made.leader.scratch());
    let path = batch.put_str(dir.as_os_str().as_bytes());
    let unlimited = batch.put(&[u64::MAX.to_le_bytes(), u64::MAX.to_le_bytes()].concat());
    let entered = batch.call(libc::SYS_chdir, [path.0]);
    let allowed = batch.call(libc::SYS_prlimit64, [0, u64::from(libc::RLIMIT_CORE), unlimited.0, 0]);
    let answers = made.leader.run(batch)?;
    answers.get(entered, || format!("pid {}: entering {}", made.pid, dir.display()))?;
    answers.get(allowed, || format!("pid {}: allowing a core file", made.pid)).map(drop)
}
