//! The core flag (WCOREDUMP) of a process that has ended. The kernel sets it only for a process
//! that dumps core, so a process that is to end with the flag has to leave a core file. The file
//! goes into a filesystem that nobody else sees, and that ends with the process.

use crate::error::{Doing, Error, Result};
use crate::pstree::record::Ended;
use crate::restore::process::NewProcess;
use crate::sys::proc;
use crate::sys::remote::batch::Batch;

// include/uapi/linux/mount.h.
const FSOPEN_CLOEXEC: u64 = 1;
const FSMOUNT_CLOEXEC: u64 = 1;
const FSCONFIG_SET_STRING: u64 = 1;
const FSCONFIG_CMD_CREATE: u64 = 6;

/// Makes `process`, which must still be privileged, enter a filesystem of its own: a tmpfs that is
/// mounted nowhere.
///
/// # Errors
/// EOPNOTSUPP: /proc/sys/kernel/core_pattern (core(5)) sends core files to a program, a socket or a
/// place of its own. EPERM: this daemon may not mount.
pub fn enter_own_filesystem(process: &mut NewProcess, ended: &Ended) -> Result<()> {
    let pid = process.pid;
    let pattern = proc::read_text("/proc/sys/kernel/core_pattern")?;
    if pattern.trim().is_empty() || pattern.starts_with(['|', '@']) || pattern.contains('/') {
        let reason =
            format!("pid {pid}: it left a core file, and core_pattern {:?} lets none be made here", pattern.trim());
        return Err(Error::os(reason, libc::EOPNOTSUPP));
    }
    let doing = || format!("pid {pid}: making room for a core file");
    let scratch = process.leader.scratch();
    let mut batch = Batch::new(scratch);
    let kind = batch.put_str(b"tmpfs");
    let opened = batch.call(libc::SYS_fsopen, [kind.0, FSOPEN_CLOEXEC]);
    let context = process.leader.run(batch)?.get(opened, doing)?;
    let mut batch = Batch::new(scratch);
    let set = |batch: &mut Batch, key: &str, value: String| {
        let (key, value) = (batch.put_str(key.as_bytes()), batch.put_str(value.as_bytes()));
        batch.call(libc::SYS_fsconfig, [context, FSCONFIG_SET_STRING, key.0, value.0, 0])
    };
    let mut calls = vec![
        set(&mut batch, "mode", "0700".to_owned()),
        set(&mut batch, "uid", ended.uid.to_string()),
        set(&mut batch, "gid", ended.gid.to_string()),
    ];
    calls.push(batch.call(libc::SYS_fsconfig, [context, FSCONFIG_CMD_CREATE, 0, 0, 0]));
    let mounted = batch.call(libc::SYS_fsmount, [context, FSMOUNT_CLOEXEC, 0]);
    let answers = process.leader.run(batch)?;
    calls.into_iter().try_for_each(|call| answers.get(call, doing).map(drop))?;
    let mounted = answers.get(mounted, doing)?;
    // Its descriptors end with it.
    process.call(libc::SYS_fchdir, [mounted], "making room for a core file").map(drop)
}

/// Makes `process` leave a minimal core file when it is killed.
pub fn allow_core(process: &mut NewProcess) -> Result<()> {
    let pid = process.pid;
    // Without any memory the core file has a few KiB.
    let filter = format!("/proc/{pid}/coredump_filter");
    std::fs::write(&filter, "0").doing(|| format!("pid {pid}: writing {filter}"))?;
    let mut batch = Batch::new(process.leader.scratch());
    let unlimited = batch.put(&[u64::MAX.to_le_bytes(), u64::MAX.to_le_bytes()].concat());
    let allowed = batch.call(libc::SYS_prlimit64, [0, u64::from(libc::RLIMIT_CORE), unlimited.0, 0]);
    process.leader.run(batch)?.get(allowed, || format!("pid {pid}: allowing a core file")).map(drop)
}
