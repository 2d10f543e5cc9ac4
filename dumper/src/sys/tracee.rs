//! What ptrace(2) reads and sets in a stopped task: registers, signal mask, pending signals, rseq.

use nix::errno::Errno;

use crate::error::{Doing, Error, Result};
use crate::sys::pid::Pid;
use crate::sys::ptrace::{Regs, SIGINFO_LEN, Siginfo, Stopped, raw, request};

/// The refusal of a task that runs 32-bit code.
pub fn code_of_32_bits(tid: Pid) -> Error {
    Error::unsupported(format!("task {tid}: 32-bit code cannot be checkpointed"))
}

impl Stopped {
    /// The general registers (NT_PRSTATUS). A 32-bit tracee, which has another layout, is refused.
    pub fn regs(&self) -> Result<Regs> {
        // SAFETY: all-zero is a valid value of this plain struct of integers.
        let mut regs: Regs = unsafe { std::mem::zeroed() };
        let mut iov = libc::iovec { iov_base: (&raw mut regs).cast(), iov_len: size_of::<Regs>() };
        request(
            "reading registers",
            libc::PTRACE_GETREGSET,
            self.tid(),
            libc::NT_PRSTATUS as usize,
            (&raw mut iov) as usize,
        )?;
        if iov.iov_len != size_of::<Regs>() || regs.cs != 0x33 {
            return Err(code_of_32_bits(self.tid()));
        }
        Ok(regs)
    }

    /// Installs general registers. `orig_rax` should be -1 unless an interrupted call is to be
    /// restarted by the kernel.
    pub fn set_regs(&self, regs: &Regs) -> Result<()> {
        let mut regs = *regs;
        let mut iov = libc::iovec { iov_base: (&raw mut regs).cast(), iov_len: size_of::<Regs>() };
        request(
            "setting registers",
            libc::PTRACE_SETREGSET,
            self.tid(),
            libc::NT_PRSTATUS as usize,
            (&raw mut iov) as usize,
        )
        .map(drop)
    }

    /// The extended state (NT_X86_XSTATE): an XSAVE area in standard format, XCR0 at byte 464.
    pub fn xstate(&self) -> Result<Vec<u8>> {
        // AMX alone is 8 KiB. The kernel returns how much it filled.
        let mut area = vec![0_u8; 32 << 10];
        let mut iov = libc::iovec { iov_base: area.as_mut_ptr().cast(), iov_len: area.len() };
        request("reading extended state", libc::PTRACE_GETREGSET, self.tid(), NT_X86_XSTATE, (&raw mut iov) as usize)?;
        area.truncate(iov.iov_len);
        Ok(area)
    }

    /// Installs the extended state.
    pub fn set_xstate(&self, area: &[u8]) -> Result<()> {
        let mut area = area.to_vec();
        let mut iov = libc::iovec { iov_base: area.as_mut_ptr().cast(), iov_len: area.len() };
        request("setting extended state", libc::PTRACE_SETREGSET, self.tid(), NT_X86_XSTATE, (&raw mut iov) as usize)
            .map(drop)
    }

    /// The blocked signals (bit n-1: signal n). Unlike /proc, this is also correct inside
    /// sigsuspend(2) and ppoll(2).
    pub fn sigmask(&self) -> Result<u64> {
        let mut mask = 0_u64;
        request("PTRACE_GETSIGMASK", PTRACE_GETSIGMASK, self.tid(), 8, (&raw mut mask) as usize)?;
        Ok(mask)
    }

    /// Sets the blocked signals.
    pub fn set_sigmask(&self, mask: u64) -> Result<()> {
        let mut mask = mask;
        request("PTRACE_SETSIGMASK", PTRACE_SETSIGMASK, self.tid(), 8, (&raw mut mask) as usize).map(drop)
    }

    /// The code and the sender's pid in the siginfo of the signal-delivery-stop.
    pub fn signal_sender(&self) -> Result<(i32, Pid)> {
        // SAFETY: all-zero is a valid siginfo.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        request("PTRACE_GETSIGINFO", libc::PTRACE_GETSIGINFO, self.tid(), 0, (&raw mut info) as usize)?;
        // SAFETY: the kernel has filled the union. si_pid overlays only integers, so any content is
        // a valid value.
        Ok((info.si_code, unsafe { info.si_pid() }))
    }

    /// The pending signals in queue order (PTRACE_PEEKSIGINFO). They stay pending.
    pub fn pending(&self, shared: bool) -> Result<Vec<Siginfo>> {
        #[repr(C)]
        struct Args {
            offset: u64,
            flags: u32,
            count: i32,
        }
        let mut found = Vec::new();
        loop {
            let mut batch = [[0; SIGINFO_LEN]; 32];
            let args = Args { offset: found.len() as u64, flags: u32::from(shared), count: batch.len() as i32 };
            let n = request(
                "PTRACE_PEEKSIGINFO",
                PTRACE_PEEKSIGINFO,
                self.tid(),
                (&raw const args) as usize,
                batch.as_mut_ptr() as usize,
            )?;
            found.extend_from_slice(&batch[..n as usize]);
            if (n as usize) < batch.len() {
                return Ok(found);
            }
        }
    }

    /// The rseq registration: (area, length, signature). An area of 0 means none.
    pub fn rseq(&self) -> Result<(u64, u32, u32)> {
        #[repr(C)]
        #[derive(Default)]
        struct Configuration {
            area: u64,
            size: u32,
            signature: u32,
            flags: u32,
            pad: u32,
        }
        let mut found = Configuration::default();
        request(
            "PTRACE_GET_RSEQ_CONFIGURATION",
            PTRACE_GET_RSEQ_CONFIGURATION,
            self.tid(),
            size_of::<Configuration>(),
            (&raw mut found) as usize,
        )?;
        Ok((found.area, found.size, found.signature))
    }

    /// Whether syscall user dispatch is on. It cannot be re-armed from outside without the
    /// selector's owner.
    pub fn syscall_user_dispatch(&self) -> Result<bool> {
        let mut config = [0_u64; 4];
        match raw(PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG, self.tid(), 32, (&raw mut config) as usize) {
            Ok(_) => Ok(config[0] != 0),
            // A kernel without the request does not have the feature.
            Err(Errno::EIO | Errno::EINVAL) => Ok(false),
            Err(errno) => Err(errno)
                .doing(|| format!("task {}: reading syscall user dispatch", self.tid()))
                .map_err(Error::esrch_is_gone),
        }
    }
}

// include/uapi/linux/ptrace.h; newer than the libc crate's bindings for this target.
const NT_X86_XSTATE: usize = 0x202;
const PTRACE_PEEKSIGINFO: libc::c_uint = 0x4209;
const PTRACE_GETSIGMASK: libc::c_uint = 0x420a;
const PTRACE_SETSIGMASK: libc::c_uint = 0x420b;
const PTRACE_GET_RSEQ_CONFIGURATION: libc::c_uint = 0x420f;
const PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG: libc::c_uint = 0x4211;
