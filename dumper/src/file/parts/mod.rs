//! Parts that several kinds of open file share. None of them is a kind.

pub mod contents;
pub mod device_node;
pub mod directory;
pub mod overlay;
pub mod owner;
pub mod pipe_buffer;
pub mod pipe_head;
pub mod proof;
pub mod socket_name;
pub mod times;
pub mod version;
pub mod xattrs;
