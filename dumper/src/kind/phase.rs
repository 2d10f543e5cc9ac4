//! When in a restore something is put back.

/// When it is put back. The order and its reasons stand here and nowhere else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Fields of the address space, once every mapping is there (the kernel checks them against the mappings) and while we
    /// may still change the executable.
    AddressSpace,
    /// Process-wide attributes, while the process is still privileged.
    Process,
    /// Thread attributes that need no privilege or need it still.
    Thread,
    /// Credentials: everything before this could be refused to the real user.
    Credentials,
    /// What changing credentials clears: dumpable, parent-death signal; what makes later calls fail: no_new_privs, MDWE.
    AfterCredentials,
    /// Timers, last of the calls: they run from here on.
    Arm,
    /// Registers and signal mask: after the last remote call.
    Resume,
}

/// All phases, in order.
pub const PHASES: [Phase; 7] = [
    Phase::AddressSpace,
    Phase::Process,
    Phase::Thread,
    Phase::Credentials,
    Phase::AfterCredentials,
    Phase::Arm,
    Phase::Resume,
];
