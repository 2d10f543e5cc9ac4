//! What several kinds of open file share.

pub mod contents;
pub mod directory;
pub mod overlay;
pub mod pipe_buffer;
pub mod times;
pub mod version;
pub mod xattrs;
