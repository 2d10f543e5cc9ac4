//! Bytes: the image format, alone. This room knows no process, descriptor or mapping. The higher
//! floors define what a record's tag and body mean.
//!
//! - `format` draws the layout.
//! - `frame` has the records, `record_set` those of a whole image.
//! - `page_runs` has the sets of pages, `page_list` the place of each page of a list.
//! - `builder` decides a whole [`Layout`] at once. `layout` and `record_frame` read it at any
//!   offset. `checksums` keeps CRCs.
//! - `decoder` decodes an image as its bytes arrive. `image_file` uses it on a file and skips the
//!   pages.
//! - `crc` and `trailer` have the checksums, `signature` and `mac_tree` the signature.

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
pub(crate) mod mac_tree;
pub(crate) mod page_list;
pub(crate) mod page_runs;
pub(crate) mod page_source;
pub(crate) mod record_frame;
pub(crate) mod record_set;
pub(crate) mod signature;
pub(crate) mod trailer;
pub(crate) mod window;

pub use crate::image::builder::LayoutBuilder;
pub use crate::image::decoder::Decoder;
pub use crate::image::decoder::pages::{Ahead, SkippedPages};
pub use crate::image::decoder::sink::Sink;
pub use crate::image::format::{ARCH, HEADER_LEN, Header, PAGE_SIZE, VERSION, empty};
pub use crate::image::frame::{Record, Tag};
pub use crate::image::image_file::ImageFile;
pub use crate::image::layout::{Filled, Layout};
pub use crate::image::page_runs::{PageRuns, Run};
pub use crate::image::page_source::PageSource;
pub use crate::image::record_set::{RecordSet, RecordView};
