//! The release of a process that is stopped by job control, or that has an ended leader.

use std::time::Duration;

use crate::error::{Error, Kind, Result};
use crate::kind::attribute::Resume;
use crate::pstree::record::{Ended, Process};
use crate::restore::process::NewProcess;
use crate::sys::clock::Deadline;
use crate::sys::pid::Pid;
use crate::sys::proc::stat;
use crate::sys::remote::batch::Batch;
use crate::sys::signal;
use crate::sys::wait;

impl NewProcess {
    /// Stops and continues it, while it has only one thread: its parent can wait for the
    /// continuation (WCONTINUED).
    pub fn stop_and_continue(&mut self) -> Result<()> {
        self.leader.stop_by(self.syscall, libc::SIGSTOP)?;
        let pid = self.pid;
        wait::kill(pid, libc::SIGCONT)
    }

    /// Releases it in the job-control stop of the image.
    pub fn stop_and_release(mut self, process: &Process, mut resume: Vec<Resume>) -> Result<()> {
        let pid = self.pid;
        if process.leader_ended.is_some() && !resume.is_empty() {
            self.end_leader(resume.remove(0))?;
        }
        let signal = process.stopped_by.unwrap_or(libc::SIGSTOP);
        // Once the stop is reported to the parent its signal shows nowhere. SIGSTOP works with any
        // disposition, and in an orphaned process group too.
        let plain = process.stop_reported || signal == libc::SIGSTOP;
        if !plain {
            let mut batch = Batch::new(self.leader.scratch());
            let (old, default) = (batch.room(32), batch.put(&[0; 32]));
            let set = batch.call(libc::SYS_rt_sigaction, [signal as u64, default.0, old.0, 8]);
            let answers = self.leader.run(batch)?;
            answers.get(set, || format!("pid {pid}: default action of {}", signal::name(signal)))?;
            let old = answers.bytes(old, 32).to_vec();
            self.leader.stop_by(self.syscall, signal)?;
            let mut batch = Batch::new(self.leader.scratch());
            let old = batch.put(&old);
            let set = batch.call(libc::SYS_rt_sigaction, [signal as u64, old.0, 0, 8]);
            self.leader.run(batch)?.get(set, || format!("pid {pid}: action of {}", signal::name(signal)))?;
        }
        let ready = self.release(resume)?;
        if plain {
            wait::kill(pid, libc::SIGSTOP)?;
        }
        for task in ready {
            task.detach();
        }
        // The stop is there to be waited for only when the last thread has stopped
        // (`task_participate_group_stop` in kernel/signal.c).
        let ended = usize::from(process.leader_ended.is_some());
        process.threads.iter().skip(ended).try_for_each(|tid| await_state(pid, *tid, 'T'))
    }

    /// Ends a leader that has ended in the image, while the other threads are held. In a stopped
    /// process it could not end.
    fn end_leader(&mut self, resume: Resume) -> Result<()> {
        let pid = self.pid;
        let alone = || Error::damaged(format!("pid {pid}: its leader has ended, and there is no other thread"));
        let regs = resume.regs.ok_or_else(alone)?;
        // The next thread makes the remaining calls in the process.
        let next = (!self.threads.is_empty()).then(|| self.threads.remove(0)).ok_or_else(alone)?;
        std::mem::replace(&mut self.leader, next).release(&regs, resume.mask)?.detach();
        await_state(pid, pid, 'Z')
    }

    /// The registers with which a leader that has ended in the image resumes: those of exit(2).
    pub fn end_of_leader(&mut self, ended: &Ended) -> Result<Resume> {
        let mut batch = Batch::new(self.leader.scratch());
        let comm = batch.put_str(&ended.comm);
        let named = batch.call(libc::SYS_prctl, [libc::PR_SET_NAME as u64, comm.0, 0, 0, 0]);
        // It inherited a parent-death signal from the restore. No record of its own resets that.
        let survives = batch.call(libc::SYS_prctl, [libc::PR_SET_PDEATHSIG as u64, 0, 0, 0, 0]);
        let answers = self.leader.run(batch)?;
        for call in [named, survives] {
            answers.get(call, || format!("pid {}: name and parent-death signal of its leader", self.pid))?;
        }
        let status = ended.status;
        let regs = self.leader.call_regs(self.syscall, libc::SYS_exit, libc::WEXITSTATUS(status) as u64);
        Ok(Resume { regs: Some(regs), mask: u64::MAX })
    }
}

/// How long a released task may take to reach its state. It takes microseconds on an idle machine.
const STATE_TIMEOUT: Duration = Duration::from_secs(10);

/// Waits until a thread is in this state.
fn await_state(pid: Pid, tid: Pid, state: char) -> Result<()> {
    let deadline = Deadline::after(STATE_TIMEOUT);
    while stat::Stat::read(&format!("/proc/{pid}/task/{tid}/stat"))?.state != state {
        if deadline.is_over() {
            return Err(Error::new(Kind::Busy, format!("pid {pid} task {tid}: it does not get to state {state}")));
        }
        std::thread::sleep(Duration::from_micros(50));
    }
    Ok(())
}
