//! Instructions that every process has. The first system call is made there, before anything is
//! injected.

use memchr::memmem;

use crate::error::{Error, Result};
use crate::sys::memory::{MemFile, RemotePtr};
use crate::sys::pid::Pid;
use crate::sys::proc::maps::Mapping;

/// Offset of a `syscall` after which the code only clears registers and returns, so that the return
/// address decides where execution continues. Every vDSO has one behind its fallbacks. Any other
/// `syscall` is second best.
pub fn syscall(code: &[u8]) -> Option<(u64, bool)> {
    let mut first = None;
    for at in memmem::find_iter(code, &[0x0f, 0x05]) {
        if returns_cleanly(&code[at + 2..]) {
            return Some((at as u64, true));
        }
        first.get_or_insert(at as u64);
    }
    first.map(|at| (at, false))
}

fn returns_cleanly(mut code: &[u8]) -> bool {
    loop {
        code = match code {
            [0xc3, ..] => return true,
            // xor reg, reg (mod 3): the kernel's entry hygiene for the vDSO.
            [0x31, modrm, rest @ ..] if modrm >> 6 == 3 => rest,
            [0x45, 0x31, modrm, rest @ ..] if modrm >> 6 == 3 => rest,
            [0x90, rest @ ..] => rest,
            _ => return false,
        };
    }
}

/// Bytes of the longest instruction sequence that [`sigreturn`] finds.
pub const SIGRETURN_LEN: usize = 9;

/// Offset of `mov $15, %(r|e)ax; syscall`: the signal restorer that every C library (and Go) has.
pub fn sigreturn(code: &[u8]) -> Option<u64> {
    memmem::find(code, &[0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05])
        .or_else(|| memmem::find(code, &[0xb8, 0x0f, 0, 0, 0, 0x0f, 0x05]))
        .map(|at| at as u64)
}

/// The code of the vDSO among `maps`, and where a system call can be made in it. The flag is set if
/// the code returns cleanly after it.
pub fn code(maps: &[Mapping], mem: &MemFile, pid: Pid) -> Result<(Vec<u8>, RemotePtr, bool)> {
    let found = maps.iter().find(|mapping| mapping.name == b"[vdso]");
    let vdso =
        found.ok_or_else(|| Error::unsupported(format!("pid {pid}: a process without vDSO cannot be checkpointed")))?;
    let mut code = vec![0; (vdso.end - vdso.start) as usize];
    mem.read(RemotePtr(vdso.start), &mut code)?;
    let (at, clean) = syscall(&code)
        .ok_or_else(|| Error::unsupported(format!("pid {pid}: its vDSO holds no system call instruction")))?;
    Ok((code, RemotePtr(vdso.start + at), clean))
}

/// The digest of a vDSO's code, SHA-256 in hexadecimal. Two kernels with the same digest have the
/// same vDSO.
pub fn digest(code: &[u8]) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(code).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_clean_return_is_preferred() {
        let code = [0x0f, 0x05, 0xc9, 0x90, 0x0f, 0x05, 0x31, 0xd2, 0x45, 0x31, 0xc0, 0xc3];
        assert_eq!(super::syscall(&code), Some((4, true)));
        assert_eq!(super::syscall(&code[..4]), Some((0, false)));
        assert_eq!(super::syscall(&code[..1]), None);
    }

    #[test]
    fn the_restorer_of_glibc_and_of_musl_is_found() {
        assert_eq!(super::sigreturn(&[0x90, 0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05]), Some(1));
        assert_eq!(super::sigreturn(&[0xb8, 0x0f, 0, 0, 0, 0x0f, 0x05]), Some(0));
        assert_eq!(super::sigreturn(&[0xb8, 0x0e, 0, 0, 0, 0x0f, 0x05]), None);
    }
}
