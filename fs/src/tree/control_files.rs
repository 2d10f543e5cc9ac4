//! Control files: the effect of writes to `freeze` and `kill`.

use ckptfs_dumper::{Error, Identity, Kind, Result};

use crate::node::File;
use crate::process::caller::{Caller, Viewer};
use crate::process::{self, ProcId, rights};
use crate::state::kill::kill_tree;
use crate::tree::Tree;
use crate::tree::entry::refused;

impl Tree {
    /// Does what `bytes` ask for. Blocks until the tree has stopped, continues or has ended.
    ///
    /// Both the user that has opened the file and the user that writes must be allowed to send
    /// signals to the whole tree. The writer alone is not enough: a user may have handed the open
    /// file to a set-user-ID program as its standard output. The opener alone is not enough either:
    /// the descriptor may be in other hands.
    pub(super) fn write_control(
        &self,
        id: ProcId,
        file: File,
        opener: &Identity,
        writer: Caller,
        bytes: &[u8],
    ) -> Result<()> {
        if !id.is_alive() {
            return Err(Error::new(Kind::NoProcess, format!("pid {}: no such process", id.pid)));
        }
        let users = [opener, &writer.identify()];
        let may = |ids: &[ProcId]| users.iter().try_for_each(|who| rights::may_signal(who, ids));
        let may_all =
            || if users.iter().all(|who| who.is_as_mighty()) { Ok(()) } else { may(&self.container.tree_of(id)?) };
        may_all()?;
        match (file, switch(bytes)) {
            (File::Freeze, Some(frozen)) => {
                if !frozen {
                    // A tree cannot continue while its image is being read.
                    self.snapshots.settle(id);
                }
                // The user that may do less of the two.
                let uid = users.iter().map(|who| who.uid).find(|uid| Viewer::of(*uid) != Viewer::All);
                let uid = uid.unwrap_or(writer.uid);
                self.freezer.set(id, frozen, process::process_of_thread(writer.thread), uid)?;
                // Only now no process of the tree can change its user any more.
                if frozen { may_all() } else { Ok(()) }.inspect_err(|_| {
                    let _ = self.freezer.set(id, false, None, uid);
                })
            }
            (File::Kill, Some(true)) => {
                log::info!("pid {}: killing the tree", id.pid);
                let thaw = |killed: &[ProcId]| self.freezer.forget(killed.iter().copied());
                kill_tree(&self.container, id, self.kill_timeout, &may, &thaw)
            }
            (File::Freeze, None) => Err(refused(libc::EINVAL, &format!("pid {} freeze: write 0 or 1", id.pid))),
            _ => Err(refused(libc::EINVAL, &format!("pid {} kill: write 1", id.pid))),
        }
    }
}

/// How many bytes may be written to a control file at a time.
const WRITTEN_MOST: usize = 64;

/// Refuses a write to a control file before a copy of its bytes waits for its turn.
pub(super) fn refuse_long(len: usize) -> Result<()> {
    if len <= WRITTEN_MOST { Ok(()) } else { Err(refused(libc::EINVAL, "a control file takes 0 or 1")) }
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
    fn a_long_text_is_refused_without_a_look_at_it() {
        assert!(refuse_long(WRITTEN_MOST).is_ok());
        assert_eq!(refuse_long(WRITTEN_MOST + 1).unwrap_err().errno(), Some(libc::EINVAL));
    }

    #[test]
    fn switches_tolerate_white_space_and_nothing_else() {
        for (text, wanted) in
            [("1", Some(true)), ("0\n", Some(false)), (" 1 \n", Some(true)), ("", None), ("2", None), ("10", None)]
        {
            assert_eq!(switch(text.as_bytes()), wanted, "{text:?}");
        }
    }
}
