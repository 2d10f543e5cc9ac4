//! Control files: the effect of writes to `freeze` and `kill`.

use ckptfs_dumper::{Error, Kind, Pid, Result};

use crate::node::{File, Node, Of};
use crate::process::caller::Caller;
use crate::process::{self, ProcId};
use crate::state::kill::kill_tree;
use crate::tree::Tree;
use crate::tree::entry::refused;

impl Tree {
    /// Does what `bytes` ask for, on behalf of the caller that opened the file. Blocks until the
    /// tree has stopped, continues or has ended.
    pub(super) fn write_control(&self, id: ProcId, file: File, caller: Caller, bytes: &[u8]) -> Result<()> {
        if !id.is_alive() {
            return Err(Error::new(Kind::NoProcess, format!("pid {}: no such process", id.pid)));
        }
        let may = |owner: Option<(u32, u32)>| match owner {
            Some((uid, _)) if !caller.may_as(uid) => Err(of_another_user(id.pid)),
            _ => Ok(()),
        };
        let owner_of_tree = || self.owner_of(Node::File(Of::Live(id), file), id);
        may(owner_of_tree())?;
        match (file, switch(bytes)) {
            (File::Freeze, Some(frozen)) => {
                if !frozen {
                    // A tree cannot continue while its image is being read.
                    self.snapshots.settle(id);
                }
                self.freezer.set(id, frozen, process::process_of_thread(caller.thread))?;
                // Only now no process of the tree can change its user any more.
                may(owner_of_tree().filter(|_| frozen)).inspect_err(|_| {
                    let _ = self.freezer.set(id, false, None);
                })
            }
            (File::Kill, Some(true)) => {
                log::info!("pid {}: killing the tree", id.pid);
                let may_kill = |id: ProcId| may(process::owner(id.pid).filter(|_| !process::has_ended(id.pid)));
                let thaw = |killed: &[ProcId]| self.freezer.forget(killed.iter().copied());
                kill_tree(&self.container, id, self.kill_timeout, &may_kill, &thaw)
            }
            (File::Freeze, None) => Err(refused(libc::EINVAL, &format!("pid {} freeze: write 0 or 1", id.pid))),
            _ => Err(refused(libc::EINVAL, &format!("pid {} kill: write 1", id.pid))),
        }
    }
}

/// The refusal for a caller that may not act on all of a tree.
pub(super) fn of_another_user(pid: Pid) -> Error {
    let sentence = format!("pid {pid}: it, or a process below it, belongs to another user by now");
    Error::new(Kind::System(libc::EACCES), sentence)
}

/// The `0` or `1` that was written to a control file. White space around it is ignored.
fn switch(bytes: &[u8]) -> Option<bool> {
    match bytes.trim_ascii() {
        b"0" => Some(false),
        b"1" => Some(true),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn switches_tolerate_white_space_and_nothing_else() {
        for (text, wanted) in
            [("1", Some(true)), ("0\n", Some(false)), (" 1 \n", Some(true)), ("", None), ("2", None), ("10", None)]
        {
            assert_eq!(switch(text.as_bytes()), wanted, "{text:?}");
        }
    }
}
