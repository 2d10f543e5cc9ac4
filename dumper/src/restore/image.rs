//! The restore of one image. Its records come in order: each is looked up in the table of sorts and
//! kept, or turned into what it describes at once. The first mapping needs a process: from there on
//! processes are created. At the end of the image they get their descriptors and attributes, and
//! resume.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

use crate::error::{Error, Result};
use crate::file;
use crate::file::fd_table::{FdTable, TABLE};
use crate::file::mapped_lock;
use crate::freeze::hole::HOLE_LEN;
use crate::image::frame::Record;
use crate::kind::attribute::{Resume, tid_of};
use crate::kind::phase::{PHASES, Phase};
use crate::kind::record_sort::Role;
use crate::memory::vma::Vma;
use crate::options::{ClockRule, RestoreOptions};
use crate::pstree::clocks::Clocks;
use crate::pstree::record::{Process, Share};
use crate::pstree::terminal::Terminals;
use crate::records;
use crate::restore::attributes;
use crate::restore::caller_terminal::CallerTerminal;
use crate::restore::files::RestoredFiles;
use crate::restore::outcome::Restored;
use crate::restore::pending::{PendingRecords, out_of_place};
use crate::restore::process::TASK_SIZE;
use crate::restore::pstree::NewTree;
use crate::restore::relations;
use crate::restore::replaced::Holder;
use crate::restore::time_namespace::TimeNamespace;
use crate::sys::memory::{PAGE, RemotePtr};
use crate::sys::pid::Pid;
use crate::sys::pidfd::PidFd;
use crate::sys::remote::checked::Checked;
use crate::sys::sysvipc::CreatedIpc;
use crate::sysv::RestoredIpc;
use crate::task::address_space;

/// An image being restored.
pub struct ImageRestore {
    begun: Instant,
    pending: PendingRecords,
    files: RestoredFiles,
    /// Semaphores and message queues.
    sysv: Vec<RestoredIpc>,
    filling: Filling,
    clock: ClockRule,
    /// The terminal of the caller to attach to.
    attach: Option<PathBuf>,
    /// The same, once the tree is known.
    caller: Option<CallerTerminal>,
    terminals: Terminals,
    /// Since the first mapping.
    processes: Option<NewTree>,
}

/// What the pages that come now belong to.
#[derive(Clone, Copy)]
enum Filling {
    Nothing,
    Object(u32),
    Mapping(Pid),
}

impl ImageRestore {
    /// Nothing is created before the first record.
    pub fn new(begun: Instant, options: RestoreOptions) -> Self {
        Self {
            begun,
            pending: PendingRecords::default(),
            clock: options.clock,
            attach: options.attach.clone(),
            caller: None,
            terminals: Terminals { rule: options.terminal, ..Terminals::default() },
            files: RestoredFiles::new(options),
            sysv: Vec::new(),
            filling: Filling::Nothing,
            processes: None,
        }
    }

    /// Takes the next record, in the order of [`records::sorts`].
    pub fn record(&mut self, record: Record) -> Result<()> {
        self.filling = Filling::Nothing;
        let Some(sort) = records::sort(record.tag) else {
            return if record.optional { Ok(()) } else { Err(out_of_place(record.tag)) };
        };
        match sort.role {
            Role::Tree => {
                self.pending.add_tree(&record)?;
                self.attach()
            }
            Role::Task => self.pending.add_of_task(record),
            Role::SysvIpc => self.create_ipc(&record),
            Role::Object => {
                self.filling = Filling::Object(self.files.create_object(record)?);
                Ok(())
            }
            Role::OpenFile => self.files.open(record, &self.pending),
            Role::Relation => self.pending.add_relation(record),
            Role::FdState => self.pending.add_fd_state(record),
            Role::Mapping => self.map(&record),
        }
    }

    /// Decides what takes the place of the terminals of the tree, if the caller attaches to it.
    fn attach(&mut self) -> Result<()> {
        let Some(path) = &self.attach else { return Ok(()) };
        let caller = CallerTerminal::new(self.pending.tree()?, path)?;
        self.files.replace_terminal(caller.path().to_owned(), caller.replaced());
        self.terminals.instead = Some(caller.path().to_owned());
        self.terminals.session = caller.session();
        self.caller = Some(caller);
        Ok(())
    }

    fn create_ipc(&mut self, record: &Record) -> Result<()> {
        if let Some(object) = RestoredIpc::make(record).transpose()? {
            object.warning().into_iter().for_each(|sentence| self.files.warn(sentence));
            self.sysv.push(object);
        }
        Ok(())
    }

    fn map(&mut self, record: &Record) -> Result<()> {
        let vma = Vma::parse(record)?;
        let pid = vma.tid;
        let missing = || Error::damaged(format!("mapping of pid {pid}, which is not in the tree"));
        let representative = self.pending.representative(pid).ok_or_else(missing)?;
        let Self { processes, pending, files, clock, terminals, .. } = self;
        let new = processes_of(processes, pending, *clock, terminals)?.fork_until(pid, pending)?;
        let holder = Holder::new(pid, representative, pending).as_memory();
        new.map(vma, &files.of(holder)).map_err(|error| new.explain(error))?;
        self.filling = Filling::Mapping(pid);
        Ok(())
    }

    /// Takes pages of the mapping or object that came last.
    pub fn pages(&mut self, address: u64, bytes: &[u8]) -> Result<()> {
        let process = match (self.filling, &mut self.processes) {
            (Filling::Object(id), _) => return self.files.fill(id, address, bytes),
            (Filling::Mapping(pid), Some(processes)) => processes.process(pid)?,
            _ => return Err(Error::damaged("pages without a mapping")),
        };
        process.calls.flush(&mut process.leader).map_err(|error| process.explain(error))?;
        let vma = process.vmas.last().ok_or_else(|| Error::damaged("pages without a mapping"))?;
        let inside = address >= vma.start && address.checked_add(bytes.len() as u64).is_some_and(|end| end <= vma.end);
        if !inside || vma.pages == 0 || !vma.holds_pages() {
            return Err(Error::damaged(format!("pages at {address:#x} outside mapping {:x}-{:x}", vma.start, vma.end)));
        }
        process.leader.mem().fill(RemotePtr(address), bytes)
    }

    /// The trailer is verified: completes the processes and resumes them. This thread is to reap
    /// the roots.
    pub fn finish(mut self, total: u64) -> Result<(Restored, Vec<PidFd>)> {
        processes_of(&mut self.processes, &self.pending, self.clock, &self.terminals)?;
        let Self { begun, pending, mut files, mut sysv, processes, caller, .. } = self;
        // Declared last, so dropped first: on an error it kills all processes while everything that
        // they use is there.
        let mut tree = processes.ok_or_else(|| Error::damaged("an image without a process"))?;
        tree.fork_rest(&pending)?;
        let processes: Vec<Process> = tree.tree().processes.clone();
        tree.arrange_groups()?;
        tree.end_dead()?;
        for process in alive(&processes) {
            let new = tree.process(process.pid)?;
            let locks = pending.body(process.pid, mapped_lock::TAG)?;
            new.finish_memory(locks.as_ref()).map_err(|error| new.explain(error))?;
            new.make_threads(process)?;
        }
        let mut created = files.open_last(&pending)?;
        let resumes = restore_phases(&mut tree, &pending, &files, &mut sysv, &mut created)?;
        tree.verify()?;
        let terminal_state = files.terminal_state();
        // An end of a pipe that is still open here would hide from the other end that no process
        // has it.
        let warnings = files.close()?;
        let roots = tree.roots()?;
        let attached = caller.map(|caller| caller.hand_over(tree.tree(), terminal_state, &pending)).transpose()?;
        tree.resume(resumes, || created.iter().try_for_each(CreatedIpc::outlive_daemon))?;
        created.into_iter().for_each(CreatedIpc::keep);
        let pids: Vec<Pid> =
            processes.iter().filter(|process| !process.is_placeholder()).map(|process| process.pid).collect();
        let root = pids.first().copied().unwrap_or(0);
        Ok((Restored { root, pids, bytes: total, elapsed: begun.elapsed(), warnings, attached }, roots))
    }
}

/// The processes; none is created before this is first called, when the records of all tasks have
/// come.
fn processes_of<'a>(
    processes: &'a mut Option<NewTree>,
    pending: &PendingRecords,
    rule: ClockRule,
    terminals: &Terminals,
) -> Result<&'a mut NewTree> {
    let new = match processes.take() {
        Some(new) => new,
        None => {
            let tree = pending.tree()?.clone();
            let root = tree.processes.first().map_or(0, |root| root.pid);
            let representative = tree.processes.first().map_or(0, Process::representative);
            let hole = address_space::hole(pending.required(root, representative, address_space::TAG)?)?;
            if !hole.0.is_multiple_of(PAGE) || hole.0 < 0x1_0000 || hole.0 > TASK_SIZE - HOLE_LEN {
                return Err(Error::damaged(format!("pid {root}: no room at {hole}")));
            }
            attributes::compare(&tree.processes, pending)?;
            let clocks = tree.clocks.map(|clocks| clocks.to_continue(Clocks::now(), rule)).transpose()?.flatten();
            NewTree::new(tree, hole, terminals.clone(), clocks.map(TimeNamespace::new))
        }
    };
    Ok(processes.insert(new))
}

fn alive(processes: &[Process]) -> impl Iterator<Item = &Process> {
    processes.iter().filter(|process| !process.threads.is_empty())
}

/// Gives a process its descriptors, and those of its threads that have a table of their own.
fn place_descriptors(
    tree: &mut NewTree,
    process: &Process,
    pending: &PendingRecords,
    files: &RestoredFiles,
) -> Result<()> {
    let own = process.own.iter().filter(|(_, what)| *what == Share::Files).map(|(tid, _)| *tid);
    let of_process = (!process.shares(Share::Files)).then_some(process.pid);
    for tid in of_process.into_iter().chain(own) {
        let table: FdTable = pending.required(process.pid, tid, TABLE)?.body()?;
        let of = if tid == process.pid { process.representative() } else { tid };
        tree.process(process.pid)?.place(&table, &files.of(Holder::new(process.pid, of, pending)))?;
    }
    Ok(())
}

/// Restores what remains of all processes, phase by phase; gives how their threads resume.
/// Completes the objects of `sysv`, and adds those that the restore has created to `created`.
fn restore_phases(
    tree: &mut NewTree,
    pending: &PendingRecords,
    files: &RestoredFiles,
    sysv: &mut Vec<RestoredIpc>,
    created: &mut Vec<CreatedIpc>,
) -> Result<BTreeMap<Pid, Vec<Resume>>> {
    let mut resumes: BTreeMap<Pid, Vec<Resume>> = BTreeMap::new();
    for phase in PHASES {
        if phase == Phase::Credentials {
            relations::restore(tree, pending, files)?;
            // Attributes of earlier phases need descriptors of their own for a moment. A full table
            // would have no number for them.
            for process in alive(&pending.tree()?.processes) {
                place_descriptors(tree, process, pending, files)?;
            }
            // From here on no process opens or closes a file: closing one would cost the process
            // its locks. And the processes still have the right to take them.
            restore_fd_states(tree, pending)?;
            for object in std::mem::take(sysv) {
                created.extend(object.finish(tree)?);
            }
        }
        for process in alive(&pending.tree()?.processes) {
            let new = tree.process(process.pid)?;
            if phase == Phase::Resume {
                new.close_helpers(process.shares(Share::Files))?;
            }
            let last = attributes::restore(new, process, phase, pending, files)?;
            resumes.entry(process.pid).or_default().extend(last);
        }
    }
    Ok(resumes)
}

/// Restores what descriptors have beyond their open files, kind by kind.
fn restore_fd_states(tree: &mut NewTree, pending: &PendingRecords) -> Result<()> {
    for kind in file::FD_STATES {
        for record in pending.fd_states(kind.tag()) {
            let (owned, _) = tree.task(tid_of(record)?)?;
            let mut calls = Checked::new(owned.scratch());
            kind.restore(record, &mut calls)?;
            calls.flush(owned)?;
        }
    }
    Ok(())
}
