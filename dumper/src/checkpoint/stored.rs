//! An instant that is stored: one image in a file, read at any offset.

use std::path::Path;
use std::sync::Arc;

use crate::checkpoint::Checkpoint;
use crate::checkpoint::view::View;
use crate::error::{Context, Result};
use crate::image::image_file::ImageFile;
use crate::read_ahead::{Piece, ReadAhead};

/// An image in a file. Its frames were looked through when it was opened; the contents of a page
/// are held against their CRC when they are read ([`crate::error::Kind::Damaged`] if they do not
/// hold), but for [`Checkpoint::read_image`], which gives the file's bytes as they are.
pub struct StoredImage {
    index: Arc<ImageFile>,
    view: Arc<View>,
}

impl StoredImage {
    /// Opens the image in `path`.
    ///
    /// # Errors
    /// As [`ImageFile::open`] has them, and [`crate::error::Kind::Damaged`] for records that cannot
    /// be.
    pub fn open(path: &Path) -> Result<Self> {
        let index = Arc::new(ImageFile::open(path)?);
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
