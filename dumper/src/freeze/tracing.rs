//! A process has one tracer, ptrace(2). A debugger that has it keeps a dump out.

use crate::error::{Error, Kind};
use crate::sys::pid::Pid;
use crate::sys::proc;

/// The refusal of process `pid`, which `tracer` traces.
pub fn refusal(pid: Pid, tracer: u64) -> Error {
    let name = proc::read_text(&format!("/proc/{tracer}/comm")).unwrap_or_default();
    let traced = format!("pid {pid}: it is traced already, by pid {tracer} ({})", name.trim_end());
    Error::new(Kind::Busy, traced)
}
