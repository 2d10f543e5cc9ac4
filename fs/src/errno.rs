//! The errno of each kind of error.

use ckptfs_dumper::Kind;

/// The errno that the caller gets. It is decided only here.
pub fn errno(kind: Kind) -> i32 {
    match kind {
        Kind::Unsupported => libc::EOPNOTSUPP,
        Kind::Busy | Kind::Passing => libc::EBUSY,
        Kind::TimedOut => libc::ETIMEDOUT,
        Kind::Interrupted => libc::EINTR,
        Kind::Deadlock => libc::EDEADLK,
        Kind::NoProcess => libc::ESRCH,
        Kind::Damaged => libc::EINVAL,
        Kind::KeyRejected => libc::EKEYREJECTED,
        Kind::PidTaken => libc::EEXIST,
        Kind::NotFound => libc::ENOENT,
        Kind::SnapshotLost => libc::EIO,
        Kind::System(errno) => errno,
    }
}

/// The name of the errno, for texts: "EBUSY".
pub fn errno_name(kind: Kind) -> String {
    format!("{:?}", nix::errno::Errno::from_raw(errno(kind)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_have_the_errnos_that_the_manual_promises() {
        let table = [
            (Kind::Unsupported, "EOPNOTSUPP"),
            (Kind::Busy, "EBUSY"),
            (Kind::Passing, "EBUSY"),
            (Kind::TimedOut, "ETIMEDOUT"),
            (Kind::Interrupted, "EINTR"),
            (Kind::Deadlock, "EDEADLK"),
            (Kind::NoProcess, "ESRCH"),
            (Kind::Damaged, "EINVAL"),
            (Kind::KeyRejected, "EKEYREJECTED"),
            (Kind::PidTaken, "EEXIST"),
            (Kind::NotFound, "ENOENT"),
            (Kind::SnapshotLost, "EIO"),
            (Kind::System(libc::ENOMEM), "ENOMEM"),
        ];
        for (kind, name) in table {
            assert_eq!(errno_name(kind), name);
        }
    }
}
