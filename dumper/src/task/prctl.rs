//! Small per-thread and per-process settings behind prctl(2) that have a getter and a setter, and two files of /proc.

use serde::{Deserialize, Serialize};

use crate::error::{Doing, Error, Result};
use crate::image::frame::Tag;
use crate::image::record_set::RecordView;
use crate::kind::attribute::{Attribute, DumpedThread, RestoredThread, Scope};
use crate::kind::phase::Phase;
use crate::sys::remote::batch::{Batch, Ticket};
use crate::sys::{errno, proc};

/// How a setting is read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Read {
    /// The call's result is the value.
    Result,
    /// The call writes an int through its first argument.
    Pointer,
}

/// PR_MCE_KILL, which is told first what to do with its value.
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

/// include/uapi/linux/prctl.h; those of the whole process and those that nothing later clears.
const EARLY: &[Setting] = &[
    setting("PR_SET_CHILD_SUBREAPER", 37, 36, Read::Pointer),
    setting("PR_SET_TIMERSLACK", 30, 29, Read::Result),
    setting("PR_SET_TSC", 25, 26, Read::Pointer),
    setting("PR_SET_THP_DISABLE", 42, 41, Read::Result),
    setting("PR_SET_IO_FLUSHER", 58, 57, Read::Result),
    setting("PR_SET_MEMORY_MERGE", 68, 67, Read::Result),
    setting("PR_MCE_KILL", 34, PR_MCE_KILL, Read::Result),
];

/// Cleared by a change of credentials, or in the way of what we do before.
const LATE: &[Setting] = &[
    setting("PR_SET_DUMPABLE", 3, 4, Read::Result),
    setting("PR_SET_PDEATHSIG", 2, 1, Read::Pointer),
    setting("PR_SET_MDWE", 66, 65, Read::Result),
];

/// The record: values by the setter's name, and files of /proc by name.
#[derive(Serialize, Deserialize)]
pub struct PrctlBody {
    settings: std::collections::BTreeMap<String, i64>,
    #[serde(default)]
    files: std::collections::BTreeMap<String, String>,
}

/// Table row: settings put back before credentials.
pub struct EarlyPrctls;

/// Table row: settings put back after credentials.
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
        // EINVAL: a kernel without this setting; EPERM: PR_GET_IO_FLUSHER without CAP_SYS_RESOURCE. Neither can have set it.
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
        // The first two cannot be cleared again once set, nor need they be, nor the third, which not every kernel has: a new process has none.
        if *value == 0 && matches!(name.as_str(), "PR_SET_MDWE" | "PR_SET_IO_FLUSHER" | "PR_SET_MEMORY_MERGE") {
            continue;
        }
        // SUID_DUMP_ROOT comes of a change of credentials and cannot be asked for; not dumpable is the nearest.
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

/// The tag of the record of settings that are put back before credentials.
pub const TAG: Tag = Tag(*b"PRCT");

/// Which mappings a core file is to hold: the bits of /proc/PID/coredump_filter (core(5)), of a record; `None` if it does not tell.
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

    fn ask(&self, batch: &mut Batch) -> SettingTickets {
        ask(EARLY, batch)
    }

    fn dump(&self, thread: &DumpedThread<'_>, asked: Self::Tickets) -> Result<(PrctlBody, Vec<u8>)> {
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
            // The kernel shows this one in hexadecimal without saying so, and reads any base.
            let written = if name == "coredump_filter" { format!("0x{value}") } else { value.clone() };
            std::fs::write(&path, written).doing(|| format!("writing {value} to {path}"))?;
        }
        Ok(())
    }
}

impl Attribute for LatePrctls {
    type Body = PrctlBody;
    type Tickets = SettingTickets;
    const TAG: Tag = Tag(*b"PRCL");
    const SCOPE: Scope = Scope::Thread;
    const PHASE: Phase = Phase::AfterCredentials;

    fn ask(&self, batch: &mut Batch) -> SettingTickets {
        ask(LATE, batch)
    }

    fn dump(&self, thread: &DumpedThread<'_>, asked: Self::Tickets) -> Result<(PrctlBody, Vec<u8>)> {
        Ok((dump(asked, thread)?, Vec::new()))
    }

    fn restore(&self, body: PrctlBody, _blob: &[u8], thread: &mut RestoredThread<'_>) -> Result<()> {
        restore(LATE, &body, thread)
    }
}
