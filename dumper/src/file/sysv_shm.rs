//! System V shared memory, sysvipc(7). A segment has a name of its own, exists without any process,
//! and counts its mappings. It is in the image if a process of the tree has it attached.
//!
//! A mapping leads to the segment: /proc shows the key that it was created with as the file name,
//! and the id as the inode number. A restore creates it again with its id, key, creator and
//! creator's pid. A segment with this id that was created in the same boot is the very same one: if
//! a process has it attached it keeps its contents, otherwise it gets those of the image once the
//! whole image is verified. Another segment with this id or key prevents the restore (EEXIST).

use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;

use nix::sys::memfd::{MFdFlags, memfd_create};
use serde::{Deserialize, Serialize};

use crate::error::{Doing, Error, Result};
use crate::file::parts::contents;
use crate::kind::object::{DumpContext, Dumped, MappedReference, Object, RestoreContext, RestoredObject};
use crate::kind::observed::{HUGETLBFS, ObservedFile};
use crate::kind::open_file::OpenFile;
use crate::sys::clone::Creator;
use crate::sys::pid::Pid;
use crate::sys::proc;
use crate::sys::sysvipc::ipc_kind::IpcKind;
use crate::sys::sysvipc::shm::{self, SHM_DEST, SHM_LOCKED, ShmSegment};

const NAME: &[u8] = b"/SYSV";
/// kernel.shm_rmid_forced: segments end with their last user or their creator, and the creator of a
/// restored one ends at once.
const FORCED: &str = "/proc/sys/kernel/shm_rmid_forced";

/// Table row: the object.
pub struct SysvShm;

/// Its record.
#[derive(Debug, Serialize, Deserialize)]
pub struct SysvShmBody {
    shmid: i32,
    /// IPC_PRIVATE for a segment that is removed.
    key: i32,
    /// The key that it was created with. Its mappings have this name.
    name: i32,
    size: u64,
    mode: u32,
    uid: u32,
    gid: u32,
    cuid: u32,
    cgid: u32,
    cpid: Pid,
    /// Removed, and exists only while it is attached (SHM_DEST).
    removed: bool,
    /// SHM_LOCK.
    locked: bool,
    /// The boot in which the id is unique.
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

    fn in_the_way(&self, which: i32, maker: Pid) -> Error {
        let hint = format!("{}: shared memory {which}, made by pid {maker}, is in the way (ipcrm -m)", self.shown());
        Error::os(hint, libc::EEXIST)
    }

    /// Whether `segment`, which has this id, is the very same segment.
    fn is(&self, segment: &ShmSegment) -> Result<bool> {
        let same_key = segment.key == self.key || segment.mode & SHM_DEST != 0;
        let same_maker = (segment.cuid, segment.cgid) == (self.cuid, self.cgid);
        Ok(same_key && same_maker && segment.size == self.size && proc::boot_id()? == self.boot)
    }

    /// The existing segment with this id.
    fn found(&self, segment: &ShmSegment) -> Result<RestoredObject> {
        if !self.is(segment)? {
            return Err(self.in_the_way(self.shmid, segment.cpid));
        }
        let fd = shm::open_segment(self.shmid, self.size)?;
        if segment.attached > 0 {
            log::warn!("{} is attached by others: its contents stay as they are", self.shown());
            return Ok(RestoredObject::new(fd, 0));
        }
        // It outlives a restore that fails, and then has its own contents.
        let staged = memfd_create("ckptfs-segment", MFdFlags::MFD_CLOEXEC);
        let staged = staged.doing(|| format!("{}: memory for its contents", self.shown()))?;
        Ok(RestoredObject { staged: Some(staged), ..RestoredObject::new(fd, self.size) })
    }

    /// Whether it keeps its contents, because a process outside the image has it attached.
    fn is_taken_over(&self, object: &RestoredObject) -> bool {
        object.len != self.size
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

    fn check(&self, observed: &ObservedFile<'_>) -> Result<()> {
        refuse_forced(&observed.subject)?;
        observed.refuse_leased()
    }

    fn dump(&self, observed: &ObservedFile<'_>) -> Result<Dumped<SysvShmBody>> {
        refuse_forced(&observed.subject)?;
        let id = observed.stat.ino() as i32;
        let gone = || Error::os(format!("{}: shared memory {id}", observed.subject), libc::EIDRM);
        let segment = shm::segment(id)?.ok_or_else(gone)?;
        let name = observed.target.as_os_str().as_bytes().strip_prefix(NAME).and_then(|rest| rest.get(..8));
        let name = name.and_then(|hex| u32::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        let body = SysvShmBody::of(id, name.unwrap_or(0).cast_signed(), &segment, proc::boot_id()?);
        let contents = contents::copy(&observed.anew(libc::O_RDONLY)?, body.size, &observed.subject)?;
        Ok(Dumped { body, blob: Vec::new(), contents })
    }

    fn make(&self, body: &SysvShmBody, _blob: &[u8]) -> Result<RestoredObject> {
        if let Some(there) = shm::segment(body.shmid)? {
            return body.found(&there);
        }
        refuse_forced(&body.shown())?;
        // A removed segment is found by no key, so it goes without its name if another segment has
        // that key.
        let key =
            if body.removed && IpcKind::Shm.with_key(body.name).is_some() { libc::IPC_PRIVATE } else { body.name };
        if let Some(other) = IpcKind::Shm.with_key(key) {
            let maker = shm::segment(other)?.map_or(0, |there| there.cpid);
            return Err(body.in_the_way(other, maker));
        }
        let creator = Creator { pid: body.cpid, uid: body.cuid, gid: body.cgid };
        let made = shm::make_segment(body.shmid, key, body.size, creator)?;
        let fd = shm::open_segment(body.shmid, body.size)?;
        Ok(RestoredObject { made: Some(made), ..RestoredObject::new(fd, body.size) })
    }

    fn publish(&self, body: &SysvShmBody, _blob: &[u8], object: &mut RestoredObject) -> Result<()> {
        match object.staged.take() {
            Some(staged) => contents::replace(&staged, &object.fd, body.size, &body.shown()),
            None => Ok(()),
        }
    }

    fn finish(&self, body: &SysvShmBody, object: &RestoredObject) -> Result<()> {
        if body.is_taken_over(object) {
            return Ok(());
        }
        shm::set_segment(body.shmid, body.mode, body.uid, body.gid)?;
        shm::lock_segment(body.shmid, body.locked)?;
        // By now all processes that had it attached have it again.
        if body.removed { shm::remove_segment(body.shmid) } else { Ok(()) }
    }
}

/// Table row: what a mapping refers to.
pub struct SysvShmDescription;

impl OpenFile for SysvShmDescription {
    type Body = MappedReference;
    const KIND: &'static str = "sysv_shm";

    fn takes(&self, observed: &ObservedFile<'_>) -> bool {
        let name = observed.target.as_os_str().as_bytes();
        let is_huge = || observed.filesystem().is_ok_and(|it| it.filesystem_type().0 == HUGETLBFS);
        shm::is_segment(name, observed.stat.dev()) || name.starts_with(NAME) && observed.stat.nlink() == 0 && is_huge()
    }

    fn is_mappable(&self, observed: &ObservedFile<'_>) -> bool {
        OpenFile::takes(self, observed)
    }

    fn dump(&self, observed: &ObservedFile<'_>, objects: &mut dyn DumpContext) -> Result<MappedReference> {
        if !shm::is_segment(observed.target.as_os_str().as_bytes(), observed.stat.dev()) {
            return Err(observed.refuse("System V shared memory of huge pages (SHM_HUGETLB)"));
        }
        MappedReference::dump(&SysvShm, observed, objects)
    }

    fn restore(&self, body: MappedReference, context: &dyn RestoreContext) -> Result<OwnedFd> {
        body.open(context)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::FileExt;

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
        let object = Object::make(&SysvShm, &body, &[]).unwrap();
        object.fill(4096, b"contents").unwrap();
        Object::finish(&SysvShm, &body, &object).unwrap();
        let there = shm::segment(id).unwrap().unwrap();
        assert_eq!((there.key, there.mode, there.size), (segment.key, segment.mode, segment.size));
        assert_eq!((there.uid, there.gid, there.cuid, there.cgid), (1, 2, 3, 4));
        assert!(there.cpid == segment.cpid || there.cpid > 0 && there.attached == 0);

        // The very same segment, which no process has attached. Its contents change at the end.
        let mut again = Object::make(&SysvShm, &body, &[]).unwrap();
        assert!(again.made.is_none() && !body.is_taken_over(&again));
        again.fill(0, b"image").unwrap();
        let file = std::fs::File::from(again.fd.try_clone().unwrap());
        let read = |offset| {
            let mut bytes = [0; 8];
            file.read_exact_at(&mut bytes, offset).unwrap();
            bytes
        };
        assert_eq!((&read(0), &read(4096)), (&[0; 8], b"contents"));
        Object::publish(&SysvShm, &body, &[], &mut again).unwrap();
        assert_eq!((&read(0), &read(4096)), (b"image\0\0\0", &[0; 8]));
        // Another segment.
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
        drop(object);
        assert!(shm::segment(id).unwrap().is_none(), "what was made for a restore that failed goes");
    }
}
