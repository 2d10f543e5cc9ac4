//! Device numbers of terminals: include/uapi/linux/major.h, Documentation/admin-guide/devices.txt.

/// Virtual consoles, and serial lines from minor 64 on.
const TTY_MAJOR: u32 = 4;
/// /dev/tty, /dev/console, /dev/ptmx.
const TTYAUX_MAJOR: u32 = 5;
/// Pseudo-terminal slaves, 256 to a major.
const PTY_SLAVE_MAJORS: std::ops::RangeInclusive<u32> = 136..=143;

/// Whether a character device is a terminal.
pub fn is_terminal(device: u64) -> bool {
    let major = libc::major(device);
    PTY_SLAVE_MAJORS.contains(&major) || major == TTY_MAJOR || major == TTYAUX_MAJOR
}

/// Whether it is /dev/tty, the alias for a process's controlling terminal.
pub fn is_alias(device: u64) -> bool {
    (libc::major(device), libc::minor(device)) == (TTYAUX_MAJOR, 0)
}

/// Whether it is a pseudo-terminal master, which is opened as /dev/ptmx.
pub fn is_master(device: u64) -> bool {
    (libc::major(device), libc::minor(device)) == (TTYAUX_MAJOR, 2)
}

/// The name in /dev of a terminal that can control a session. `None` for a device of another major.
pub fn path(device: u64) -> Option<String> {
    let (major, minor) = (libc::major(device), libc::minor(device));
    match major {
        major if PTY_SLAVE_MAJORS.contains(&major) => {
            Some(format!("/dev/pts/{}", (major - PTY_SLAVE_MAJORS.start()) * 256 + minor))
        }
        TTY_MAJOR if minor < 64 => Some(format!("/dev/tty{minor}")),
        TTY_MAJOR => Some(format!("/dev/ttyS{}", minor - 64)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_has_a_name() {
        for (major, minor, name) in [
            (136, 3, Some("/dev/pts/3")),
            (137, 1, Some("/dev/pts/257")),
            (4, 2, Some("/dev/tty2")),
            (4, 64, Some("/dev/ttyS0")),
            (5, 1, None),
        ] {
            let device = libc::makedev(major, minor);
            assert!(is_terminal(device));
            assert_eq!(path(device).as_deref(), name);
        }
        assert!(!is_terminal(libc::makedev(1, 3)));
        assert!(is_alias(libc::makedev(5, 0)) && is_master(libc::makedev(5, 2)));
    }
}
