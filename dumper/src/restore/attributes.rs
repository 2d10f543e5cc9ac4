//! The attributes of one process, put back phase by phase.

use crate::error::Result;
use crate::kind::attribute::{RestoredThread, Resume, Scope};
use crate::kind::inheritance::Inheritance;
use crate::kind::phase::Phase;
use crate::pstree::record::{Process, Share};
use crate::restore::files::RestoredFiles;
use crate::restore::pending::PendingRecords;
use crate::restore::process::NewProcess;
use crate::restore::replaced::Holder;
use crate::sys::pid::Pid;
use crate::sys::remote::checked::Checked;
use crate::task;

/// Bytes of calls that are gathered at most before they are made.
const BATCH_MOST: usize = 16 << 10;

/// Restores one phase of one process. In the last phase it gives how each thread resumes.
pub fn restore(
    new: &mut NewProcess,
    process: &Process,
    phase: Phase,
    pending: &PendingRecords,
    files: &RestoredFiles,
) -> Result<Vec<Resume>> {
    let mut resumes = Vec::new();
    let syscall = new.syscall;
    for tid in process.threads.iter().copied() {
        let leader_ended = process.leader_ended.as_ref().filter(|_| tid == process.pid);
        if let (Some(ended), Phase::Resume) = (leader_ended, phase) {
            resumes.push(new.end_of_leader(ended)?);
            continue;
        }
        let holder = Holder::new(process.pid, process.representative(), pending).as_memory();
        let files = files.of(holder);
        let (owned, channel) = new.task(tid)?;
        let mut resume = Resume::default();
        let mut batch = Checked::new(owned.scratch());
        let mut thread = RestoredThread {
            pid: process.pid,
            tid,
            owned,
            files: &files,
            channel,
            borrows_memory: process.shares(Share::Vm),
            syscall,
            batch: &mut batch,
            resume: &mut resume,
        };
        for kind in task::KINDS.iter().filter(|kind| kind.phase() == phase) {
            let Some(recorded) = recorded_of(process, tid, kind.scope(), phase) else { continue };
            kind.restore(pending.required(process.pid, recorded, kind.tag())?, &mut thread)?;
            if thread.batch.is_full(BATCH_MOST) {
                thread.flush()?;
            }
        }
        thread.flush()?;
        if phase == Phase::Resume {
            resumes.push(resume);
        }
    }
    Ok(resumes)
}

/// Refuses an image with a process that would be another one, because it inherits something from
/// this thread that it cannot lose.
pub fn compare(processes: &[Process], pending: &PendingRecords) -> Result<()> {
    let own = Inheritance::own()?;
    for process in processes {
        for tid in &process.threads {
            let subject = format!("pid {} task {tid}", process.pid);
            let records = task::KINDS.iter().filter_map(|kind| Some((kind, pending.of_task(*tid, kind.tag())?)));
            records.into_iter().try_for_each(|(kind, record)| kind.compare(record, &subject, &own))?;
        }
    }
    Ok(())
}

/// The task with the record of what is to be restored through task `tid`; `None`: nothing is.
fn recorded_of(process: &Process, tid: Pid, scope: Scope, phase: Phase) -> Option<Pid> {
    let is_leader = tid == process.pid;
    let has_ended = is_leader && process.leader_ended.is_some();
    match scope {
        // What belongs to the process is restored through its leader, even if that is about to end.
        // The record is that of the representative.
        Scope::Process | Scope::Directories if is_leader => Some(process.representative()),
        Scope::Directories if process.owns(tid, Share::Fs) => Some(tid),
        Scope::Thread if !has_ended => Some(tid),
        // A signal that is sent to the process is checked against the credentials of its leader.
        Scope::Thread if phase == Phase::Credentials => Some(process.representative()),
        _ => None,
    }
}
