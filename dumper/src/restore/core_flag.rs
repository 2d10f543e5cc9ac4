//! The core flag (WCOREDUMP) of a process that has ended. The kernel sets it only for a process
//! that dumps core, so a process that is to end with the flag has to leave a core file. The file
//! goes into a directory that is removed at once.

use std::path::Path;

use tempfile::TempDir;

use crate::error::{Doing, Error, Result};
use crate::pstree::record::Ended;
use crate::restore::process::NewProcess;
use crate::sys::proc;
use crate::sys::remote::batch::Batch;

/// Makes `process` dump a minimal core file when it exits. Returns the temporary directory that
/// holds it.
///
/// # Errors
/// EOPNOTSUPP: /proc/sys/kernel/core_pattern (core(5)) sends core files to a program, a socket or a
/// place of its own.
pub fn dump_core_into_temp_dir(process: &mut NewProcess, ended: &Ended) -> Result<TempDir> {
    let pid = process.pid;
    let pattern = proc::read_text("/proc/sys/kernel/core_pattern")?;
    if pattern.trim().is_empty() || pattern.starts_with(['|', '@']) || pattern.contains('/') {
        let reason =
            format!("pid {pid}: it left a core file, and core_pattern {:?} lets none be made here", pattern.trim());
        return Err(Error::os(reason, libc::EOPNOTSUPP));
    }
    let doing = || format!("pid {pid}: making room for a core file");
    let dir = tempfile::Builder::new().prefix("ckptfs-core-").tempdir().doing(doing)?;
    nix::unistd::chown(dir.path(), Some(ended.uid.into()), Some(ended.gid.into())).doing(doing)?;
    // Without any memory the core file has a few KiB.
    let filter = format!("/proc/{pid}/coredump_filter");
    std::fs::write(&filter, "0").doing(|| format!("pid {pid}: writing {filter}"))?;
    enter(process, dir.path())?;
    Ok(dir)
}

fn enter(process: &mut NewProcess, dir: &Path) -> Result<()> {
    use std::os::unix::ffi::OsStrExt;
    let mut batch = Batch::new(process.leader.scratch());
    let path = batch.put_str(dir.as_os_str().as_bytes());
    let unlimited = batch.put(&[u64::MAX.to_le_bytes(), u64::MAX.to_le_bytes()].concat());
    let entered = batch.call(libc::SYS_chdir, [path.0]);
    let allowed = batch.call(libc::SYS_prlimit64, [0, u64::from(libc::RLIMIT_CORE), unlimited.0, 0]);
    let answers = process.leader.run(batch)?;
    answers.get(entered, || format!("pid {}: entering {}", process.pid, dir.display()))?;
    answers.get(allowed, || format!("pid {}: allowing a core file", process.pid)).map(drop)
}
