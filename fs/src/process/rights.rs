//! What a caller may do to processes: the kernel is asked, as the caller.

use ckptfs_dumper::{Context, Doing, Error, Identity, Kind, Pid, PidFd, Result};

use crate::process::{self, ProcId};

/// The refusal for a caller that may not read `pid`, or act on it.
pub fn refused(pid: Pid, who: &Identity, why: impl std::fmt::Display) -> Error {
    let Identity { uid, gid, .. } = who;
    let sentence = format!("pid {pid}: user {uid} (group {gid}) may not read it, or act on it: {why}");
    Error::new(Kind::System(libc::EACCES), sentence)
}

/// Whether `who` may read the memory of all of `pids`, as a debugger may (ptrace(2)). A process
/// that has ended has nothing to protect.
///
/// # Errors
/// EACCES: it may not. ESRCH: one is gone.
pub fn may_read(who: &Identity, pids: &[Pid]) -> Result<()> {
    let each: Vec<(Pid, Pid)> = pids.iter().filter(|pid| !process::has_ended(**pid)).map(|&pid| (pid, pid)).collect();
    may_read_copies(who, &each)
}

/// The same of processes that stand for others: of each pair, errors name the first, and the kernel
/// is asked about the second.
pub fn may_read_copies(who: &Identity, pids: &[(Pid, Pid)]) -> Result<()> {
    if who.is_as_mighty() || pids.is_empty() {
        return Ok(());
    }
    let ask = |&(shown, asked): &(Pid, Pid)| match who.open_memory(asked) {
        Ok(()) => Ok(()),
        Err(error) if matches!(error.errno(), Some(libc::EACCES | libc::EPERM)) => Err(refused(shown, who, error)),
        Err(error) => Err(error.kind_is(Kind::NoProcess)),
    };
    who.ask(|| pids.iter().try_for_each(ask))?
}

/// Whether `who` may send signals to all processes of `ids` that are still there (kill(2)).
///
/// # Errors
/// EACCES: it may not.
pub fn may_signal(who: &Identity, ids: &[ProcId]) -> Result<()> {
    if who.is_as_mighty() {
        return Ok(());
    }
    let mut targets = Vec::new();
    for id in ids {
        // Checked after the open, so the pidfd does not belong to a later process with the number.
        match PidFd::open(id.pid) {
            Ok(target) if id.is_alive() => targets.push(target),
            Ok(_) => {}
            Err(error) if error.kind() == Kind::NoProcess => {}
            Err(error) => return Err(error),
        }
    }
    let ask = |target: &PidFd| match who.signals(target) {
        Err(error) if error.errno() == Some(libc::EPERM) => Err(refused(target.pid(), who, error)),
        // A process that is gone need not be protected.
        _ => Ok(()),
    };
    who.ask(|| targets.iter().try_for_each(ask)).on(|| "asking whether a signal is permitted")?
}

/// Processes that a caller may read, as they are now: their address spaces are held.
pub struct Witness(Vec<(Pid, std::fs::File)>);

impl Witness {
    /// Opens all of `pids` as `who`.
    ///
    /// # Errors
    /// As of [`may_read`]. EMFILE: too many descriptors are open.
    pub fn new(who: &Identity, pids: &[Pid]) -> Result<Witness> {
        if who.is_as_mighty() {
            return Ok(Witness(Vec::new()));
        }
        may_read(who, pids)?;
        let open = |&pid: &Pid| {
            let path = format!("/proc/{pid}/maps");
            match std::fs::File::open(&path).doing(|| format!("opening {path}")) {
                Ok(maps) => Some(Ok((pid, maps))),
                // A process that is refused, or has ended, cannot be vouched for. This shows later.
                Err(error) if error.errno().is_some_and(|errno| [libc::EMFILE, libc::ENFILE].contains(&errno)) => {
                    Some(Err(error))
                }
                Err(_) => None,
            }
        };
        Ok(Witness(who.ask(|| pids.iter().filter_map(open).collect::<Result<Vec<_>>>())??))
    }

    /// Whether all of `pids` still run the program that they ran when they were opened, or have
    /// ended. A process that executes another program gets another address space, and with it
    /// perhaps another user.
    pub fn is_still_true(&self, who: &Identity, pids: &[Pid]) -> Result<()> {
        if who.is_as_mighty() {
            return Ok(());
        }
        may_read(who, pids)?;
        let is_same = |pid: &Pid| {
            let mut maps = self.0.iter().filter(|(known, _)| known == pid).map(|(_, maps)| maps);
            // The file is empty once the address space is gone (proc_pid_maps(5)).
            maps.any(|mut maps| std::io::Read::read(&mut maps, &mut [0]).is_ok_and(|read| read == 1))
        };
        match pids.iter().find(|pid| !is_same(pid) && !process::has_ended(**pid)) {
            Some(pid) => Err(refused(*pid, who, "it has executed another program meanwhile, or is new")),
            None => Ok(()),
        }
    }
}
