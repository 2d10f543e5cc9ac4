//! The end of processes that the image records as ended. Zombies end with their recorded status.
//! Placeholders, which existed only while other processes were made, end and are reaped.

use std::time::Duration;

use crate::error::{Error, Result};
use crate::pstree::fork_plan::How;
use crate::pstree::record::{Ended, Process};
use crate::restore::core_flag;
use crate::restore::process::NewProcess;
use crate::restore::pstree::NewTree;
use crate::restore::signals::forget_signals;
use crate::sys::remote::batch::Batch;
use crate::sys::wait;

/// How long the exit of a placeholder process may take.
const EXIT_TIMEOUT: Duration = Duration::from_secs(10);

impl NewTree {
    /// Ends the placeholders and the zombies of the image.
    pub fn end_dead(&mut self) -> Result<()> {
        let processes = self.tree.processes.clone();
        for process in processes.iter().filter(|process| process.threads.is_empty()) {
            let Some(new) = self.processes.remove(&process.pid) else { continue };
            match &process.ended {
                Some(ended) => end_as(new, ended)?,
                None => {
                    new.leader.exit(new.syscall, 0)?;
                    self.reap(process)?;
                }
            }
        }
        for process in processes.iter().filter(|process| process.continued) {
            self.process(process.pid)?.stop_and_continue()?;
        }
        // These ends sent SIGCHLD to their parents. The signals that are pending in the image are
        // put back later.
        for process in self.processes.values_mut() {
            forget_signals(process)?;
        }
        Ok(())
    }

    /// Has the parent of a placeholder reap it.
    fn reap(&mut self, placeholder: &Process) -> Result<()> {
        let parent = match placeholder.maker.how {
            How::Sibling => return Err(Error::damaged(format!("pid {} has no task", placeholder.pid))),
            How::Child | How::Orphan => placeholder.maker.by,
        };
        self.rollback.forget(placeholder.pid);
        if parent == 0 {
            let _ = wait::reap(placeholder.pid, EXIT_TIMEOUT);
            return Ok(());
        }
        let wait = [placeholder.pid as u64, 0, libc::__WALL as u64, 0];
        match self.processes.get_mut(&parent) {
            Some(parent) => parent.call(libc::SYS_wait4, wait, "reaping a group's leader").map(drop),
            None => Ok(()),
        }
    }
}

/// Ends a process with the name, owner and status of the record.
fn end_as(mut zombie: NewProcess, ended: &Ended) -> Result<()> {
    let leaves_core = libc::WIFSIGNALED(ended.status) && libc::WCOREDUMP(ended.status);
    if leaves_core {
        core_flag::enter_own_filesystem(&mut zombie, ended)?;
    }
    let scratch = zombie.leader.scratch();
    let mut batch = Batch::new(scratch);
    let comm = batch.put_str(&ended.comm);
    let (uid, gid) = (u64::from(ended.uid), u64::from(ended.gid));
    let calls = [
        batch.call(libc::SYS_prctl, [libc::PR_SET_NAME as u64, comm.0, 0, 0, 0]),
        batch.call(libc::SYS_setresgid, [gid, gid, gid]),
        batch.call(libc::SYS_setresuid, [uid, uid, uid]),
    ];
    let answers = zombie.leader.run(batch)?;
    for call in calls {
        answers.get(call, || format!("pid {}: becoming what is left of it", zombie.pid))?;
    }
    let (pid, syscall, status) = (zombie.pid, zombie.syscall, ended.status);
    let got = if libc::WIFSIGNALED(status) {
        // Only a dumpable process leaves a core file, and setresuid(2) has just reset that.
        let dumpable = [libc::PR_SET_DUMPABLE as u64, u64::from(leaves_core), 0, 0, 0];
        zombie.call(libc::SYS_prctl, dumpable, "deciding about a core file")?;
        if leaves_core {
            core_flag::allow_core(&mut zombie)?;
        }
        zombie.leader.die(syscall, libc::WTERMSIG(status))?
    } else {
        zombie.leader.exit(syscall, libc::WEXITSTATUS(status))?
    };
    if got != status {
        return Err(Error::os(format!("pid {pid}: it ended with status {got:#x} and not {status:#x}"), libc::EINVAL));
    }
    Ok(())
}
