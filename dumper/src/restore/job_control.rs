//! How a process goes on that is stopped by job control, or whose leader has ended.

use std::time::Duration;

use crate::error::{Error, Kind, Result};
use crate::kind::attribute::Resume;
use crate::pstree::record::{Ended, Process};
use crate::restore::process::{NewProcess, PATIENCE};
use crate::sys::clock::Deadline;
use crate::sys::pid::Pid;
use crate::sys::proc::stat;
use crate::sys::remote::batch::Batch;
use crate::sys::wait;

impl NewProcess {
    /// Has it stop and go on again, before it has more than one thread; its parent can ask for
    /// that.
    pub fn stop_and_continue(&mut self) -> Result<()> {
        self.leader.stop_by(self.syscall, libc::SIGSTOP)?;
        let pid = self.pid;
        wait::kill(pid, libc::SIGCONT)
    }

    /// Stops it by job control as the image says, and lets it go, stopped.
    pub fn stop_and_release(mut self, process: &Process, mut resume: Vec<Resume>) -> Result<()> {
        let pid = self.pid;
        if process.leader_ended.is_some() && !resume.is_empty() {
            self.end_leader(resume.remove(0))?;
        }
        let signal = process.stopped_by.unwrap_or(libc::SIGSTOP);
        // Nobody can ask for the number any more, and SIGSTOP needs neither a disposition nor a
        // group that is not orphaned.
        let plain = process.stop_reported || signal == libc::SIGSTOP;
        if !plain {
            let mut batch = Batch::new(self.leader.scratch());
            let (old, default) = (batch.room(32), batch.put(&[0; 32]));
            let set = batch.call(libc::SYS_rt_sigaction, [signal as u64, default.0, old.0, 8]);
            let answers = self.leader.run(batch)?;
            answers.get(set, || format!("pid {pid}: default action of signal {signal}"))?;
            let old = answers.bytes(old, 32).to_vec();
            self.leader.stop_by(self.syscall, signal)?;
            let mut batch = Batch::new(self.leader.scratch());
            let old = batch.put(&old);
            let set = batch.call(libc::SYS_rt_sigaction, [signal as u64, old.0, 0, 8]);
            self.leader.run(batch)?.get(set, || format!("pid {pid}: action of signal {signal}"))?;
        }
        let ready = self.release(resume)?;
        if plain {
            wait::kill(pid, libc::SIGSTOP)?;
        }
        for task in ready {
            task.detach();
        }
        await_state(pid, process.representative(), 'T')
    }

    /// Lets a leader that has ended already end now, while the others are held: a process that is
    /// stopped does not come to that.
    fn end_leader(&mut self, resume: Resume) -> Result<()> {
        let pid = self.pid;
        let alone = || Error::damaged(format!("pid {pid}: its leader has ended, and there is no other thread"));
        let regs = resume.regs.ok_or_else(alone)?;
        // What is still to be done in the process is done by the next.
        let next = (!self.threads.is_empty()).then(|| self.threads.remove(0)).ok_or_else(alone)?;
        std::mem::replace(&mut self.leader, next).release(&regs, resume.mask)?.detach();
        await_state(pid, pid, 'Z')
    }

    /// How a leader goes on that has ended already: by ending alone, before anything else happens.
    pub fn end_of_leader(&mut self, ended: &Ended) -> Result<Resume> {
        let mut batch = Batch::new(self.leader.scratch());
        let comm = batch.put_str(&ended.comm);
        let named = batch.call(libc::SYS_prctl, [libc::PR_SET_NAME as u64, comm.0, 0, 0, 0]);
        // It was made to die with the thread that made it, and nothing of its own takes that back.
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

/// Waits until a thread is in this state.
fn await_state(pid: Pid, tid: Pid, state: char) -> Result<()> {
    let deadline = Deadline::after(PATIENCE);
    while stat::Stat::read(&format!("/proc/{pid}/task/{tid}/stat"))?.state != state {
        if deadline.is_over() {
            return Err(Error::new(Kind::Busy, format!("pid {pid} task {tid}: it does not get to state {state}")));
        }
        std::thread::sleep(Duration::from_micros(50));
    }
    Ok(())
}
