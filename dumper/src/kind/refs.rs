//! References to open files, by the ids that the image gives them.

use crate::error::Result;

/// Gives files that something refers to (an executable, a mapping) an id in the image's table of
/// open files.
pub trait FileIds {
    /// The id of the regular file (or directory) behind a link of /proc, to be opened with `flags`.
    /// `must_not_change` means that its contents are memory of the process. `subject` is for
    /// errors.
    fn id_of(&mut self, link: &str, flags: i32, must_not_change: bool, subject: &str) -> Result<u32>;
}

/// The open files of an image.
pub trait Files {
    /// The description with this id, open here.
    fn fd(&self, id: u32) -> Result<std::os::fd::RawFd>;
}
