//! Sessions and process groups of a restored tree, credentials(7), and the foreground groups of
//! terminals.

use std::collections::BTreeSet;

use crate::error::Result;
use crate::pstree::record::Process;
use crate::pstree::terminal;
use crate::restore::pstree::{NewTree, existing};
use crate::sys::pid::Pid;

impl NewTree {
    /// Begins the sessions that have not begun yet, then moves each process into its group.
    pub fn arrange_groups(&mut self) -> Result<()> {
        let processes = self.tree.processes.clone();
        for process in &processes {
            self.begin_session(process.pid)?;
        }
        // A group begins with the process of its number. If that process is in another group in the
        // end, it leaves once all members have joined.
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
                // A circle: each of them leads the group that another one waits for. The first
                // leaves its group, and a child of it stays there, so that the group goes on.
                let Self { rollback, processes, .. } = self;
                let maker = existing(processes, first.pid)?;
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
            // A group without a process cannot be in the foreground: that of the leader stays.
            if let Some(group) = process.foreground.filter(|it| known.contains(it)) {
                let terminals = self.terminals.clone();
                let leader = self.process(process.pid)?;
                terminal::set_foreground(process, group, &terminals, &leader.channel, &mut leader.leader)?;
            }
        }
        Ok(())
    }
}
