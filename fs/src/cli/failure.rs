//! Why a command failed, and its exit status.

use ckptfs_dumper::{Error, Kind};

/// The exit status of a failure.
const FAILURE: u8 = 1;

/// The exit status of wrong usage, as in clap.
const USAGE: u8 = 2;

/// The exit status of `diff` if it cannot compare, as in diff(1).
const TROUBLE: u8 = 2;

/// The exit status of `restore --attach` if nothing was restored. Those of the job must be told
/// from it, as with timeout(1) and env(1).
const NOT_ATTACHED: u8 = 125;

/// The error for a command line that is wrong.
pub fn wrong_usage(sentence: String) -> Error {
    Error::new(Kind::System(libc::EINVAL), sentence)
}

/// A failed command.
pub struct Failure {
    /// The reason, for one line on standard error.
    pub error: Error,
    /// The exit status.
    pub status: u8,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure { error, status: FAILURE }
    }
}

impl Failure {
    /// The command line is wrong.
    pub fn usage(error: Error) -> Failure {
        Failure { error, status: USAGE }
    }

    /// There is no job whose exit status `restore --attach` could have.
    pub fn not_attached(error: Error) -> Failure {
        Failure { error, status: NOT_ATTACHED }
    }

    /// `diff` could not compare.
    pub fn trouble(error: Error) -> Failure {
        Failure { error, status: TROUBLE }
    }

    /// Whether the reader of standard output has closed it, and so needs no message.
    pub fn is_reader_gone(&self) -> bool {
        self.status == FAILURE && self.error.errno() == Some(libc::EPIPE)
    }
}
