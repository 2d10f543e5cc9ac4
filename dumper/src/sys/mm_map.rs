//! Where the parts of an address space are, in the form of prctl(2) PR_SET_MM_MAP.

use std::os::fd::RawFd;

use crate::sys::memory::RemotePtr;

// include/uapi/linux/prctl.h.
const PR_SET_MM: u64 = 35;
const PR_SET_MM_MAP: u64 = 14;
/// sizeof(struct prctl_mm_map).
const LEN: u64 = 104;

/// struct prctl_mm_map, include/uapi/linux/prctl.h.
pub struct MmMap {
    /// start_code, end_code, start_data, end_data, start_brk, brk, start_stack, arg_start, arg_end,
    /// env_start, env_end.
    pub fields: [u64; 11],
    /// Where the auxiliary vector is read from, and its bytes. Length 0 means that the process has
    /// none.
    pub auxv: (RemotePtr, u32),
    /// The number of the executable's descriptor in the process. `None` leaves the executable as it
    /// is.
    pub exe: Option<RawFd>,
}

impl MmMap {
    /// Its bytes, which the call reads in the process.
    pub fn bytes(&self) -> Vec<u8> {
        let (auxv, auxv_len) = self.auxv;
        let mut bytes: Vec<u8> = self.fields.into_iter().chain([auxv.0]).flat_map(u64::to_le_bytes).collect();
        bytes.extend(auxv_len.to_le_bytes());
        bytes.extend(self.exe.unwrap_or(-1).to_le_bytes());
        bytes
    }
}

/// The arguments of the prctl(2) that reads a map at `at`.
pub fn set_mm_map(at: RemotePtr) -> [u64; 5] {
    [PR_SET_MM, PR_SET_MM_MAP, at.0, LEN, 0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_call_reads_all_of_the_map() {
        let map = MmMap { fields: [0; 11], auxv: (RemotePtr(0), 0), exe: None };
        assert_eq!(map.bytes().len() as u64, LEN);
    }
}
