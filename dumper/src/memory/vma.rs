//! One mapping of an address space: a VMA (the kernel's vm_area_struct), as a record that opens a
//! list of pages.
//!
//! The image holds the pages that a program has made its own. Clean pages of a file, absent pages
//! and the zero page are not in it. `remap.rs` makes the mapping again.

use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use serde::{Deserialize, Serialize};

use crate::error::{Doing, Error, Result};
use crate::image::frame::{Record, Tag};
use crate::image::page_runs::PageRuns;
use crate::image::record_set::RecordView;
use crate::kind::observed::ANON_SHM;
use crate::kind::record_sort::{RecordSort, Role, Shown, ShownMapping};
use crate::kind::refs::FileIds;
use crate::memory::vm_flags::{self, FlagsOnDemand, VmFlags};
use crate::sys::memory::PAGE;
use crate::sys::pid::Pid;
use crate::sys::proc;
use crate::sys::proc::maps::Mapping;
use crate::sys::sysvipc;

/// A mapping of an address space. Its pages follow. The blob lists the runs of pages that are
/// stored with the process that forked this process: address and number of pages, both u64. Body:
/// [`Vma`].
pub const TAG: Tag = Tag(*b"AREA");
/// Its row in the table of records.
pub const SORT: RecordSort = RecordSort { tag: TAG, role: Role::Mapping, show };

/// What a mapping is made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Type {
    /// Private anonymous memory.
    Anon,
    /// A private mapping of a file.
    File,
    /// A shared mapping of a file. Its contents are those of the file.
    FileShm,
    /// Shared anonymous memory. For the kernel it is a file without a name.
    AnonShm,
    /// Attached System V shared memory, or a part of it.
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
    /// Whether it is mapped with MAP_SHARED.
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
    /// The first address behind it.
    pub end: u64,
    /// PROT_* bits.
    pub prot: i32,
    /// What it is made from.
    #[serde(rename = "type")]
    pub kind: Type,
    /// The VmFlags that are restored, as two-letter codes of proc_pid_smaps(5). `xfile` means that
    /// its file has no name.
    pub flags: Vec<String>,
    /// Id of the open file.
    pub file: Option<u32>,
    /// Offset in the file.
    pub offset: u64,
    /// The device of the file, as `st_dev` numbers it and /proc/PID/maps shows it. It is for a
    /// person who inspects the image. A restore does not use it.
    #[serde(default)]
    pub dev: u64,
    /// The inode of the file, likewise.
    #[serde(default)]
    pub ino: u64,
    /// The name in /proc/PID/maps, as text.
    pub(super) name: String,
    /// The bytes of the name, if `name` cannot hold them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    path: Option<Vec<u8>>,
    /// The number of pages in the image.
    pub pages: u64,
    /// Guard pages (MADV_GUARD_INSTALL): address and number.
    pub guards: Vec<(u64, u64)>,
    /// Pages that it shares with its maker: address and number, ascending. They are in the record's
    /// blob.
    #[serde(skip)]
    pub inherited: Vec<(u64, u64)>,
    /// Its protection key, pkeys(7).
    #[serde(skip)]
    pub key: u64,
}

/// Refuses memory with a key, if the program has allocated `keys`: that of memory that is only
/// executable could not get its number again.
pub fn refuse_keys<'v>(pid: Pid, keys: &[u32], mut vmas: impl Iterator<Item = &'v Vma>) -> Result<()> {
    match vmas.find(|vma| vma.key != 0 && !keys.is_empty()) {
        Some(Vma { start, end, key, .. }) => Err(Error::unsupported(format!(
            "pid {pid}: mapping {start:x}-{end:x}: protection key {key} cannot be checkpointed yet"
        ))),
        None => Ok(()),
    }
}

/// The prefix of the name of a memfd's mapping. No other file has seals.
const MEMFD: &str = "/memfd:";
/// Not a VmFlag: the file has no name, and its contents are in the image.
const XFILE: &str = "xfile";
impl Vma {
    /// The record of a line of /proc/PID/maps. [`Vma::add_flags`] adds the flags. Pages are added
    /// once they are known.
    ///
    /// # Errors
    /// Unsupported: memory of a kind that cannot be checkpointed.
    pub fn collect(pid: Pid, mapping: &Mapping, files: &mut dyn FileIds, vm_flags: &FlagsOnDemand) -> Result<Self> {
        let subject = format!("pid {pid}: mapping {:x}-{:x}", mapping.start, mapping.end);
        let link = format!("/proc/{pid}/map_files/{:x}-{:x}", mapping.start, mapping.end);
        let bytes = match mapping.name.contains(&b'\n') {
            // The name has a newline, or it has the characters of an escaped newline. The link
            // shows which.
            true => proc::read_link(&link).map_or(mapping.name.clone(), |path| path.into_os_string().into_vec()),
            false => mapping.name.clone(),
        };
        let name = String::from_utf8_lossy(&bytes).into_owned();
        let path = (name.as_bytes() != bytes).then_some(bytes);
        let refuse = |what: &str| Err(Error::unsupported(format!("{subject}: {what} ({name}) cannot be checkpointed")));
        let mut flags = Vec::new();
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
            // The mode of the link is that of the mapped open file. A shared mapping that is
            // read-only now may become writable.
            let writable = || {
                let facts = std::fs::symlink_metadata(&link);
                let facts = facts.doing(|| format!("{subject}: {link}"))?;
                if facts.permissions().mode() & 0o200 == 0 {
                    return Ok::<_, Error>(false);
                }
                // This is wrong for a mapping that was made under a seal. If it were made again
                // from a writable open file, it could become writable, and the seal would fail
                // because of a writer (do_mmap in mm/mmap.c, mapping_deny_writable in mm/memfd.c).
                let is_known = mapping.prot & libc::PROT_WRITE != 0 || !name.starts_with(MEMFD);
                if is_known { Ok(true) } else { vm_flags.may_write(mapping.start) }
            };
            let open_flags = if mapping.shared && writable()? { libc::O_RDWR } else { libc::O_RDONLY };
            let id = files.id_of(&link, open_flags, !mapping.shared, &subject)?;
            if std::fs::metadata(&link).is_ok_and(|file| file.nlink() == 0) {
                flags.push(XFILE.to_owned());
            }
            let kind = match (mapping.shared, mapping.name.as_slice()) {
                (true, ANON_SHM) => Type::AnonShm,
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
            flags,
            file,
            offset: mapping.offset,
            dev: mapping.dev,
            ino: mapping.ino,
            name,
            path,
            pages: 0,
            guards: Vec::new(),
            inherited: Vec::new(),
            key: 0,
        })
    }

    /// Adds the VmFlags that are restored.
    ///
    /// # Errors
    /// Unsupported: a flag or a protection key that cannot be restored.
    pub fn add_flags(&mut self, flags: &VmFlags) -> Result<()> {
        let Some((codes, key)) = flags.get(&self.start) else { return Ok(()) };
        if let Some(why) = vm_flags::refusal(codes, *key, self.prot) {
            return Err(Error::unsupported(format!(
                "pid {}: mapping {:x}-{:x} ({}): {why}",
                self.tid, self.start, self.end, self.name
            )));
        }
        self.key = *key;
        self.flags.extend(codes.iter().filter(|code| vm_flags::is_restored(code)).map(str::to_owned));
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

    /// Whether fork(2) leaves it out of the child (MADV_DONTFORK).
    pub fn is_not_forked(&self) -> bool {
        self.has("dc")
    }

    /// Its length in bytes.
    pub fn len(&self) -> u64 {
        self.end - self.start
    }

    /// Whether an image can hold pages of it.
    pub fn holds_pages(&self) -> bool {
        !self.kind.is_shared() && !self.has("dp")
    }

    /// Whether both can be one mapping in two processes, one of which was forked from the other.
    pub fn is_copy_of(&self, other: &Vma) -> bool {
        let origin = |vma: &Vma| vma.offset.wrapping_sub(vma.start);
        self.holds_pages()
            && other.holds_pages()
            && self.kind == other.kind
            && self.file == other.file
            && (self.file.is_none() || origin(self) == origin(other))
    }

    /// The record, which opens the list of its pages. `inherited` are the pages that it shares with
    /// its maker.
    pub fn record(&self, inherited: Option<&PageRuns>) -> Result<Record> {
        let runs = inherited.into_iter().flat_map(PageRuns::runs);
        let blob: Vec<u8> = runs.flat_map(|run| [run.address, run.pages]).flat_map(u64::to_le_bytes).collect();
        Ok(Record::new(TAG, self)?.with_blob(blob).opens_pages())
    }

    /// Reads a record.
    ///
    /// # Errors
    /// Damaged: addresses, a file, inherited pages or guard pages that no mapping can have.
    pub fn parse(record: &Record) -> Result<Self> {
        let mut vma: Self = record.body()?;
        let page = PAGE;
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
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::sys::proc::maps;

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
        fn id_of(&mut self, _: &str, _: i32, _: bool, _: &str) -> Result<u32> {
            Ok(1)
        }
    }

    #[test]
    fn a_name_is_bytes_and_readable() {
        let collect = |name: &[u8]| {
            let line = [b"7000-8000 r--p 00000000 fe:01 42 ", name].concat();
            let vma =
                Vma::collect(1, &maps::parse_mapping(&line).unwrap(), &mut NoFiles, &FlagsOnDemand::of(1)).unwrap();
            let record = vma.record(None).unwrap();
            let body: serde_json::Value = record.body().unwrap();
            (
                Vma::parse(&record).unwrap().name().to_vec(),
                body["name"].as_str().unwrap().to_owned(),
                body.get("path").is_some(),
            )
        };
        assert_eq!(collect(b"/a \xc3\xbc"), (b"/a \xc3\xbc".to_vec(), "/a \u{fc}".into(), false));
        assert_eq!(collect(b"/a\\012b"), (b"/a\nb".to_vec(), "/a\nb".into(), false));
        assert_eq!(collect(b"/\xff\xfe"), (b"/\xff\xfe".to_vec(), "/\u{fffd}\u{fffd}".into(), true));
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
