//! What was attempted, on what, and why it failed.
//!
//! Every error has a sentence for a person (in the log, in `status`, in what a read of
//! `/ckpt/restore` returns) and a [`Kind`] for a program. The sentence names a pid, descriptor,
//! path or offset. [`Error::on`] adds the subject on the way up, so code that has the errno need
//! not have the process. The kind alone decides the errno of a FUSE reply.

use std::fmt;

/// The result of everything in this crate that can fail.
pub type Result<T> = std::result::Result<T, Error>;

/// What sort of failure it was. `fs` turns it into an errno in one exhaustive match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The process holds something that cannot be checkpointed (yet): EOPNOTSUPP.
    Unsupported,
    /// The tree did not stop in time, or another daemon holds it: EBUSY.
    Busy,
    /// The process is in a state that passes by itself and cannot be checkpointed: EBUSY.
    Passing,
    /// The tree was stopped, and not all of it could be examined in time: ETIMEDOUT.
    TimedOut,
    /// The caller was killed while it waited: EINTR.
    Interrupted,
    /// The reader belongs to the tree it wants to freeze: EDEADLK.
    Deadlock,
    /// The process is gone: ESRCH.
    NoProcess,
    /// The image is damaged, truncated or of another version: EINVAL.
    Damaged,
    /// The image is not signed with the key of the restore: EKEYREJECTED.
    KeyRejected,
    /// A process with that id is alive already: EEXIST.
    PidTaken,
    /// A file that the image names is gone: ENOENT.
    NotFound,
    /// The snapshot's memory is gone (killed, out of memory): EIO.
    SnapshotLost,
    /// The kernel refused a call; the errno is the caller's answer.
    System(i32),
}

/// A failure: the sentence and the kind. It is cheap to clone, because one failed freeze answers
/// many readers.
#[derive(Clone, Debug)]
pub struct Error {
    kind: Kind,
    sentence: String,
}

impl Error {
    /// A failure of `kind`, described by `sentence`.
    pub fn new(kind: Kind, sentence: impl Into<String>) -> Self {
        Self { kind, sentence: sentence.into() }
    }

    /// Something that cannot be checkpointed: the sentence names it.
    pub fn unsupported(sentence: impl Into<String>) -> Self {
        Self::new(Kind::Unsupported, sentence)
    }

    /// A damaged image: the sentence names the offset.
    pub fn damaged(sentence: impl Into<String>) -> Self {
        Self::new(Kind::Damaged, sentence)
    }

    /// A system call failed with `errno` while `doing`. For the result of a call that `nix` or
    /// `std` made, use [`Doing`].
    pub fn os(doing: impl fmt::Display, errno: i32) -> Self {
        let reason = std::io::Error::from_raw_os_error(errno);
        // The text of std ends in " (os error N)", which adds nothing to the sentence.
        let reason = reason.to_string();
        let reason = reason.split(" (os error").next().unwrap_or_default().to_lowercase();
        Self::new(Kind::System(errno), format!("{doing}: {reason}"))
    }

    /// The same failure with its subject in front: "pid 812 fd 7: ...".
    #[must_use]
    pub fn on(mut self, subject: impl fmt::Display) -> Self {
        self.sentence = format!("{subject}: {}", self.sentence);
        self
    }

    /// The same sentence under another kind, for a caller that knows the meaning of an errno
    /// better.
    #[must_use]
    pub fn kind_is(mut self, kind: Kind) -> Self {
        self.kind = kind;
        self
    }

    /// The same failure, of a call that returns ESRCH when the process is gone
    /// ([`Kind::NoProcess`]).
    #[must_use]
    pub(crate) fn esrch_is_gone(self) -> Self {
        if self.errno() == Some(libc::ESRCH) { self.kind_is(Kind::NoProcess) } else { self }
    }

    /// What sort of failure it was.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The errno of a call that the kernel refused ([`Kind::System`]); `None` for every other kind.
    /// Code that goes on after certain errnos decides by this one.
    pub fn errno(&self) -> Option<i32> {
        match self.kind {
            Kind::System(errno) => Some(errno),
            _ => None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

impl std::error::Error for Error {}

/// Adds the subject to the error of any result: `open(path).on(|| format!("pid {pid}"))`.
pub trait Context<T> {
    /// See [`Error::on`]; the closure runs on failure only.
    fn on<D: fmt::Display>(self, subject: impl FnOnce() -> D) -> Result<T>;
}

impl<T> Context<T> for Result<T> {
    fn on<D: fmt::Display>(self, subject: impl FnOnce() -> D) -> Result<T> {
        self.map_err(|error| error.on(subject()))
    }
}

/// Turns a result of `nix`, `rustix` or `std::io` into ours and says what was attempted.
pub trait Doing<T> {
    /// The closure says what was attempted, on what; it runs on failure only.
    fn doing<D: fmt::Display>(self, what: impl FnOnce() -> D) -> Result<T>;
}

impl<T> Doing<T> for nix::Result<T> {
    fn doing<D: fmt::Display>(self, what: impl FnOnce() -> D) -> Result<T> {
        self.map_err(|errno| Error::os(what(), errno as i32))
    }
}

impl<T> Doing<T> for rustix::io::Result<T> {
    fn doing<D: fmt::Display>(self, what: impl FnOnce() -> D) -> Result<T> {
        self.map_err(|errno| Error::os(what(), errno.raw_os_error()))
    }
}

impl<T> Doing<T> for std::io::Result<T> {
    fn doing<D: fmt::Display>(self, what: impl FnOnce() -> D) -> Result<T> {
        self.map_err(|error| Error::os(what(), error.raw_os_error().unwrap_or(libc::EIO)))
    }
}
