//! Credentials: ids, groups, capabilities, securebits, no_new_privs (credentials(7),
//! capabilities(7)). In the kernel each thread has its own.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::image::frame::{Record, Tag};
use crate::image::record_set::RecordView;
use crate::kind::attribute::{Attribute, DumpedThread, ObservedTask, RestoredThread, Scope};
use crate::kind::inheritance::Inheritance;
use crate::kind::phase::Phase;
use crate::kind::refs::FileIds;
use crate::refusals::Refusals;
use crate::sys::identity::Identity;
use crate::sys::pid::Pid;
use crate::sys::proc::status::Fields;
use crate::sys::remote::batch::{Batch, Ticket};

const SECBIT_NO_SETUID_FIXUP: u64 = 1 << 2;
const SECBIT_KEEP_CAPS: u64 = 1 << 4;
const CAPABILITY_VERSION_3: u32 = 0x2008_0522;

/// Table row.
pub struct Credentials;

/// The record. Ids in the order real, effective, saved, filesystem; capabilities as bit sets.
#[derive(Serialize, Deserialize)]
pub struct CredentialsBody {
    uids: [u32; 4],
    gids: [u32; 4],
    groups: Vec<u32>,
    inheritable: u64,
    permitted: u64,
    effective: u64,
    bounding: u64,
    ambient: u64,
    securebits: u64,
    no_new_privs: bool,
}

/// The calls that the thread makes.
pub struct CredentialsTickets {
    securebits: Ticket<u64>,
}

/// The credentials of a thread: ids, groups, capabilities, securebits, no_new_privs. Ids are in the
/// order real, effective, saved, filesystem. Capabilities are bit sets.
pub const TAG: Tag = Tag(*b"CRED");

/// The real user and group, from a record.
pub fn real_ids(record: &RecordView<'_>) -> Result<(u32, u32)> {
    let CredentialsBody { uids: [uid, ..], gids: [gid, ..], .. } = record.body()?;
    Ok((uid, gid))
}

/// The identity with which the thread of a record opens files.
pub fn identity(record: &Record) -> Result<Identity> {
    let CredentialsBody { uids, gids, groups, effective, .. } = record.body()?;
    Ok(Identity::new(uids[3], gids[3], groups, effective))
}

impl Attribute for Credentials {
    type Body = CredentialsBody;
    type Tickets = CredentialsTickets;
    const TAG: Tag = TAG;
    const SCOPE: Scope = Scope::Thread;
    const PHASE: Phase = Phase::Credentials;

    fn ask(&self, _pid: Pid, batch: &mut Batch) -> CredentialsTickets {
        let securebits = batch.call(libc::SYS_prctl, [libc::PR_GET_SECUREBITS as u64, 0, 0, 0, 0]);
        CredentialsTickets { securebits }
    }

    fn check(task: &ObservedTask<'_>, _files: &mut dyn FileIds, refusals: &mut Refusals) -> Result<()> {
        refusals.sift(refuse_filtered(task.pid, task.tid, task.status)).map(drop)
    }

    fn dump(&self, thread: &mut DumpedThread<'_>, asked: Self::Tickets) -> Result<(CredentialsBody, Vec<u8>)> {
        let status = thread.status;
        refuse_filtered(thread.pid, thread.tid, status)?;
        let four = |name: &str| -> Result<[u32; 4]> {
            let ids: Vec<u32> = status.numbers(name).into_iter().map(|id| id as u32).collect();
            ids.try_into().map_err(|_| Error::os(format_args!("{}: reading {name}", thread.subject()), libc::EIO))
        };
        let body = CredentialsBody {
            uids: four("Uid")?,
            gids: four("Gid")?,
            groups: status.numbers("Groups").into_iter().map(|id| id as u32).collect(),
            inheritable: status.hex("CapInh"),
            permitted: status.hex("CapPrm"),
            effective: status.hex("CapEff"),
            bounding: status.hex("CapBnd"),
            ambient: status.hex("CapAmb"),
            securebits: thread.answer(asked.securebits, "PR_GET_SECUREBITS")?,
            no_new_privs: status.number("NoNewPrivs") == 1,
        };
        Ok((body, Vec::new()))
    }

    fn compare(body: impl FnOnce() -> Result<CredentialsBody>, subject: &str, own: &Inheritance) -> Result<()> {
        if own.status.number("Seccomp") != 0 {
            let doing = "this daemon runs under a seccomp filter, which every restored process would keep";
            return Err(Error::os(doing, libc::EPERM));
        }
        if own.status.number("NoNewPrivs") == 1 && !body()?.no_new_privs {
            let doing =
                format!("{subject}: it may gain privileges by execve(2), and this daemon (no_new_privs) may not");
            return Err(Error::os(doing, libc::EPERM));
        }
        Ok(())
    }

    fn restore(&self, body: CredentialsBody, _blob: &[u8], thread: &mut RestoredThread<'_>) -> Result<()> {
        let subject = thread.subject();
        let groups: Vec<u8> = body.groups.iter().flat_map(|id| id.to_le_bytes()).collect();
        let groups_at = thread.batch.put(&groups);
        let say = |what: &str| format!("{subject}: {what}");
        let prctl = |option: i32, value: u64| [option as u64, value, 0, 0, 0];
        // Keep the capabilities through setuid until every call that needs them is made.
        let keep = SECBIT_NO_SETUID_FIXUP | SECBIT_KEEP_CAPS;
        thread.call(libc::SYS_prctl, prctl(libc::PR_SET_SECUREBITS, keep), say("securebits"));
        thread.call(libc::SYS_setgroups, [body.groups.len() as u64, groups_at.0], say("setgroups"));
        let [gid, egid, sgid, fsgid] = body.gids.map(u64::from);
        thread.call(libc::SYS_setresgid, [gid, egid, sgid], say("setresgid"));
        let [uid, euid, suid, fsuid] = body.uids.map(u64::from);
        thread.call(libc::SYS_setresuid, [uid, euid, suid], say("setresuid"));
        if fsgid != egid {
            thread.batch.call_giving(libc::SYS_setfsgid, [fsgid], egid, say("setfsgid"));
        }
        if fsuid != euid {
            thread.batch.call_giving(libc::SYS_setfsuid, [fsuid], euid, say("setfsuid"));
        }
        let ours = Fields::read("/proc/self/status")?;
        let (our_bounding, our_permitted) = (ours.hex("CapBnd"), ours.hex("CapPrm"));
        let missing = (body.permitted & !our_permitted) | (body.bounding & !our_bounding);
        if missing != 0 {
            return Err(Error::os(say(&format!("capabilities {missing:#x} are not ours to give")), libc::EPERM));
        }
        for cap in (0..64).filter(|cap| our_bounding >> cap & 1 == 1 && body.bounding >> cap & 1 == 0) {
            thread.call(libc::SYS_prctl, prctl(libc::PR_CAPBSET_DROP, cap), say("PR_CAPBSET_DROP"));
        }
        // A capability can become ambient only while it is permitted and inheritable, and
        // securebits may forbid it. So this comes before both have their final values.
        let header = thread.batch.put(&[CAPABILITY_VERSION_3, 0].map(u32::to_le_bytes).concat());
        let all = capability_words(our_permitted, our_permitted, body.inheritable);
        let all = thread.batch.put(&all);
        thread.call(libc::SYS_capset, [header.0, all.0], say("capset"));
        for cap in (0..64).filter(|cap| body.ambient >> cap & 1 == 1) {
            let raise = [libc::PR_CAP_AMBIENT as u64, libc::PR_CAP_AMBIENT_RAISE as u64, cap, 0, 0];
            thread.call(libc::SYS_prctl, raise, say("PR_CAP_AMBIENT_RAISE"));
        }
        thread.call(libc::SYS_prctl, prctl(libc::PR_SET_SECUREBITS, body.securebits), say("securebits"));
        let last = capability_words(body.effective, body.permitted, body.inheritable);
        let last = thread.batch.put(&last);
        thread.call(libc::SYS_capset, [header.0, last.0], say("capset"));
        if body.no_new_privs {
            thread.call(libc::SYS_prctl, prctl(libc::PR_SET_NO_NEW_PRIVS, 1), say("PR_SET_NO_NEW_PRIVS"));
        }
        Ok(())
    }
}

/// Refuses a task with a seccomp filter.
pub fn refuse_filtered(pid: Pid, tid: Pid, status: &Fields) -> Result<()> {
    match status.number("Seccomp") {
        0 => Ok(()),
        _ => Err(Error::unsupported(format!("pid {pid} task {tid}: seccomp cannot be checkpointed yet"))),
    }
}

/// Two of struct `__user_cap_data_struct`: effective, permitted, inheritable. First the low words,
/// then the high words.
fn capability_words(effective: u64, permitted: u64, inheritable: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    for shift in [0, 32] {
        for set in [effective, permitted, inheritable] {
            bytes.extend_from_slice(&((set >> shift) as u32).to_le_bytes());
        }
    }
    bytes
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::kind::inheritance::fake::inheritance;

    #[test]
    fn what_a_process_would_keep_of_the_daemon_is_refused() {
        let body = |no_new_privs: bool| {
            let ids = [0; 4];
            let sets = serde_json::json!({
                "uids": ids, "gids": ids, "groups": [], "inheritable": 0, "permitted": 0, "effective": 0, "bounding": 0,
                "ambient": 0, "securebits": 0, "no_new_privs": no_new_privs,
            });
            serde_json::from_value(sets).unwrap()
        };
        let compare = |status: &str, no_new_privs: bool| {
            Credentials::compare(|| Ok(body(no_new_privs)), "pid 1", &inheritance(status)).is_ok()
        };
        assert!(compare("NoNewPrivs:\t0\nSeccomp:\t0\n", false) && compare("NoNewPrivs:\t1\n", true));
        assert!(!compare("NoNewPrivs:\t1\n", false) && !compare("Seccomp:\t2\n", true));
    }
}
