//! The address space as a whole: the places of code, data, heap, stack, arguments and environment,
//! auxv, the executable, vDSO.
//!
//! PR_SET_MM_MAP of prctl(2) restores all of it in one call, after every mapping exists.

use std::fs::Permissions;
use std::os::fd::RawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use serde::{Deserialize, Serialize};

use crate::error::{Context, Doing, Error, Result};
use crate::image::frame::{Record, Tag};
use crate::image::record_set::RecordView;
use crate::kind::attribute::{Attribute, DumpedThread, ObservedTask, RestoredThread, Scope};
use crate::kind::phase::Phase;
use crate::kind::record_sort::ShownTask;
use crate::kind::refs::FileIds;
use crate::refusals::Refusals;
use crate::sys::memory::RemotePtr;
use crate::sys::mm_map::{MmMap, set_mm_map};
use crate::sys::pid::Pid;
use crate::sys::proc;
use crate::sys::remote::batch::{Batch, Ticket};
use crate::sys::tracee::code_of_32_bits;
use crate::task::protection_keys;

/// include/uapi/linux/membarrier.h.
const MEMBARRIER_CMD_GET_REGISTRATIONS: u64 = 1 << 9;

/// How many bytes of the LDT are read. Only its existence matters.
const LDT_ROOM: usize = 64;

/// Table row.
pub struct AddressSpace;

/// The record.
#[derive(Serialize, Deserialize)]
pub struct AddressSpaceBody {
    start_code: u64,
    end_code: u64,
    start_data: u64,
    end_data: u64,
    start_brk: u64,
    brk: u64,
    start_stack: u64,
    arg_start: u64,
    arg_end: u64,
    env_start: u64,
    env_end: u64,
    /// Words.
    auxv: Vec<u64>,
    /// Id of the executable's open file.
    exe: u32,
    /// personality(2).
    personality: u32,
    /// The MEMBARRIER_CMD_REGISTER_* commands that the process has issued, membarrier(2).
    #[serde(default)]
    membarrier: u32,
    /// The protection keys that the program has allocated, ascending, pkeys(7).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    protection_keys: Vec<u32>,
    /// Address space without any mapping.
    hole: RemotePtr,
}

/// The calls that the process makes.
pub struct AddressSpaceTickets {
    brk: Ticket<u64>,
    personality: Ticket<u64>,
    /// Bytes of the LDT. 0 unless the program has made one.
    ldt_len: Ticket<u64>,
    membarrier: Ticket<u64>,
    keys: Vec<Ticket<u64>>,
}

/// The address space as a whole: the places of code, data, heap, stack, arguments and environment,
/// the auxiliary vector, the executable. Addresses have the names of struct prctl_mm_map, prctl(2).
pub const TAG: Tag = Tag(*b"MMAP");

/// The address space without any mapping, from a record.
pub fn hole(record: &Record) -> Result<RemotePtr> {
    #[derive(Deserialize)]
    struct Hole {
        hole: RemotePtr,
    }
    Ok(record.body::<Hole>()?.hole)
}

/// The protection keys that the program has allocated, from a record.
pub fn allocated_keys(record: &Record) -> Result<Vec<u32>> {
    Ok(record.body::<AddressSpaceBody>()?.protection_keys)
}

/// What a core file shows of a program to a debugger.
pub struct Program {
    /// The auxiliary vector, getauxval(3), words.
    pub auxv: Vec<u64>,
    /// Where its arguments are in memory, one behind the other with a NUL each.
    pub arguments: std::ops::Range<u64>,
}

/// The program, from a record.
pub fn program(record: &RecordView<'_>) -> Result<Program> {
    let AddressSpaceBody { auxv, arg_start, arg_end, .. } = record.body()?;
    Ok(Program { auxv, arguments: arg_start..arg_end })
}

impl Attribute for AddressSpace {
    type Body = AddressSpaceBody;
    type Tickets = AddressSpaceTickets;
    const TAG: Tag = TAG;
    const SCOPE: Scope = Scope::Process;
    const PHASE: Phase = Phase::AddressSpace;

    fn show(record: &RecordView<'_>) -> Result<ShownTask> {
        let AddressSpaceBody { exe, arg_start, arg_end, .. } = record.body()?;
        Ok(ShownTask { files: vec![exe], arguments: Some(arg_start..arg_end), ..ShownTask::default() })
    }

    fn ask(&self, _pid: Pid, batch: &mut Batch) -> AddressSpaceTickets {
        let ldt = batch.room(LDT_ROOM);
        AddressSpaceTickets {
            brk: batch.call(libc::SYS_brk, [0]),
            personality: batch.call(libc::SYS_personality, [0xffff_ffff]),
            // Function 0 of modify_ldt(2) reads.
            ldt_len: batch.call(libc::SYS_modify_ldt, [0, ldt.0, LDT_ROOM as u64]),
            membarrier: batch.call(libc::SYS_membarrier, [MEMBARRIER_CMD_GET_REGISTRATIONS, 0, 0]),
            keys: protection_keys::ask(batch),
        }
    }

    fn check(task: &ObservedTask<'_>, files: &mut dyn FileIds, refusals: &mut Refusals) -> Result<()> {
        refusals.sift(refuse_32_bits(task))?;
        refusals.sift(executable(task, files)).map(drop)
    }

    fn dump(&self, thread: &mut DumpedThread<'_>, asked: Self::Tickets) -> Result<(AddressSpaceBody, Vec<u8>)> {
        if thread.answer(asked.ldt_len, "reading the LDT")? as i32 != 0 {
            return Err(Error::unsupported(format!("pid {}: an LDT cannot be checkpointed", thread.pid)));
        }
        let auxv = proc::read(&thread.proc("auxv"))?;
        let auxv = auxv.chunks_exact(8).map(|word| u64::from_le_bytes(std::array::from_fn(|i| word[i]))).collect();
        let exe = executable(&thread.task, thread.files)?;
        let field = |number| thread.stat.field(number);
        let body = AddressSpaceBody {
            start_code: field(26),
            end_code: field(27),
            start_data: field(45),
            end_data: field(46),
            start_brk: field(47),
            brk: thread.answer(asked.brk, "brk")?,
            start_stack: field(28),
            arg_start: field(48),
            arg_end: field(49),
            env_start: field(50),
            env_end: field(51),
            auxv,
            exe,
            personality: thread.answer(asked.personality, "personality")? as u32,
            // A kernel before 6.3 does not have the command and returns EINVAL.
            membarrier: u32::try_from(thread.raw(asked.membarrier)).unwrap_or(0),
            protection_keys: protection_keys::allocated(thread, &asked.keys),
            hole: thread.hole,
        };
        Ok((body, Vec::new()))
    }

    fn restore(&self, body: AddressSpaceBody, _blob: &[u8], thread: &mut RestoredThread<'_>) -> Result<()> {
        let pid = thread.pid;
        let doing = format!("pid {pid}: personality");
        thread.call(libc::SYS_personality, [u64::from(body.personality)], doing);
        if thread.borrows_memory {
            return Ok(());
        }
        protection_keys::allocate(&body.protection_keys, thread)?;
        let exe: RawFd = thread.files.fd(body.exe)?;
        let name = std::fs::read_link(format!("/proc/self/fd/{exe}")).unwrap_or_default();
        let lent = LentRight::to_execute(exe).on(|| format!("pid {pid}: executable {}", name.display()))?;
        let exe = *thread
            .push(&[exe])?
            .first()
            .ok_or_else(|| Error::os(format_args!("pid {pid}: executable"), libc::EBADF))?;
        let auxv: Vec<u8> = body.auxv.iter().flat_map(|word| word.to_le_bytes()).collect();
        let auxv_at = thread.batch.put(&auxv);
        let fields = [
            body.start_code,
            body.end_code,
            body.start_data,
            body.end_data,
            body.start_brk,
            body.brk,
            body.start_stack,
            body.arg_start,
            body.arg_end,
            body.env_start,
            body.env_end,
        ];
        let map = MmMap { fields, auxv: (auxv_at, auxv.len() as u32), exe: Some(exe) };
        let at = thread.batch.put(&map.bytes());
        let doing = format!("pid {pid}: setting the fields of the address space and the executable {}", name.display());
        thread.call(libc::SYS_prctl, set_mm_map(at), doing);
        thread.call(libc::SYS_close, [exe as u64], format!("pid {pid}: closing the executable"));
        if lent.is_some() {
            thread.flush()?;
        }
        drop(lent);
        for command in (0..32).map(|bit| 1_u64 << bit).filter(|bit| u64::from(body.membarrier) & bit != 0) {
            thread.call(
                libc::SYS_membarrier,
                [command, 0, 0],
                format!("pid {pid}: membarrier registration {command:#x}"),
            );
        }
        Ok(())
    }
}

/// Refuses a program of 32 bits. The words of its auxiliary vector are half as long, so the first
/// number is joined with its value.
fn refuse_32_bits(task: &ObservedTask<'_>) -> Result<()> {
    let auxv = proc::read(&task.proc("auxv"))?;
    let is_joined = auxv.first_chunk().is_some_and(|first| u64::from_le_bytes(*first) > u64::from(u32::MAX));
    if is_joined { Err(code_of_32_bits(task.tid)) } else { Ok(()) }
}

/// The id of the executable's open file.
fn executable(task: &ObservedTask<'_>, files: &mut dyn FileIds) -> Result<u32> {
    files.id_of(&task.proc("exe"), libc::O_RDONLY, true, &format!("pid {}: executable", task.pid))
}

/// The right of a file's owner to execute it, while it becomes the executable of a process. Drop
/// takes it away again.
struct LentRight {
    link: String,
    mode: u32,
}

impl LentRight {
    /// Lends the right if nobody has it. A program may go on when its file cannot be executed any
    /// more, but the kernel makes no such file an executable (`prctl_set_mm_exe_file` in
    /// kernel/sys.c). The owner could take this right at any time.
    fn to_execute(fd: RawFd) -> Result<Option<Self>> {
        let link = format!("/proc/self/fd/{fd}");
        let mode = std::fs::metadata(&link).doing(|| "stat")?.mode() & 0o7777;
        if mode & 0o111 != 0 {
            return Ok(None);
        }
        let doing = || "nobody may execute it, and its mode cannot be changed for the moment";
        std::fs::set_permissions(&link, Permissions::from_mode(mode | 0o100)).doing(doing)?;
        Ok(Some(Self { link, mode }))
    }
}

impl Drop for LentRight {
    fn drop(&mut self) {
        if let Err(error) = std::fs::set_permissions(&self.link, Permissions::from_mode(self.mode)) {
            log::warn!("{}: its mode {:o} cannot be restored: {error}", self.link, self.mode);
        }
    }
}
