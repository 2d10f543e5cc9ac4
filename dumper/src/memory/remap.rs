//! The calls that make a mapping again, and those that set its flags and protection.
//!
//! A private mapping with pages is made writable first. Then it is filled, and gets its protection
//! at the end.

use crate::error::Result;
use crate::memory::vm_flags::ADVICE;
use crate::memory::vma::{Type, Vma};
use crate::sys::memory::PAGE;
use crate::sys::remote::checked::Checked;
use crate::sys::remote::owned::Owned;

const MADV_GUARD_INSTALL: u64 = 102;
const MAP_DROPPABLE: i32 = 0x08;
const MLOCK_ONFAULT: u64 = 1;
const SYS_MSEAL: i64 = 462;
// include/uapi/linux/prctl.h.
const PR_SET_VMA: u64 = 0x5356_4d41;
const PR_SET_VMA_ANON_NAME: u64 = 0;

impl Vma {
    fn subject(&self) -> String {
        format!("pid {}: mapping {:x}-{:x} {}", self.tid, self.start, self.end, self.name)
    }

    /// Adds the call that maps its part `from..upto`; `fd` is the number of its file in the
    /// process.
    pub fn map(&self, from: u64, upto: u64, fd: Option<i32>, calls: &mut Checked) {
        let mut flags = libc::MAP_FIXED_NOREPLACE;
        flags |= match (self.kind, self.has("dp")) {
            (_, true) => MAP_DROPPABLE | libc::MAP_ANONYMOUS,
            (Type::Anon, false) => libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            // Keeps the place. The segment is attached when everything else exists.
            (Type::IpcShm, false) => libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
            (Type::File, false) => libc::MAP_PRIVATE,
            (Type::FileShm | Type::AnonShm, false) => libc::MAP_SHARED,
        };
        if self.has("gd") {
            flags |= libc::MAP_GROWSDOWN;
        }
        if self.has("nr") {
            flags |= libc::MAP_NORESERVE;
        }
        let fd = fd.filter(|_| self.kind != Type::IpcShm).map_or(u64::MAX, |fd| fd as u64);
        let offset = if self.file.is_some() { self.offset + (from - self.start) } else { self.offset };
        let args = [from, upto - from, self.first_prot() as u64, flags as u64, fd, offset];
        calls.call_giving(libc::SYS_mmap, args, from, self.subject());
    }

    /// Its protection until all pages are written.
    fn first_prot(&self) -> i32 {
        match self.kind {
            Type::IpcShm => libc::PROT_NONE,
            _ if self.is_filled() => libc::PROT_READ | libc::PROT_WRITE,
            _ => self.prot,
        }
    }

    fn is_filled(&self) -> bool {
        self.pages > 0 || !self.inherited.is_empty()
    }

    /// Adds the calls that adapt the part `from..upto`, which the process has from the fork. Only
    /// inherited pages stay.
    pub fn keep(&self, from: u64, upto: u64, calls: &mut Checked, process: &mut Owned) -> Result<()> {
        let mut at = from;
        let inside = self.inherited.iter().map(|(start, pages)| (*start, start + pages * PAGE));
        let inside = inside.filter(|(start, end)| *start < upto && from < *end);
        for (start, end) in inside.chain([(upto, upto)]) {
            if at < start {
                let args = [at, start - at, libc::MADV_DONTNEED as u64];
                calls.call(libc::SYS_madvise, args, format!("{}: leaving out pages", self.subject()));
                if calls.is_full(0) {
                    calls.flush(process)?;
                }
            }
            at = end;
        }
        let args = [from, upto - from, self.first_prot() as u64];
        calls.call(libc::SYS_mprotect, args, format!("{}: making it writable", self.subject()));
        Ok(())
    }

    /// The number of pages in `from..upto` that it shares with its maker.
    pub fn inherited_pages(&self, from: u64, upto: u64) -> u64 {
        let bytes = |(start, pages): &(u64, u64)| (start + pages * PAGE).min(upto).saturating_sub((*start).max(from));
        self.inherited.iter().map(bytes).sum::<u64>() / PAGE
    }

    /// Adds the calls that set its flags and protection. By then its pages are written and no
    /// process forks any more.
    pub fn finish(&self, calls: &mut Checked) {
        let range = |a: u64, b: u64| [self.start, a, b];
        for (code, advice) in ADVICE {
            if self.has(code) {
                calls.call(libc::SYS_madvise, range(self.len(), advice), format!("{}: advice {code}", self.subject()));
            }
        }
        for (at, pages) in &self.guards {
            let args = [*at, pages * PAGE, MADV_GUARD_INSTALL];
            calls.call(libc::SYS_madvise, args, format!("{}: guard pages at {at:#x}", self.subject()));
        }
        if let Some(name) = self.name.strip_prefix("[anon:").and_then(|name| name.strip_suffix(']')) {
            let at = calls.put_str(name.as_bytes());
            let args = [PR_SET_VMA, PR_SET_VMA_ANON_NAME, self.start, self.len(), at.0];
            calls.call(libc::SYS_prctl, args, format!("{}: naming it", self.subject()));
        }
        if self.has("lo") {
            let how = if self.has("lf") { MLOCK_ONFAULT } else { 0 };
            let doing = format!("{}: mlock", self.subject());
            match self.prot {
                // After mlockall(2). The mapping is locked all the same, but it has no page to
                // fault in, which mlock reports as ENOMEM.
                libc::PROT_NONE => calls.call_or(libc::SYS_mlock2, range(self.len(), how), libc::ENOMEM, doing),
                _ => calls.call(libc::SYS_mlock2, range(self.len(), how), doing),
            }
        }
        if self.is_filled() && self.prot != libc::PROT_READ | libc::PROT_WRITE {
            let doing = format!("{}: protection {}", self.subject(), self.prot);
            calls.call(libc::SYS_mprotect, range(self.len(), self.prot as u64), doing);
        }
        if self.has("sl") {
            calls.call(SYS_MSEAL, range(self.len(), 0), format!("{}: mseal", self.subject()));
        }
    }
}
