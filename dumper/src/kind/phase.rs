//! When in a restore an attribute is restored.

/// A step of a restore. The order and its reasons are only here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Fields of the address space. The kernel checks them against the mappings, so every mapping
    /// exists already. The process is still privileged, so the executable can be changed.
    AddressSpace,
    /// Process-wide attributes, while the process is still privileged.
    Process,
    /// Attributes of threads, whether they need privileges or not.
    Thread,
    /// Credentials. Attributes of earlier phases could be refused to the real user.
    Credentials,
    /// What a change of credentials clears (dumpable, parent-death signal), and what makes later
    /// calls fail (no_new_privs, MDWE).
    AfterCredentials,
    /// Pending signals and timers. Timers run from here on, so hardly a call follows.
    Arm,
    /// Resource limits. They may be below what a process has: signals and timers too.
    Limits,
    /// Registers and signal mask, after the last remote call.
    Resume,
}

/// All phases, in order.
pub const PHASES: [Phase; 8] = [
    Phase::AddressSpace,
    Phase::Process,
    Phase::Thread,
    Phase::Credentials,
    Phase::AfterCredentials,
    Phase::Arm,
    Phase::Limits,
    Phase::Resume,
];
