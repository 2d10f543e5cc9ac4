//! Registers of a thread: general and extended (x87, SSE, AVX, AVX-512, PKRU), and the system call
//! that the freeze has interrupted.
//!
//! The record holds the registers as the kernel shows them, also inside an interrupted call (where
//! `rax` is -ERESTARTSYS or similar). When they are set in a stopped task, the kernel restarts the
//! call by its own rules, with signal handlers and SA_RESTART as always. Only
//! -ERESTART_RESTARTBLOCK needs more, because the kernel keeps the remaining time. The restored
//! thread makes the call again with that time and is interrupted at once, and so has a restart
//! block of its own.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::image::frame::Tag;
use crate::image::record_set::RecordView;
use crate::kind::attribute::{Attribute, DumpedThread, RestartBlock, RestoredThread, Scope};
use crate::kind::phase::Phase;
use crate::sys::errno::restart;
use crate::sys::pid::Pid;
use crate::sys::ptrace::Regs;
use crate::sys::remote::batch::{Batch, Call};

/// Table row.
pub struct Registers;

/// Bytes of the XSAVE legacy area and header. Its software-reserved bytes hold XCR0.
const XSAVE_MIN: usize = 576;
const XCR0_AT: usize = 464;

/// The record. The blob is the XSAVE area.
#[derive(Serialize, Deserialize)]
pub struct RegistersBody {
    /// struct user_regs_struct: a number for each register, by its name there (`rax`, `orig_rax`,
    /// `rip` ...).
    general: General,
    /// Blocked signals. Bit n-1 is signal n.
    blocked: u64,
    /// XCR0: which parts the XSAVE area may hold.
    xcr0: u64,
    /// A call with a timeout that is to continue: its number, and the remaining time in ns.
    asleep: Option<(i64, u64)>,
    /// `rax` and `orig_rax` as the kernel showed them, if the restore sets others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    shown: Option<(u64, u64)>,
}

/// The registers and the signal mask of a thread. The blob is the XSAVE area.
pub const TAG: Tag = Tag(*b"REGS");

/// The registers of a stopped thread, as a debugger shows them.
pub struct ShownRegisters {
    /// In the order of struct user_regs_struct.
    pub general: Vec<u64>,
    /// Blocked signals.
    pub blocked: u64,
    /// The components that the extended state may hold. Bit n is number n.
    pub components: u64,
}

/// The registers of a record as PTRACE_GETREGS showed them: inside an interrupted call `rax` is
/// -ERESTARTSYS or similar.
pub fn shown(record: &RecordView<'_>) -> Result<ShownRegisters> {
    let RegistersBody { mut general, blocked, shown, xcr0, .. } = record.body()?;
    if let Some((rax, orig_rax)) = shown {
        (general.rax, general.orig_rax) = (rax, orig_rax);
    }
    Ok(ShownRegisters { general: general.words(), blocked, components: xcr0 })
}

macro_rules! general {
    ($($name:ident)*) => {
        /// struct user_regs_struct, arch/x86/include/asm/user_64.h.
        #[derive(Serialize, Deserialize)]
        struct General { $($name: u64),* }
        impl General {
            fn of(regs: &Regs) -> Self { Self { $($name: regs.$name),* } }
            fn put(&self, regs: &mut Regs) { $(regs.$name = self.$name;)* }
            fn words(&self) -> Vec<u64> { vec![$(self.$name),*] }
        }
    };
}
general!(r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs eflags rsp ss fs_base gs_base ds es fs gs);

impl Attribute for Registers {
    type Body = RegistersBody;
    type Tickets = ();
    const TAG: Tag = TAG;
    const SCOPE: Scope = Scope::Thread;
    const PHASE: Phase = Phase::Resume;

    fn ask(&self, _pid: Pid, _batch: &mut Batch) {}

    fn dump(&self, thread: &mut DumpedThread<'_>, (): ()) -> Result<(RegistersBody, Vec<u8>)> {
        let mut regs = *thread.context.regs;
        let mut asleep = None;
        if regs.orig_rax.cast_signed() >= 0 && regs.rax.cast_signed() == restart::BLOCK {
            match thread.context.restart_block {
                Some(RestartBlock::TimeLeft(nr, left)) => {
                    asleep = Some((nr, left));
                    regs.orig_rax = nr.cast_unsigned();
                }
                Some(RestartBlock::SameCall(nr)) => {
                    regs.rax = restart::NOHAND.cast_unsigned();
                    regs.orig_rax = nr.cast_unsigned();
                }
                // The remaining time is unknown, so the call is interrupted, as by a stop signal.
                None => {
                    regs.rax = (-i64::from(libc::EINTR)).cast_unsigned();
                    regs.orig_rax = u64::MAX;
                }
            }
        }
        let before = (thread.context.regs.rax, thread.context.regs.orig_rax);
        let shown = ((regs.rax, regs.orig_rax) != before).then_some(before);
        let area = thread.context.xstate;
        let xcr0 =
            xcr0(area).ok_or_else(|| Error::unsupported(format!("{}: a CPU without XSAVE", thread.subject())))?;
        let body = RegistersBody { general: General::of(&regs), blocked: thread.context.mask, xcr0, asleep, shown };
        Ok((body, area.to_vec()))
    }

    fn restore(&self, body: RegistersBody, blob: &[u8], thread: &mut RestoredThread<'_>) -> Result<()> {
        let subject = thread.subject();
        if blob.len() < XSAVE_MIN || xcr0(blob) != Some(body.xcr0) {
            return Err(Error::damaged(format!("{subject}: extended state of {} bytes", blob.len())));
        }
        let task = thread.owned.task()?;
        let here = xcr0(&task.xstate()?).unwrap_or(0);
        if body.xcr0 & !here != 0 {
            let lacking = body.xcr0 & !here;
            return Err(Error::os(
                format_args!("{subject}: this CPU lacks the state components {lacking:#x}"),
                libc::ENOSYS,
            ));
        }
        let mut regs = task.regs()?;
        body.general.put(&mut regs);
        if let Some((nr, left)) = body.asleep {
            fall_asleep(thread, &mut regs, nr, left)?;
        }
        thread.owned.task()?.set_xstate(blob)?;
        thread.resume.regs = Some(regs);
        thread.resume.mask = body.blocked;
        Ok(())
    }
}

fn xcr0(area: &[u8]) -> Option<u64> {
    let bytes = area.get(XCR0_AT..XCR0_AT + 8)?;
    (area.len() >= XSAVE_MIN).then(|| u64::from_le_bytes(std::array::from_fn(|i| bytes[i])))
}

/// Rebuilds the restart block: makes the call again with `left` ns, and puts the registers that the
/// kernel then shows into `regs`.
fn fall_asleep(thread: &mut RestoredThread<'_>, regs: &mut Regs, nr: i64, left: u64) -> Result<()> {
    thread.flush()?;
    let span = [left / 1_000_000_000, left % 1_000_000_000].map(u64::to_le_bytes).concat();
    let span = thread.batch.put(&span);
    // The memory of a batch is written when the batch runs, so one call is made now.
    thread.call(libc::SYS_getpid, [], "laying out a timeout");
    thread.flush()?;
    let mut args = [regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9];
    match nr {
        libc::SYS_nanosleep => args[0] = span.0,
        libc::SYS_clock_nanosleep => args[2] = span.0,
        libc::SYS_poll => args[2] = left.div_ceil(1_000_000),
        libc::SYS_futex => args[3] = span.0,
        _ => return Err(Error::damaged(format!("pid {} task {}: asleep in call {nr}", thread.pid, thread.tid))),
    }
    let stopped = thread.owned.fall_asleep(thread.syscall, &Call { nr, args })?;
    regs.rax = stopped.rax;
    if stopped.rax.cast_signed() != restart::BLOCK {
        // The call has ended already (its time was over, or a descriptor was ready). This is its
        // result.
        regs.orig_rax = u64::MAX;
    }
    Ok(())
}
