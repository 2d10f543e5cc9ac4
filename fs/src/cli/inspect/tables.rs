//! An image as tables for a person: who is there, what memory they have, what their descriptors lead to.

use std::io::Write;

use ckptfs_dumper::image::{Header, PAGE_SIZE, Record, Sink};
use ckptfs_dumper::{Doing, Pid, Result};
use indicatif::BinaryBytes;
use jiff::Timestamp;
use serde_json::Value;

use crate::cli::inspect::Totals;
use crate::cli::inspect::contents::{Contents, number, text};
use crate::cli::inspect::records::{escaped, printable};

/// The tables of the images of one input, each written when its image ends.
pub(super) struct Tables<'a> {
    out: &'a mut dyn Write,
    contents: Contents,
    totals: Totals,
}

impl<'a> Tables<'a> {
    pub(super) fn new(out: &'a mut dyn Write) -> Tables<'a> {
        Tables { out, contents: Contents::new(false), totals: Totals::default() }
    }

    /// Writes what an image without an end left, and the sums.
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
            self.line(format_args!("taken {taken}, kernel {kernel}, machine {arch}, format {version}"))?;
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
            let pid = number(process, "pid") as Pid;
            let threads = process.get("threads").and_then(Value::as_array).map_or(0, Vec::len);
            let state = state(process);
            if threads == 0 && state == "runs" {
                continue;
            }
            let of_it = contents.mappings.iter().filter(|mapping| mapping.pid == pid);
            let stored = of_it.map(|mapping| mapping.pages.len() as u64).sum::<u64>() * PAGE_SIZE;
            self.line(format_args!(
                "{pid:>9} {:>9} {:>9} {:>9} {threads:>7} {:>11} {state:<18} {}",
                number(process, "ppid"),
                number(process, "pgid"),
                number(process, "sid"),
                BinaryBytes(stored).to_string(),
                escaped(&contents.command(pid)),
            ))?;
        }
        Ok(())
    }

    fn memory(&mut self, contents: &Contents) -> Result<()> {
        let mut last = None;
        for mapping in &contents.mappings {
            if last != Some(mapping.pid) {
                last = Some(mapping.pid);
                self.line(format_args!("\nmemory of {} ({})", mapping.pid, escaped(&contents.name(mapping.pid))))?;
                self.line(format_args!(
                    "{:>16}-{:<16} PERM {:<9} {:>11} {:>11} WHAT",
                    "START", "END", "TYPE", "SIZE", "STORED"
                ))?;
            }
            let prot = number(&mapping.body, "prot");
            let bit = |mask: i32, letter: char| if prot & mask as u64 != 0 { letter } else { '-' };
            let kind = text(&mapping.body, "type");
            let shared = if kind.ends_with("SHM") { 's' } else { 'p' };
            let size = mapping.end.saturating_sub(mapping.start);
            self.line(format_args!(
                "{:>16x}-{:<16x} {}{}{}{shared} {:<9} {:>11} {:>11} {}",
                mapping.start,
                mapping.end,
                bit(libc::PROT_READ, 'r'),
                bit(libc::PROT_WRITE, 'w'),
                bit(libc::PROT_EXEC, 'x'),
                printable(&kind),
                BinaryBytes(size).to_string(),
                BinaryBytes(mapping.pages.len() as u64 * PAGE_SIZE).to_string(),
                escaped(&text(&mapping.body, "name")),
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
            let file = contents.open_file(*id);
            let position =
                file.get("position").map_or_else(|| "-".to_owned(), |position| escaped(&position.to_string()));
            self.line(format_args!(
                "{fd:>5} {:<14} {position:>12} {id:>5} {:<14} {}",
                printable(&text(&file, "kind")),
                flags(number(&file, "flags") as i32, *cloexec),
                escaped(&contents.what(*id)),
            ))?;
        }
        Ok(())
    }

    /// What belongs to no process.
    fn others(&mut self, contents: &Contents) -> Result<()> {
        for ((tag, task), it) in &contents.attributes {
            if *task <= 0 {
                let name = |field: &str| number(&it.body, field);
                self.line(format_args!(
                    "\n{tag}: id {}, key {:#x}, mode {:o}",
                    name("id"),
                    name("key") as u32,
                    name("mode")
                ))?;
            }
        }
        Ok(())
    }
}

/// What a process was doing, in a word or two.
fn state(process: &Value) -> String {
    if let Some(ended) = process.get("ended").filter(|ended| !ended.is_null()) {
        let status = number(ended, "status") as i32;
        return if libc::WIFEXITED(status) {
            format!("ended: {}", libc::WEXITSTATUS(status))
        } else {
            format!("ended: signal {}", libc::WTERMSIG(status))
        };
    }
    match process.get("stopped_by").and_then(Value::as_i64) {
        Some(signal) => format!("stopped: signal {signal}"),
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
