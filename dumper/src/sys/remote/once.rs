//! One call in another process, without injecting anything.

use crate::error::Result;
use crate::sys::memory::MemFile;
use crate::sys::ptrace::{Regs, Stopped};
use crate::sys::remote::batch::Call;
use crate::sys::remote::hijack::{EntryPoint, Failed, Hijacked};
use crate::sys::remote::way_home::WayHome;

/// Makes one call in `task`. Registers, mask and stack are as before when it returns. `call_of`
/// gives the number of the call that the task was stopped in, if that is known.
pub fn call_once(
    task: Stopped,
    mem: &MemFile,
    entry: &EntryPoint,
    call_of: impl FnOnce(&Regs) -> Option<i64>,
    call: &Call,
) -> Result<(Stopped, i64)> {
    let mut task = Hijacked::take(task, mem, entry.wake).map_err(Failed::let_go)?;
    let was_in = call_of(task.regs());
    task.was_in(was_in);
    let mut home = WayHome::of(mem, entry);
    if let Some(home) = &mut home {
        home.lead(&task)?;
    }
    let result = task.call_at(entry.syscall, home.as_ref().map(WayHome::stack), call);
    let task = task.give_back()?;
    home.into_iter().for_each(|home| home.clear());
    Ok((task, result?))
}
