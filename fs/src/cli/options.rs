//! The `-o` options of `ckptfs mount`.

use std::path::PathBuf;
use std::time::Duration;

use ckptfs_dumper::Result;
use nix::mount::MsFlags;

use crate::cli::failure::wrong_usage as usage;
use crate::cli::restore_options::{KNOWN as OF_RESTORES, ParsedRestore};
use crate::state::pins::Limits;

/// How many snapshots may be pinned by default.
const PINNED_MAX: usize = 64;

/// The options that `-o` sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountOptions {
    /// How long a tree may take to stop.
    pub freeze_timeout: Duration,
    /// Whether semaphores and message queues are in the image only because the tree's users created
    /// them in its lifetime.
    pub owned_sysv_ipc: bool,
    /// What a restore decides: see [`Plan::restore`](crate::cli::plan::Plan::restore).
    pub restore: ParsedRestore,
    /// How much may be pinned.
    pub pinned: Limits,
    /// Whether users other than the daemon's may use the mount, as far as the modes of its files
    /// allow.
    pub allow_other: bool,
    /// The first column of `mount`'s list.
    pub fsname: String,
    /// Where a background daemon logs, instead of to syslog.
    pub log: Option<PathBuf>,
    /// mount(2)'s flags.
    pub flags: MsFlags,
}

/// MS_NOSYMFOLLOW of `linux/mount.h` (Linux 5.10).
const NO_SYMLINKS: MsFlags = MsFlags::from_bits_retain(256);

/// The options of mount(8) for every filesystem that are flags of mount(2), and whether they set
/// the flag.
const FLAGS: [(&str, MsFlags, bool); 25] = [
    ("ro", MsFlags::MS_RDONLY, true),
    ("rw", MsFlags::MS_RDONLY, false),
    ("noexec", MsFlags::MS_NOEXEC, true),
    ("exec", MsFlags::MS_NOEXEC, false),
    // As in mount(8), these imply noexec unless a later option overrides it.
    ("user", MsFlags::MS_NOEXEC, true),
    ("users", MsFlags::MS_NOEXEC, true),
    ("noatime", MsFlags::MS_NOATIME, true),
    ("atime", MsFlags::MS_NOATIME, false),
    ("nodiratime", MsFlags::MS_NODIRATIME, true),
    ("diratime", MsFlags::MS_NODIRATIME, false),
    ("relatime", MsFlags::MS_RELATIME, true),
    ("norelatime", MsFlags::MS_RELATIME, false),
    ("strictatime", MsFlags::MS_STRICTATIME, true),
    ("nostrictatime", MsFlags::MS_STRICTATIME, false),
    ("lazytime", MsFlags::MS_LAZYTIME, true),
    ("nolazytime", MsFlags::MS_LAZYTIME, false),
    ("sync", MsFlags::MS_SYNCHRONOUS, true),
    ("async", MsFlags::MS_SYNCHRONOUS, false),
    ("dirsync", MsFlags::MS_DIRSYNC, true),
    ("silent", MsFlags::MS_SILENT, true),
    ("loud", MsFlags::MS_SILENT, false),
    ("iversion", MsFlags::MS_I_VERSION, true),
    ("noiversion", MsFlags::MS_I_VERSION, false),
    ("nosymfollow", NO_SYMLINKS, true),
    ("symfollow", NO_SYMLINKS, false),
];

/// Options that are accepted and change nothing. Some always hold here. The others are for the
/// readers of fstab(5), which decide which user may mount, and when.
const IGNORED: [&str; 16] = [
    "defaults",
    "default_permissions",
    "nosuid",
    "nodev",
    "auto",
    "noauto",
    "nofail",
    "_netdev",
    "nouser",
    "nousers",
    "owner",
    "noowner",
    "group",
    "nogroup",
    "nomand",
    "comment",
];

/// The list in the message about an unknown option, behind those of a restore.
const KNOWN: &str = "freeze-timeout=SECONDS, sysv-ipc=used|owned, pinned-max=N, pinned-memory=SIZE, log=FILE, \
                     fsname=NAME, allow_other, no_allow_other, ro, rw, noexec, noatime and the others of mount(8), defaults";

impl MountOptions {
    /// Reads the lists of `-o`. Later options win. `root` means that the daemon runs as root, and
    /// `allow_other` is then the default.
    pub fn parse(lists: &[String], root: bool) -> Result<MountOptions> {
        let mut options = MountOptions {
            freeze_timeout: Duration::from_secs(5),
            owned_sysv_ipc: false,
            restore: ParsedRestore::default(),
            pinned: Limits { count: PINNED_MAX, memory: None },
            allow_other: root,
            fsname: "ckptfs".into(),
            log: None,
            flags: MsFlags::MS_NOSUID | MsFlags::MS_NODEV,
        };
        for option in lists.iter().flat_map(|list| list.split(',')).filter(|option| !option.is_empty()) {
            options.set(option)?;
        }
        Ok(options)
    }

    fn set(&mut self, option: &str) -> Result<()> {
        if let Some(is_set) = self.restore.set(option) {
            return is_set;
        }
        let (name, value) = match option.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (option, None),
        };
        match (name, value) {
            ("freeze-timeout", Some(value)) => self.freeze_timeout = seconds(option, value)?,
            ("sysv-ipc", Some("owned")) => self.owned_sysv_ipc = true,
            ("sysv-ipc", Some("used")) => self.owned_sysv_ipc = false,
            ("sysv-ipc", _) => return Err(usage(format!("-o {option}: sysv-ipc is used or owned"))),
            ("pinned-max", Some(value)) => self.pinned.count = count(option, value)?,
            ("pinned-memory", Some(value)) => self.pinned.memory = Some(bytes(option, value)?),
            ("log", Some(value)) if !value.is_empty() => self.log = Some(value.into()),
            ("fsname", Some(value)) if !value.is_empty() => self.fsname = value.into(),
            ("allow_other", None) => self.allow_other = true,
            ("no_allow_other", None) => self.allow_other = false,
            ("remount", _) => {
                let sentence = format!(
                    "-o {option}: a mount cannot be changed; the kernel alone can change its flags: mount -i -o remount,ro \
                     MOUNTPOINT"
                );
                return Err(usage(sentence));
            }
            ("subtype", Some("ckptfs")) => {}
            // The user that has mounted, as recorded by mount(8).
            ("user", Some(_)) => self.flags.insert(MsFlags::MS_NOEXEC),
            (name, None) if let Some((_, flag, is_set)) = FLAGS.iter().find(|(known, ..)| *known == name) => {
                self.flags.set(*flag, *is_set);
            }
            (name, None) if IGNORED.contains(&name) => {}
            ("comment", Some(_)) => {}
            (name, _) if name.starts_with("x-") || name.starts_with("X-") => {}
            ("freeze-timeout" | "pinned-max" | "pinned-memory" | "log" | "fsname", _) => {
                return Err(usage(format!("-o {name}: needs a value: {name}=...")));
            }
            _ => return Err(usage(format!("-o {option}: unknown option (known: {OF_RESTORES}, {KNOWN})"))),
        }
        Ok(())
    }
}

fn seconds(option: &str, value: &str) -> Result<Duration> {
    let seconds = value.parse::<f64>().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds
        .filter(|timeout| !timeout.is_zero() && *timeout <= Duration::from_secs(3600))
        .ok_or_else(|| usage(format!("-o {option}: not a number of seconds above 0 and up to 3600")))
}

fn count(option: &str, value: &str) -> Result<usize> {
    value.parse().map_err(|_| usage(format!("-o {option}: not a number")))
}

/// A number of bytes, or of KiB, MiB, GiB with a suffix.
fn bytes(option: &str, value: &str) -> Result<u64> {
    let shift = match value.as_bytes().last() {
        Some(b'K' | b'k') => 10,
        Some(b'M' | b'm') => 20,
        Some(b'G' | b'g') => 30,
        _ => 0,
    };
    let digits = if shift > 0 { &value[..value.len() - 1] } else { value };
    let size = digits.parse::<u64>().ok().filter(|_| !digits.starts_with('+'));
    size.and_then(|size| size.checked_mul(1 << shift))
        .ok_or_else(|| usage(format!("-o {option}: not a number of bytes, which may end in K, M or G")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn parse(text: &str) -> Result<MountOptions> {
        MountOptions::parse(&[text.to_owned()], true)
    }

    #[test]
    fn no_option_is_the_documented_default() {
        let options = MountOptions::parse(&[], true).unwrap();
        assert_eq!(options.freeze_timeout, Duration::from_secs(5));
        assert!(options.allow_other && options.log.is_none() && options.fsname == "ckptfs");
        assert_eq!(options.flags, MsFlags::MS_NOSUID | MsFlags::MS_NODEV);
        assert!(!MountOptions::parse(&[], false).unwrap().allow_other);
        assert_eq!(parse("defaults,nosuid,nodev,default_permissions,,x-systemd.automount").unwrap(), options);
    }

    #[test]
    fn options_of_mount_8_are_accepted() {
        let usual = parse("").unwrap().flags;
        for (text, flags) in [
            ("relatime,nodiratime", MsFlags::MS_RELATIME | MsFlags::MS_NODIRATIME),
            ("strictatime,lazytime", MsFlags::MS_STRICTATIME | MsFlags::MS_LAZYTIME),
            ("sync,dirsync,silent", MsFlags::MS_SYNCHRONOUS | MsFlags::MS_DIRSYNC | MsFlags::MS_SILENT),
            ("nosymfollow,noatime,atime", NO_SYMLINKS),
            ("user,user=ann,users", MsFlags::MS_NOEXEC),
            ("users,exec", MsFlags::empty()),
            ("noauto,owner,group,nouser,nofail,_netdev,comment=a,x-b,X-c=d,async,defaults,auto", MsFlags::empty()),
        ] {
            assert_eq!(parse(text).unwrap().flags, usual | flags, "{text}");
        }
        let text = parse("remount,ro").unwrap_err().to_string();
        assert!(text.starts_with("-o remount: ") && !text.contains("unknown"), "{text}");
    }

    #[test]
    fn later_ones_win() {
        let lists = ["ro,fsname=a,freeze-timeout=2".to_owned(), "rw,fsname=b=c,freeze-timeout=0.25".to_owned()];
        let options = MountOptions::parse(&lists, true).unwrap();
        assert_eq!((options.fsname.as_str(), options.freeze_timeout), ("b=c", Duration::from_millis(250)));
        assert!(!options.flags.contains(MsFlags::MS_RDONLY));
        assert!(parse("ro").unwrap().flags.contains(MsFlags::MS_RDONLY));
        assert!(!parse("allow_other,no_allow_other").unwrap().allow_other);
        let restore = "changed-files=refuse,external-pipes=null,pipe:7=/a";
        assert_eq!(parse(restore).unwrap().restore, ParsedRestore::parse(&[restore.to_owned()]).unwrap());
        assert!(parse("sysv-ipc=owned").unwrap().owned_sysv_ipc);
        assert!(!parse("sysv-ipc=owned,sysv-ipc=used").unwrap().owned_sysv_ipc);
        assert_eq!(parse("pinned-max=3,pinned-max=0").unwrap().pinned, Limits { count: 0, memory: None });
        for (text, size) in [("4096", 4096), ("3K", 3 << 10), ("5m", 5 << 20), ("7G", 7 << 30), ("0", 0)] {
            assert_eq!(parse(&format!("pinned-memory={text}")).unwrap().pinned.memory, Some(size), "{text}");
        }
        assert_eq!(parse("log=/var/log/c").unwrap().log, Some("/var/log/c".into()));
    }

    #[test]
    fn an_unknown_option_is_named() {
        for bad in [
            "bogus",
            "bogus=1",
            "ro=1",
            "allow_other=1",
            "freeze-timeout",
            "changed-files",
            "changed-files=x",
            "key=",
            "fsname=",
            "log",
            "suid",
            "dev",
            "external-pipes=no",
            "sysv-ipc=all",
            "pinned-max",
            "pinned-max=-1",
            "pinned-max=x",
            "pinned-memory=",
            "pinned-memory=K",
            "pinned-memory=+1",
            "pinned-memory=1T",
            "pinned-memory=99999999999G",
        ] {
            let text = parse(bad).unwrap_err().to_string();
            assert!(text.starts_with(&format!("-o {}", bad.trim_end_matches('='))), "{bad}: {text}");
        }
        for bad in ["0", "-1", "x", "", "1e9", "inf", "NaN", "5s"] {
            let text = parse(&format!("freeze-timeout={bad}")).unwrap_err().to_string();
            assert!(text.contains("seconds"), "{bad}: {text}");
        }
    }
}
