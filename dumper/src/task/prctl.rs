//! Small settings of a thread or a process that prctl(2) gets and sets, personality(2), and three
//! files of /proc.

use serde::{Deserialize, Serialize};

use crate::error::{Doing, Error, Result};
use crate::image::frame::Tag;
use crate::image::record_set::RecordView;
use crate::kind::attribute::{Attribute, DumpedThread, RestoredThread, Scope};
use crate::kind::inheritance::{CAP_SYS_RESOURCE, Inheritance};
use crate::kind::phase::Phase;
use crate::sys::pid::Pid;
use crate::sys::proc::stat::Stat;
use crate::sys::remote::batch::{Batch, Ticket};
use crate::sys::{errno, proc};
use crate::task::loginuid;

/// How a setting is read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Read {
    /// The value is the result of the call.
    Result,
    /// The call writes the value, an int, through its first argument.
    Pointer,
    /// The result says in its lowest bit whether a thread may set the value
    /// (Documentation/userspace-api/spec_ctrl.rst). The other bits are the value.
    Speculation,
}

struct Setting {
    name: &'static str,
    /// Option and arguments of the call that reads it.
    get: &'static [u64],
    /// Option and arguments of the call that sets it, in front of the value.
    set: &'static [u64],
    read: Read,
}

const fn setting(name: &'static str, get: &'static [u64], set: &'static [u64], read: Read) -> Setting {
    Setting { name, get, set, read }
}

/// Settings of the whole process, and settings that no later step of a restore clears.
/// include/uapi/linux/prctl.h.
const EARLY: &[Setting] = &[
    setting("PR_SET_CHILD_SUBREAPER", &[37], &[36], Read::Pointer),
    setting("PR_SET_TIMERSLACK", &[30], &[29], Read::Result),
    setting("PR_SET_TSC", &[25], &[26], Read::Pointer),
    setting("PR_SET_THP_DISABLE", &[42], &[41], Read::Result),
    setting("PR_SET_MEMORY_MERGE", &[68], &[67], Read::Result),
    // PR_MCE_KILL_SET.
    setting("PR_MCE_KILL", &[34], &[33, 1], Read::Result),
    setting("PR_SPEC_STORE_BYPASS", &[52, 0], &[53, 0], Read::Speculation),
    setting("PR_SPEC_INDIRECT_BRANCH", &[52, 1], &[53, 1], Read::Speculation),
    setting("PR_SPEC_L1D_FLUSH", &[52, 2], &[53, 2], Read::Speculation),
];

/// Only a process with CAP_SYS_RESOURCE may ask for this setting. Everybody sees it in the flags of
/// the task.
const IO_FLUSHER: &str = "PR_SET_IO_FLUSHER";
const SET_IO_FLUSHER: u64 = 57;
/// PF_MEMALLOC_NOIO and PF_LOCAL_THROTTLE, include/linux/sched.h.
const IO_FLUSHER_FLAGS: u64 = 0x0018_0000;

/// PR_SPEC_PRCTL, PR_SPEC_ENABLE and PR_SPEC_FORCE_DISABLE.
const SPEC_PRCTL: u64 = 1;
const SPEC_ENABLE: i64 = 2;
const SPEC_FORCE_DISABLE: i64 = 8;

/// Settings that a change of credentials clears, or that would make earlier steps of a restore
/// fail.
const LATE: &[Setting] = &[
    setting("PR_SET_DUMPABLE", &[3], &[4], Read::Result),
    setting("PR_SET_PDEATHSIG", &[2], &[1], Read::Pointer),
    setting("PR_SET_MDWE", &[66], &[65], Read::Result),
];

/// The record: values by the setter's name, and files of /proc by name.
#[derive(Serialize, Deserialize)]
pub struct PrctlBody {
    /// By the name of the option that sets it: PR_SET_TIMERSLACK ...
    settings: std::collections::BTreeMap<String, i64>,
    /// By the name of the file in /proc/PID: oom_score_adj, coredump_filter, loginuid.
    #[serde(default)]
    files: std::collections::BTreeMap<String, String>,
    /// personality(2) of the thread.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    personality: Option<u32>,
}

/// Table row: settings that are restored before the credentials.
pub struct EarlyPrctls;

/// Table row: settings that are restored after the credentials.
pub struct LatePrctls;

/// Where the value of a setting will be.
pub enum SettingTicket {
    Result(Ticket<u64>),
    Pointer(Ticket<[u64; 1]>),
    Speculation(Ticket<u64>),
}

impl SettingTicket {
    /// `None` if it cannot be set.
    fn value(&self, thread: &DumpedThread<'_>, name: &str) -> Result<Option<i64>> {
        let raw = match self {
            Self::Result(ticket) | Self::Speculation(ticket) => thread.raw(*ticket),
            Self::Pointer(ticket) => thread.raw(*ticket),
        };
        // The kernel or the processor does not have it, or it is set for the whole machine.
        if matches!(errno::errno(raw), Some(libc::EINVAL | libc::ENODEV | libc::EPERM)) {
            return Ok(None);
        }
        Ok(match self {
            Self::Result(ticket) => Some(thread.answer(*ticket, name)?.cast_signed()),
            Self::Pointer(ticket) => {
                let [written] = thread.answer(*ticket, name)?;
                Some(i64::from(written as u32 as i32))
            }
            Self::Speculation(ticket) => {
                let value = thread.answer(*ticket, name)?;
                (value & SPEC_PRCTL != 0).then_some((value & !SPEC_PRCTL).cast_signed())
            }
        })
    }
}

/// The names of the settings that are asked for, and where their values will be.
type SettingTickets = Vec<(&'static str, SettingTicket)>;

/// The arguments of prctl(2).
fn arguments(values: impl IntoIterator<Item = u64>) -> [u64; 5] {
    let mut values = values.into_iter();
    std::array::from_fn(|_| values.next().unwrap_or(0))
}

fn ask(settings: &[Setting], batch: &mut Batch) -> SettingTickets {
    let mut asked = Vec::with_capacity(settings.len());
    for setting in settings {
        let args = arguments(setting.get.iter().copied());
        let ticket = match setting.read {
            Read::Result => SettingTicket::Result(batch.call(libc::SYS_prctl, args)),
            Read::Pointer => SettingTicket::Pointer(batch.call_into(libc::SYS_prctl, args, 1)),
            Read::Speculation => SettingTicket::Speculation(batch.call(libc::SYS_prctl, args)),
        };
        asked.push((setting.name, ticket));
    }
    asked
}

fn dump(asked: SettingTickets, thread: &DumpedThread<'_>) -> Result<PrctlBody> {
    let mut body = PrctlBody { settings: Default::default(), files: Default::default(), personality: None };
    for (name, ticket) in asked {
        body.settings.extend(ticket.value(thread, name)?.map(|value| (name.to_owned(), value)));
    }
    Ok(body)
}

fn restore(settings: &[Setting], body: &PrctlBody, thread: &mut RestoredThread<'_>) -> Result<()> {
    for (name, value) in body.settings.iter().filter(|(name, _)| *name != IO_FLUSHER) {
        let setting = settings
            .iter()
            .find(|setting| setting.name == name)
            .ok_or_else(|| Error::damaged(format!("pid {}: unknown setting {name}", thread.pid)))?;
        let doing = format!("pid {} task {}: {name} {value}", thread.pid, thread.tid);
        // A new process has neither, so 0 needs no call. The first cannot be cleared once set, and
        // not every kernel has the second.
        if *value == 0 && matches!(name.as_str(), "PR_SET_MDWE" | "PR_SET_MEMORY_MERGE") {
            continue;
        }
        // SUID_DUMP_ROOT (2) results from a change of credentials and cannot be set. The nearest
        // value is 0, not dumpable.
        let value = if name == "PR_SET_DUMPABLE" && *value == 2 { 0 } else { *value };
        let args = arguments(setting.set.iter().copied().chain([value.cast_unsigned()]));
        if setting.read == Read::Speculation && value == SPEC_ENABLE {
            // ENXIO: here it is the same for all threads of the machine.
            thread.batch.call_or(libc::SYS_prctl, args, libc::ENXIO, doing);
        } else {
            thread.call(libc::SYS_prctl, args, doing);
        }
    }
    Ok(())
}

/// Whether a task is an IO flusher.
fn is_io_flusher(stat: &Stat) -> bool {
    stat.field(9) & IO_FLUSHER_FLAGS == IO_FLUSHER_FLAGS
}

/// Makes a thread an IO flusher, or an ordinary thread, unless it is already.
fn restore_io_flusher(body: &PrctlBody, thread: &mut RestoredThread<'_>) -> Result<()> {
    let Some(value) = body.settings.get(IO_FLUSHER) else { return Ok(()) };
    let stat = Stat::read(&format!("/proc/{}/task/{}/stat", thread.pid, thread.tid))?;
    if is_io_flusher(&stat) != (*value != 0) {
        let doing = format!("{}: {IO_FLUSHER} {value}", thread.subject());
        thread.call(libc::SYS_prctl, [SET_IO_FLUSHER, value.cast_unsigned(), 0, 0, 0], doing);
    }
    Ok(())
}

/// Refuses a thread that could not lose what it inherits, or is not allowed to get what it had.
fn compare(body: &PrctlBody, subject: &str, own: &Inheritance) -> Result<()> {
    if let Some(value) = body.settings.get(IO_FLUSHER)
        && is_io_flusher(&own.stat) != (*value != 0)
        && !own.has_capability(CAP_SYS_RESOURCE)
    {
        let doing = format!("{subject}: {IO_FLUSHER} is {value}, this daemon's is not, and cannot be changed");
        return Err(Error::os(doing, libc::EPERM));
    }
    for (name, field) in
        [("PR_SPEC_STORE_BYPASS", "Speculation_Store_Bypass"), ("PR_SPEC_INDIRECT_BRANCH", "SpeculationIndirectBranch")]
    {
        let value = body.settings.get(name).copied().unwrap_or(SPEC_FORCE_DISABLE);
        // "thread force mitigated", "conditional force disabled" (proc_pid_status(5)).
        if own.status.text(field).contains("force") && value & SPEC_FORCE_DISABLE == 0 {
            let doing = format!("{subject}: {name} is {value}, and this daemon's is disabled for ever");
            return Err(Error::os(doing, libc::EPERM));
        }
    }
    body.files.get(loginuid::FILE).map_or(Ok(()), |wanted| loginuid::compare(wanted, subject, own))
}

/// Files of /proc/PID that are settings.
const FILES: [&str; 2] = ["oom_score_adj", "coredump_filter"];

/// Settings of prctl(2), and settings in files of /proc, that are restored before the credentials.
pub const TAG: Tag = Tag(*b"PRCT");

/// Which mappings a core file holds: the bits of /proc/PID/coredump_filter (core(5)), from a
/// record. `None` if the record does not have them.
pub fn coredump_filter(record: &RecordView<'_>) -> Result<Option<u64>> {
    let body: PrctlBody = record.body()?;
    Ok(body.files.get("coredump_filter").and_then(|value| u64::from_str_radix(value, 16).ok()))
}

impl Attribute for EarlyPrctls {
    type Body = PrctlBody;
    type Tickets = (SettingTickets, Ticket<u64>);
    const TAG: Tag = TAG;
    const SCOPE: Scope = Scope::Thread;
    const PHASE: Phase = Phase::Thread;

    fn ask(&self, _pid: Pid, batch: &mut Batch) -> Self::Tickets {
        (ask(EARLY, batch), batch.call(libc::SYS_personality, [0xffff_ffff]))
    }

    fn dump(&self, thread: &mut DumpedThread<'_>, (asked, personality): Self::Tickets) -> Result<(PrctlBody, Vec<u8>)> {
        if thread.stopped.syscall_user_dispatch()? {
            return Err(Error::unsupported(format!(
                "{}: syscall user dispatch cannot be checkpointed",
                thread.subject()
            )));
        }
        let mut body = dump(asked, thread)?;
        body.personality = Some(thread.answer(personality, "personality")? as u32);
        body.settings.insert(IO_FLUSHER.to_owned(), i64::from(is_io_flusher(thread.stat)));
        body.files.extend(loginuid::dump(thread).map(|value| (loginuid::FILE.to_owned(), value)));
        if thread.is_representative {
            for name in FILES {
                let value = proc::read_text(&format!("/proc/{}/{name}", thread.tid))?;
                body.files.insert(name.to_owned(), value.trim().to_owned());
            }
        }
        Ok((body, Vec::new()))
    }

    fn compare(body: impl FnOnce() -> Result<PrctlBody>, subject: &str, own: &Inheritance) -> Result<()> {
        compare(&body()?, subject, own)
    }

    fn restore(&self, body: PrctlBody, _blob: &[u8], thread: &mut RestoredThread<'_>) -> Result<()> {
        restore(EARLY, &body, thread)?;
        restore_io_flusher(&body, thread)?;
        if let Some(personality) = body.personality {
            let doing = format!("{}: personality {personality:#x}", thread.subject());
            thread.call(libc::SYS_personality, [u64::from(personality)], doing);
        }
        if let Some(wanted) = body.files.get(loginuid::FILE) {
            loginuid::restore(wanted, thread)?;
        }
        for name in FILES {
            let Some(value) = body.files.get(name) else { continue };
            let path = format!("/proc/{}/{name}", thread.pid);
            if proc::read_text(&path)?.trim() == value {
                continue;
            }
            // The kernel shows this file in hexadecimal without 0x, but reads a number of any base.
            let written = if name == "coredump_filter" { format!("0x{value}") } else { value.clone() };
            std::fs::write(&path, written).doing(|| format!("writing {value} to {path}"))?;
        }
        Ok(())
    }
}

impl Attribute for LatePrctls {
    type Body = PrctlBody;
    type Tickets = SettingTickets;
    /// Settings of prctl(2) that are restored after the credentials, because a change of
    /// credentials clears them.
    const TAG: Tag = Tag(*b"PRCL");
    const SCOPE: Scope = Scope::Thread;
    const PHASE: Phase = Phase::AfterCredentials;

    fn ask(&self, _pid: Pid, batch: &mut Batch) -> SettingTickets {
        ask(LATE, batch)
    }

    fn dump(&self, thread: &mut DumpedThread<'_>, asked: Self::Tickets) -> Result<(PrctlBody, Vec<u8>)> {
        Ok((dump(asked, thread)?, Vec::new()))
    }

    fn restore(&self, body: PrctlBody, _blob: &[u8], thread: &mut RestoredThread<'_>) -> Result<()> {
        restore(LATE, &body, thread)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::kind::inheritance::fake::inheritance;

    fn body(name: &str, value: i64) -> PrctlBody {
        serde_json::from_value(serde_json::json!({ "settings": { name: value } })).unwrap()
    }

    #[test]
    fn what_a_thread_cannot_lose_is_refused() {
        let flusher = |flags: u64, capabilities: &str| Inheritance {
            stat: Stat::parse(&format!("1 (x) S 0 0 0 0 0 {flags}")).unwrap(),
            ..inheritance(&format!("CapEff:\t{capabilities}\n"))
        };
        let is_possible = |value: i64, own: &Inheritance| compare(&body(IO_FLUSHER, value), "pid 1", own).is_ok();
        assert!(is_possible(0, &flusher(0, "0")) && is_possible(1, &flusher(IO_FLUSHER_FLAGS, "0")));
        assert!(is_possible(1, &flusher(0, "1000000")) && is_possible(0, &flusher(IO_FLUSHER_FLAGS, "1000000")));
        assert!(!is_possible(1, &flusher(0, "0")) && !is_possible(0, &flusher(IO_FLUSHER_FLAGS, "0")));

        let speculation = |field: &str, value: i64| {
            let own = inheritance(&format!("Speculation_Store_Bypass:\t{field}\n"));
            compare(&body("PR_SPEC_STORE_BYPASS", value), "pid 1", &own).is_ok()
        };
        assert!(speculation("thread vulnerable", SPEC_ENABLE) && speculation("thread mitigated", SPEC_ENABLE));
        assert!(speculation("thread force mitigated", SPEC_FORCE_DISABLE));
        assert!(!speculation("thread force mitigated", SPEC_ENABLE));
    }
}
