//! Bytes: the image format, alone. Knows no process, descriptor or mapping; what a record's tag and body mean is said by
//! the floors above.
//!
//! `format` draws the layout. `frame` has the records (`records` those of a whole image); `runs` the sets of pages; `chunk` where each page of a list
//! lies. `writer` decides a whole [`Layout`] at once, `layout` reads it at any offset, `content` remembers checksums;
//! `reader` takes an image apart as its bytes arrive; `index` has it look into a file, passing over the pages. `crc` and `trailer` are the proofs.

pub mod chunk;
pub mod content;
pub mod crc;
#[cfg(test)]
pub(crate) mod fake;
pub mod format;
pub mod frame;
pub mod index;
pub mod layout;
pub mod reader;
pub mod records;
pub mod runs;
pub mod trailer;
pub mod window;
pub mod writer;

pub use format::{ARCH, HEADER_LEN, Header, PAGE_SIZE, VERSION};
pub use frame::{Record, Tag};
pub use index::Index;
pub use layout::{Filled, Layout};
pub use reader::pages::{Ahead, Passed};
pub use reader::{Decoder, Sink};
pub use records::{RecordView, Records};
pub use runs::{PageRuns, Run};
pub use writer::{LayoutBuilder, PageSource};
