//! Shared anonymous memory (mmap(2), MAP_SHARED | MAP_ANONYMOUS): a file that the kernel names `/dev/zero (deleted)` and that only
//! mappings hold. Each object is stored once, however many processes map it.

use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::file::parts::contents;
use crate::kind::object::{Anchor, Anchors, Dumped, Object, Objects};
use crate::kind::observed::Seen;
use crate::kind::open_file::OpenFile;
use crate::sys::memory;

const NAME: &[u8] = b"/dev/zero (deleted)";

/// Table row: the object.
pub struct SharedMemory;

/// Its record.
#[derive(Serialize, Deserialize)]
pub struct Body {
    size: u64,
}

impl Object for SharedMemory {
    type Body = Body;
    const KIND: &'static str = "shared_memory";

    fn dump(&self, seen: &Seen<'_>) -> Result<Dumped<Body>> {
        let (file, size) = (seen.anew(libc::O_RDONLY)?, seen.stat.size());
        let contents = contents::copy(&file, size, &seen.subject)?;
        Ok(Dumped { body: Body { size }, blob: Vec::new(), contents })
    }

    fn make(&self, body: &Body, _blob: &[u8]) -> Result<Anchor> {
        Ok(Anchor { fd: memory::shared_anonymous(body.size)?, other: None, len: body.size, made: None })
    }
}

/// Table row: what a mapping refers to.
pub struct Mapped;

/// Its record.
#[derive(Serialize, Deserialize)]
pub struct MappedBody {
    object: u32,
    flags: i32,
}

impl OpenFile for Mapped {
    type Body = MappedBody;
    const KIND: &'static str = "shared_memory";

    fn takes(&self, seen: &Seen<'_>) -> bool {
        seen.stat.is_file() && seen.stat.nlink() == 0 && seen.target.as_os_str().as_bytes() == NAME
    }

    fn is_mappable(&self, seen: &Seen<'_>) -> bool {
        OpenFile::takes(self, seen)
    }

    fn dump(&self, seen: &Seen<'_>, objects: &dyn Objects) -> Result<MappedBody> {
        Ok(MappedBody { object: objects.id_of(&SharedMemory, seen)?, flags: seen.flags })
    }

    fn restore(&self, body: MappedBody, anchors: &dyn Anchors) -> Result<OwnedFd> {
        anchors.anchor(body.object)?.open(body.flags, 0)
    }
}
