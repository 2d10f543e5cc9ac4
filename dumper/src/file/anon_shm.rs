//! Shared anonymous memory (mmap(2), MAP_SHARED | MAP_ANONYMOUS): a file that the kernel names
//! `/dev/zero (deleted)` and that only mappings refer to. Each object is in the image once, however
//! many processes map it.

use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::file::parts::contents;
use crate::kind::object::{DumpContext, Dumped, MappedReference, Object, RestoreContext, RestoredObject};
use crate::kind::observed::{ANON_SHM, ObservedFile};
use crate::kind::open_file::OpenFile;
use crate::sys::memory;

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

    fn check(&self, observed: &ObservedFile<'_>) -> Result<()> {
        observed.refuse_leased()
    }

    fn dump(&self, observed: &ObservedFile<'_>) -> Result<Dumped<AnonShmBody>> {
        let (file, size) = (observed.anew(libc::O_RDONLY)?, observed.stat.size());
        let contents = contents::copy(&file, size, &observed.subject)?;
        Ok(Dumped { body: AnonShmBody { size }, blob: Vec::new(), contents })
    }

    fn make(&self, body: &AnonShmBody, _blob: &[u8]) -> Result<RestoredObject> {
        Ok(RestoredObject::new(memory::shared_anonymous(body.size)?, body.size))
    }
}

/// Table row: what a mapping refers to.
pub struct AnonShmDescription;

impl OpenFile for AnonShmDescription {
    type Body = MappedReference;
    const KIND: &'static str = "shared_memory";

    fn takes(&self, observed: &ObservedFile<'_>) -> bool {
        observed.stat.is_file() && observed.stat.nlink() == 0 && observed.target.as_os_str().as_bytes() == ANON_SHM
    }

    fn is_mappable(&self, observed: &ObservedFile<'_>) -> bool {
        OpenFile::takes(self, observed)
    }

    fn dump(&self, observed: &ObservedFile<'_>, objects: &mut dyn DumpContext) -> Result<MappedReference> {
        MappedReference::dump(&AnonShm, observed, objects)
    }

    fn restore(&self, body: MappedReference, context: &dyn RestoreContext) -> Result<OwnedFd> {
        body.open(context)
    }
}
