//! One process as /proc shows it, without disturbing it: its identity, its owner, and upper bounds
//! for the sizes of its files.
//!
//! Everything here returns `None` for a process that has gone. No process is stopped, and no page
//! of memory is read.

pub mod caller;
pub mod container;
pub mod descriptors;
pub mod holders;
pub mod rights;

use std::os::unix::fs::MetadataExt;
use std::time::{Duration, SystemTime};

use ckptfs_dumper::proc::{self, Fields, Mapping, Stat, TICKS_PER_SECOND};
use ckptfs_dumper::{Doing, HOLE_MOST, Pid, Result};

/// A generous guess of what an image holds besides the pages: records, tables, padding. It is used
/// for the size before an open.
const IMAGE_SLACK: u64 = 4 << 20;

/// One process for the whole of its life. A pid alone may be reused by another process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProcId {
    /// The id, as the daemon's pid namespace numbers it.
    pub pid: Pid,
    /// When it started, in clock ticks after boot (field 22 of proc_pid_stat(5)).
    pub start: u64,
}

impl ProcId {
    /// Stands for the container as a whole. No process has pid 0.
    pub const CONTAINER: ProcId = ProcId { pid: 0, start: 0 };

    /// Whether it started less than `age` ago.
    pub fn is_younger_than(self, age: Duration) -> bool {
        let up = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from);
        Duration::from_secs(self.start / TICKS_PER_SECOND) + age >= up
    }

    /// A process with this pid that has ended, and of which no more is known.
    pub fn ended(pid: Pid) -> ProcId {
        ProcId { pid, start: 0 }
    }

    /// Whether exactly this process lives. A zombie does not live.
    pub fn is_alive(self) -> bool {
        Process::read(self.pid).is_some_and(|process| process.id == self && !process.ended)
    }
}

/// The facts of /proc/PID/stat that decide where a process belongs.
#[derive(Clone, Copy, Debug)]
pub struct Process {
    /// Its identity.
    pub id: ProcId,
    /// Its parent's pid.
    pub parent: Pid,
    /// Whether it is a kernel thread.
    pub kernel: bool,
    /// Whether it has ended: it is a zombie, or about to be reaped.
    pub ended: bool,
}

impl Process {
    /// Reads the process `pid`.
    pub fn read(pid: Pid) -> Option<Process> {
        let stat = stat(pid)?;
        Some(Process {
            id: ProcId { pid, start: stat.started() },
            parent: stat.ppid(),
            kernel: stat.is_kernel_thread(),
            // /proc shows a thread group leader that has exited as Z while other threads run. That
            // process lives.
            ended: matches!(stat.state, 'X' | 'x') || stat.is_zombie_process(),
        })
    }

    /// All processes of the daemon's pid namespace, in no order.
    pub fn all() -> Result<Vec<Process>> {
        let entries = std::fs::read_dir("/proc").doing(|| "reading /proc")?;
        let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        Ok(pids.filter_map(Process::read).collect())
    }
}

/// Turns start ticks into a time that never moves, however the wall clock is set meanwhile.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    boot: SystemTime,
}

impl Clock {
    /// Reads the instant of boot, once for a mount (clock_gettime(2), CLOCK_BOOTTIME).
    pub fn new() -> Result<Clock> {
        let up = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME).doing(|| "reading the boot clock")?;
        let boot = SystemTime::now().checked_sub(Duration::from(up)).unwrap_or(SystemTime::UNIX_EPOCH);
        Ok(Clock { boot })
    }

    /// When `id` started.
    pub fn start_of(&self, id: ProcId) -> SystemTime {
        let (seconds, rest) = (id.start / TICKS_PER_SECOND, id.start % TICKS_PER_SECOND);
        let since_boot = Duration::from_secs(seconds) + Duration::from_secs(rest) / TICKS_PER_SECOND as u32;
        self.boot.checked_add(since_boot).unwrap_or(self.boot)
    }
}

/// The user and group that the files in /proc/PID belong to: those of the process, or root if it is
/// not dumpable (`task_dump_owner` in fs/proc/base.c; the folder itself always belongs to the
/// process). A process that has ended has nothing to protect, so it always belongs to its own user.
pub fn owner(pid: Pid) -> Option<(u32, u32)> {
    let of = |path: String| std::fs::metadata(path).ok().map(|metadata| (metadata.uid(), metadata.gid()));
    let (folder, file) = (of(format!("/proc/{pid}"))?, of(format!("/proc/{pid}/status"))?);
    Some(if folder == file || !has_ended(pid) { file } else { folder })
}

/// Whether all threads of the process have ended, and its parent has not reaped it.
pub fn has_ended(pid: Pid) -> bool {
    stat(pid).is_some_and(|stat| stat.is_zombie_process())
}

/// Whether the process is stopped by a signal.
pub fn is_stopped(pid: Pid) -> bool {
    stat(pid).is_some_and(|stat| stat.state == 'T')
}

fn stat(pid: Pid) -> Option<Stat> {
    Stat::read(&format!("/proc/{pid}/stat")).ok()
}

/// The owner of the process and all its descendants, if they belong to one user.
pub fn owner_of_tree(pid: Pid) -> Option<(u32, u32)> {
    let root_owner = owner(pid)?;
    let members = ckptfs_dumper::Target::tree(pid).members().ok()?;
    // A process that has ended has nothing to protect.
    let has_same_user = |pid: Pid| owner(pid).is_none_or(|owner| owner.0 == root_owner.0) || has_ended(pid);
    members.into_iter().all(has_same_user).then_some(root_owner)
}

/// `/proc/PID/status`.
fn status(pid: Pid) -> Option<Fields> {
    Fields::read(&format!("/proc/{pid}/status")).ok()
}

/// The process that the thread `tid` belongs to.
pub fn process_of_thread(tid: Pid) -> Option<Pid> {
    Pid::try_from(status(tid)?.number("Tgid")).ok().filter(|pid| *pid > 0)
}

/// Resident and swapped bytes of the process.
pub fn memory_in_use(pid: Pid) -> Option<u64> {
    let status = status(pid)?;
    Some((status.number("VmRSS") + status.number("VmSwap")) << 10)
}

/// An upper bound of the size of `image`: resident and swapped memory, its chunk headers, and the
/// records.
pub fn image_bound(pid: Pid) -> Option<u64> {
    let bytes = memory_in_use(pid)?;
    Some(bytes + bytes / 128 + IMAGE_SLACK)
}

/// An upper bound of the size of `maps`: each line of /proc/PID/maps, plus a number.
pub fn maps_bound(pid: Pid) -> Option<u64> {
    let (bytes, lines) = maps_extent(pid)?;
    Some(4096 + bytes + lines * 64)
}

/// An upper bound of the size of `info.json`: a number of bytes for each mapping, descriptor and
/// thread.
pub fn info_bound(pid: Pid) -> Option<u64> {
    let status = status(pid)?;
    let (bytes, lines) = maps_extent(pid)?;
    Some((64 << 10) + bytes + lines * 1024 + status.number("Threads") * 8192 + status.number("FDSize") * 1024)
}

/// An upper bound of the size of `core`. Each page in use may have a hole before and after it that
/// is in the file, but the sum is never more than the address space. A program header for each
/// mapping and each larger hole, and notes for the mapped files and for each thread, are added.
pub fn core_bound(pid: Pid) -> Option<u64> {
    let status = status(pid)?;
    let (in_use, space) = (memory_in_use(pid)?, status.number("VmSize") << 10);
    let (bytes, lines) = maps_extent(pid)?;
    let holes = (in_use / 4096).saturating_mul(2 * HOLE_MOST);
    let contents = in_use.saturating_add(holes).min(space);
    Some(
        contents + contents / HOLE_MOST * 64 + (64 << 10) + bytes + lines * 256 + status.number("Threads") * (16 << 10),
    )
}

/// Bytes and lines of /proc/PID/maps.
fn maps_extent(pid: Pid) -> Option<(u64, u64)> {
    let text = std::fs::read(format!("/proc/{pid}/maps")).ok()?;
    Some((text.len() as u64, text.iter().filter(|&&byte| byte == b'\n').count() as u64))
}

/// The addresses of one mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Range {
    /// First address.
    pub start: u64,
    /// First address after it.
    pub end: u64,
}

impl Range {
    /// Its length in bytes.
    pub fn len(self) -> u64 {
        self.end.saturating_sub(self.start)
    }

    /// Reads `START-END` as in /proc/PID/map_files, and no other spelling of the same numbers.
    pub fn parse(name: &str) -> Option<Range> {
        let (start, end) = name.split_once('-')?;
        let range = Range { start: u64::from_str_radix(start, 16).ok()?, end: u64::from_str_radix(end, 16).ok()? };
        (range.start < range.end && range.to_string() == name).then_some(range)
    }
}

impl std::fmt::Display for Range {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:x}-{:x}", self.start, self.end)
    }
}

/// The mappings of a live process that an image would hold, ascending.
pub fn mappings(pid: Pid) -> Option<Vec<Range>> {
    let range = |map: &Mapping| Range { start: map.start, end: map.end };
    let is_not_empty = |maps: &Vec<Mapping>| !maps.is_empty();
    // /proc shows no mappings of a leader that has ended, so another thread is read.
    let threads = || proc::numbers(&format!("/proc/{pid}/task")).unwrap_or_default();
    let others = || threads().into_iter().filter_map(|tid| proc::maps(tid).ok()).find(is_not_empty);
    let maps = proc::maps(pid).ok()?;
    let maps = if is_not_empty(&maps) { maps } else { others().unwrap_or_default() };
    Some(maps.iter().filter(|map| !map.is_special()).map(range).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn own_pid() -> Pid {
        std::process::id() as Pid
    }

    #[test]
    fn a_process_is_itself_and_its_start_is_in_the_past() {
        let process = Process::read(own_pid()).unwrap();
        assert!(process.id.is_alive() && !process.kernel && !process.ended);
        let start = Clock::new().unwrap().start_of(process.id);
        let age = SystemTime::now().duration_since(start).unwrap();
        assert!(age < Duration::from_secs(3600), "started {age:?} ago");
        assert!(!ProcId { pid: own_pid(), start: process.id.start + 1 }.is_alive(), "another start is another process");
    }

    #[test]
    fn a_thread_leads_to_its_process() {
        let tid = std::thread::spawn(|| nix::unistd::gettid().as_raw()).join();
        assert_eq!(process_of_thread(own_pid()), Some(own_pid()));
        // The thread has ended. Its id is free, or it was reused and does not belong to this
        // process.
        assert_ne!(process_of_thread(tid.unwrap()), Some(own_pid()));
        let (to_child, from_here) = std::sync::mpsc::channel();
        let (to_here, from_child) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            to_here.send(nix::unistd::gettid().as_raw()).unwrap();
            from_here.recv().unwrap();
        });
        assert_eq!(process_of_thread(from_child.recv().unwrap()), Some(own_pid()));
        to_child.send(()).unwrap();
        thread.join().unwrap();
    }

    #[test]
    fn ranges_have_one_spelling() {
        let range = Range { start: 0x7f00_0000_1000, end: 0x7f00_0000_3000 };
        assert_eq!(range.to_string(), "7f0000001000-7f0000003000");
        assert_eq!(Range::parse("7f0000001000-7f0000003000"), Some(range));
        for bad in
            ["7F0000001000-7f0000003000", "07f0000001000-7f0000003000", "+1000-2000", "2000-1000", "1000", "-", ""]
        {
            assert_eq!(Range::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn bounds_are_above_zero_and_mappings_leave_out_what_the_kernel_makes() {
        assert!(image_bound(own_pid()).unwrap() > IMAGE_SLACK);
        assert!(maps_bound(own_pid()).unwrap() > std::fs::read("/proc/self/maps").unwrap().len() as u64);
        assert!(info_bound(own_pid()).unwrap() > 65536);
        let ranges = mappings(own_pid()).unwrap();
        assert!(ranges.is_sorted());
        let text = std::fs::read_to_string("/proc/self/maps").unwrap();
        let vvar =
            text.lines().filter(|line| ["[vdso]", "[vvar]", "[vsyscall]"].iter().any(|name| line.ends_with(name)));
        for line in vvar {
            let range = Range::parse(line.split(' ').next().unwrap());
            assert!(range.is_none_or(|range| !ranges.contains(&range)), "{line}");
        }
    }
}
