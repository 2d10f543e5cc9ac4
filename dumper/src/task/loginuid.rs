//! The user of the login that a thread descends from, for the audit system: /proc/PID/loginuid,
//! pam_loginuid(8). Each thread has its own, and inherits that of its maker.
//!
//! The session of the login (/proc/PID/sessionid) cannot be set: the kernel gives a new number to a
//! thread whose login user is set.

use std::fs::OpenOptions;
use std::os::fd::AsRawFd;

use crate::error::{Doing, Error, Result};
use crate::kind::attribute::{DumpedThread, RestoredThread};
use crate::kind::inheritance::{CAP_AUDIT_CONTROL, Inheritance};
use crate::sys::proc;

/// Its name in /proc/PID.
pub const FILE: &str = "loginuid";

/// The value of a thread that descends from no login: AUDIT_UID_UNSET.
const UNSET: &str = "4294967295";

/// The user, as text. `None` if this kernel has no audit system.
pub fn dump(thread: &DumpedThread<'_>) -> Option<String> {
    proc::read_text(&thread.proc(FILE)).ok().map(|text| text.trim().to_owned())
}

/// Whether a thread of this program can have the login user `wanted`.
pub fn compare(wanted: &str, subject: &str, own: &Inheritance) -> Result<()> {
    let has = own.loginuid.as_deref().unwrap_or(wanted);
    if has == wanted || has == UNSET || own.has_capability(CAP_AUDIT_CONTROL) {
        return Ok(());
    }
    let doing =
        format!("{subject}: its login user (loginuid) is {wanted}, and this daemon's, {has}, cannot be changed");
    Err(Error::os(doing, libc::EPERM))
}

/// Sets it. Only the thread itself may do that.
pub fn restore(wanted: &str, thread: &mut RestoredThread<'_>) -> Result<()> {
    let path = format!("/proc/{}/task/{}/{FILE}", thread.pid, thread.tid);
    let doing = format!("{}: setting its login user (loginuid) to {wanted}", thread.subject());
    // A kernel without audit system has no such file.
    if proc::read_text(&path).map_or(true, |now| now.trim() == wanted) {
        return Ok(());
    }
    let file = OpenOptions::new().write(true).open(&path).doing(|| &doing)?;
    let numbers = thread.push(&[file.as_raw_fd()])?;
    let text = thread.batch.put(wanted.as_bytes());
    for number in numbers {
        thread.call(libc::SYS_write, [number as u64, text.0, wanted.len() as u64], doing.clone());
        thread.call(libc::SYS_close, [number as u64], doing.clone());
    }
    thread.flush()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::inheritance::fake::inheritance;

    #[test]
    fn a_login_user_that_cannot_be_changed_is_refused() {
        let own = |loginuid: &str, capabilities: &str| Inheritance {
            loginuid: Some(loginuid.into()),
            ..inheritance(&format!("CapEff:\t{capabilities}\n"))
        };
        for (own, possible) in
            [(own("7", "0"), false), (own("8", "0"), true), (own(UNSET, "0"), true), (own("7", "40000000"), true)]
        {
            assert_eq!(compare("8", "pid 1", &own).is_ok(), possible);
        }
    }
}
