//! Bytes: the image format, alone. Knows no process, descriptor or mapping; what a record's tag and body mean is said by
//! the floors above.
//!
//! `format` draws the layout. `frame` has the records (`records` those of a whole image); `runs` the sets of pages; `chunk` where each page of a list
//! lies. `writer` decides a whole [`Layout`] at once, `layout` reads it at any offset, `content` remembers checksums;
//! `reader` takes an image apart as its bytes arrive; `index` has it look into a file, passing over the pages. `crc` and `trailer` are the proofs.

pub(crate) mod builder;
pub(crate) mod checksums;
pub(crate) mod crc;
pub(crate) mod decoder;
#[cfg(test)]
pub(crate) mod fake;
pub(crate) mod format;
pub(crate) mod frame;
pub(crate) mod image_file;
pub(crate) mod layout;
pub(crate) mod page_list;
pub(crate) mod page_runs;
pub(crate) mod page_source;
pub(crate) mod record_set;
pub(crate) mod trailer;
pub(crate) mod window;

pub use crate::image::builder::LayoutBuilder;
pub use crate::image::decoder::Decoder;
pub use crate::image::decoder::pages::{Ahead, Passed};
pub use crate::image::decoder::sink::Sink;
pub use crate::image::format::{ARCH, HEADER_LEN, Header, PAGE_SIZE, VERSION};
pub use crate::image::frame::{Record, Tag};
pub use crate::image::image_file::ImageFile;
pub use crate::image::layout::{Filled, Layout};
pub use crate::image::page_runs::{PageRuns, Run};
pub use crate::image::page_source::PageSource;
pub use crate::image::record_set::{RecordSet, RecordView};
