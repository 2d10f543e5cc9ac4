//! Large blobs of records, kept in a file of memory (memfd_create(2)) until the image is read. This
//! program's own memory does not grow with them.

use std::fs::File;
use std::os::unix::fs::FileExt;

use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::error::{Doing, Result};
use crate::image::frame::{BlobSum, Record};

/// From this size on a blob is spooled.
const LARGE: usize = 16 << 10;

/// The file of all large blobs of an image.
#[derive(Default)]
pub struct Spool {
    file: Option<File>,
    len: u64,
}

/// A blob in the file.
pub struct SpooledBlob {
    /// Where it begins.
    pub at: u64,
    /// Its length and checksum.
    pub sum: BlobSum,
}

impl Spool {
    /// Moves the blob of `record` into the file, if it is large.
    pub fn take(&mut self, record: &mut Record) -> Result<Option<SpooledBlob>> {
        if record.blob.len() < LARGE {
            return Ok(None);
        }
        let blob = std::mem::take(&mut record.blob);
        let doing = || format!("keeping {} bytes of contents", blob.len());
        let file = match self.file.take() {
            Some(file) => file,
            None => memfd_create("ckptfs-contents", MFdFlags::MFD_CLOEXEC).map(File::from).doing(doing)?,
        };
        let at = self.len;
        file.write_all_at(&blob, at).doing(doing)?;
        self.file = Some(file);
        self.len += blob.len() as u64;
        Ok(Some(SpooledBlob { at, sum: BlobSum::of(&blob) }))
    }

    /// The file, if there is any blob in it.
    pub fn into_file(self) -> Option<File> {
        self.file
    }
}
