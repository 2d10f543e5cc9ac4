//! Small settings of a thread or a process that prctl(2) gets and sets, and two files of /proc.

use serde::{Deserialize, Serialize};

use crate::error::{Doing, Error, Result};
use crate::image::frame::Tag;
use crate::image::record_set::RecordView;
use crate::kind::attribute::{Attribute, DumpedThread, RestoredThread, Scope};
use crate::kind::phase::Phase;
use crate::sys::pid::Pid;
use crate::sys::remote::batch::{Batch, Ticket};
use crate::sys::{errno, proc};

/// How a setting is read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Read {
    /// The value is the result of the call.
    Result,
    /// The call writes the value, an int, through its first argument.
    Pointer,
}

/// PR_MCE_KILL takes a command before its value.
const PR_MCE_KILL: u64 = 33;
const PR_MCE_KILL_SET: u64 = 1;

struct Setting {
    name: &'static str,
    get: u64,
    set: u64,
    read: Read,
}

const fn setting(name: &'static str, get: u64, set: u64, read: Read) -> Setting {
    Setting { name, get, set, read }
}

/// Settings of the whole process, and settings that no later step of a restore clears.
/// include/uapi/linux/prctl.h.
const EARLY: &[Setting] = &[
    setting("PR_SET_CHILD_SUBREAPER", 37, 36, Read::Pointer),
    setting("PR_SET_TIMERSLACK", 30, 29, Read::Result),
    setting("PR_SET_TSC", 25, 26, Read::Pointer),
    setting("PR_SET_THP_DISABLE", 42, 41, Read::Result),
    setting("PR_SET_IO_FLUSHER", 58, 57, Read::Result),
    setting("PR_SET_MEMORY_MERGE", 68, 67, Read::Result),
    setting("PR_MCE_KILL", 34, PR_MCE_KILL, Read::Result),
];

/// Settings that a change of credentials clears, or that would make earlier steps of a restore
/// fail.
const LATE: &[Setting] = &[
    setting("PR_SET_DUMPABLE", 3, 4, Read::Result),
    setting("PR_SET_PDEATHSIG", 2, 1, Read::Pointer),
    setting("PR_SET_MDWE", 66, 65, Read::Result),
];

/// The record: values by the setter's name, and files of /proc by name.
#[derive(Serialize, Deserialize)]
pub struct PrctlBody {
    /// By the name of the option that sets it: PR_SET_TIMERSLACK ...
    settings: std::collections::BTreeMap<String, i64>,
    /// By the name of the file in /proc/PID: oom_score_adj, coredump_filter.
    #[serde(default)]
    files: std::collections::BTreeMap<String, String>,
}

/// Table row: settings that are restored before the credentials.
pub struct EarlyPrctls;

/// Table row: settings that are restored after the credentials.
pub struct LatePrctls;

/// Where the value of a setting will be.
pub enum SettingTicket {
    Result(Ticket<u64>),
    Pointer(Ticket<[u64; 1]>),
}

impl SettingTicket {
    fn raw(&self, thread: &DumpedThread<'_>) -> i64 {
        match self {
            Self::Result(ticket) => thread.raw(*ticket),
            Self::Pointer(ticket) => thread.raw(*ticket),
        }
    }

    fn value(&self, thread: &DumpedThread<'_>, name: &str) -> Result<i64> {
        Ok(match self {
            Self::Result(ticket) => thread.answer(*ticket, name)?.cast_signed(),
            Self::Pointer(ticket) => {
                let [written] = thread.answer(*ticket, name)?;
                i64::from(written as u32 as i32)
            }
        })
    }
}

/// The names of the settings that are asked for, and where their values will be.
type SettingTickets = Vec<(&'static str, SettingTicket)>;

fn ask(settings: &[Setting], batch: &mut Batch) -> SettingTickets {
    let mut asked = Vec::with_capacity(settings.len());
    for setting in settings {
        let args = [setting.get, 0, 0, 0, 0];
        let ticket = match setting.read {
            Read::Result => SettingTicket::Result(batch.call(libc::SYS_prctl, args)),
            Read::Pointer => SettingTicket::Pointer(batch.call_into(libc::SYS_prctl, args, 1)),
        };
        asked.push((setting.name, ticket));
    }
    asked
}

fn dump(asked: SettingTickets, thread: &DumpedThread<'_>) -> Result<PrctlBody> {
    let mut body = PrctlBody { settings: Default::default(), files: Default::default() };
    for (name, ticket) in asked {
        // EINVAL: the kernel does not have this setting. EPERM: PR_GET_IO_FLUSHER without
        // CAP_SYS_RESOURCE. In neither case can it be set.
        if matches!(errno::errno(ticket.raw(thread)), Some(libc::EINVAL | libc::EPERM)) {
            continue;
        }
        body.settings.insert(name.to_owned(), ticket.value(thread, name)?);
    }
    Ok(body)
}

fn restore(settings: &[Setting], body: &PrctlBody, thread: &mut RestoredThread<'_>) -> Result<()> {
    for (name, value) in &body.settings {
        let setting = settings
            .iter()
            .find(|setting| setting.name == name)
            .ok_or_else(|| Error::damaged(format!("pid {}: unknown setting {name}", thread.pid)))?;
        let doing = format!("pid {} task {}: {name} {value}", thread.pid, thread.tid);
        // A new process has none of these, so 0 needs no call. The first two cannot be cleared once
        // set, and not every kernel has the third.
        if *value == 0 && matches!(name.as_str(), "PR_SET_MDWE" | "PR_SET_IO_FLUSHER" | "PR_SET_MEMORY_MERGE") {
            continue;
        }
        // SUID_DUMP_ROOT (2) results from a change of credentials and cannot be set. The nearest
        // value is 0, not dumpable.
        let value = if name == "PR_SET_DUMPABLE" && *value == 2 { 0 } else { *value };
        let args = match setting.set {
            PR_MCE_KILL => [PR_MCE_KILL, PR_MCE_KILL_SET, value.cast_unsigned(), 0, 0],
            set => [set, value.cast_unsigned(), 0, 0, 0],
        };
        thread.call(libc::SYS_prctl, args, doing);
    }
    Ok(())
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
    type Tickets = SettingTickets;
    const TAG: Tag = TAG;
    const SCOPE: Scope = Scope::Thread;
    const PHASE: Phase = Phase::Thread;

    fn ask(&self, _pid: Pid, batch: &mut Batch) -> SettingTickets {
        ask(EARLY, batch)
    }

    fn dump(&self, thread: &mut DumpedThread<'_>, asked: Self::Tickets) -> Result<(PrctlBody, Vec<u8>)> {
        if thread.stopped.syscall_user_dispatch()? {
            return Err(Error::unsupported(format!(
                "{}: syscall user dispatch cannot be checkpointed",
                thread.subject()
            )));
        }
        let mut body = dump(asked, thread)?;
        if thread.is_representative {
            for name in FILES {
                let value = proc::read_text(&format!("/proc/{}/{name}", thread.tid))?;
                body.files.insert(name.to_owned(), value.trim().to_owned());
            }
        }
        Ok((body, Vec::new()))
    }

    fn restore(&self, body: PrctlBody, _blob: &[u8], thread: &mut RestoredThread<'_>) -> Result<()> {
        restore(EARLY, &body, thread)?;
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
