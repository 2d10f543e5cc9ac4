//! `ckptfs core`: one process of a stored image as an ELF core file.

use std::fs::File;
use std::io::{Seek, Write};
use std::os::fd::AsFd;
use std::path::Path;

use ckptfs_dumper::{Checkpoint as _, Core, Doing, Error, Kind, Pid, Result, StoredImage};
use nix::fcntl::{FcntlArg, OFlag, fcntl};

use crate::cli::progress::Bar;

/// Bytes copied at a time.
const PIECE: usize = 1 << 20;

/// Writes the core of `pid`, or of the image's root, to standard output.
pub fn write(image: &Path, pid: Option<Pid>) -> Result<()> {
    let stored = StoredImage::open(image, None)?;
    let pids = stored.processes()?;
    let pid = match (pid, pids.first()) {
        (Some(pid), _) if !pids.contains(&pid) => {
            let listed: Vec<String> = pids.iter().map(Pid::to_string).collect();
            let sentence = format!("{}: pid {pid} is not in it: there are {}", image.display(), listed.join(" "));
            return Err(Error::new(Kind::NoProcess, sentence));
        }
        (Some(pid), _) | (None, Some(&pid)) => pid,
        (None, None) => return Err(Error::damaged(format!("{}: there is no process in it", image.display()))),
    };
    let core = stored.core(pid)?;
    let out = std::io::stdout().as_fd().try_clone_to_owned().doing(|| "duplicating standard output")?;
    copy(&core, &mut File::from(out), &Bar::new(&image.display().to_string(), Some(core.len())))
}

/// Bytes of a page of `core`. A page of zeros becomes a hole, as cp(1) makes it. The notes of many
/// threads have such pages, in the extended state that a thread does not use.
const BLOCK: usize = 4096;

/// Writes `bytes`, which begin at offset `at` of the core file, without the blocks of zeros.
fn write_sparse(out: &mut File, bytes: &[u8], at: u64) -> std::io::Result<()> {
    let first = (BLOCK - at as usize % BLOCK).min(bytes.len());
    let (head, rest) = bytes.split_at(first);
    for block in std::iter::once(head).chain(rest.chunks(BLOCK)) {
        if block.iter().all(|byte| *byte == 0) {
            out.seek_relative(block.len() as i64)?;
        } else {
            out.write_all(block)?;
        }
    }
    Ok(())
}

/// Writes all of `core` at the offset of `out`. If `out` is a file that ends there, its holes stay
/// holes.
fn copy(core: &Core, out: &mut File, bar: &Bar) -> Result<()> {
    let doing = || "writing standard output";
    let start = end_of_file(out)?;
    let mut bytes = vec![0; PIECE];
    let mut at = 0;
    while at < core.len() {
        let data = match start {
            Some(_) => core.seek(at, true)?.unwrap_or(core.len()),
            None => at,
        };
        if data > at {
            out.seek_relative((data - at).cast_signed()).doing(doing)?;
        }
        let end = match start {
            Some(_) => core.seek(data, false)?.unwrap_or(data),
            None => core.len(),
        };
        at = data;
        while at < end {
            let wanted = (end - at).min(PIECE as u64) as usize;
            let got = core.read_at(at, &mut bytes[..wanted])?;
            if got == 0 {
                return Err(Error::damaged(format!("the core file has only {at} of {} bytes", core.len())));
            }
            match start {
                Some(_) => write_sparse(out, &bytes[..got], at).doing(doing)?,
                None => out.write_all(&bytes[..got]).doing(doing)?,
            }
            at += got as u64;
            bar.reach(at);
        }
    }
    match start {
        Some(start) => out.set_len(start + core.len()).doing(doing),
        None => Ok(()),
    }
}

/// The offset of `out`, if `out` is a regular file that ends there and was not opened with
/// O_APPEND.
fn end_of_file(out: &mut File) -> Result<Option<u64>> {
    let metadata = out.metadata().doing(|| "stat of standard output")?;
    let flags = fcntl(&*out, FcntlArg::F_GETFL).doing(|| "flags of standard output")?;
    if !metadata.is_file() || flags & OFlag::O_APPEND.bits() != 0 {
        return Ok(None);
    }
    let at = out.stream_position().doing(|| "standard output's offset")?;
    Ok((at >= metadata.len()).then_some(at))
}
