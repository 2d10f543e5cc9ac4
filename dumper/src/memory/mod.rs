//! Memory: mappings, which of their pages have contents, and where the contents are read from.

pub mod overlaid;
pub mod page_set;
pub mod remap;
pub mod source;
pub mod vdso;
pub mod vm_flags;
pub mod vma;
