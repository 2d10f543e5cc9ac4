//! What open files have to do with each other. A task that has the file restores it before it gets
//! its own descriptors: then it has room for others, at any number.

use std::os::fd::RawFd;

use crate::error::{Error, Result};
use crate::file::RELATIONS;
use crate::file::fd_table::{FdTable, TABLE};
use crate::kind::refs::Files;
use crate::kind::relation::EmptyTable;
use crate::pstree::record::Process;
use crate::restore::files::{AllFiles, FilesOf, RestoredFiles};
use crate::restore::pending::PendingRecords;
use crate::restore::process::NewProcess;
use crate::restore::pstree::NewTree;
use crate::restore::replaced::Holder;
use crate::sys::pid::Pid;
use crate::sys::remote::checked::Checked;

/// The largest data of one call.
const DATA_MOST: usize = 1024;

/// Restores all of them.
pub fn restore(tree: &mut NewTree, pending: &PendingRecords, files: &RestoredFiles) -> Result<()> {
    for kind in RELATIONS {
        for (id, tid, records) in pending.relations(kind.tag()) {
            let is_holder = |process: &&Process| process.pid == tid || process.threads.contains(&tid);
            let process = pending.tree()?.processes.iter().find(is_holder).map(|process| process.pid);
            let process = process.filter(|_| pending.of_task(tid, TABLE).is_some());
            let missing = || Error::damaged(format!("open file {id} of task {tid}, which has no descriptors"));
            let process = tree.process(process.ok_or_else(missing)?)?;
            let calls = Checked::new(process.task(tid)?.0.scratch());
            let of = if tid == process.pid { pending.representative(tid).unwrap_or(tid) } else { tid };
            let own = files.of(Holder::new(process.pid, of, pending));
            let mut table = Table { process, tid, files: AllFiles(files), own, placed: Vec::new(), calls };
            kind.restore(id, &records, &mut table)?;
            table.clear()?;
        }
    }
    Ok(())
}

struct Table<'a> {
    process: &'a mut NewProcess,
    tid: Pid,
    files: AllFiles<'a>,
    own: FilesOf<'a>,
    /// The numbers in use.
    placed: Vec<i32>,
    calls: Checked,
}

impl EmptyTable for Table<'_> {
    fn place(&mut self, files: &[(i32, u32)]) -> Result<()> {
        let fds = files.iter().map(|(number, id)| (*number, *id, true)).collect();
        self.process.place(&FdTable { tid: self.tid, fds }, &self.files)?;
        self.placed.extend(files.iter().map(|(number, _)| *number));
        Ok(())
    }

    fn calls(&mut self) -> Result<&mut Checked> {
        if self.calls.is_full(DATA_MOST) {
            self.flush()?;
        }
        Ok(&mut self.calls)
    }

    fn flush(&mut self) -> Result<()> {
        self.calls.flush(self.process.task(self.tid)?.0)
    }

    fn clear(&mut self) -> Result<()> {
        for number in std::mem::take(&mut self.placed) {
            let doing = format!("task {} fd {number}: closing", self.tid);
            self.calls()?.call(libc::SYS_close, [number as u64], doing);
        }
        self.flush()
    }

    fn fd(&self, id: u32) -> Result<RawFd> {
        self.files.fd(id)
    }

    fn own_fd(&self, id: u32) -> Result<RawFd> {
        self.own.fd(id)
    }
}
