//! Process trees. The root speaks the protocol, and the others wait in their places during its
//! checkpoint (`victims/tree.h`). Each process is checked from inside, by what the kernel reports
//! to it, and from outside, by what the others can do to it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

/// Parents, children and orphans.
mod descent {
    use ckptfs_tests::{Spec, survives};
    survives!(fork_one);
    survives!(fork_deep);
    survives!(fork_wide);
    survives!(crowd, Spec::c("crowd").arg("500"));
    survives!(fork_with_threads);
    survives!(thread_children);
    survives!(reparented);
    survives!(subreaper_mid);
    survives!(exit_signal);
    survives!(exec_child);
    survives!(vfork_often);
    survives!(vfork_nested);
    survives!(names_each);
    survives!(creds_each);
    survives!(cwd_each);
    survives!(timers_each);
}

/// Sessions and groups.
mod sessions_and_groups {
    use ckptfs_tests::survives;
    survives!(sessions);
    survives!(session_leader_dead);
    survives!(session_leader_zombie);
    survives!(groups);
    survives!(group_leader_dead);
    survives!(groups_exchanged);
    survives!(orphan_group);
    survives!(orphaned_later);
    survives!(job_control);
}

/// What the kernel reports to a parent about its children.
mod told {
    use ckptfs_tests::survives;
    survives!(zombies);
    survives!(zombies_below);
    survives!(zombie_core);
    survives!(zombie_leader_threads);
    survives!(leader_exited);
    survives!(leader_exited_files);
    survives!(leader_exited_signals);
    survives!(stopped);
    survives!(stopped_threads);
    survives!(stopped_leader_exited);
    survives!(continued);
    survives!(waiting_parent);
    survives!(sigchld);
    survives!(sigchld_quiet);
    survives!(sigchld_ignored);
    survives!(pdeathsig);
}

/// What two tasks share.
mod shared {
    use ckptfs_tests::survives;
    survives!(share_files);
    survives!(share_fs);
    survives!(share_vm);
    survives!(share_vm_leader_exited);
    survives!(share_sighand);
    survives!(thread_own_files);
    survives!(thread_own_fs);
    survives!(inherited_fds);
    survives!(shared_anon);
    survives!(sysv_shm_shared);
    survives!(shared_futex);
}

/// Memory that fork(2) shares until one process writes to it.
mod copied {
    use ckptfs_tests::survives;
    survives!(cow_pages);
    survives!(cow_changed);
}

/// A test of the harness: a killed tree is gone at once, with its orphans, its zombies, its stopped
/// processes and its session leaders.
#[test]
fn no_process_of_a_killed_tree_is_left() {
    use ckptfs_tests::{Spec, Victim, process};
    for name in [
        "fork_deep",
        "sessions",
        "session_leader_dead",
        "subreaper_mid",
        "zombies_below",
        "stopped",
        "exec_child",
        "random_tree",
    ] {
        let mut victim = Victim::ready(&Spec::c(name).arg("3"));
        let tree = process::tree(victim.pid(), victim.dir());
        assert!(tree.len() > 1, "{name}: {tree:?}");
        victim.kill();
        let left: Vec<_> = tree.into_iter().filter(|pid| process::state(*pid).is_some()).collect();
        assert!(left.is_empty(), "{name} left {left:?}");
        assert!(process::tree(0, victim.dir()).is_empty());
    }
}
