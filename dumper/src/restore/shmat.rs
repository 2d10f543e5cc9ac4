//! Attachments of System V shared memory, shmat(2). They are made when all other mappings are in
//! their places, because a segment can only be attached as a whole, even if only parts of the
//! attachment are left.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::memory::vma::{Type, Vma};
use crate::restore::attached::Attached;
use crate::restore::process::NewProcess;
use crate::sys::memory::PAGE;

impl NewProcess {
    /// Makes the attachments of the image. shmdt(2) detaches all parts of one attachment, which it
    /// knows by their common start (ksys_shmdt in ipc/shm.c). So each attachment is made by one
    /// call at any address, and its parts are moved to the places that were kept for them.
    pub fn attach(&mut self) -> Result<()> {
        let mut attachments: BTreeMap<(u32, u64), Vec<Vma>> = BTreeMap::new();
        for vma in self.vmas.iter().filter(|vma| vma.kind == Type::IpcShm) {
            let key = (vma.file.unwrap_or(0), vma.start.wrapping_sub(vma.offset));
            attachments.entry(key).or_default().push(vma.clone());
        }
        for ((file, _), parts) in attachments {
            let missing = || Error::damaged(format!("open file {file} is no shared memory"));
            let segment = *self.segments.get(&file).ok_or_else(missing)?;
            self.attach_parts(segment, &parts)?;
        }
        Ok(())
    }

    fn attach_parts(&mut self, segment: Attached, parts: &[Vma]) -> Result<()> {
        let Attached { id, size, read_only } = segment;
        let (pid, size) = (self.pid, size.next_multiple_of(PAGE));
        if parts.iter().any(|part| part.offset.checked_add(part.len()).is_none_or(|end| end > size)) {
            return Err(Error::damaged(format!("pid {pid}: a mapping of shared memory {id} beyond its end")));
        }
        let how = if read_only { libc::SHM_RDONLY } else { 0 };
        let doing = format!("attaching shared memory {id}");
        let at = self.call(libc::SYS_shmat, [id, 0, how as u64], &doing)?;
        for run in parts.chunk_by(|one, next| one.end == next.start) {
            let (start, offset) = (run[0].start, run[0].offset);
            let len = run.iter().map(Vma::len).sum();
            let how = (libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED) as u64;
            self.make_room()?;
            self.calls.call_giving(
                libc::SYS_mremap,
                [at + offset, len, len, how, start],
                start,
                format!("pid {pid}: {doing}: moving it to {start:#x}"),
            );
            self.divide(run)?;
        }
        self.calls.call(libc::SYS_munmap, [at, size], format!("pid {pid}: {doing}: leaving out the rest"));
        self.calls.flush(&mut self.leader)
    }

    /// Gives each part its protection. Neighbouring parts get different protections first, which
    /// divides them. They stay divided: the segment counts its mappings, and mappings that are
    /// counted are never merged (can_merge_remove_vma in mm/vma.c).
    fn divide(&mut self, run: &[Vma]) -> Result<()> {
        let divided: &[i32] = if run.len() > 1 { &[libc::PROT_NONE, libc::PROT_READ] } else { &[] };
        for (part, prot) in run.iter().zip(divided.iter().cycle()) {
            self.protect(part, *prot)?;
        }
        run.iter().try_for_each(|part| self.protect(part, part.prot))
    }

    fn protect(&mut self, part: &Vma, prot: i32) -> Result<()> {
        self.make_room()?;
        let doing = format!("pid {}: mapping {:x}-{:x}: protection {prot}", self.pid, part.start, part.end);
        self.calls.call(libc::SYS_mprotect, [part.start, part.len(), prot as u64], doing);
        Ok(())
    }
}
