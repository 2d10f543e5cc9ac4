//! Signals that the restore itself has caused: the restored processes must not get them.

use std::time::Duration;

use crate::error::{Error, Result};
use crate::restore::process::NewProcess;
use crate::sys::clock::Deadline;
use crate::sys::remote::batch::Batch;

/// How long a signal queue may take to become empty.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(10);

/// Whether SIGCHLD is pending.
pub fn has_sigchld(process: &NewProcess) -> Result<bool> {
    let pending = process.leader.task()?.pending(true)?;
    Ok(pending.iter().any(|info| i32::from(info[0]) == libc::SIGCHLD))
}

/// Removes `signal` from the queue; whether it was pending.
pub fn forget_signal(process: &mut NewProcess, signal: i32) -> Result<bool> {
    take_one(process, 1 << (signal - 1))
}

/// Removes all pending signals.
pub fn forget_signals(process: &mut NewProcess) -> Result<()> {
    let deadline = Deadline::after(QUEUE_TIMEOUT);
    while take_one(process, u64::MAX)? {
        if deadline.is_over() {
            return Err(Error::os(format!("pid {}: it is being sent signals all the time", process.pid), libc::EBUSY));
        }
    }
    Ok(())
}

/// Takes one of `signals` out of the queue, without waiting.
fn take_one(process: &mut NewProcess, signals: u64) -> Result<bool> {
    let mut batch = Batch::new(process.leader.scratch());
    let set = batch.put(&signals.to_le_bytes());
    let none = batch.put(&[0; 16]);
    let taken = batch.call(libc::SYS_rt_sigtimedwait, [set.0, 0, none.0, 8]);
    let got = process.leader.run(batch)?.raw(taken);
    match got {
        got if got > 0 => Ok(true),
        got if got == -i64::from(libc::EAGAIN) => Ok(false),
        got => Err(Error::os(format!("pid {}: emptying its signal queue", process.pid), -got as i32)),
    }
}
