//! `ckptfs why`: the reasons of the last failures, from all mounts of this namespace.

use std::fmt::Write as _;
use std::io::Write;
use std::path::PathBuf;

use ckptfs_dumper::{Doing, Error, Kind, Pid, Result, proc};
use serde_json::Value;

use crate::cli::progress::complain;
use crate::escape::escaped;

/// Prints the last error of the process `pid`, or of all processes, and without `pid` also that of
/// the last restore. Each line begins with the mountpoint.
///
/// # Errors
/// ENOENT: there is no mount, or no such error.
pub fn why(pid: Option<Pid>, out: &mut dyn Write) -> Result<()> {
    let mounts = mounts()?;
    let mut found = String::new();
    for mount in &mounts {
        let text = |name: &str| {
            let path = mount.join(name);
            std::fs::read_to_string(&path).doing(|| format!("reading {}", path.display()))
        };
        let status = match text("status") {
            Ok(status) => status,
            // It may be unmounted by now, or its daemon may be dead. The others are still asked.
            Err(error) => {
                complain(&error);
                continue;
            }
        };
        let mut reasons = of_status(&status, pid);
        if pid.is_none() {
            reasons.extend(of_restore(&text("restore").unwrap_or_default()));
        }
        for reason in reasons {
            let _in_memory = writeln!(found, "{}: {}", mount.display(), escaped(&reason));
        }
    }
    if found.is_empty() {
        let of = pid.map_or(String::new(), |pid| format!(" of pid {pid}"));
        let shown: Vec<String> = mounts.iter().map(|mount| mount.display().to_string()).collect();
        let sentence = format!("no error{of} is known to {}", shown.join(", "));
        return Err(Error::new(Kind::NotFound, sentence));
    }
    out.write_all(found.as_bytes()).doing(|| "writing the reasons")
}

/// The mountpoints of all mounts of this mount namespace.
///
/// # Errors
/// ENOENT: there is none.
pub fn mounts() -> Result<Vec<PathBuf>> {
    let mounts = proc::mounts()?.into_iter().filter(|mount| mount.kind == b"fuse.ckptfs");
    let mounts: Vec<PathBuf> = mounts.map(|mount| mount.mountpoint).collect();
    if mounts.is_empty() { Err(Error::new(Kind::NotFound, "no ckptfs is mounted here")) } else { Ok(mounts) }
}

/// The last errors in the text of `status`, of one process or of all.
fn of_status(status: &str, pid: Option<Pid>) -> Vec<String> {
    let status: Value = serde_json::from_str(status).unwrap_or_default();
    let errors = status["last_error"].as_object().cloned().unwrap_or_default();
    let wanted = |key: &String| pid.is_none_or(|pid| *key == pid.to_string());
    errors.iter().filter(|(key, _)| wanted(key)).filter_map(|(_, error)| Some(error.as_str()?.to_owned())).collect()
}

/// The reason of the last restore in the text of `restore`, if that failed.
fn of_restore(journal: &str) -> Option<String> {
    let last: Value = serde_json::from_str(journal.lines().last()?).ok()?;
    Some(format!("restore: {}", last["error"].as_str()?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn reasons_are_those_of_the_process() {
        let status = r#"{"last_error": {"7": "seven", "70": "seventy"}, "errors": []}"#;
        assert_eq!(of_status(status, Some(7)), ["seven"]);
        assert_eq!(of_status(status, None), ["seven", "seventy"]);
        assert!(of_status(status, Some(8)).is_empty());
        let journal = "{\"root\": 7}\n{\"error\": \"truncated\"}\n";
        assert_eq!(of_restore(journal).unwrap(), "restore: truncated");
        assert!(of_restore("{\"error\": \"truncated\"}\n{\"root\": 7}\n").is_none());
    }
}
