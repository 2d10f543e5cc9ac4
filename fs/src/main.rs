//! ckptfs.
fn main() {}
