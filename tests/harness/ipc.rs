//! System V objects that a killed victim leaves behind. They persist until they are removed
//! (sysvipc(7)), so the harness removes them.

use std::fs;
use std::path::Path;

use ckptfs_dumper::Pid;

use crate::tool;

/// Removes the segments that one of these processes made (sysvipc(7)) and the objects that
/// `dir/ipc` lists (`victims/sysv.h`). The list is needed because the kernel does not
/// record which process made a semaphore set.
pub fn remove_of(pids: &[Pid], dir: &Path) {
    for (kind, id) in
        fs::read_to_string(dir.join("ipc")).iter().flat_map(|list| list.lines()).filter_map(|line| line.split_once(' '))
    {
        let _gone_or_not_there = tool::run(&["ipcrm".to_owned(), format!("-{kind}"), id.to_owned()]);
    }
    for (table, flag, makers) in [("shm", "-m", &[4][..])] {
        let text = fs::read_to_string(format!("/proc/sysvipc/{table}")).unwrap_or_default();
        for line in text.lines().skip(1) {
            let words: Vec<&str> = line.split_whitespace().collect();
            let is_theirs =
                |at: &usize| words.get(*at).and_then(|pid| pid.parse().ok()).is_some_and(|pid| pids.contains(&pid));
            if makers.iter().any(is_theirs) {
                let _gone = tool::run(&[Path::new("ipcrm"), Path::new(flag), Path::new(words[1])]);
            }
        }
    }
}
