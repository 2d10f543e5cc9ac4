//! How a kind of kernel object is defined: traits, and what every kind may use. The kinds
//! themselves are in `file/` (what a descriptor can be, and has), `task/` (what a task has) and
//! `sysv/`.
//!
//! # How to add a kind
//!
//! A new kind of descriptor touches two files of the engine. Take eventfd(2) as the example:
//!
//! 1. *Its own file*, `file/eventfd.rs`, with the record (`EventfdBody`, a serde struct; its field
//!    names are the image format), and the implementation of [`open_file::OpenFile`] for the table
//!    row (`Eventfd`):
//!    - `KIND` is its name in the image: "eventfd".
//!    - `takes` decides whether an open file is of this kind: its link in /proc is
//!      `anon_inode:[eventfd]`.
//!    - `dump` fills the record from outside and changes nothing: the count is in `fdinfo`, a
//!      read(2) would reset it. It refuses what a restore could not bring back. Its sentence
//!      begins with the descriptor ([`observed::ObservedFile::refuse`]).
//!    - `restore` makes the description from the record.
//!    - The tests dump and restore one in this process ([`observed`] has a fake).
//! 2. *One line of the table* [`KINDS`](crate::file::KINDS) in `file/mod.rs`, at the right place: a
//!    file is of the first kind that takes it. If the kind has a line in the table of unsupported
//!    files beneath, remove that line.
//!
//! Outside the engine the kind needs a victim, `tests/victims/eventfd.c`: a program that holds the
//! object, is checkpointed, and checks it again. Name it in `tests/survive/main.rs` and in its line
//! of the documented list of what survives.
//!
//! A kind with descriptions that share something (a pipe's buffers, the contents of a file without
//! a name) also implements [`object::Object`] in its file, and has a second line, in
//! [`OBJECTS`](crate::file::OBJECTS). Its `dump` gets the object's id from the
//! [`object::DumpContext`]. `file/memfd.rs` is the shortest example.
//!
//! State that a descriptor has beyond its open file (a lock) implements [`fd_state::FdState`] and
//! has its line in [`FD_STATES`](crate::file::FD_STATES). What a description has to do with others
//! (the files that an epoll instance watches) implements [`relation::Relation`] and has its line in
//! [`RELATIONS`](crate::file::RELATIONS). State of a task implements [`attribute::Attribute`] and
//! has its line in `task/mod.rs`.

pub mod attribute;
pub mod external;
pub mod fd_state;
pub mod file_identity;
pub mod inheritance;
pub mod object;
pub mod observed;
pub mod open_file;
pub mod phase;
pub mod record_sort;
pub mod refs;
pub mod relation;
pub mod unnoticed;
