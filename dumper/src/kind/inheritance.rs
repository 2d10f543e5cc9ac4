//! What every process of a restore inherits from this program, and what a process cannot lose. Each
//! kind compares it with its record before a process is made
//! ([`Attribute::compare`](crate::kind::attribute::Attribute::compare)).

use crate::error::Result;
use crate::sys::proc::stat::Stat;
use crate::sys::proc::status::Fields;

/// CAP_SYS_RESOURCE, capabilities(7).
pub const CAP_SYS_RESOURCE: u32 = 24;
/// CAP_AUDIT_CONTROL.
pub const CAP_AUDIT_CONTROL: u32 = 30;

/// What the calling thread hands on to the processes that it makes.
pub struct Inheritance {
    /// Its `/proc/PID/status`.
    pub status: Fields,
    /// Its `/proc/PID/stat`.
    pub stat: Stat,
    /// Its `/proc/PID/loginuid`. `None` if the kernel has no audit system.
    pub loginuid: Option<String>,
}

impl Inheritance {
    /// That of the calling thread.
    pub fn own() -> Result<Self> {
        Ok(Self {
            status: Fields::read("/proc/thread-self/status")?,
            stat: Stat::read("/proc/thread-self/stat")?,
            loginuid: std::fs::read_to_string("/proc/thread-self/loginuid").ok().map(|text| text.trim().to_owned()),
        })
    }

    /// Whether this capability is effective.
    pub fn has_capability(&self, capability: u32) -> bool {
        self.status.hex("CapEff") >> capability & 1 == 1
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub mod fake {
    use super::*;

    /// That of a thread with these lines in its `status`.
    pub fn inheritance(status: &str) -> Inheritance {
        Inheritance { status: Fields::parse(status), stat: Stat::parse("1 (x) S 0 0 0 0 0 0").unwrap(), loginuid: None }
    }
}
