//! What a task *has*: the table of kinds, nothing else.

pub mod address_space;
pub mod cgroup;
pub mod creds;
pub mod cwd_root;
pub mod mempolicy;
pub mod namespaces;
pub mod prctl;
pub mod registers;
pub mod registrations;
pub mod restart_block;
pub mod rlimits;
pub mod sched;
pub mod signals;
pub mod timers;

use crate::kind::attribute::Row;

/// Every kind. Within a phase they are put back in this order:
/// address space before the limits that could forbid it; limits before credentials; `prctls` after `creds` in
/// the phases that they share, because credentials clear dumpable and the parent-death signal.
pub const KINDS: &[&dyn Row] = &[
    &address_space::AddressSpace,
    &cwd_root::Paths,
    &signals::Actions,
    &sched::Scheduling,
    &mempolicy::Numa,
    &registrations::Identity,
    &signals::Queues,
    &rlimits::Limits,
    &creds::Credentials,
    &prctl::Early,
    &prctl::Late,
    &timers::Timers,
    &registers::Registers,
];
