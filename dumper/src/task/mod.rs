//! What a task *has*: the table of kinds, and nothing else.

pub mod address_space;
pub mod cgroup;
pub mod creds;
pub mod cwd_root;
pub mod loginuid;
pub mod mempolicy;
pub mod namespaces;
pub mod prctl;
pub mod protection_keys;
pub mod registers;
pub mod registrations;
pub mod restart_block;
pub mod rlimits;
pub mod sched;
pub mod signals;
pub mod timers;

use crate::kind::attribute::DynAttribute;

/// Every kind. Those of one phase are restored in this order.
pub const KINDS: &[&dyn DynAttribute] = &[
    &address_space::AddressSpace,
    &cwd_root::CwdRoot,
    &signals::SignalActions,
    &sched::Scheduling,
    &mempolicy::Mempolicy,
    &registrations::Registrations,
    &signals::SignalQueues,
    &rlimits::Rlimits,
    &creds::Credentials,
    &prctl::EarlyPrctls,
    &prctl::LatePrctls,
    &timers::PosixTimers,
    &registers::Registers,
];
