//! System V semaphores and message queues, sysvipc(7). Such an object belongs to no process,
//! outlives all of them, and is known only by its id and key.
//!
//! An object is in the image if the tree uses it: a process of the tree was the last to operate on
//! it, waits on it, or has operations on it to be undone. An object of the user and the time of the
//! tree that no living process has used may be the tree's own (a child that has ended created it)
//! or anyone's. The mount option `sysv-ipc=owned` adds such objects. A restore creates one that is
//! missing and leaves one that exists alone.
//!
//! At the restore, an object that still exists and was created in the same boot is the very same
//! one. If a living process outside the tree was the last to use it, it keeps its contents.
//! Otherwise it gets the contents of the image, as late as possible, because a restore that fails
//! must leave it as it was. Another object with its id or key prevents the restore (EEXIST).
//!
//! Shared memory is in the image by its mappings: `file::sysv_shm`.

pub mod kind;
pub mod message_queues;
pub mod semaphores;
pub mod table;
pub mod undo;

use std::collections::BTreeSet;

use crate::error::Result;
use crate::image::frame::Record;
use crate::refusals::is_gone as has_ended;
use crate::sys::identity::Identity;
use crate::sys::pid::Pid;
use crate::sys::proc::{self, stat, status};
use crate::sys::sysvipc::CreatedIpc;
use crate::sys::sysvipc::ipc_kind::IpcKind;
use crate::sysv::kind::{Actors, DynSysv, IpcState};
use crate::sysv::table::{IpcEntry, IpcTables, is_alive, is_gone};
use crate::sysv::undo::Adjustment;

/// Every kind.
pub const KINDS: &[&dyn DynSysv] = &[&semaphores::SemaphoreSets, &message_queues::MessageQueues];

/// How the processes of a tree use System V IPC.
pub struct IpcUsers {
    /// Every process of the tree.
    pub pids: BTreeSet<Pid>,
    /// The objects that its threads wait on.
    pub waits: Vec<(IpcKind, i32)>,
    /// Whether objects that may be the tree's own are wanted as well.
    pub wants_owned: bool,
    /// The operations that the kernel undoes when its processes end.
    pub adjustments: Vec<Adjustment>,
}

/// The objects that a tree uses.
pub struct CollectedIpc {
    /// Their records.
    pub records: Vec<Record>,
    /// Why some of them are not for the user of the tree, as sentences.
    pub unreadable: Vec<String>,
}

/// The objects that a tree uses.
///
/// # Errors
/// EBUSY: other processes change an object faster than it can be read.
/// [`error::Kind::Unsupported`]: two processes share one list of operations to be undone.
pub fn collect(tables: &IpcTables, users: &IpcUsers) -> Result<CollectedIpc> {
    undo::refuse_shared(&users.adjustments)?;
    let (mut records, mut unreadable) = (Vec::new(), Vec::new());
    let (mut owned, mut identities) = (None, None);
    for entry in &tables.0 {
        let Some(kind) = KINDS.iter().find(|kind| kind.ipc_kind() == entry.kind) else { continue };
        let last = match kind.last_users(entry) {
            // The object was removed since, or this process may not read it.
            Err(error) if is_gone(&error) || error.errno() == Some(libc::EACCES) => Vec::new(),
            users => users?,
        };
        let waits = users.waits.contains(&(entry.kind, entry.name.id));
        let undoes = entry.kind == IpcKind::Sem && users.adjustments.iter().any(|it| it.set == entry.name.id);
        let is_ours = waits || undoes || last.iter().any(|pid| users.pids.contains(pid));
        let is_in_use = last.iter().any(|pid| is_alive(*pid));
        let mut may_be_ours = || owned.get_or_insert_with(|| OwnedByTree::of(&users.pids)).may_have_made(entry);
        if !is_ours && (is_in_use || !users.wants_owned || !may_be_ours()) {
            continue;
        }
        match kind.dump(entry, is_ours, &users.adjustments) {
            Err(error) if is_gone(&error) => log::debug!("{} {}: {error}", entry.kind, entry.name.id),
            // The process that changes it now is outside the tree, because the tree is stopped.
            Err(error) if !is_ours => log::debug!("{} {}: {error}", entry.kind, entry.name.id),
            record => {
                records.push(record?);
                let identities = match &identities {
                    Some(identities) => identities,
                    None => identities.insert(identities_of(&users.pids)?),
                };
                unreadable.extend(may_not_read(*kind, entry, identities)?);
            }
        }
    }
    Ok(CollectedIpc { records, unreadable })
}

/// The users that the processes of a tree are.
fn identities_of(pids: &BTreeSet<Pid>) -> Result<BTreeSet<Identity>> {
    let mut identities = BTreeSet::new();
    for pid in pids {
        match Identity::of_task(*pid) {
            // One that has ended before the dump is in the tree, too.
            Err(error) if has_ended(&error) => {}
            identity => drop(identities.insert(identity?)),
        }
    }
    Ok(identities)
}

/// Why no process of the tree may read the object: it may be used without the right to read it.
fn may_not_read(kind: &dyn DynSysv, entry: &IpcEntry, identities: &BTreeSet<Identity>) -> Result<Option<String>> {
    let mut refusal = None;
    for identity in identities {
        match identity.ask(|| kind.may_read(entry))? {
            Err(error) if error.errno() == Some(libc::EACCES) => refusal = Some(error),
            // It was removed since: there is nothing to read.
            Err(error) if is_gone(&error) => return Ok(None),
            may_read => return may_read.map(|()| None),
        }
    }
    let shown = || format!("{} {} (key {:#x})", entry.kind, entry.name.id, entry.name.key);
    Ok(refusal.map(|error| format!("{}: the processes that use it may not read it: {error}", shown())))
}

/// Which objects count as the tree's own if no living process has used them.
struct OwnedByTree {
    uids: BTreeSet<u64>,
    /// When the first process of the tree began, seconds since the epoch.
    since: u64,
}

impl OwnedByTree {
    fn of(pids: &BTreeSet<Pid>) -> Self {
        let boot = proc::read_text("/proc/stat").unwrap_or_default();
        let boot = boot.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok()).unwrap_or(u64::MAX);
        let stats = pids.iter().filter_map(|pid| stat::Stat::read(&format!("/proc/{pid}/stat")).ok());
        // Ticks of 1/100 s (USER_HZ). The second in which it began counts.
        let since =
            stats.map(|stat| boot.saturating_add(stat.started() / stat::TICKS_PER_SECOND)).min().unwrap_or(u64::MAX);
        let uid = |pid: &Pid| {
            let status = status::Fields::read(&format!("/proc/{pid}/status")).ok()?;
            status.numbers("Uid").get(1).copied()
        };
        Self { uids: pids.iter().filter_map(uid).collect(), since }
    }

    fn may_have_made(&self, entry: &IpcEntry) -> bool {
        self.uids.contains(&entry.name.cuid.into()) && entry.changed >= self.since
    }
}

/// An object of the image during a restore.
pub struct RestoredIpc {
    kind: &'static dyn DynSysv,
    record: Record,
    state: IpcState,
}

impl RestoredIpc {
    /// Creates the object of `record` with all its contents, or finds it. `None` if the record is
    /// of none of these kinds.
    pub fn make(record: &Record) -> Option<Result<Self>> {
        let kind = *KINDS.iter().find(|kind| kind.tag() == record.tag)?;
        Some(kind.make(record).map(|state| Self { kind, record: record.clone(), state }))
    }

    /// What the caller of the restore should know.
    pub fn warning(&self) -> Option<String> {
        match &self.state {
            IpcState::Others(name) => {
                Some(format!("{name} is used by others, or by nobody who is known: it stays as it is"))
            }
            IpcState::Made(_) | IpcState::Found => None,
        }
    }

    /// See [`DynSysv::finish`]. A created object is returned, and the caller keeps it when the
    /// restore has succeeded.
    pub fn finish(self, actors: &mut dyn Actors) -> Result<Option<CreatedIpc>> {
        self.kind.finish(&self.record, &self.state, actors)?;
        Ok(if let IpcState::Made(made) = self.state { Some(made) } else { None })
    }
}
