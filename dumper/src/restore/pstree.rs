//! All processes of one image: each is made by its recorded maker, in the order of the tree's
//! record, and in the end all of them resume at once. Before that the result is compared with the
//! record.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::{Error, Result};
use crate::kind::attribute::Resume;
use crate::memory::vdso::{self, Vdso};
use crate::memory::vma::Vma;
use crate::pstree::fork_plan::{How, Sessions};
use crate::pstree::record::{self, Process, Share, Tree};
use crate::pstree::terminal::{self, Terminals};
use crate::restore::pending::PendingRecords;
use crate::restore::process::NewProcess;
use crate::restore::rollback::KillOnDrop;
use crate::restore::signals::{forget_signal, has_sigchld};
use crate::restore::time_namespace::TimeNamespace;
use crate::sys::memory::RemotePtr;
use crate::sys::pid::Pid;
use crate::sys::pidfd::PidFd;
use crate::sys::proc::stat::Stat;
use crate::sys::ptrace::Stopped;
use crate::sys::remote::checked::Checked;
use crate::sys::remote::owned::Owned;
use crate::sys::remote::scm_rights::Channel;
use crate::sysv::kind::Actors;
use crate::task::cgroup::{self, Membership};
use crate::task::rlimits::{self, RlimitsBody};

/// All processes of one image.
pub struct NewTree {
    /// The first field, so dropped first: a process has to be killed before its tracer detaches, or
    /// it would run.
    pub(super) rollback: KillOnDrop,
    /// The processes that exist.
    pub(super) processes: BTreeMap<Pid, NewProcess>,
    /// Threads that are ready to be detached.
    ready: Vec<Stopped>,
    pub(super) tree: Tree,
    /// The session that each is in by now.
    pub(super) sessions: Sessions,
    hole: RemotePtr,
    /// What becomes of terminals and of the session outside.
    pub(super) terminals: Terminals,
    /// The time namespace of all processes, if they do not have the daemon's.
    time: Option<TimeNamespace>,
    /// The place in the tree of the next process to be created.
    next: usize,
}

impl Actors for NewTree {
    fn act(&mut self, pid: Pid, calls: &mut dyn FnMut(&mut Checked)) -> Result<bool> {
        let Some(process) = self.processes.get_mut(&pid) else { return Ok(false) };
        let mut checked = Checked::new(process.leader.scratch());
        calls(&mut checked);
        checked.flush(&mut process.leader)?;
        Ok(true)
    }
}

impl NewTree {
    /// No process yet. `hole`: address space that no process of the image uses. `time`: the time
    /// namespace of all processes, if they do not have the daemon's.
    pub fn new(tree: Tree, hole: RemotePtr, terminals: Terminals, time: Option<TimeNamespace>) -> Self {
        Self {
            rollback: KillOnDrop::default(),
            processes: BTreeMap::new(),
            ready: Vec::new(),
            tree,
            sessions: Sessions::default(),
            hole,
            terminals,
            time,
            next: 0,
        }
    }

    /// The tree that is to be restored.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// Creates the processes up to `pid` that do not exist yet, in the order of the image.
    pub fn fork_until(&mut self, pid: Pid, pending: &PendingRecords) -> Result<&mut NewProcess> {
        while !self.processes.contains_key(&pid) {
            let process = self.tree.processes.get(self.next).cloned();
            let process = process.ok_or_else(|| Error::damaged(format!("pid {pid} is not in the tree")))?;
            self.next += 1;
            self.create(&process, pending)?;
        }
        self.process(pid)
    }

    /// Creates all processes that do not exist yet.
    pub fn fork_rest(&mut self, pending: &PendingRecords) -> Result<()> {
        match self.tree.processes.last().map(|last| last.pid) {
            Some(last) => self.fork_until(last, pending).map(drop),
            None => Ok(()),
        }
    }

    /// A process that exists.
    pub fn process(&mut self, pid: Pid) -> Result<&mut NewProcess> {
        existing(&mut self.processes, pid)
    }

    /// A thread of a process that exists.
    pub fn task(&mut self, tid: Pid) -> Result<(&mut Owned, &Channel)> {
        let of = self.tree.processes.iter().find(|process| process.threads.contains(&tid)).map(|process| process.pid);
        self.process(of.unwrap_or(tid))?.task(tid)
    }

    fn create(&mut self, process: &Process, pending: &PendingRecords) -> Result<()> {
        self.create_outside_cgroup(process, pending)?;
        let pid = process.pid;
        let limits: Option<RlimitsBody> = pending.body(process.representative(), rlimits::TAG)?;
        if let Some(limits) = limits.filter(|_| !process.threads.is_empty()) {
            let new = self.process(pid)?;
            let mut calls = Checked::new(new.leader.scratch());
            limits.raise(pid, &mut calls)?;
            calls.flush(&mut new.leader)?;
        }
        // Before it has memory, so that all of it is charged there.
        pending.body(process.pid, cgroup::TAG)?.as_ref().map_or(Ok(()), Membership::restore)
    }

    fn create_outside_cgroup(&mut self, process: &Process, pending: &PendingRecords) -> Result<()> {
        let (pid, by) = (process.pid, process.maker.by);
        let vdso: Option<Vdso> = pending.body(pid, vdso::TAG)?;
        if !process.threads.is_empty() {
            pending.required(pid, pid, vdso::TAG)?;
        }
        let vdso = vdso.as_ref();
        let wanted = self.tree.session(process);
        if by == 0 {
            let leads = process.sid == pid || self.terminals.session.is_none();
            let mut new = NewProcess::create(pid, leads, vdso, self.hole, self.time.as_mut(), &mut self.rollback)?;
            terminal::take_terminal(process, &self.terminals, &new.channel, &mut new.leader)?;
            self.sessions.lead(pid);
            self.processes.insert(pid, new);
            return Ok(());
        }
        if self.sessions.has_left(process.maker) {
            self.begin_session(by)?;
        }
        self.sessions.enter(pid, process.maker, wanted)?;
        let copied = match self.tree.memory_owner(pid) {
            Some(owner) if !process.shares(Share::Vm) => self.process(owner)?.vmas.clone(),
            _ => Vec::new(),
        };
        let sibling = process.maker.how == How::Sibling;
        let new = match process.maker.how {
            How::Orphan => self.fork_orphan(process, vdso, copied)?,
            How::Child | How::Sibling => {
                let Self { rollback, processes, tree, .. } = self;
                let maker = existing(processes, by)?;
                if process.maker.thread != 0
                    && let Some(recorded) = tree.processes.iter().find(|it| it.pid == by)
                {
                    maker.make_threads(recorded)?;
                }
                // Its mappings must hold their pages before the fork copies them.
                maker.calls.flush(&mut maker.leader)?;
                maker.fork(process, vdso, sibling, copied, rollback)?
            }
        };
        self.processes.insert(pid, new);
        Ok(())
    }

    /// Forks an orphan: a helper forks it and ends at once, so that the next subreaper above
    /// becomes its parent.
    fn fork_orphan(&mut self, process: &Process, vdso: Option<&Vdso>, copied: Vec<Vma>) -> Result<NewProcess> {
        let subreaper = |on: u64| [libc::PR_SET_CHILD_SUBREAPER as u64, on, 0, 0, 0];
        self.process(process.ppid)?.call(libc::SYS_prctl, subreaper(1), "becoming a subreaper")?;
        let Self { rollback, processes, .. } = self;
        let by = process.maker.by;
        let maker = existing(processes, by)?;
        maker.calls.flush(&mut maker.leader)?;
        let mut helper = maker.fork_helper(rollback)?;
        let forked = helper.fork(process, vdso, false, copied, rollback)?;
        self.end_helper(by, helper)?;
        // Whether it stays a subreaper is one of its attributes, which follow later.
        self.process(process.ppid)?.call(libc::SYS_prctl, subreaper(0), "being no subreaper")?;
        Ok(forked)
    }

    /// Ends a helper, and has its maker reap it.
    pub(super) fn end_helper(&mut self, maker: Pid, helper: NewProcess) -> Result<()> {
        let pid = helper.pid;
        helper.leader.exit(helper.syscall, 0)?;
        let wait = [pid as u64, 0, libc::__WALL as u64, 0];
        self.process(maker)?.call(libc::SYS_wait4, wait, "reaping a helper")?;
        self.rollback.forget(pid);
        Ok(())
    }

    /// Begins the session that a process leads in the image. Does nothing if the process leads
    /// none, or leads it already.
    pub(super) fn begin_session(&mut self, pid: Pid) -> Result<()> {
        let process = self.tree.processes.iter().find(|process| process.pid == pid);
        let Some(process) = process.filter(|process| process.sid == pid).cloned() else { return Ok(()) };
        if self.sessions.leads(pid) {
            return Ok(());
        }
        let terminals = self.terminals.clone();
        let leader = self.process(pid)?;
        leader.call(libc::SYS_setsid, [], "setsid")?;
        terminal::take_terminal(&process, &terminals, &leader.channel, &mut leader.leader)?;
        self.sessions.lead(pid);
        Ok(())
    }

    /// Compares parent, group and session of each process with the record.
    pub fn verify(&self) -> Result<()> {
        let known: BTreeSet<Pid> = self.tree.processes.iter().map(|process| process.pid).collect();
        for process in self.tree.processes.iter().filter(|process| !process.is_placeholder()) {
            let stat = Stat::read(&format!("/proc/{}/stat", process.pid))?;
            let ppid = if known.contains(&process.ppid) { process.ppid } else { stat.ppid() };
            let is = (stat.ppid(), stat.field(5) as Pid, stat.field(6) as Pid);
            let session = match self.terminals.session {
                Some(session) if !known.contains(&process.sid) => session,
                _ => self.tree.session(process),
            };
            let recorded = (ppid, self.tree.group(process), session);
            if is != recorded {
                return Err(Error::os(
                    format!("pid {}: parent, group and session are {is:?} and not {recorded:?}", process.pid),
                    libc::EINVAL,
                ));
            }
        }
        Ok(())
    }

    /// The processes that are children of the restorer, which has to reap them. They are opened
    /// before they run, because pidfd_open(2) fails once a leader has ended.
    pub fn roots(&self) -> Result<Vec<PidFd>> {
        // They include siblings of another root (CLONE_PARENT).
        let roots = record::roots(&self.tree.processes).filter(|process| self.processes.contains_key(&process.pid));
        roots.map(|root| PidFd::open(root.pid)).collect()
    }

    /// Resumes all processes. Those that are stopped by job control are released first, still
    /// stopped: their parents may have to wait for the stop before they resume themselves. `commit`
    /// is called when nothing can fail any more.
    pub fn resume(
        mut self,
        mut resumes: BTreeMap<Pid, Vec<Resume>>,
        commit: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let processes = self.tree.processes.clone();
        for process in processes.iter().rev().filter(|process| process.stopped_by.is_some()) {
            let Some(new) = self.processes.remove(&process.pid) else { continue };
            let had_sigchld = self.processes.get(&process.ppid).map(has_sigchld).transpose()?;
            new.stop_and_release(process, resumes.remove(&process.pid).unwrap_or_default())?;
            let (Some(parent), Some(had_sigchld)) = (self.processes.get_mut(&process.ppid), had_sigchld) else {
                continue;
            };
            if process.stop_reported {
                let how = (libc::WSTOPPED | libc::WNOHANG | libc::__WALL) as u64;
                let ask = [libc::P_PID as u64, process.pid as u64, 0, how, 0];
                parent.call(libc::SYS_waitid, ask, "asking for a stop")?;
            }
            if !had_sigchld {
                forget_signal(parent, libc::SIGCHLD)?;
            }
        }
        // A process that borrows an address space needs the stub in it: it is released before the
        // owner of the address space unmaps the stub.
        let mut pids: Vec<Pid> = self.processes.keys().copied().collect();
        pids.sort_by_key(|pid| !self.processes[pid].borrows_memory);
        for pid in pids {
            let Some(new) = self.processes.remove(&pid) else { continue };
            self.ready.extend(new.release(resumes.remove(&pid).unwrap_or_default())?);
        }
        commit()?;
        self.rollback.set_free();
        for task in self.ready {
            task.detach();
        }
        Ok(())
    }
}

/// The process with this pid, which must exist.
pub(super) fn existing(processes: &mut BTreeMap<Pid, NewProcess>, pid: Pid) -> Result<&mut NewProcess> {
    processes.get_mut(&pid).ok_or_else(|| Error::damaged(format!("pid {pid} is not there yet")))
}
