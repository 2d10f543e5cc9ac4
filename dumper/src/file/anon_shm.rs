//! Shared anonymous memory (mmap(2), MAP_SHARED | MAP_ANONYMOUS): a file that the kernel names `/dev/zero (deleted)` and that only
//! mappings hold. Each object is stored once, however many processes map it.

use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::file::parts::contents;
use crate::kind::object::{DumpContext, Dumped, Object, RestoreContext, RestoredObject};
use crate::kind::observed::ObservedFile;
use crate::kind::open_file::OpenFile;
use crate::sys::memory;

const NAME: &[u8] = b"/dev/zero (deleted)";

/// Table row: the object.
pub struct AnonShm;

/// Its record.
#[derive(Serialize, Deserialize)]
pub struct AnonShmBody {
    size: u64,
}

impl Object for AnonShm {
    type Body = AnonShmBody;
    const KIND: &'static str = "shared_memory";

    fn dump(&self, seen: &ObservedFile<'_>) -> Result<Dumped<AnonShmBody>> {
        let (file, size) = (seen.anew(libc::O_RDONLY)?, seen.stat.size());
        let contents = contents::copy(&file, size, &seen.subject)?;
        Ok(Dumped { body: AnonShmBody { size }, blob: Vec::new(), contents })
    }

    fn make(&self, body: &AnonShmBody, _blob: &[u8]) -> Result<RestoredObject> {
        Ok(RestoredObject { fd: memory::shared_anonymous(body.size)?, other: None, len: body.size, made: None })
    }
}

/// Table row: what a mapping refers to.
pub struct AnonShmDescription;

/// Its record.
#[derive(Serialize, Deserialize)]
pub struct AnonShmDescriptionBody {
    object: u32,
    flags: i32,
}

impl OpenFile for AnonShmDescription {
    type Body = AnonShmDescriptionBody;
    const KIND: &'static str = "shared_memory";

    fn takes(&self, seen: &ObservedFile<'_>) -> bool {
        seen.stat.is_file() && seen.stat.nlink() == 0 && seen.target.as_os_str().as_bytes() == NAME
    }

    fn is_mappable(&self, seen: &ObservedFile<'_>) -> bool {
        OpenFile::takes(self, seen)
    }

    fn dump(&self, seen: &ObservedFile<'_>, objects: &dyn DumpContext) -> Result<AnonShmDescriptionBody> {
        Ok(AnonShmDescriptionBody { object: objects.id_of(&AnonShm, seen)?, flags: seen.flags })
    }

    fn restore(&self, body: AnonShmDescriptionBody, anchors: &dyn RestoreContext) -> Result<OwnedFd> {
        anchors.anchor(body.object)?.open(body.flags, 0)
    }
}
