//! A signal frame (struct rt_sigframe, arch/x86/include/asm/sigframe.h) with a task's true state.
//! If its tracer has died, a task inside injected code returns through it to its program.

use crate::sys::errno::restart;
use crate::sys::memory::RemotePtr;
use crate::sys::ptrace::Regs;

/// Room for a frame: 440 bytes of frame, 304 of ucontext and an XSAVE area with AMX (11 KiB),
/// rounded up.
pub const FRAME_ROOM: usize = 16 << 10;

const FP_XSTATE_MAGIC1: u32 = 0x4650_5853;
const FP_XSTATE_MAGIC2: u32 = 0x4650_5845;
const UC_FP_XSTATE: u64 = 1;
const UC_SIGCONTEXT_SS: u64 = 2;
const UC_STRICT_RESTORE_SS: u64 = 4;
const UC_FLAGS: u64 = UC_FP_XSTATE | UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS;
const INVALID_SS_FLAGS: u64 = 0x7fff;

/// Registers with which a task that was stopped inside a system call runs on as if it had never
/// been traced. A call that can be repeated is repeated. If only the kernel has the remaining time
/// of a call, `call` is its number: it is made again, and waits for all of its time (rt_sigreturn
/// drops what was left of it). If the number is unknown, the call returns EINTR.
pub fn settled(regs: &Regs, call: Option<i64>) -> Regs {
    let mut regs = *regs;
    if regs.orig_rax.cast_signed() >= 0 {
        let again = |regs: &mut Regs, nr: u64| (regs.rax, regs.rip) = (nr, regs.rip.wrapping_sub(2));
        match (regs.rax.cast_signed(), call) {
            (restart::SYS | restart::NOINTR | restart::NOHAND, _) => {
                let nr = regs.orig_rax;
                again(&mut regs, nr);
            }
            (restart::BLOCK, Some(nr)) => again(&mut regs, nr.cast_unsigned()),
            (restart::BLOCK, None) => regs.rax = -i64::from(libc::EINTR) as u64,
            _ => {}
        }
    }
    regs.orig_rax = u64::MAX;
    regs
}

/// Whether `bytes` are a frame that [`build`] made. A killed tracer leaves it behind, and it is
/// unused once its task has returned.
pub fn is_left_behind(bytes: &[u8]) -> bool {
    let [restorer, flags, link, sp, ss_flags, size] = crate::sys::memory::words(bytes);
    restorer != 0 && (flags, link, sp, ss_flags, size) == (UC_FLAGS, 0, 0, INVALID_SS_FLAGS, 0)
}

/// The bytes of a frame for the address `at` (16-byte aligned). With `rsp = at` a `ret` goes to
/// `restorer`, which makes the call. With `rsp = at + 8` the call can be made at once. The
/// registers must be [`settled`].
pub fn build(at: RemotePtr, restorer: u64, regs: &Regs, mask: u64, xstate: &[u8]) -> Vec<u8> {
    // pretcode 8, ucontext 304, siginfo 128 -> the XSAVE area on the next 64-byte boundary of the
    // *address*.
    let xsave_at = (at.0 + 8 + 304 + 128).next_multiple_of(64);
    let mut frame = Words(Vec::with_capacity(FRAME_ROOM));
    frame.word(restorer);
    frame.word(UC_FLAGS);
    frame.word(0); // uc_link
    frame.word(0); // ss_sp
    // do_sigaltstack refuses these flags, so the task's alternate stack stays as it is.
    frame.word(INVALID_SS_FLAGS);
    frame.word(0); // ss_size
    for value in [
        regs.r8,
        regs.r9,
        regs.r10,
        regs.r11,
        regs.r12,
        regs.r13,
        regs.r14,
        regs.r15,
        regs.rdi,
        regs.rsi,
        regs.rbp,
        regs.rbx,
        regs.rdx,
        regs.rax,
        regs.rcx,
        regs.rsp,
        regs.rip,
        regs.eflags,
    ] {
        frame.word(value);
    }
    frame.word((regs.cs & 0xffff) | (regs.gs & 0xffff) << 16 | (regs.fs & 0xffff) << 32 | (regs.ss & 0xffff) << 48);
    for _ in ["err", "trapno", "oldmask", "cr2"] {
        frame.word(0);
    }
    frame.word(xsave_at);
    for _ in 0..8 {
        frame.word(0);
    }
    frame.word(mask);
    let mut bytes = frame.0;
    bytes.resize((xsave_at - at.0) as usize, 0);
    let area = bytes.len();
    bytes.extend_from_slice(xstate);
    if xstate.len() >= 576 {
        let features = u64::from_le_bytes(std::array::from_fn(|i| xstate[464 + i]));
        let size = xstate.len() as u32;
        let software = &mut bytes[area + 464..area + 512];
        software.fill(0);
        software[0..4].copy_from_slice(&FP_XSTATE_MAGIC1.to_le_bytes());
        software[4..8].copy_from_slice(&(size + 4).to_le_bytes());
        software[8..16].copy_from_slice(&features.to_le_bytes());
        software[16..20].copy_from_slice(&size.to_le_bytes());
        bytes.extend_from_slice(&FP_XSTATE_MAGIC2.to_le_bytes());
    }
    bytes
}

struct Words(Vec<u8>);

impl Words {
    fn word(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }
}
