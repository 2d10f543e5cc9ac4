//! `ckptfs ps`: the process trees that the mounts show, and whether they can be dumped.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::io::{ErrorKind, Write};
use std::path::Path;

use ckptfs_dumper::{Doing, Pid, Result};
use serde_json::Value;

use crate::cli::progress::complain;
use crate::cli::why::mounts;
use crate::escape::escaped;
use crate::process::{Process, memory_in_use};

/// One tree: a process and all its descendants.
struct Row {
    pid: Pid,
    /// How many processes above it are shown as well.
    depth: usize,
    /// Bytes of memory in use.
    size: u64,
    last_dump: String,
    name: String,
    /// `yes`, or what blocks a dump.
    dumpable: String,
}

/// Prints a table for each mount.
///
/// # Errors
/// ENOENT: there is no mount.
pub fn ps(out: &mut dyn Write) -> Result<()> {
    for mount in mounts()? {
        match rows(&mount) {
            Ok(rows) => out.write_all(table(&mount, &rows).as_bytes()).doing(|| "writing the processes")?,
            // It may be unmounted by now, or its daemon may be dead. The others are still asked.
            Err(error) => complain(&error),
        }
    }
    Ok(())
}

fn rows(mount: &Path) -> Result<Vec<Row>> {
    let doing = || format!("reading {}", mount.join("status").display());
    let status = fs::read_to_string(mount.join("status")).doing(doing)?;
    let status: Value = serde_json::from_str(&status).unwrap_or_default();
    let entries = fs::read_dir(mount).doing(|| format!("reading {}", mount.display()))?;
    let shown: BTreeSet<Pid> = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
    let below = Below::read()?;
    let mut rows = Vec::new();
    let is_root = |pid: &&Pid| below.parents.get(pid).is_none_or(|parent| !shown.contains(parent));
    // Children are taken before the siblings of their parent.
    let mut queue: Vec<(Pid, usize)> = shown.iter().filter(is_root).rev().map(|pid| (*pid, 0)).collect();
    while let Some((pid, depth)) = queue.pop() {
        let children = below.children.get(&pid).into_iter().flatten().rev();
        queue.extend(children.filter(|child| shown.contains(child)).map(|child| (*child, depth + 1)));
        let dir = mount.join(pid.to_string());
        let Some(dumpable) = verdict(&dir.join("check")) else { continue };
        let last_dump = status["last_dump"][pid.to_string()].as_str().unwrap_or("-").to_owned();
        rows.push(Row { pid, depth, size: below.size_of(pid), last_dump, name: name_of(pid), dumpable });
    }
    Ok(rows)
}

/// What blocks a dump, by the text of `check`. `None` if the process has ended.
fn verdict(check: &Path) -> Option<String> {
    match fs::read_to_string(check) {
        Ok(text) => Some(shortened(&text)),
        Err(error) if [ErrorKind::NotFound, ErrorKind::NotADirectory].contains(&error.kind()) => None,
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => None,
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Some("?".to_owned()),
        Err(error) => Some(format!("? ({error})")),
    }
}

/// The first of several reasons, and how many there are besides it.
fn shortened(text: &str) -> String {
    let mut lines = text.lines();
    match (lines.next(), lines.count()) {
        (None, _) => "yes".to_owned(),
        (Some(first), 0) => format!("no: {first}"),
        (Some(first), more) => format!("no: {first} (and {more} more)"),
    }
}

fn name_of(pid: Pid) -> String {
    let name = fs::read(format!("/proc/{pid}/comm")).unwrap_or_default();
    escaped(String::from_utf8_lossy(&name).trim_end())
}

/// All processes, and how they descend from each other.
struct Below {
    parents: BTreeMap<Pid, Pid>,
    children: BTreeMap<Pid, Vec<Pid>>,
    /// Bytes of memory in use.
    memory: BTreeMap<Pid, u64>,
}

impl Below {
    fn read() -> Result<Below> {
        let parents: BTreeMap<Pid, Pid> =
            Process::all()?.into_iter().map(|process| (process.id.pid, process.parent)).collect();
        let mut children: BTreeMap<Pid, Vec<Pid>> = BTreeMap::new();
        for (pid, parent) in &parents {
            children.entry(*parent).or_default().push(*pid);
        }
        let memory = parents.keys().filter_map(|pid| Some((*pid, memory_in_use(*pid)?))).collect();
        Ok(Below { parents, children, memory })
    }

    /// The memory in use of a process and its descendants.
    fn size_of(&self, pid: Pid) -> u64 {
        let (mut queue, mut size) = (vec![pid], 0);
        while let Some(pid) = queue.pop() {
            size += self.memory.get(&pid).copied().unwrap_or(0);
            queue.extend(self.children.get(&pid).into_iter().flatten());
        }
        size
    }
}

fn table(mount: &Path, rows: &[Row]) -> String {
    let mut text = String::new();
    let name = |row: &Row| format!("{:1$}{2}", "", 2 * row.depth, row.name);
    let wide = |column: &dyn Fn(&Row) -> usize, least: usize| rows.iter().map(column).max().unwrap_or(0).max(least);
    let (pids, names) = (wide(&|row| row.pid.to_string().len(), 5), wide(&|row| name(row).chars().count(), 7));
    let dumps = wide(&|row| row.last_dump.len(), 9);
    let _in_memory = writeln!(text, "{}", escaped(&mount.display().to_string()));
    let _in_memory =
        writeln!(text, "{:>pids$} {:>7}  {:dumps$}  {:names$}  DUMPABLE", "PID", "SIZE", "LAST DUMP", "COMMAND");
    for row in rows {
        let Row { pid, size, last_dump, dumpable, .. } = row;
        let (size, name) = (readable(*size), name(row));
        let _in_memory = writeln!(text, "{pid:>pids$} {size:>7}  {last_dump:dumps$}  {name:names$}  {dumpable}");
    }
    text
}

/// A number of bytes as ls(1) shows it with -h.
fn readable(bytes: u64) -> String {
    let units = ["", "K", "M", "G", "T"];
    let (mut value, mut unit) = (bytes as f64, 0);
    while value >= 1024.0 && unit + 1 < units.len() {
        (value, unit) = (value / 1024.0, unit + 1);
    }
    if unit == 0 || value >= 10.0 { format!("{value:.0}{}", units[unit]) } else { format!("{value:.1}{}", units[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_short_and_aligned() {
        assert_eq!(shortened(""), "yes");
        assert_eq!(shortened("a\n"), "no: a");
        assert_eq!(shortened("a\nb\nc\n"), "no: a (and 2 more)");
        assert_eq!([0, 1023, 1536, 20 << 20].map(readable), ["0", "1023", "1.5K", "20M"]);
        let row = |pid, depth, name: &str| Row {
            pid,
            depth,
            size: 1 << 20,
            last_dump: "-".into(),
            name: name.into(),
            dumpable: "yes".into(),
        };
        let wanted = "/ckpt\n  PID    SIZE  LAST DUMP  COMMAND  DUMPABLE\n    7    1.0M  -          sh       yes\n   \
                      12    1.0M  -            sleep  yes\n";
        assert_eq!(table(Path::new("/ckpt"), &[row(7, 0, "sh"), row(12, 1, "sleep")]), wanted);
    }
}
