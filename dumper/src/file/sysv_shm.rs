//! System V shared memory, sysvipc(7): a segment has a name of its own, lives without anybody, and each mapping of it is counted. It is
//! in the image if a process of the tree has it attached.
//!
//! A mapping leads to the segment: /proc tells the key that it was made with as the name, and the id as the inode number. A restore
//! makes it again with its id, key, creator and creator's pid. If it is there still, made in the same boot, it is the very same one: while
//! somebody has it attached the contents are his, and stay; otherwise those of the image are put back. Another one with this id
//! or key is in the way (EEXIST).

use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;

use nix::fcntl::{FallocateFlags, fallocate};
use serde::{Deserialize, Serialize};

use crate::error::{Doing, Error, Result};
use crate::file::parts::contents;
use crate::kind::object::{DumpContext, Dumped, Object, RestoreContext, RestoredObject};
use crate::kind::observed::{HUGETLBFS, ObservedFile};
use crate::kind::open_file::OpenFile;
use crate::sys::clone::Creator;
use crate::sys::pid::Pid;
use crate::sys::proc;
use crate::sys::sysvipc::IpcKind;
use crate::sys::sysvipc::shm::{self, SHM_DEST, SHM_LOCKED, ShmSegment};

const NAME: &[u8] = b"/SYSV";
/// kernel.shm_rmid_forced: segments end with their last user or their maker, and the maker of a restored one ends at once.
const FORCED: &str = "/proc/sys/kernel/shm_rmid_forced";

/// Table row: the object.
pub struct SysvShm;

/// Its record.
#[derive(Debug, Serialize, Deserialize)]
pub struct SysvShmBody {
    shmid: i32,
    /// IPC_PRIVATE for one that is removed.
    key: i32,
    /// The key that it was made with: its mappings are named by it.
    name: i32,
    size: u64,
    mode: u32,
    uid: u32,
    gid: u32,
    cuid: u32,
    cgid: u32,
    cpid: Pid,
    /// Removed, and there for as long as it is attached (SHM_DEST).
    removed: bool,
    /// SHM_LOCK.
    locked: bool,
    /// Within one boot no id is given twice.
    boot: String,
}

impl SysvShmBody {
    fn of(id: i32, name: i32, segment: &ShmSegment, boot: String) -> Self {
        let ShmSegment { key, mode, uid, gid, cuid, cgid, size, cpid, .. } = *segment;
        let (removed, locked) = (mode & SHM_DEST != 0, mode & SHM_LOCKED != 0);
        Self { shmid: id, key, name, size, mode: mode & 0o777, uid, gid, cuid, cgid, cpid, removed, locked, boot }
    }

    fn shown(&self) -> String {
        format!("shared memory {} (key {:#x})", self.shmid, self.key)
    }

    fn in_the_way(&self, which: i32, whose: Pid) -> Error {
        let hint = format!("{}: shared memory {which}, made by pid {whose}, is in the way (ipcrm -m)", self.shown());
        Error::os(hint, libc::EEXIST)
    }

    fn is(&self, there: &ShmSegment) -> Result<bool> {
        let same_key = there.key == self.key || there.mode & SHM_DEST != 0;
        let same_maker = (there.cuid, there.cgid) == (self.cuid, self.cgid);
        Ok(same_key && same_maker && there.size == self.size && proc::boot_id()? == self.boot)
    }

    /// The segment that is there under this id.
    fn found(&self, there: &ShmSegment) -> Result<RestoredObject> {
        if !self.is(there)? {
            return Err(self.in_the_way(self.shmid, there.cpid));
        }
        let fd = shm::open_segment(self.shmid, self.size)?;
        if there.attached > 0 {
            log::warn!("{} is attached by others: its contents stay as they are", self.shown());
            return Ok(RestoredObject { fd, other: None, len: 0, made: None });
        }
        let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        let len = self.size.cast_signed();
        fallocate(&fd, flags, 0, len).doing(|| format!("{}: emptying it", self.shown()))?;
        Ok(RestoredObject { fd, other: None, len: self.size, made: None })
    }

    fn is_taken_over(&self, anchor: &RestoredObject) -> bool {
        anchor.len != self.size
    }
}

fn refuse_forced(subject: &str) -> Result<()> {
    if proc::read_text(FORCED).unwrap_or_default().trim() == "1" {
        return Err(Error::unsupported(format!(
            "{subject}: System V shared memory cannot be checkpointed while kernel.shm_rmid_forced is 1"
        )));
    }
    Ok(())
}

impl Object for SysvShm {
    type Body = SysvShmBody;
    const KIND: &'static str = "sysv_shm";

    fn dump(&self, seen: &ObservedFile<'_>) -> Result<Dumped<SysvShmBody>> {
        refuse_forced(&seen.subject)?;
        let id = seen.stat.ino() as i32;
        let gone = || Error::os(format!("{}: shared memory {id}", seen.subject), libc::EIDRM);
        let segment = shm::segment(id)?.ok_or_else(gone)?;
        let name = seen.target.as_os_str().as_bytes().strip_prefix(NAME).and_then(|rest| rest.get(..8));
        let name = name.and_then(|hex| u32::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        let body = SysvShmBody::of(id, name.unwrap_or(0).cast_signed(), &segment, proc::boot_id()?);
        let contents = contents::copy(&seen.anew(libc::O_RDONLY)?, body.size, &seen.subject)?;
        Ok(Dumped { body, blob: Vec::new(), contents })
    }

    fn make(&self, body: &SysvShmBody, _blob: &[u8]) -> Result<RestoredObject> {
        if let Some(there) = shm::segment(body.shmid)? {
            return body.found(&there);
        }
        refuse_forced(&body.shown())?;
        // The name that mappings have is worth less than the key of somebody else.
        let key =
            if body.removed && IpcKind::Shm.with_key(body.name).is_some() { libc::IPC_PRIVATE } else { body.name };
        if let Some(other) = IpcKind::Shm.with_key(key) {
            let whose = shm::segment(other)?.map_or(0, |there| there.cpid);
            return Err(body.in_the_way(other, whose));
        }
        let creator = Creator { pid: body.cpid, uid: body.cuid, gid: body.cgid };
        let made = shm::make_segment(body.shmid, key, body.size, creator)?;
        let fd = shm::open_segment(body.shmid, body.size)?;
        Ok(RestoredObject { fd, other: None, len: body.size, made: Some(made) })
    }

    fn finish(&self, body: &SysvShmBody, anchor: &RestoredObject) -> Result<()> {
        if body.is_taken_over(anchor) {
            return Ok(());
        }
        shm::set_segment(body.shmid, body.mode, body.uid, body.gid)?;
        shm::lock_segment(body.shmid, body.locked)?;
        // Everybody who had it attached has it again.
        if body.removed { shm::remove_segment(body.shmid) } else { Ok(()) }
    }
}

/// Table row: what a mapping refers to.
pub struct SysvShmDescription;

/// Its record.
#[derive(Serialize, Deserialize)]
pub struct SysvShmDescriptionBody {
    object: u32,
    /// O_RDONLY or O_RDWR.
    flags: i32,
}

impl OpenFile for SysvShmDescription {
    type Body = SysvShmDescriptionBody;
    const KIND: &'static str = "sysv_shm";

    fn takes(&self, seen: &ObservedFile<'_>) -> bool {
        let name = seen.target.as_os_str().as_bytes();
        let is_huge = || seen.filesystem().is_ok_and(|it| it.filesystem_type().0 == HUGETLBFS);
        shm::is_segment(name, seen.stat.dev()) || name.starts_with(NAME) && seen.stat.nlink() == 0 && is_huge()
    }

    fn is_mappable(&self, seen: &ObservedFile<'_>) -> bool {
        OpenFile::takes(self, seen)
    }

    fn dump(&self, seen: &ObservedFile<'_>, objects: &dyn DumpContext) -> Result<SysvShmDescriptionBody> {
        if !shm::is_segment(seen.target.as_os_str().as_bytes(), seen.stat.dev()) {
            return Err(seen.refuse("System V shared memory of huge pages (SHM_HUGETLB)"));
        }
        Ok(SysvShmDescriptionBody { object: objects.id_of(&SysvShm, seen)?, flags: seen.flags })
    }

    fn restore(&self, body: SysvShmDescriptionBody, anchors: &dyn RestoreContext) -> Result<OwnedFd> {
        anchors.anchor(body.object)?.open(body.flags, 0)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_comes_back_with_its_numbers() {
        let id = 0x1fff_0003;
        let segment = ShmSegment {
            key: 0x7e57_0001,
            mode: SHM_LOCKED | 0o640,
            uid: 1,
            gid: 2,
            cuid: 3,
            cgid: 4,
            size: 10_000,
            cpid: 4_000_000,
            attached: 0,
        };
        let body = SysvShmBody::of(id, segment.key, &segment, proc::boot_id().unwrap());
        let anchor = Object::make(&SysvShm, &body, &[]).unwrap();
        anchor.fill(4096, b"contents").unwrap();
        Object::finish(&SysvShm, &body, &anchor).unwrap();
        let there = shm::segment(id).unwrap().unwrap();
        assert_eq!((there.key, there.mode, there.size), (segment.key, segment.mode, segment.size));
        assert_eq!((there.uid, there.gid, there.cuid, there.cgid), (1, 2, 3, 4));
        assert!(there.cpid == segment.cpid || there.cpid > 0 && there.attached == 0);

        // The very same one, attached by nobody: emptied, to be filled again.
        let again = Object::make(&SysvShm, &body, &[]).unwrap();
        assert!(again.made.is_none() && !body.is_taken_over(&again));
        assert_eq!(nix::unistd::lseek(&again.fd, 0, nix::unistd::Whence::SeekData), Err(nix::errno::Errno::ENXIO));
        // Another one.
        let elsewhere =
            SysvShmBody { boot: "another".into(), ..SysvShmBody::of(id, segment.key, &segment, String::new()) };
        assert_eq!(
            Object::make(&SysvShm, &elsewhere, &[]).err().unwrap().kind(),
            crate::error::Kind::System(libc::EEXIST)
        );
        let other_id =
            SysvShmBody { shmid: id + 1, ..SysvShmBody::of(id, segment.key, &segment, proc::boot_id().unwrap()) };
        assert_eq!(
            Object::make(&SysvShm, &other_id, &[]).err().unwrap().kind(),
            crate::error::Kind::System(libc::EEXIST)
        );
        drop(anchor);
        assert!(shm::segment(id).unwrap().is_none(), "what was made for a restore that failed goes");
    }
}
