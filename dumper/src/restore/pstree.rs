//! The processes that a restore makes, each by the one that must make it: parents, sessions,
//! groups, and what is left of those that have ended. The order of making stands in the tree's
//! record; what came out is held against it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::kind::attribute::Resume;
use crate::memory::vdso::{self, Vdso};
use crate::memory::vma::Vma;
use crate::pstree::fork_plan::{How, Sessions};
use crate::pstree::record::{self, Ended, Process, Share, Tree};
use crate::pstree::terminal;
use crate::restore::core_flag;
use crate::restore::pending::PendingRecords;
use crate::restore::process::NewProcess;
use crate::restore::rollback::KillOnDrop;
use crate::restore::signals::{forget_signal, forget_signals, has_sigchld};
use crate::sys::memory::RemotePtr;
use crate::sys::pid::Pid;
use crate::sys::pidfd::PidFd;
use crate::sys::proc::stat::Stat;
use crate::sys::ptrace::Stopped;
use crate::sys::remote::batch::Batch;
use crate::sys::remote::checked::Checked;
use crate::sys::remote::owned::Owned;
use crate::sys::remote::scm_rights::Channel;
use crate::sys::wait;
use crate::sysv::kind::Actors;
use crate::task::cgroup::{self, Membership};

/// How long the exit of a placeholder process may take.
const EXIT_TIMEOUT: Duration = Duration::from_secs(10);

/// All processes of one image.
pub struct NewTree {
    /// The first field, so dropped first: a process has to be killed before its tracer detaches, or
    /// it would run.
    rollback: KillOnDrop,
    /// The processes that exist.
    pub made: BTreeMap<Pid, NewProcess>,
    /// Threads that only have to be detached.
    ready: Vec<Stopped>,
    tree: Tree,
    /// The session that each is in by now.
    sessions: Sessions,
    hole: RemotePtr,
    next: usize,
}

impl Actors for NewTree {
    fn act(&mut self, pid: Pid, calls: &mut dyn FnMut(&mut Checked)) -> Result<bool> {
        let Some(made) = self.made.get_mut(&pid) else { return Ok(false) };
        let mut checked = Checked::new(made.leader.scratch());
        calls(&mut checked);
        checked.flush(&mut made.leader)?;
        Ok(true)
    }
}

impl NewTree {
    /// No process yet. `hole`: address space that no process of the image uses.
    pub fn new(tree: Tree, hole: RemotePtr) -> Self {
        Self {
            rollback: KillOnDrop::default(),
            made: BTreeMap::new(),
            ready: Vec::new(),
            tree,
            sessions: Sessions::default(),
            hole,
            next: 0,
        }
    }

    /// The tree that is to be restored.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// Creates the processes up to `pid` that do not exist yet, in the order of the image.
    pub fn fork_until(&mut self, pid: Pid, pending: &PendingRecords) -> Result<&mut NewProcess> {
        while !self.made.contains_key(&pid) {
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

    /// One that is there.
    pub fn process(&mut self, pid: Pid) -> Result<&mut NewProcess> {
        self.made.get_mut(&pid).ok_or_else(|| Error::damaged(format!("pid {pid} is not there yet")))
    }

    /// A thread of one that is there.
    pub fn task(&mut self, tid: Pid) -> Result<(&mut Owned, &Channel)> {
        let of = self.tree.processes.iter().find(|process| process.threads.contains(&tid)).map(|process| process.pid);
        self.process(of.unwrap_or(tid))?.task(tid)
    }

    fn create(&mut self, process: &Process, pending: &PendingRecords) -> Result<()> {
        self.create_outside_cgroup(process, pending)?;
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
            let mut made = NewProcess::create(pid, vdso, self.hole, &mut self.rollback)?;
            if let Some(terminal) = process.terminal {
                terminal::take_terminal(pid, terminal, &made.channel, &mut made.leader)?;
            }
            self.sessions.lead(pid);
            self.made.insert(pid, made);
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
        let made = match process.maker.how {
            How::Orphan => self.fork_orphan(process, vdso, copied)?,
            How::Child | How::Sibling => {
                let Self { rollback, made, tree, .. } = self;
                let maker = made.get_mut(&by).ok_or_else(|| Error::damaged(format!("pid {by} is not there yet")))?;
                if process.maker.thread != 0
                    && let Some(maker_told) = tree.processes.iter().find(|it| it.pid == by)
                {
                    maker.make_threads(maker_told)?;
                }
                // What its mappings hold is to be there before it is copied.
                maker.calls.flush(&mut maker.leader)?;
                maker.fork(process, vdso, sibling, copied, rollback)?
            }
        };
        self.made.insert(pid, made);
        Ok(())
    }

    /// By a helper that ends at once, so that the next subreaper above becomes the parent.
    fn fork_orphan(&mut self, process: &Process, vdso: Option<&Vdso>, copied: Vec<Vma>) -> Result<NewProcess> {
        let subreaper = |on: u64| [libc::PR_SET_CHILD_SUBREAPER as u64, on, 0, 0, 0];
        self.process(process.ppid)?.call(libc::SYS_prctl, subreaper(1), "becoming a subreaper")?;
        let Self { rollback, made, .. } = self;
        let by = process.maker.by;
        let maker = made.get_mut(&by).ok_or_else(|| Error::damaged(format!("pid {by} is not there yet")))?;
        maker.calls.flush(&mut maker.leader)?;
        let mut helper = maker.fork_helper(rollback)?;
        let forked = helper.fork(process, vdso, false, copied, rollback)?;
        self.end_helper(by, helper)?;
        // Whether it is one in the end is among its attributes.
        self.process(process.ppid)?.call(libc::SYS_prctl, subreaper(0), "being no subreaper")?;
        Ok(forked)
    }

    fn end_helper(&mut self, maker: Pid, helper: NewProcess) -> Result<()> {
        let pid = helper.pid;
        helper.leader.exit(helper.syscall, 0)?;
        let wait = [pid as u64, 0, libc::__WALL as u64, 0];
        self.process(maker)?.call(libc::SYS_wait4, wait, "reaping a helper")?;
        self.rollback.forget(pid);
        Ok(())
    }

    fn begin_session(&mut self, pid: Pid) -> Result<()> {
        let process = self.tree.processes.iter().find(|process| process.pid == pid);
        let Some(process) = process.filter(|process| process.sid == pid).cloned() else { return Ok(()) };
        if self.sessions.leads(pid) {
            return Ok(());
        }
        let made = self.process(pid)?;
        made.call(libc::SYS_setsid, [], "setsid")?;
        if let Some(terminal) = process.terminal {
            terminal::take_terminal(pid, terminal, &made.channel, &mut made.leader)?;
        }
        self.sessions.lead(pid);
        Ok(())
    }

    /// Sessions that have not begun yet, then groups: leaders first, since a group begins with
    /// somebody of its number.
    pub fn arrange_groups(&mut self) -> Result<()> {
        let processes = self.tree.processes.clone();
        for process in &processes {
            self.begin_session(process.pid)?;
        }
        // A group begins with the process of its number, even if that is in another one in the end:
        // it leaves once all others are in.
        let groups: BTreeSet<Pid> = processes.iter().map(|process| self.tree.group(process)).collect();
        for process in processes.iter().filter(|process| groups.contains(&process.pid)) {
            if !self.sessions.leads(process.pid) {
                self.process(process.pid)?.call(libc::SYS_setpgid, [0, 0], "leading a group")?;
            }
        }
        let mut waiting: Vec<&Process> =
            processes.iter().filter(|process| self.tree.group(process) != process.pid).collect();
        let mut stand_ins = Vec::new();
        while let Some(first) = waiting.first().copied() {
            let awaited: BTreeSet<Pid> = waiting.iter().map(|process| self.tree.group(process)).collect();
            let (mut ready, mut rest): (Vec<_>, Vec<_>) =
                waiting.iter().copied().partition(|process| !awaited.contains(&process.pid));
            if ready.is_empty() {
                // Each is in the group of another's number: a child keeps the one that the first
                // leaves.
                let Self { rollback, made, .. } = self;
                let maker = made.get_mut(&first.pid);
                let maker = maker.ok_or_else(|| Error::damaged(format!("pid {} is not there yet", first.pid)))?;
                stand_ins.push((first.pid, maker.fork_helper(rollback)?));
                ready.push(first);
                rest.retain(|process| process.pid != first.pid);
            }
            for process in &ready {
                let group = self.tree.group(process);
                self.process(process.pid)?.call(
                    libc::SYS_setpgid,
                    [0, group as u64],
                    &format!("joining group {group}"),
                )?;
            }
            waiting = rest;
        }
        for (maker, stand_in) in stand_ins {
            self.end_helper(maker, stand_in)?;
        }
        let known: BTreeSet<Pid> = processes.iter().map(|process| self.tree.group(process)).collect();
        for process in &processes {
            // A group that nobody is in any more cannot be in the foreground again; the leader's
            // is.
            if let (Some(terminal), Some(group)) =
                (process.terminal, process.foreground.filter(|it| known.contains(it)))
            {
                let made = self.process(process.pid)?;
                terminal::set_foreground(process.pid, terminal, group, &made.channel, &mut made.leader)?;
            }
        }
        Ok(())
    }

    /// Those that were there for others only, and those that have ended, end.
    pub fn end_dead(&mut self) -> Result<()> {
        let processes = self.tree.processes.clone();
        for process in processes.iter().filter(|process| process.threads.is_empty()) {
            let Some(made) = self.made.remove(&process.pid) else { continue };
            match &process.ended {
                Some(ended) => end_as(made, ended)?,
                None => {
                    made.leader.exit(made.syscall, 0)?;
                    self.reap(process)?;
                }
            }
        }
        for process in processes.iter().filter(|process| process.continued) {
            self.process(process.pid)?.stop_and_continue()?;
        }
        // Their parents have been told, which they had not been then: what was pending is put back
        // later.
        for made in self.made.values_mut() {
            forget_signals(made)?;
        }
        Ok(())
    }

    /// Has the parent of somebody who was never in the image ask for its end.
    fn reap(&mut self, ghost: &Process) -> Result<()> {
        let parent = match ghost.maker.how {
            How::Sibling => return Err(Error::damaged(format!("pid {} has no task", ghost.pid))),
            How::Child | How::Orphan => ghost.maker.by,
        };
        self.rollback.forget(ghost.pid);
        if parent == 0 {
            let _ = wait::reap(ghost.pid, EXIT_TIMEOUT);
            return Ok(());
        }
        let wait = [ghost.pid as u64, 0, libc::__WALL as u64, 0];
        match self.made.get_mut(&parent) {
            Some(parent) => parent.call(libc::SYS_wait4, wait, "reaping a group's leader").map(drop),
            None => Ok(()),
        }
    }

    /// Whether everybody is where the image says.
    pub fn verify(&self) -> Result<()> {
        let known: BTreeSet<Pid> = self.tree.processes.iter().map(|process| process.pid).collect();
        for process in self.tree.processes.iter().filter(|process| !process.is_placeholder()) {
            let stat = Stat::read(&format!("/proc/{}/stat", process.pid))?;
            let ppid = if known.contains(&process.ppid) { process.ppid } else { stat.ppid() };
            let is = (stat.ppid(), stat.field(5) as Pid, stat.field(6) as Pid);
            let ought = (ppid, self.tree.group(process), self.tree.session(process));
            if is != ought {
                return Err(Error::os(
                    format!("pid {}: parent, group and session are {is:?} and not {ought:?}", process.pid),
                    libc::EINVAL,
                ));
            }
        }
        Ok(())
    }

    /// The processes that are children of the restorer, for whoever is to reap them: a leader that
    /// has ended cannot be opened any more.
    pub fn roots(&self) -> Result<Vec<PidFd>> {
        // Also those that were made as siblings of another root: CLONE_PARENT.
        let roots = record::roots(&self.tree.processes).filter(|process| self.made.contains_key(&process.pid));
        roots.map(|root| PidFd::open(root.pid)).collect()
    }

    /// Lets everybody go at once; those that were stopped stay so, and go first, because their
    /// parents may have to ask for it.
    pub fn resume(mut self, mut resumes: BTreeMap<Pid, Vec<Resume>>) -> Result<()> {
        let processes = self.tree.processes.clone();
        for process in processes.iter().rev().filter(|process| process.stopped_by.is_some()) {
            let Some(made) = self.made.remove(&process.pid) else { continue };
            let had_sigchld = self.made.get(&process.ppid).map(has_sigchld).transpose()?;
            made.stop_and_release(process, resumes.remove(&process.pid).unwrap_or_default())?;
            let (Some(parent), Some(had_sigchld)) = (self.made.get_mut(&process.ppid), had_sigchld) else { continue };
            if process.stop_reported {
                let how = (libc::WSTOPPED | libc::WNOHANG | libc::__WALL) as u64;
                let ask = [libc::P_PID as u64, process.pid as u64, 0, how, 0];
                parent.call(libc::SYS_waitid, ask, "asking for a stop")?;
            }
            if !had_sigchld {
                forget_signal(parent, libc::SIGCHLD)?;
            }
        }
        // Those that borrow an address space need the stub in it until the last of them is through.
        let mut pids: Vec<Pid> = self.made.keys().copied().collect();
        pids.sort_by_key(|pid| !self.made[pid].borrows_memory());
        for pid in pids {
            let Some(made) = self.made.remove(&pid) else { continue };
            self.ready.extend(made.release(resumes.remove(&pid).unwrap_or_default())?);
        }
        self.rollback.set_free();
        for task in self.ready {
            task.detach();
        }
        Ok(())
    }
}

fn end_as(mut made: NewProcess, ended: &Ended) -> Result<()> {
    let scratch = made.leader.scratch();
    let mut batch = Batch::new(scratch);
    let comm = batch.put_str(&ended.comm);
    let (uid, gid) = (u64::from(ended.uid), u64::from(ended.gid));
    let calls = [
        batch.call(libc::SYS_prctl, [libc::PR_SET_NAME as u64, comm.0, 0, 0, 0]),
        batch.call(libc::SYS_setresgid, [gid, gid, gid]),
        batch.call(libc::SYS_setresuid, [uid, uid, uid]),
    ];
    let answers = made.leader.run(batch)?;
    for call in calls {
        answers.get(call, || format!("pid {}: becoming what is left of it", made.pid))?;
    }
    let (pid, syscall, status) = (made.pid, made.syscall, ended.status);
    let got = if libc::WIFSIGNALED(status) {
        // Dumpable or not decides whether it leaves a core file, and is decided anew by the new
        // credentials.
        let leaves_core = libc::WCOREDUMP(status);
        let dumpable = [libc::PR_SET_DUMPABLE as u64, u64::from(leaves_core), 0, 0, 0];
        made.call(libc::SYS_prctl, dumpable, "deciding about a core file")?;
        let _cores = if leaves_core { Some(core_flag::dump_core_into_temp_dir(&mut made, ended)?) } else { None };
        made.leader.die(syscall, libc::WTERMSIG(status))?
    } else {
        made.leader.exit(syscall, libc::WEXITSTATUS(status))?
    };
    if got != status {
        return Err(Error::os(format!("pid {pid}: it ended with status {got:#x} and not {status:#x}"), libc::EINVAL));
    }
    Ok(())
}
