//! Descriptors of a restored process: pushed into it, then moved to their numbers.

use std::os::fd::RawFd;

use crate::error::{Error, Result};
use crate::file::fd_table::FdTable;
use crate::kind::refs::Files;
use crate::restore::process::NewProcess;
use crate::sys::pid::Pid;
use crate::sys::remote::checked::Checked;
use crate::sys::remote::scm_rights;

impl NewProcess {
    /// Gives the process (or the thread with a table of its own) its descriptors, each at its
    /// number. Until then it has no descriptor but its end of the channel.
    ///
    /// A process may have as many descriptors as its limit allows, so this needs only one number
    /// more, for the channel. Descriptors arrive at the lowest free numbers. They are pushed in
    /// ascending order, so none arrives above its own number.
    pub fn place(&mut self, table: &FdTable, files: &dyn Files) -> Result<()> {
        let pid = table.tid;
        let (owned, channel) = self.task(pid)?;
        let mut fds = table.fds.clone();
        fds.sort_unstable();
        let is_twice = |pair: &[(i32, u32, bool)]| pair[0].0 == pair[1].0;
        if fds.first().is_some_and(|first| first.0 < 0) || fds.windows(2).any(is_twice) {
            return Err(Error::damaged(format!("pid {pid}: a descriptor number is negative or occurs twice")));
        }
        let calls = &mut Checked::new(owned.scratch());
        let (now, spare) = (channel.number(), spare(&fds));
        if now != spare {
            let doing = format!("pid {pid}: number {spare} for the restore, one more than its descriptors");
            calls.call(libc::SYS_dup3, [now as u64, spare as u64, libc::O_CLOEXEC as u64], doing);
            calls.call(libc::SYS_close, [now as u64], format!("pid {pid} fd {now}: closing"));
            calls.flush(owned)?;
            channel.moved(spare);
        }
        for some in fds.chunks(scm_rights::MOST) {
            let ours = some.iter().map(|(_, id, _)| files.fd(*id)).collect::<Result<Vec<RawFd>>>()?;
            let received = channel.push(owned, &ours)?;
            // The highest first: the number of each is free then, or that of one already moved.
            for ((number, _, close_on_exec), from) in some.iter().zip(received).rev() {
                move_to(pid, from, *number, *close_on_exec, calls);
                if calls.is_full(0) {
                    calls.flush(owned)?;
                }
            }
            calls.flush(owned)?;
        }
        Ok(())
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

/// The lowest number that no descriptor of `fds`, which ascend, has.
fn spare(fds: &[(i32, u32, bool)]) -> i32 {
    let taken = fds.iter().zip(0..).take_while(|((number, ..), at)| number == at);
    taken.count() as i32
}

/// Adds the calls that move a descriptor, which has close-on-exec set, to its number.
fn move_to(pid: Pid, from: i32, number: i32, close_on_exec: bool, calls: &mut Checked) {
    let doing = format!("pid {pid} fd {number}: placing");
    if from != number {
        let flags = if close_on_exec { libc::O_CLOEXEC } else { 0 };
        calls.call(libc::SYS_dup3, [from as u64, number as u64, flags as u64], doing);
        calls.call(libc::SYS_close, [from as u64], format!("pid {pid} fd {from}: closing"));
    } else if !close_on_exec {
        calls.call(libc::SYS_fcntl, [number as u64, libc::F_SETFD as u64, 0], doing);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spare_number_is_the_lowest_unused_one() {
        let spare_of = |numbers: &[i32]| spare(&numbers.iter().map(|number| (*number, 0, false)).collect::<Vec<_>>());
        assert_eq!([spare_of(&[]), spare_of(&[1, 2]), spare_of(&[0, 1, 2]), spare_of(&[0, 1, 3])], [0, 0, 3, 2]);
    }
}
