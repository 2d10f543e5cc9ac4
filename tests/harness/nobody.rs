//! The user `nobody`: scripts that run as it, and a process of it that turns into one of root.

use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use crate::{Mounted, Spec, Victim, tool};

/// The id of the user `nobody`, which owns no file.
pub const NOBODY: u32 = 65534;

/// Runs a script as the user `nobody`. Its arguments are the mountpoint, the pid of the victim and
/// the victim's directory.
pub fn as_nobody(script: &str, mount: &Mounted, victim: &Victim) -> tool::Output {
    // Open the directory around the mountpoint to other users, because the test is about the mount.
    fs::set_permissions(mount.path().parent().unwrap(), Permissions::from_mode(0o755)).unwrap();
    let user = format!("--reuid={NOBODY}");
    let group = format!("--regid={NOBODY}");
    let argv = ["setpriv", &user, &group, "--clear-groups", "bash", "-euc", script, "test"].map(OsString::from);
    let arguments = [mount.path().into(), victim.pid().to_string().into(), victim.dir().into()];
    tool::run(&[&argv[..], &arguments].concat())
}

/// A process of `nobody` that turns into one of root at `go.1`, once or often, by a set-user-ID
/// program: `victims/turns_root.c`.
pub fn turning(how: &str) -> Victim {
    let victim = Victim::ready(&Spec::c("turns_root").user(NOBODY).arg(how));
    for (name, mode) in [("plain", 0o755), ("suid", 0o4755)] {
        let copy = victim.dir().join(name);
        // cp(1) and not this process: see Victim::start.
        let _copied = tool::run(&["cp".into(), victim.dir().join("turns_root"), copy.clone()]).success();
        fs::set_permissions(&copy, Permissions::from_mode(mode)).unwrap();
    }
    victim
}
