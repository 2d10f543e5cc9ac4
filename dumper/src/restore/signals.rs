//! Signals that the making of a family has caused: nobody is to get them.

use std::time::Duration;

use crate::error::{Error, Result};
use crate::restore::process::NewProcess;
use crate::sys::clock::Deadline;
use crate::sys::remote::batch::Batch;

/// How long a signal queue may take to become empty.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(10);

/// Whether SIGCHLD is pending.
pub fn has_sigchld(made: &NewProcess) -> Result<bool> {
    let pending = made.leader.task()?.pending(true)?;
    Ok(pending.iter().any(|info| i32::from(info[0]) == libc::SIGCHLD))
}

/// Takes one back.
pub fn forget_signal(made: &mut NewProcess, signal: i32) -> Result<bool> {
    take_one(made, 1 << (signal - 1))
}

/// Takes all of them back.
pub fn forget_signals(made: &mut NewProcess) -> Result<()> {
    let deadline = Deadline::after(QUEUE_TIMEOUT);
    while take_one(made, u64::MAX)? {
        if deadline.is_over() {
            return Err(Error::os(format!("pid {}: somebody keeps sending it signals", made.pid), libc::EBUSY));
        }
    }
    Ok(())
}

/// Takes one of `signals` out of the queue, without waiting.
fn take_one(made: &mut NewProcess, signals: u64) -> Result<bool> {
    let mut batch = Batch::new(made.leader.scratch());
    let set = batch.put(&signals.to_le_bytes());
    let none = batch.put(&[0; 16]);
    let taken = batch.call(libc::SYS_rt_sigtimedwait, [set.0, 0, none.0, 8]);
    let got = made.leader.run(batch)?.raw(taken);
    match got {
        got if got > 0 => Ok(true),
        got if got == -i64::from(libc::EAGAIN) => Ok(false),
        got => Err(Error::os(format!("pid {}: emptying its signal queue", made.pid), -got as i32)),
    }
}
