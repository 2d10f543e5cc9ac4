//! An image as tables for people: its processes, their memory, and what their descriptors lead to.

use std::io::Write;

use ckptfs_dumper::image::{Header, PAGE_SIZE, Record, Sink};
use ckptfs_dumper::inspect::{ShownMapping, ShownProcess};
use ckptfs_dumper::{Doing, Result, signal_name};
use indicatif::BinaryBytes;
use jiff::Timestamp;

use crate::cli::inspect::contents::Contents;
use crate::cli::inspect::feed::Totals;
use crate::cli::inspect::records::printable;
use crate::escape::escaped;

/// The tables of the images of one input. Each is written when its image ends.
pub(super) struct Tables<'a> {
    out: &'a mut dyn Write,
    contents: Contents,
    totals: Totals,
}

impl<'a> Tables<'a> {
    pub(super) fn new(out: &'a mut dyn Write) -> Tables<'a> {
        Tables { out, contents: Contents::new(false), totals: Totals::default() }
    }

    /// Writes the rest of an image without an end, and the sums.
    pub(super) fn close(&mut self) -> Result<()> {
        if self.contents.header.is_some() {
            self.image()?;
        }
        let totals = self.totals;
        self.line(format_args!("total: {totals}"))
    }

    fn line(&mut self, text: std::fmt::Arguments<'_>) -> Result<()> {
        writeln!(self.out, "{text}").doing(|| "writing the tables")
    }

    fn image(&mut self) -> Result<()> {
        let contents = std::mem::replace(&mut self.contents, Contents::new(false));
        if let Some(Header { version, arch, total, time_ns, .. }) = &contents.header {
            let taken = Timestamp::from_nanosecond(i128::from(*time_ns)).map_or(time_ns.to_string(), |t| t.to_string());
            let kernel = printable(&contents.kernel);
            self.line(format_args!("image {}: {} ({total} bytes)", self.totals.images + 1, BinaryBytes(*total)))?;
            let signed = if contents.is_signed { ", signed" } else { "" };
            self.line(format_args!("taken {taken}, kernel {kernel}, machine {arch}, format {version}{signed}"))?;
        }
        self.processes(&contents)?;
        self.memory(&contents)?;
        self.descriptors(&contents)?;
        self.others(&contents)?;
        self.line(format_args!(""))
    }

    fn processes(&mut self, contents: &Contents) -> Result<()> {
        self.line(format_args!(
            "\n{:>9} {:>9} {:>9} {:>9} {:>7} {:>11} {:<18} COMMAND",
            "PID", "PARENT", "GROUP", "SESSION", "THREADS", "STORED", "STATE"
        ))?;
        for process in &contents.processes {
            let ShownProcess { pid, ppid, pgid, sid, threads, .. } = *process;
            let state = state(process);
            // Such a process exists only while others are made.
            if threads == 0 && state == "runs" {
                continue;
            }
            let of_it = contents.mappings.iter().filter(|mapping| mapping.shown.tid == pid);
            let stored = of_it.map(|mapping| mapping.pages.len() as u64).sum::<u64>() * PAGE_SIZE;
            self.line(format_args!(
                "{pid:>9} {ppid:>9} {pgid:>9} {sid:>9} {threads:>7} {:>11} {state:<18} {}",
                BinaryBytes(stored).to_string(),
                escaped(&contents.command(pid)),
            ))?;
        }
        Ok(())
    }

    fn memory(&mut self, contents: &Contents) -> Result<()> {
        let mut last = None;
        for mapping in &contents.mappings {
            let ShownMapping { tid, start, end, prot, kind, is_shared, name, .. } = &mapping.shown;
            if last != Some(*tid) {
                last = Some(*tid);
                self.line(format_args!("\nmemory of {tid} ({})", escaped(&contents.name(*tid))))?;
                self.line(format_args!(
                    "{:>16}-{:<16} PERM {:<9} {:>11} {:>11} WHAT",
                    "START", "END", "TYPE", "SIZE", "STORED"
                ))?;
            }
            let bit = |mask: i32, letter: char| if prot & mask != 0 { letter } else { '-' };
            let shared = if *is_shared { 's' } else { 'p' };
            let size = end.saturating_sub(*start);
            self.line(format_args!(
                "{start:>16x}-{end:<16x} {}{}{}{shared} {:<9} {:>11} {:>11} {}",
                bit(libc::PROT_READ, 'r'),
                bit(libc::PROT_WRITE, 'w'),
                bit(libc::PROT_EXEC, 'x'),
                printable(kind),
                BinaryBytes(size).to_string(),
                BinaryBytes(mapping.pages.len() as u64 * PAGE_SIZE).to_string(),
                escaped(name),
            ))?;
        }
        Ok(())
    }

    fn descriptors(&mut self, contents: &Contents) -> Result<()> {
        let mut last = None;
        for ((tid, fd), (id, cloexec)) in &contents.descriptors {
            if last != Some(*tid) {
                last = Some(*tid);
                self.line(format_args!("\ndescriptors of {tid} ({})", escaped(&contents.name(*tid))))?;
                self.line(format_args!(
                    "{:>5} {:<14} {:>12} {:>5} {:<14} WHAT",
                    "FD", "KIND", "POSITION", "OPEN", "FLAGS"
                ))?;
            }
            let file = contents.files.get(id).map(|file| &file.shown);
            let position = file.and_then(|file| file.position.as_ref());
            let position = position.map_or_else(|| "-".to_owned(), |position| escaped(&position.to_string()));
            self.line(format_args!(
                "{fd:>5} {:<14} {position:>12} {id:>5} {:<14} {}",
                printable(file.map_or("", |file| &file.kind)),
                flags(file.map_or(0, |file| file.flags), *cloexec),
                escaped(&contents.what(*id)),
            ))?;
        }
        Ok(())
    }

    /// What belongs to no process.
    fn others(&mut self, contents: &Contents) -> Result<()> {
        for ((tag, task), it) in &contents.attributes {
            if *task <= 0 {
                let (id, key, mode) = it.ipc.unwrap_or_default();
                self.line(format_args!("\n{tag}: id {id}, key {key:#x}, mode {mode:o}"))?;
            }
        }
        Ok(())
    }
}

/// The state of a process, in a word or two.
fn state(process: &ShownProcess) -> String {
    if let Some((status, _)) = process.ended {
        return if libc::WIFEXITED(status) {
            format!("ended: {}", libc::WEXITSTATUS(status))
        } else {
            format!("ended: {}", signal_name(libc::WTERMSIG(status)))
        };
    }
    match process.stopped_by {
        Some(signal) => format!("stopped: {}", signal_name(signal)),
        None => "runs".into(),
    }
}

/// O_* of a description, in words.
fn flags(flags: i32, cloexec: bool) -> String {
    let mode = match flags & libc::O_ACCMODE {
        _ if flags & libc::O_PATH != 0 => "path",
        libc::O_RDONLY => "r",
        libc::O_WRONLY => "w",
        _ => "rw",
    };
    let names = [(libc::O_APPEND, "append"), (libc::O_NONBLOCK, "nonblock"), (libc::O_DIRECT, "direct")];
    let mut words = vec![mode];
    words.extend(names.iter().filter(|(bit, _)| flags & bit == *bit).map(|(_, name)| *name));
    words.extend(cloexec.then_some("cloexec"));
    words.join(",")
}

impl Sink for Tables<'_> {
    fn header(&mut self, header: &Header) -> Result<()> {
        self.contents.header = Some(*header);
        Ok(())
    }

    fn record(&mut self, record: Record) -> Result<()> {
        self.contents.record(&record)?;
        self.totals.record(record)
    }

    fn pages(&mut self, address: u64, bytes: &[u8]) -> Result<()> {
        self.contents.pages(address, bytes);
        self.totals.pages(address, bytes)
    }

    fn end_of_pages(&mut self) -> Result<()> {
        Ok(())
    }

    fn end(&mut self, total: u64) -> Result<()> {
        self.image()?;
        self.totals.end(total)
    }
}
