//! `ckptfs check`: what would refuse a dump. No mount is needed, and no process is stopped.

use std::collections::BTreeSet;
use std::io::Write;

use ckptfs_dumper::{Doing, Error, Kind, Pid, Result, Target};

use crate::escape::lines;
use crate::process::{Process, process_of_thread};

/// Prints a line for everything that would refuse a dump of the trees of `pids`, or of any process.
/// Returns whether there is nothing.
///
/// # Errors
/// ESRCH: there is no such process.
pub fn check(pids: &[Pid], out: &mut dyn Write) -> Result<bool> {
    let targets: Vec<Target> = match pids {
        [] => vec![everything()?],
        pids => pids.iter().map(|pid| tree(*pid)).collect::<Result<_>>()?,
    };
    let (mut known, mut is_clear) = (BTreeSet::new(), true);
    for target in targets {
        let mut found = ckptfs_dumper::check(&target)?;
        // One of the trees may be a part of another one.
        found.retain(|error| known.insert(error.to_string()));
        is_clear &= found.is_empty();
        out.write_all(lines(&found).as_bytes()).doing(|| "writing what was found")?;
    }
    Ok(is_clear)
}

fn tree(pid: Pid) -> Result<Target> {
    match process_of_thread(pid) {
        Some(leader) if leader == pid => Ok(Target::tree(pid)),
        Some(leader) => {
            Err(Error::new(Kind::NoProcess, format!("pid {pid}: a thread of process {leader}, not a process")))
        }
        None => Err(Error::new(Kind::NoProcess, format!("pid {pid}: no such process"))),
    }
}

/// All processes of this pid namespace, as one set of trees.
fn everything() -> Result<Target> {
    let roots = Process::all()?.into_iter().filter(|process| process.parent == 0 && !process.kernel);
    Ok(Target::set(roots.map(|process| process.id.pid).collect(), None))
}
