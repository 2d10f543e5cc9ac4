//! What a task *has*: the table of kinds, nothing else.

pub mod asleep;
pub mod attribute;
pub mod cgroup;
pub mod creds;
pub mod identity;
mod limits;
pub mod lineage;
pub mod mm;
pub mod namespaces;
mod numa;
mod paths;
pub mod prctls;
pub mod registers;
pub mod sched;
pub mod signals;
mod timers;
pub mod tree;
pub mod vdso;
pub mod vma;

use crate::task::attribute::Row;

/// Every kind. Within a phase they are put back in this order:
/// address space before the limits that could forbid it; limits before credentials; `prctls` after `creds` in
/// the phases that they share, because credentials clear dumpable and the parent-death signal.
pub const KINDS: &[&dyn Row] = &[
    &mm::AddressSpace,
    &paths::Paths,
    &signals::Actions,
    &sched::Scheduling,
    &numa::Numa,
    &identity::Identity,
    &signals::Queues,
    &limits::Limits,
    &creds::Credentials,
    &prctls::Early,
    &prctls::Late,
    &timers::Timers,
    &registers::Registers,
];
