//! The engine as a library: checkpoints a process into a file, kills it, restores it from the file,
//! and shows that it runs on. `there_and_back PID FILE`, as root.
//!
//! The process must not be a child that this program's caller waits for. The restored process is a
//! child of this program, and of init when this program ends.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::process::ExitCode;

use ckptfs_dumper::{
    Checkpoint, Doing, Error, Options, Pid, ReadAhead, RestoreOptions, Restorer, Result, SnapshotUse, Target, Tracer,
};

/// How many bytes are read or written at once.
const UNIT: usize = 1 << 20;

fn main() -> ExitCode {
    match run(&std::env::args().collect::<Vec<_>>()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("there_and_back: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[String]) -> Result<()> {
    let usage = || Error::os("usage: there_and_back PID FILE", libc::EINVAL);
    let [_, pid, path] = args else { return Err(usage()) };
    let pid: Pid = pid.parse().map_err(|_| usage())?;
    let mut file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(path)
        .doing(|| format!("opening {path}"))?;

    let bytes = dump(pid, &mut file, path)?;
    println!("pid {pid}: {bytes} bytes in {path}, and it runs on");
    end(pid)?;
    println!("pid {pid}: killed");
    restore(&mut file, path)?;
    println!("pid {pid}: restored");
    Ok(())
}

/// Writes the image of a process tree to `file`. The tree is stopped until the snapshot is taken,
/// not until it is written.
fn dump(pid: Pid, file: &mut File, path: &str) -> Result<u64> {
    let tracer = Tracer::new(Target::tree(pid), Options::default(), None);
    let snapshot = tracer.snapshot(None, SnapshotUse::Stream)?;
    let mut offset = 0;
    while offset < snapshot.image_len() {
        let piece = snapshot.read_image(offset, UNIT, ReadAhead::Ours)?;
        file.write_all(&piece).doing(|| format!("writing {path}"))?;
        offset += piece.len() as u64;
    }
    Ok(offset)
}

/// Kills the tree's root, and waits until its number is free.
fn end(pid: Pid) -> Result<()> {
    let pid = nix::unistd::Pid::from_raw(pid);
    nix::sys::signal::kill(pid, nix::sys::signal::SIGKILL).doing(|| format!("killing pid {pid}"))
}

/// Restores the processes of an image. The last `write` returns when they run.
fn restore(file: &mut File, path: &str) -> Result<()> {
    let mut restorer = Restorer::new(RestoreOptions::default())?;
    file.seek(SeekFrom::Start(0)).doing(|| format!("reading {path}"))?;
    let mut buffer = vec![0; UNIT];
    loop {
        match file.read(&mut buffer).doing(|| format!("reading {path}"))? {
            0 => return restorer.finish(),
            len => restorer.write(&buffer[..len])?,
        }
    }
}
