//! One mapping of an address space: a VMA (the kernel's vm_area_struct), as a record that opens a list of pages.
//!
//! Pages that a program made its own are in the image; clean pages of a file, absent ones and the zero page are not. A private
//! mapping with pages is made writable first, filled, and gets its protection at the end.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::image::frame::{Record, Tag};
use crate::image::page_runs::PageRuns;
use crate::image::record_set::RecordView;
use crate::kind::record_sort::{RecordSort, Role, Shown, ShownMapping};
use crate::kind::refs::FileIds;
use crate::sys::memory::PAGE;
use crate::sys::pid::Pid;
use crate::sys::proc;
use crate::sys::proc::maps::{self, Mapping};
use crate::sys::remote::checked::Checked;
use crate::sys::remote::owned::Owned;
use crate::sys::sysvipc;

/// The record's tag.
pub const TAG: Tag = Tag(*b"AREA");
/// Its row in the table of records.
pub const SORT: RecordSort = RecordSort { tag: TAG, role: Role::Mapping, show };

/// What it is made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Type {
    /// Private anonymous memory.
    Anon,
    /// A private mapping of a file.
    File,
    /// A shared mapping of a file: its contents are the file's.
    FileShm,
    /// Shared anonymous memory: as a file that nobody can open.
    AnonShm,
    /// An attachment of System V shared memory, or a part of one.
    IpcShm,
}

fn show(record: &RecordView<'_>) -> Result<Shown> {
    #[derive(Deserialize)]
    struct TypeName {
        #[serde(rename = "type")]
        kind: String,
    }
    let vma: Vma = record.body()?;
    let kind = record.body::<TypeName>()?.kind;
    let (name, is_shared) = (String::from_utf8_lossy(vma.name()).into_owned(), vma.kind.is_shared());
    let Vma { tid, start, end, prot, file, .. } = vma;
    Ok(Shown::Mapping(ShownMapping { tid, start, end, prot, kind, is_shared, file, name }))
}

impl Type {
    /// MAP_SHARED.
    pub fn is_shared(self) -> bool {
        matches!(self, Self::FileShm | Self::AnonShm | Self::IpcShm)
    }
}

/// The record.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Vma {
    /// The process.
    pub tid: Pid,
    /// First address.
    pub start: u64,
    /// First address behind.
    pub end: u64,
    /// PROT_* bits.
    pub prot: i32,
    /// What it is made from.
    #[serde(rename = "type")]
    pub kind: Type,
    /// Two-letter codes of VmFlags in proc_pid_smaps(5), those that are put back; `xfile`: of a file without a name.
    pub flags: Vec<String>,
    /// Id of the open file.
    pub file: Option<u32>,
    /// Offset in the file.
    pub offset: u64,
    /// Device of the file, as `st_dev` numbers it. What /proc/PID/maps tells: for whoever looks, a restore has no use for it.
    #[serde(default)]
    pub dev: u64,
    /// Inode of the file, likewise.
    #[serde(default)]
    pub ino: u64,
    /// As /proc/PID/maps names it, for a person to read.
    name: String,
    /// The bytes of that where `name` cannot hold them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    path: Option<Vec<u8>>,
    /// Pages of the image.
    pub pages: u64,
    /// Guard pages (MADV_GUARD_INSTALL): address and number.
    pub guards: Vec<(u64, u64)>,
    /// Pages that it has from whoever forked it: address and number, ascending. In the record's blob.
    #[serde(skip)]
    pub inherited: Vec<(u64, u64)>,
}

/// Flags that come back through madvise(2): VmFlags code, advice.
const ADVICE: [(&str, u64); 8] = [
    ("sr", libc::MADV_SEQUENTIAL as u64),
    ("rr", libc::MADV_RANDOM as u64),
    ("dd", libc::MADV_DONTDUMP as u64),
    ("hg", libc::MADV_HUGEPAGE as u64),
    ("nh", libc::MADV_NOHUGEPAGE as u64),
    ("mg", libc::MADV_MERGEABLE as u64),
    ("dc", libc::MADV_DONTFORK as u64),
    ("wf", libc::MADV_WIPEONFORK as u64),
];
/// Flags that come back in other ways.
const OTHERS: [&str; 6] = ["gd", "nr", "lo", "lf", "dp", "sl"];
/// Flags that cannot be put back.
const REFUSED: [(&str, &str); 8] = [
    ("ht", "huge pages of hugetlbfs"),
    ("io", "memory of a device"),
    ("pf", "memory of a device"),
    ("um", "a mapping registered with userfaultfd"),
    ("uw", "a mapping registered with userfaultfd"),
    ("ui", "a mapping registered with userfaultfd"),
    ("ss", "a shadow stack"),
    ("mm", "mixed memory of a device"),
];
/// How a mapping of a memfd is named, the only file that has seals.
const MEMFD: &str = "/memfd:";
/// Not a VmFlag: the file has no name, its contents are in the image.
const XFILE: &str = "xfile";
const MADV_GUARD_INSTALL: u64 = 102;
const MAP_DROPPABLE: i32 = 0x08;
const MLOCK_ONFAULT: u64 = 1;
const SYS_MSEAL: i64 = 462;
// include/uapi/linux/prctl.h.
const PR_SET_VMA: u64 = 0x5356_4d41;
const PR_SET_VMA_ANON_NAME: u64 = 0;

/// VmFlags and protection keys by start address.
pub type Flags = BTreeMap<u64, (Vec<String>, u64)>;

/// VmFlags of a stopped process, for the few mappings that cannot be told without: the kernel walks all page tables for them.
pub struct FlagsOnDemand(Pid, OnceCell<Flags>);

impl FlagsOnDemand {
    /// Nothing is asked yet.
    pub fn of(pid: Pid) -> Self {
        Self(pid, OnceCell::new())
    }

    /// Whether the mapping that begins at `start` may become writable (VM_MAYWRITE).
    fn may_write(&self, start: u64) -> Result<bool> {
        let flags = match self.1.get() {
            Some(flags) => flags,
            None => {
                let flags = maps::vm_flags(self.0)?;
                self.1.get_or_init(|| flags)
            }
        };
        Ok(flags.get(&start).is_none_or(|(codes, _)| codes.iter().any(|code| code == "mw")))
    }
}

impl Vma {
    /// What the maps line tells, or a refusal. Flags are added by [`Vma::take_flags`], pages once they are known.
    pub fn look(pid: Pid, mapping: &Mapping, files: &dyn FileIds, vm_flags: &FlagsOnDemand) -> Result<Self> {
        let subject = format!("pid {pid}: mapping {:x}-{:x}", mapping.start, mapping.end);
        let link = format!("/proc/{pid}/map_files/{:x}-{:x}", mapping.start, mapping.end);
        let bytes = match mapping.name.contains(&b'\n') {
            // Or it is named as an escaped newline is written: the link knows.
            true => proc::read_link(&link).map_or(mapping.name.clone(), |path| path.into_os_string().into_vec()),
            false => mapping.name.clone(),
        };
        let name = String::from_utf8_lossy(&bytes).into_owned();
        let path = (name.as_bytes() != bytes).then_some(bytes);
        let refuse = |what: &str| Err(Error::unsupported(format!("{subject}: {what} ({name}) cannot be checkpointed")));
        let mut own = Vec::new();
        let (kind, file) = if mapping.ino == 0 && mapping.dev == 0 {
            if mapping.shared {
                return refuse("shared memory");
            }
            (Type::Anon, None)
        } else {
            for (prefix, what) in
                [("/[aio]", "a ring of asynchronous I/O"), ("anon_inode:", "memory of a special file")]
            {
                if name.starts_with(prefix) {
                    return refuse(what);
                }
            }
            // The link's mode is that of the mapped description: a shared mapping that is read-only now may become writable.
            let writable = || {
                let facts = std::fs::symlink_metadata(&link);
                let facts = facts.map_err(|error| Error::io(format_args!("{subject}: {link}"), &error))?;
                if facts.permissions().mode() & 0o200 == 0 {
                    return Ok::<_, Error>(false);
                }
                // But not if it was made under a seal: made again by a description that may write, it could, and the seal would find a
                // writer in its way (do_mmap in mm/mmap.c, mapping_deny_writable in mm/memfd.c).
                let is_known = mapping.prot & libc::PROT_WRITE != 0 || !name.starts_with(MEMFD);
                if is_known { Ok(true) } else { vm_flags.may_write(mapping.start) }
            };
            let flags = if mapping.shared && writable()? { libc::O_RDWR } else { libc::O_RDONLY };
            let id = files.id_of(&link, flags, !mapping.shared, &subject)?;
            if std::fs::metadata(&link).is_ok_and(|file| file.nlink() == 0) {
                own.push(XFILE.to_owned());
            }
            let kind = match (mapping.shared, mapping.name.as_slice()) {
                (true, b"/dev/zero (deleted)") => Type::AnonShm,
                (true, name) if sysvipc::shm::is_segment(name, mapping.dev) => Type::IpcShm,
                (true, _) => Type::FileShm,
                (false, _) => Type::File,
            };
            (kind, Some(id))
        };
        Ok(Self {
            tid: pid,
            start: mapping.start,
            end: mapping.end,
            prot: mapping.prot,
            kind,
            flags: own,
            file,
            offset: mapping.offset,
            dev: mapping.dev,
            ino: mapping.ino,
            name,
            path,
            pages: 0,
            guards: Vec::new(),
            inherited: Vec::new(),
        })
    }

    /// Adds the VmFlags that are put back; refuses those that cannot be.
    pub fn take_flags(&mut self, flags: &Flags) -> Result<()> {
        let subject = || format!("pid {}: mapping {:x}-{:x} ({})", self.tid, self.start, self.end, self.name);
        let Some((codes, key)) = flags.get(&self.start) else { return Ok(()) };
        for (code, what) in REFUSED {
            if codes.iter().any(|have| have == code) {
                return Err(Error::unsupported(format!("{}: {what} cannot be checkpointed", subject())));
            }
        }
        if *key != 0 {
            return Err(Error::unsupported(format!("{}: protection key {key} cannot be checkpointed yet", subject())));
        }
        let kept = |code: &&String| ADVICE.iter().any(|(have, _)| have == code) || OTHERS.contains(&code.as_str());
        self.flags.extend(codes.iter().filter(kept).cloned());
        self.flags.sort_unstable();
        self.flags.dedup();
        Ok(())
    }

    /// Its name: a path, something in brackets, or nothing.
    pub fn name(&self) -> &[u8] {
        self.path.as_deref().unwrap_or(self.name.as_bytes())
    }

    /// Whether it has this VmFlag.
    pub fn has(&self, code: &str) -> bool {
        self.flags.iter().any(|have| have == code)
    }

    /// Whether a child of fork(2) does not get it (MADV_DONTFORK).
    pub fn is_not_forked(&self) -> bool {
        self.has("dc")
    }

    /// Bytes of address space.
    pub fn len(&self) -> u64 {
        self.end - self.start
    }

    /// Whether pages of it can be in an image.
    pub fn holds_pages(&self) -> bool {
        !self.kind.is_shared() && !self.has("dp")
    }

    /// The record that opens its list of pages. `inherited`: the pages that it has from its maker.
    pub fn record(&self, inherited: Option<&PageRuns>) -> Result<Record> {
        let runs = inherited.into_iter().flat_map(PageRuns::runs);
        let blob: Vec<u8> = runs.flat_map(|run| [run.address, run.pages]).flat_map(u64::to_le_bytes).collect();
        Ok(Record::new(TAG, self)?.with_blob(blob).opens_pages())
    }

    /// Reads a record; refuses addresses that cannot be.
    pub fn parse(record: &Record) -> Result<Self> {
        let mut vma: Self = record.body()?;
        let page = crate::sys::memory::PAGE;
        let words: Vec<u64> =
            record.blob.chunks_exact(8).map(|word| u64::from_le_bytes(std::array::from_fn(|i| word[i]))).collect();
        vma.inherited = words.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect();
        let aligned = vma.start.is_multiple_of(page) && vma.end.is_multiple_of(page) && vma.offset.is_multiple_of(page);
        if !aligned || vma.start >= vma.end || vma.end > 1 << 47 || vma.prot & !7 != 0 {
            return Err(Error::damaged(format!("mapping {:x}-{:x} cannot be", vma.start, vma.end)));
        }
        if (vma.kind == Type::Anon) != vma.file.is_none() {
            return Err(Error::damaged(format!(
                "mapping {:x}-{:x} of type {:?} and file {:?}",
                vma.start, vma.end, vma.kind, vma.file
            )));
        }
        let inside = |(at, pages): &(u64, u64)| {
            *at >= vma.start && pages.checked_mul(page).is_some_and(|len| len <= vma.end - at.min(&vma.end))
        };
        let ascend = |pair: &[(u64, u64)]| pair[0].0 + pair[0].1 * page <= pair[1].0;
        if !vma.inherited.iter().all(inside)
            || !vma.inherited.iter().all(|(at, _)| at.is_multiple_of(page))
            || !vma.inherited.windows(2).all(ascend)
            || !vma.inherited.is_empty() && !vma.holds_pages()
        {
            return Err(Error::damaged(format!(
                "mapping {:x}-{:x} with inherited pages that cannot be",
                vma.start, vma.end
            )));
        }
        if !vma.guards.iter().all(inside) {
            return Err(Error::damaged(format!("mapping {:x}-{:x} with guard pages outside", vma.start, vma.end)));
        }
        Ok(vma)
    }

    fn subject(&self) -> String {
        format!("pid {}: mapping {:x}-{:x} {}", self.tid, self.start, self.end, self.name)
    }

    /// Adds the call that makes it, or its part `from..upto`; `fd` is the file's number in the process.
    pub fn map(&self, from: u64, upto: u64, fd: Option<i32>, calls: &mut Checked) {
        let mut flags = libc::MAP_FIXED_NOREPLACE;
        flags |= match (self.kind, self.has("dp")) {
            (_, true) => MAP_DROPPABLE | libc::MAP_ANONYMOUS,
            (Type::Anon, false) => libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            // Its place; it is attached when everything else is there.
            (Type::IpcShm, false) => libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
            (Type::File, false) => libc::MAP_PRIVATE,
            (Type::FileShm | Type::AnonShm, false) => libc::MAP_SHARED,
        };
        if self.has("gd") {
            flags |= libc::MAP_GROWSDOWN;
        }
        if self.has("nr") {
            flags |= libc::MAP_NORESERVE;
        }
        let fd = fd.filter(|_| self.kind != Type::IpcShm).map_or(u64::MAX, |fd| fd as u64);
        let offset = if self.file.is_some() { self.offset + (from - self.start) } else { self.offset };
        let args = [from, upto - from, self.first_prot() as u64, flags as u64, fd, offset];
        calls.call_giving(libc::SYS_mmap, args, from, self.subject());
    }

    /// Its protection until all pages are in.
    fn first_prot(&self) -> i32 {
        match self.kind {
            Type::IpcShm => libc::PROT_NONE,
            _ if self.is_filled() => libc::PROT_READ | libc::PROT_WRITE,
            _ => self.prot,
        }
    }

    fn is_filled(&self) -> bool {
        self.pages > 0 || !self.inherited.is_empty()
    }

    /// Adds the calls that turn the part `from..upto`, which came with the fork, into what the image says: only what is inherited stays.
    pub fn keep(&self, from: u64, upto: u64, calls: &mut Checked, process: &mut Owned) -> Result<()> {
        let mut at = from;
        let inside = self.inherited.iter().map(|(start, pages)| (*start, start + pages * PAGE));
        let inside = inside.filter(|(start, end)| *start < upto && from < *end);
        for (start, end) in inside.chain([(upto, upto)]) {
            if at < start {
                let args = [at, start - at, libc::MADV_DONTNEED as u64];
                calls.call(libc::SYS_madvise, args, format!("{}: leaving out pages", self.subject()));
                if calls.is_full(0) {
                    calls.flush(process)?;
                }
            }
            at = end;
        }
        let args = [from, upto - from, self.first_prot() as u64];
        calls.call(libc::SYS_mprotect, args, format!("{}: making it writable", self.subject()));
        Ok(())
    }

    /// How many pages of `from..upto` it has from its maker.
    pub fn inherited_pages(&self, from: u64, upto: u64) -> u64 {
        let bytes = |(start, pages): &(u64, u64)| (start + pages * PAGE).min(upto).saturating_sub((*start).max(from));
        self.inherited.iter().map(bytes).sum::<u64>() / PAGE
    }

    /// Adds the calls that give it its flags and protection, once its pages are in and nobody forks any more.
    pub fn finish(&self, calls: &mut Checked) {
        let range = |a: u64, b: u64| [self.start, a, b];
        for (code, advice) in ADVICE {
            if self.has(code) {
                calls.call(libc::SYS_madvise, range(self.len(), advice), format!("{}: advice {code}", self.subject()));
            }
        }
        for (at, pages) in &self.guards {
            let args = [*at, pages * crate::sys::memory::PAGE, MADV_GUARD_INSTALL];
            calls.call(libc::SYS_madvise, args, format!("{}: guard pages at {at:#x}", self.subject()));
        }
        if let Some(name) = self.name.strip_prefix("[anon:").and_then(|name| name.strip_suffix(']')) {
            let at = calls.put_str(name.as_bytes());
            let args = [PR_SET_VMA, PR_SET_VMA_ANON_NAME, self.start, self.len(), at.0];
            calls.call(libc::SYS_prctl, args, format!("{}: naming it", self.subject()));
        }
        if self.has("lo") {
            let how = if self.has("lf") { MLOCK_ONFAULT } else { 0 };
            let doing = format!("{}: mlock", self.subject());
            match self.prot {
                // After mlockall(2): locked all the same, but there is nothing to fault in, which mlock reports as ENOMEM.
                libc::PROT_NONE => calls.call_or(libc::SYS_mlock2, range(self.len(), how), libc::ENOMEM, doing),
                _ => calls.call(libc::SYS_mlock2, range(self.len(), how), doing),
            }
        }
        if self.is_filled() && self.prot != libc::PROT_READ | libc::PROT_WRITE {
            let doing = format!("{}: protection {}", self.subject(), self.prot);
            calls.call(libc::SYS_mprotect, range(self.len(), self.prot as u64), doing);
        }
        if self.has("sl") {
            calls.call(SYS_MSEAL, range(self.len(), 0), format!("{}: mseal", self.subject()));
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn vma(start: u64, end: u64) -> Vma {
        serde_json::from_value(serde_json::json!({
            "tid": 1, "start": start, "end": end, "prot": 3, "type": "ANON", "flags": [], "file": null, "offset": 0, "name": "",
            "pages": 0, "guards": [],
        }))
        .unwrap()
    }

    #[test]
    fn a_record_comes_back() {
        let mut before = vma(0x1000, 0x3000);
        before.flags.push("gd".into());
        before.guards.push((0x2000, 1));
        let after = Vma::parse(&before.record(None).unwrap()).unwrap();
        assert_eq!((after.start, after.end, after.flags, after.guards), (0x1000, 0x3000, before.flags, before.guards));
    }

    struct NoFiles;
    impl FileIds for NoFiles {
        fn id_of(&self, _: &str, _: i32, _: bool, _: &str) -> Result<u32> {
            Ok(1)
        }
    }

    #[test]
    fn a_name_is_bytes_and_readable() {
        let look = |name: &[u8]| {
            let line = [b"7000-8000 r--p 00000000 fe:01 42 ", name].concat();
            let vma = Vma::look(1, &maps::parse_mapping(&line).unwrap(), &NoFiles, &FlagsOnDemand::of(1)).unwrap();
            let record = vma.record(None).unwrap();
            let body: serde_json::Value = record.body().unwrap();
            (
                Vma::parse(&record).unwrap().name().to_vec(),
                body["name"].as_str().unwrap().to_owned(),
                body.get("path").is_some(),
            )
        };
        assert_eq!(look(b"/a \xc3\xbc"), (b"/a \xc3\xbc".to_vec(), "/a \u{fc}".into(), false));
        assert_eq!(look(b"/a\\012b"), (b"/a\nb".to_vec(), "/a\nb".into(), false));
        assert_eq!(look(b"/\xff\xfe"), (b"/\xff\xfe".to_vec(), "/\u{fffd}\u{fffd}".into(), true));
        assert_eq!(vma(0x1000, 0x2000).name(), b"", "a record of an older build has no bytes");
    }

    #[test]
    fn impossible_ranges_are_damage() {
        for (start, end) in [(0x1000, 0x1000), (0x2000, 0x1000), (0x1001, 0x2000), (0x1000, 1 << 48)] {
            assert!(Vma::parse(&vma(start, end).record(None).unwrap()).is_err(), "{start:x}-{end:x}");
        }
        let mut outside = vma(0x1000, 0x3000);
        outside.guards.push((0x2000, u64::MAX));
        assert!(Vma::parse(&outside.record(None).unwrap()).is_err());
    }
}
