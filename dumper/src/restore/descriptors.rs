//! Descriptors of a restored process: pushed into it, then moved to their numbers.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::RawFd;

use crate::error::{Error, Result};
use crate::file::fd_table::FdTable;
use crate::kind::refs::Files;
use crate::restore::process::NewProcess;
use crate::sys::pid::Pid;
use crate::sys::remote::checked::Checked;

impl NewProcess {
    /// Gives the process (or the thread with a table of its own) its descriptors, each at its
    /// number.
    pub fn place(&mut self, table: &FdTable, files: &dyn Files) -> Result<()> {
        let pid = table.tid;
        let (owned, channel) = self.task(pid)?;
        let calls = &mut Checked::new(owned.scratch());
        let ids: Vec<u32> = table.fds.iter().map(|(_, id, _)| *id).collect::<BTreeSet<_>>().into_iter().collect();
        let fds = ids.iter().map(|id| files.fd(*id)).collect::<Result<Vec<RawFd>>>()?;
        let received = channel.push(owned, &fds)?;
        let wanted: BTreeSet<i32> = table.fds.iter().map(|(number, ..)| *number).collect();
        if wanted.len() != table.fds.len() || wanted.first().is_some_and(|first| *first < 0) {
            return Err(Error::damaged(format!("pid {pid}: a descriptor number is negative or occurs twice")));
        }
        // Numbers that the table does not use and that are not open: a descriptor in the way is
        // moved to one of them.
        let open: BTreeSet<i32> = received.iter().copied().chain([channel.number()]).collect();
        let mut spare = (0..).filter(|number| !wanted.contains(number) && !open.contains(number));
        let cloexec = libc::O_CLOEXEC as u64;
        let mut out_of_the_way = |number: i32, calls: &mut Checked| -> i32 {
            if !wanted.contains(&number) {
                return number;
            }
            let to = spare.next().unwrap_or(i32::MAX);
            let doing = format!("pid {pid} fd {number}: moving it to {to}");
            calls.call(libc::SYS_dup3, [number as u64, to as u64, cloexec], doing);
            calls.call(libc::SYS_close, [number as u64], format!("pid {pid} fd {number}: closing"));
            to
        };
        channel.moved(out_of_the_way(channel.number(), calls));
        let mut at = BTreeMap::new();
        for (id, number) in ids.iter().zip(received) {
            at.insert(*id, out_of_the_way(number, calls));
            if calls.is_full(0) {
                calls.flush(owned)?;
            }
        }
        for (number, id, close_on_exec) in &table.fds {
            let from = at.get(id).copied().unwrap_or(-1);
            let flags = if *close_on_exec { cloexec } else { 0 };
            calls.call(libc::SYS_dup3, [from as u64, *number as u64, flags], format!("pid {pid} fd {number}: placing"));
            if calls.is_full(0) {
                calls.flush(owned)?;
            }
        }
        for number in at.into_values() {
            calls.call(libc::SYS_close, [number as u64], format!("pid {pid} fd {number}: closing"));
            if calls.is_full(0) {
                calls.flush(owned)?;
            }
        }
        calls.flush(owned)
    }

    /// Closes the channels in the process, except that of a table that it only borrows from another
    /// process.
    pub fn close_helpers(&mut self, borrows_table: bool) -> Result<()> {
        let own = (!borrows_table).then_some(self.pid);
        let tids: Vec<Pid> = self.own_channels.keys().copied().chain(own).collect();
        for tid in tids {
            let (owned, channel) = self.task(tid)?;
            let mut calls = Checked::new(owned.scratch());
            calls.call(libc::SYS_close, [channel.number() as u64], "closing the descriptor channel");
            calls.flush(owned)?;
        }
        Ok(())
    }
}
