//! How to enter a process that nothing was injected into. It needs a `syscall` instruction, a
//! signal restorer, an unused end of the stack, and a hole in the address space.
//!
//! Slow searches are made while the process still runs, in its executable mappings. When it is
//! stopped, their results still hold if the mappings are the same.

use crate::error::{Error, Kind, Result};
use crate::freeze::frozen::FrozenProcess;
use crate::freeze::hole::{hole, left_scratches, ranges};
use crate::sys::memory::{MemFile, RemotePtr};
use crate::sys::pid::Pid;
use crate::sys::proc;
use crate::sys::proc::maps::{self, Mapping};
use crate::sys::proc::status::Fields;
use crate::sys::remote::batch::Batch;
use crate::sys::remote::gadget;
use crate::sys::remote::hijack::{EntryPoint, Failed};
use crate::sys::remote::inject::{CallOf, Injected};
use crate::sys::remote::sigframe::{self, FRAME_ROOM};
use crate::sys::remote::way_home::HOME_ROOM;

/// What was found while the process ran.
pub struct Prelook {
    maps: Vec<Mapping>,
    vdso_digest: String,
    syscall: RemotePtr,
    restorer: Option<RemotePtr>,
}

impl Prelook {
    /// Examines a process that may be running.
    pub fn find(pid: Pid) -> Result<Self> {
        let maps = maps::maps(pid)?;
        Self::of(pid, maps, &MemFile::open(pid)?)
    }

    fn of(pid: Pid, maps: Vec<Mapping>, mem: &MemFile) -> Result<Self> {
        let (code, syscall, clean) = gadget::code(&maps, mem, pid)?;
        let vdso_digest = gadget::digest(&code);
        let restorer = if clean { restorer(&maps, mem) } else { None };
        Ok(Self { maps, vdso_digest, syscall, restorer })
    }
}

/// The way into a stopped process (or a stopped thread of one).
pub struct Entry {
    /// The process.
    pub pid: Pid,
    /// Its memory.
    pub mem: MemFile,
    /// Its mappings.
    pub maps: Vec<Mapping>,
    /// What a killed daemon has left mapped in it. [`inside`] removes it, so `maps` lacks it.
    left: Vec<(u64, u64)>,
    /// The digest of its vDSO's code.
    pub vdso_digest: String,
    /// Where its calls are made.
    pub entry: EntryPoint,
}

impl Entry {
    /// Opens the memory of the process, which must be stopped, and uses `prelook` if it still
    /// holds.
    pub fn open(pid: Pid, prelook: Option<Prelook>) -> Result<Self> {
        // Opened anew: an execve in the meantime would have changed the address space.
        let mem = MemFile::open(pid)?;
        let maps = maps::maps(pid)?;
        let prelook = match prelook.filter(|prelook| prelook.maps == maps) {
            Some(prelook) => prelook,
            None => Prelook::of(pid, maps, &mem)?,
        };
        let Prelook { maps, vdso_digest, syscall, restorer } = prelook;
        let status = Fields::read(&format!("/proc/{pid}/status"))?;
        let hole = hole(ranges(&maps)).ok_or_else(|| full(pid))?;
        let home = restorer.zip(stack_end(&maps, &mem));
        let tgid = status.numbers("NStgid").last().copied().unwrap_or(pid as u64) as Pid;
        let entry = EntryPoint { syscall, home, wake: wake_signal(pid, &status)?, tgid, hole };
        let left = left_scratches(&maps, &mem)?;
        let stays = |mapping: &Mapping| !left.iter().any(|(start, end)| (*start..*end).contains(&mapping.start));
        let maps = maps.into_iter().filter(stays).collect();
        Ok(Self { pid, mem, maps, left, vdso_digest, entry })
    }
}

/// Refuses a process that could not be entered if it were stopped now.
pub fn check(pid: Pid) -> Result<()> {
    let Prelook { maps, .. } = Prelook::find(pid)?;
    hole(ranges(&maps)).ok_or_else(|| full(pid))?;
    refuse_crowded(pid, maps.len())?;
    wake_signal(pid, &Fields::read(&format!("/proc/{pid}/status"))?).map(drop)
}

/// Gives all processes of a tree the same hole. A process that is rebuilt as the copy of another
/// has the mappings of both for a while.
pub fn share_hole<'e>(entries: impl IntoIterator<Item = &'e mut Entry>) -> Result<RemotePtr> {
    let mut entries: Vec<&mut Entry> = entries.into_iter().collect();
    let shared = match &entries[..] {
        [only] => only.entry.hole,
        _ => {
            // What a killed daemon has left is removed only when the process has been entered.
            let used = |entry: &Entry| ranges(&entry.maps).chain(entry.left.iter().copied()).collect::<Vec<_>>();
            let mut all: Vec<(u64, u64)> = entries.iter().flat_map(|entry| used(entry)).collect();
            all.sort_unstable();
            hole(all).ok_or_else(|| full(entries.first().map_or(0, |entry| entry.pid)))?
        }
    };
    entries.iter_mut().for_each(|entry| entry.entry.hole = shared);
    Ok(shared)
}

fn full(pid: Pid) -> Error {
    Error::unsupported(format!("pid {pid}: its address space is full"))
}

fn restorer(maps: &[Mapping], mem: &MemFile) -> Option<RemotePtr> {
    // A C library's text is some 2 MiB. At most four times that is searched, to bound the time. It
    // is read piece by piece, because the restorer is near the beginning, and the process is
    // stopped meanwhile.
    const MOST: u64 = 8 << 20;
    const PIECE: usize = 64 << 10;
    let mut piece = vec![0; PIECE];
    let texts = maps.iter().filter(|m| m.prot & libc::PROT_EXEC != 0 && m.ino != 0 && m.prot & libc::PROT_READ != 0);
    let c_library = |m: &&Mapping| {
        let name = String::from_utf8_lossy(&m.name);
        name.contains("libc") || name.contains("ld-musl")
    };
    let (first, then): (Vec<&Mapping>, Vec<&Mapping>) = texts.partition(c_library);
    for text in first.into_iter().chain(then.into_iter().take(2)) {
        let end = text.end.min(text.start + MOST);
        // The pieces overlap, because an instruction may lie across the end of one.
        for from in (text.start..end).step_by(PIECE - gadget::SIGRETURN_LEN) {
            let code = &mut piece[..(end - from).min(PIECE as u64) as usize];
            mem.read(RemotePtr(from), code).ok()?;
            if let Some(at) = gadget::sigreturn(code) {
                return Some(RemotePtr(from + at));
            }
        }
    }
    None
}

fn stack_end(maps: &[Mapping], mem: &MemFile) -> Option<RemotePtr> {
    let stack = maps.iter().find(|mapping| mapping.name == b"[stack]")?;
    if stack.end - stack.start < 2 * HOME_ROOM as u64 || stack.prot & libc::PROT_WRITE == 0 {
        return None;
    }
    let mut bytes = vec![0; HOME_ROOM];
    mem.read(RemotePtr(stack.start), &mut bytes).ok()?;
    let is_unused = |room: &[u8]| room.iter().all(|byte| *byte == 0) || sigframe::is_left_behind(room);
    bytes.chunks(FRAME_ROOM).all(is_unused).then_some(RemotePtr(stack.start))
}

fn wake_signal(pid: Pid, status: &Fields) -> Result<i32> {
    let mut pending = status.hex("ShdPnd");
    // A program may wait for a blocked signal (sigwait, signalfd), so it counts as caught.
    let mut caught = status.hex("SigCgt");
    for tid in proc::numbers(&format!("/proc/{pid}/task"))? {
        if let Ok(status) = Fields::read(&format!("/proc/{pid}/task/{tid}/status")) {
            pending |= status.hex("SigPnd");
            caught |= status.hex("SigBlk");
        }
    }
    let quiet = |signal: &i32, set: u64| set >> (signal - 1) & 1 == 0;
    let ignored_by_default = [libc::SIGWINCH, libc::SIGURG, libc::SIGCHLD];
    // The last resort would end the process if the daemon died within the batch, so it is used only
    // if all three are pending.
    let others = libc::SIGRTMIN()..=64;
    ignored_by_default
        .into_iter()
        .find(|signal| quiet(signal, pending | caught))
        .or_else(|| ignored_by_default.into_iter().find(|signal| quiet(signal, pending)))
        .or_else(|| others.into_iter().find(|signal| quiet(signal, pending)))
        .ok_or_else(|| Error::new(Kind::Busy, format!("pid {pid}: every signal is pending")))
}

/// Runs `work` with the stub injected into a process. It removes the stub again on success and on
/// failure. `call_of` gives the calls that its threads were stopped in.
pub fn inside<T>(
    process: &mut FrozenProcess,
    entry: &Entry,
    call_of: CallOf<'_>,
    work: impl FnOnce(&mut Injected<'_>, &mut FrozenProcess) -> Result<T>,
) -> Result<T> {
    let pid = process.pid;
    if process.threads.is_empty() {
        return Err(Error::new(Kind::NoProcess, format!("pid {pid}: it has ended")));
    }
    let leader = process.threads.remove(0);
    let mut injected = match Injected::inject(leader, &entry.mem, entry.entry.clone(), call_of) {
        Ok(injected) => injected,
        Err(failed) => {
            let is_full = failed.error.errno() == Some(libc::ENOMEM);
            let error = keep_failed(process, failed);
            return Err(if is_full { refuse_crowded(pid, entry.maps.len()).err().unwrap_or(error) } else { error });
        }
    };
    let result = remove_left(&mut injected, process, entry).and_then(|()| work(&mut injected, process));
    match injected.eject() {
        Ok(leader) => process.threads.push(leader),
        Err(failed) => return Err(keep_failed(process, failed)),
    }
    result
}

/// Refuses a process that has as many mappings as the kernel allows.
fn refuse_crowded(pid: Pid, has: usize) -> Result<()> {
    /// A mapping in the middle of another one makes three of it.
    const SPARE: usize = 3;
    match proc::max_map_count() {
        Some(most) if has + SPARE >= most => Err(Error::unsupported(format!(
            "pid {pid}: it has {has} mappings, vm.max_map_count allows {most}, and a process without room for one more cannot be checkpointed"
        ))),
        _ => Ok(()),
    }
}

/// Unmaps what a killed daemon has left.
///
/// # Errors
/// [`Kind::Busy`]: a thread is still on its way out of it.
fn remove_left(injected: &mut Injected<'_>, process: &FrozenProcess, entry: &Entry) -> Result<()> {
    if entry.left.is_empty() {
        return Ok(());
    }
    let mut places = vec![injected.regs()?.rip];
    for thread in &process.threads {
        places.push(thread.regs()?.rip);
    }
    let mut batch = Batch::new(injected.scratch());
    for (start, end) in &entry.left {
        if places.iter().any(|place| (*start..*end).contains(place)) {
            let busy = format!("pid {}: it is on its way out of the code of a daemon that was killed", entry.pid);
            return Err(Error::new(Kind::Busy, busy));
        }
        batch.call(libc::SYS_munmap, [*start, end - start]);
    }
    injected.run(batch).map(drop)
}

/// A thread that could not be entered stays stopped, like the whole tree.
fn keep_failed(process: &mut FrozenProcess, failed: Failed) -> Error {
    process.threads.extend(failed.task);
    failed.error.on(format_args!("pid {}", process.pid))
}

/// Swaps the thread number `at` of the list with the thread that is inside the stub. Returns its
/// id.
pub fn take_turns(injected: &mut Injected<'_>, process: &mut FrozenProcess, at: usize) -> Result<Pid> {
    let next = process.threads.remove(at);
    let tid = next.tid();
    match injected.exchange(next) {
        Ok(before) => process.threads.insert(at, before),
        Err(failed) => return Err(keep_failed(process, failed)),
    }
    Ok(tid)
}
