//! A stored checkpoint: one image in a file, read at any offset.

use std::path::Path;
use std::sync::Arc;

use crate::checkpoint::Checkpoint;
use crate::checkpoint::view::View;
use crate::error::{Context, Result};
use crate::image::image_file::ImageFile;
use crate::key::Key;
use crate::read_ahead::{Piece, ReadAhead};

/// An image in a file. Opening it checks its frames. The contents of a page are checked against
/// their CRC when they are read ([`crate::error::Kind::Damaged`] if they differ).
/// [`Checkpoint::read_image`] does not check them and returns the file's bytes as they are.
pub struct StoredImage {
    index: Arc<ImageFile>,
    view: Arc<View>,
}

impl StoredImage {
    /// Opens the image in `path`. With a `key` all of it is read and its signature is verified.
    /// That says nothing about what is written to the file later.
    ///
    /// # Errors
    /// Those of [`ImageFile::open`], and [`crate::error::Kind::Damaged`] for records that
    /// contradict each other.
    pub fn open(path: &Path, key: Option<&Key>) -> Result<Self> {
        let index = Arc::new(ImageFile::open(path, key)?);
        let name = path.display().to_string();
        let view = View::new(name.clone(), *index.header(), Arc::clone(&index) as _, Arc::clone(&index) as _);
        view.memory()?.check().on(|| name)?;
        Ok(Self { index, view: Arc::new(view) })
    }
}

impl Checkpoint for StoredImage {
    fn view(&self) -> &Arc<View> {
        &self.view
    }

    fn read_image(&self, offset: u64, len: usize, _: ReadAhead) -> Result<Piece> {
        self.index.read_at(offset, len).map(Piece::from)
    }
}
