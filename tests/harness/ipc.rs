//! System V objects that a killed victim has left behind: nobody else would remove them.

use std::fs;
use std::path::Path;

use ckptfs_dumper::Pid;

use crate::tool;

/// Removes the segments that any of these processes made (sysvipc(7)), and what `dir/ipc` lists (`victims/sysv.h`): nobody tells who made
/// a semaphore.
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
