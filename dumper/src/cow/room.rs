//! Whether there is room for copy-on-write children: each takes a place among the tasks that its
//! process may have.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::{Error, Result};
use crate::sys::pid::Pid;
use crate::sys::proc;
use crate::sys::proc::mountinfo;
use crate::sys::task_limits::{self, TaskLimit};

/// Places that must stay free, at least. The process may fork while its children are there.
const SPARE_LEAST: u64 = 16;

/// Checks that the processes `pids` may have a child each, and that places are left for their own
/// forks. It takes some time, so the processes should still run.
///
/// # Errors
/// EAGAIN: the sentence names the limit. The tree must then be read while it is stopped.
pub fn check(pids: &[Pid]) -> Result<()> {
    let mounts = mountinfo::mounts()?;
    let all = task_limits::all_tasks();
    let (mut cgroups, mut counted) = (BTreeSet::new(), BTreeMap::new());
    for pid in pids {
        // A process that has ended meanwhile needs no child.
        let cgroup = proc::read(&format!("/proc/{pid}/cgroup")).unwrap_or_default();
        let is_new = cgroups.insert(cgroup.clone());
        let of_cgroups = if is_new { task_limits::of_cgroups(&cgroup, &mounts) } else { Vec::new() };
        let of_user = task_limits::of_user(*pid, all, &mut counted).ok().flatten();
        let mut limits = of_cgroups.into_iter().chain(of_user);
        if let Some(limit) = limits.find(|limit| is_tight(limit, pids.len() as u64)) {
            return Err(refusal(&limit));
        }
    }
    Ok(())
}

/// Whether a limit leaves too few places behind `children` more tasks.
fn is_tight(limit: &TaskLimit, children: u64) -> bool {
    let spare = SPARE_LEAST.max(limit.most / 16);
    limit.used.saturating_add(children).saturating_add(spare) > limit.most
}

fn refusal(limit: &TaskLimit) -> Error {
    let TaskLimit { name, used, most } = limit;
    let doing = format!("{name} leaves no task to spare for a copy-on-write child ({used} of {most} used)");
    Error::os(doing, libc::EAGAIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_limit_and_an_almost_full_one_are_tight() {
        let tight = |used, most, children| is_tight(&TaskLimit { name: String::new(), used, most }, children);
        assert!(tight(4, 4, 1));
        assert!(tight(4, 5, 1), "a child would take the last place");
        assert!(tight(83, 100, 2));
        assert!(!tight(83, 100, 1));
        assert!(tight(3800, 4096, 100), "a large limit keeps more places");
        assert!(!tight(3000, 4096, 100));
    }
}
