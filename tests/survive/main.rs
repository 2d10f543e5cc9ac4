//! Everything that a process has is restored. Each victim makes one object, is checkpointed, and
//! checks the object afterwards. It runs untouched, dumped three times while it continues,
//! restored, and restored twice in a row. The promise of each victim is at the top of
//! `victims/NAME.c`.
//!
//! The tests need root: the victims change owners, roots and limits, and a restore must give them
//! their ids again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod external;
mod held;
mod inherited;
mod locks;
mod moved;
mod overlay;
mod placed;
mod random;
mod refused;
mod sysv;
mod terminal;
mod tree;

/// Registers and other state of the processor.
mod processor {
    use ckptfs_tests::survives;
    survives!(registers);
    survives!(x87);
    survives!(sse);
    survives!(avx);
    survives!(avx512);
    survives!(avx512_masks);
    survives!(segment_base);
}

/// Threads, and the words of memory that they share with the kernel.
mod threads {
    use ckptfs_tests::survives;
    survives!(tls);
    survives!(threads_count);
    survives!(many_threads);
    survives!(thread_names);
    survives!(thread_attributes);
    survives!(mutex_held);
    survives!(robust_mutex);
    survives!(clear_child_tid);
    survives!(cond_timedwait);
    survives!(rseq_registered);
    survives!(rseq_section);
}

/// Signals and timers.
mod signals {
    use ckptfs_tests::survives;
    survives!(signal_mask);
    survives!(signal_handlers);
    survives!(signals_pending);
    survives!(signals_pending_thread);
    survives!(sigaltstack);
    survives!(sigaltstack_active);
    survives!(in_handler);
    survives!(itimer);
    survives!(posix_timer);
    survives!(posix_timer_kinds);
}

/// System calls that the checkpoint interrupts.
mod blocked {
    use ckptfs_tests::survives;
    survives!(time_namespace);
    survives!(nanosleep);
    survives!(nanosleep_raw);
    survives!(nanosleep_remainder);
    survives!(clock_nanosleep_absolute);
    survives!(usleep);
    survives!(poll_timeout);
    survives!(poll_forever);
    survives!(select_timeout);
    survives!(pselect_timeout);
    survives!(futex_timeout);
    survives!(futex_absolute);
    survives!(futex_wait);
    survives!(pause);
    survives!(sigsuspend);
    survives!(ppoll_mask);
    survives!(sigtimedwait);
    survives!(sigwait);
}

/// Memory, and the kernel's data about it.
mod memory {
    use ckptfs_tests::{Spec, survives};
    survives!(brk);
    survives!(argv_environ, Spec::c("argv_environ").arg("one argument").arg(""));
    survives!(setproctitle);
    survives!(vdso);
    survives!(protections);
    survives!(protection_keys);
    survives!(guard_page);
    survives!(holes);
    survives!(noreserve);
    survives!(contents);
    survives!(file_private);
    survives!(file_shared);
    survives!(odd_names);
    survives!(grows_down);
    survives!(madvise_flags);
    survives!(locked_memory);
    survives!(lock_on_fault);
    survives!(fork_advice);
    survives!(odd_addresses);
    survives!(same_maps);
    survives!(memfd);
    survives!(memfd_exec);
    survives!(unlinked_mapping);
    survives!(unlinked_executable);
    survives!(executable_unset);
    survives!(shm_file);
    survives!(shared_memory);
    survives!(map_files);
    survives!(sealed);
    survives!(guards);
    survives!(sysv_shm);
    survives!(sysv_shm_removed);
    survives!(sysv_sem);
    survives!(sysv_msg);

    /// The name of the executable is gone too.
    mod executable_unset_and_unlinked {
        use ckptfs_tests::{Spec, in_four_modes, modes};
        in_four_modes!(|mode| modes::run(&Spec::c("executable_unset").arg("unlinked"), mode));
    }
}

/// Open files.
mod files {
    use ckptfs_tests::survives;
    survives!(file_position);
    survives!(file_flags);
    survives!(file_dup);
    survives!(file_cloexec);
    survives!(file_renamed);
    survives!(many_files);
    survives!(descriptors_dense);
    mod many_eventfds {
        use ckptfs_tests::{Spec, in_four_modes, modes};
        in_four_modes!(|mode| modes::run(&Spec::c("many").arg("eventfds").arg("4000"), mode));
    }
    mod many_locks {
        use ckptfs_tests::{Spec, in_four_modes, modes};
        in_four_modes!(|mode| modes::run(&Spec::c("many").arg("locks").arg("1000"), mode));
    }
    survives!(unlinked);
    survives!(unlinked_name_taken);
    survives!(unlinked_elsewhere);
    survives!(tmpfile);
    survives!(removed_directory);
    survives!(removed_cwd);
    survives!(directory_offsets);
    survives!(path_only);
    survives!(removed_nodes);
    survives!(namespaces);
    survives!(ended_proc);
    survives!(open_flags);
    survives!(proc_self);
    survives!(proc_thread);
    survives!(proc_net);
    survives!(proc_and_sys);
    survives!(directory);
    survives!(devices);
    survives!(pipe);
    survives!(pipe_packets);
    survives!(pipe_ended);
    survives!(pipe_full);
    survives!(pipe_blocked);
    survives!(pipe_family);
    survives!(fifo);
    survives!(fifo_unlinked);
    survives!(fifo_open);
    survives!(fifo_renamed);
    survives!(eventfd);
    survives!(timerfd);
    survives!(signalfd);
    survives!(inotify);
    survives!(epoll);
    survives!(epoll_numbers);
    survives!(epoll_nested);
    survives!(epoll_waits);
    survives!(epoll_many);
    survives!(flock);
    survives!(unlinked_lock);
    survives!(posix_lock);
    survives!(ofd_lock);
    survives!(lease);
    survives!(lock_mapped);
    survives!(lock_hidden);
    survives!(lock_later);
    survives!(signal_io);
    survives!(cwd);
    survives!(chroot);
    survives!(umask);
}

/// What the kernel allows a process, and its other attributes.
mod attributes {
    use ckptfs_tests::{NOBODY, Spec, survives};
    survives!(scheduling);
    survives!(deadline);
    survives!(numa_policy);
    survives!(rlimits);
    survives!(rlimit_nofile_below);
    survives!(rlimit_sigpending);
    survives!(rlimits_below, Spec::c("rlimits_below").user(NOBODY));
    survives!(ids);
    survives!(capabilities);
    survives!(prctls);
    survives!(personality_each);
    survives!(loginuid);
    survives!(inherits_nothing);
    survives!(session);
}

/// The same program, linked in every way, and run by another user.
mod linkage {
    use ckptfs_tests::{Link, NOBODY, Spec, survives};
    survives!(counter);
    survives!(counter_static, Spec::c("counter").link(Link::Static));
    survives!(counter_static_pie, Spec::c("counter").link(Link::StaticPie));
    survives!(counter_fixed_address, Spec::c("counter").link(Link::NoPie));
    survives!(counter_of_nobody, Spec::c("counter").user(NOBODY));
}
