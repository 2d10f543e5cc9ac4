//! Mappings of a file that an overlay (overlayfs) has copied to its upper layer since.
//!
//! Such a mapping still shows the file of the lower layer, while its name, and every link of /proc,
//! lead to the changed copy. So pages that the process has not changed are not those of the file
//! that a restore maps. They are stored.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};

use nix::sys::statfs::{OVERLAYFS_SUPER_MAGIC, statfs};

use crate::error::{Doing, Error, Result};
use crate::image::page_runs::{PageRuns, Run};
use crate::memory::vma::{Type, Vma};
use crate::sys::memory::{MemFile, PAGE, RemotePtr};
use crate::sys::pagemap::{Pagemap, file_frame};
use crate::sys::pid::Pid;
use crate::sys::proc::locks;

/// The memory that is compared with files.
pub struct Overlaid<'p> {
    source: Pid,
    pagemap: &'p Pagemap,
    mem: MemFile,
    /// Whether a device is that of an overlay.
    overlays: BTreeMap<u64, bool>,
    /// Files with a lease, which opening one would break.
    leased: Option<BTreeSet<(u64, u64)>>,
}

impl<'p> Overlaid<'p> {
    /// The address space of `source`, which does not run.
    pub fn of(source: Pid, pagemap: &'p Pagemap) -> Result<Self> {
        let mem = MemFile::open(source)?;
        Ok(Self { source, pagemap, mem, overlays: BTreeMap::new(), leased: None })
    }

    /// The pages of a mapping that the image holds: `own`, or all if the file that its name leads
    /// to has other contents there. Its guard pages must be known.
    ///
    /// # Errors
    /// Unsupported: a mapping that a restore could not make from that file.
    pub fn pages(&mut self, vma: &Vma, own: PageRuns) -> Result<PageRuns> {
        let Some(file) = self.on_overlay(vma)? else { return Ok(own) };
        let all = all_but_guards(vma);
        let Some(first) = all.runs().find_map(|run| first_outside(&own, run)) else { return Ok(own) };
        if !self.is_readable(first) || self.is_same_page(vma, &file, first)? {
            return Ok(own);
        }
        let all = self.readable(&all);
        if self.have_same_bytes(vma, &file, &all, &own)? {
            return Ok(own);
        }
        let refuse = |what: &str| {
            let (name, Vma { tid, start, end, .. }) = (String::from_utf8_lossy(vma.name()), vma);
            Err(Error::unsupported(format!(
                "pid {tid}: mapping {start:x}-{end:x} of {name} as it was before the overlay copied it up, {what}, cannot be checkpointed"
            )))
        };
        if vma.kind == Type::FileShm {
            return refuse("which is shared");
        }
        let len = file.metadata().doing(|| format!("{}: stat", vma_link(self.source, vma)))?.len();
        match all.runs().last() {
            Some(last) if vma.offset + (last.end() - vma.start) > len.next_multiple_of(PAGE) => {
                refuse("and the copy is shorter")
            }
            _ => Ok(all.union(&own)),
        }
    }

    /// The file of a mapping, opened by its name, if it is on an overlay.
    fn on_overlay(&mut self, vma: &Vma) -> Result<Option<File>> {
        if !matches!(vma.kind, Type::File | Type::FileShm) || self.overlays.get(&vma.dev) == Some(&false) {
            return Ok(None);
        }
        let link = vma_link(self.source, vma);
        let stat = match std::fs::metadata(&link) {
            // The source lacks this mapping (MADV_DONTFORK).
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            stat => stat.doing(|| format!("stat of {link}"))?,
        };
        let is_overlay = match self.overlays.get(&vma.dev) {
            Some(known) => *known,
            None => {
                let filesystem = statfs(link.as_str()).doing(|| format!("statfs of {link}"))?;
                filesystem.filesystem_type() == OVERLAYFS_SUPER_MAGIC
            }
        };
        self.overlays.insert(vma.dev, is_overlay);
        if !is_overlay {
            return Ok(None);
        }
        let leased = match &mut self.leased {
            Some(leased) => leased,
            none => none.insert(locks::leased()?),
        };
        // A change of the file would have broken the lease.
        if leased.contains(&(stat.dev(), stat.ino())) {
            return Ok(None);
        }
        File::open(&link).map(Some).doing(|| format!("opening {link}"))
    }

    fn is_readable(&self, at: u64) -> bool {
        self.mem.read(RemotePtr(at), &mut [0]).is_ok()
    }

    /// The pages of `all` up to the end of the file that the mapping shows.
    fn readable(&self, all: &PageRuns) -> PageRuns {
        let (mut good, mut bad) = (0, all.pages());
        while good < bad {
            let middle = good + (bad - good) / 2;
            if all.nth(middle).is_some_and(|at| self.is_readable(at)) { good = middle + 1 } else { bad = middle }
        }
        let mut readable = PageRuns::new();
        for run in all.runs() {
            let some = run.pages.min(good - readable.pages());
            readable.push(run.address, some);
        }
        readable
    }

    /// Whether the page at `at` is a page of `file`. A page may move to another frame at any time.
    fn is_same_page(&self, vma: &Vma, file: &File, at: u64) -> Result<bool> {
        const TRIES: usize = 3;
        for _ in 0..TRIES {
            let mapped = self.pagemap.frames(RemotePtr(at), 1)?.first().copied().flatten();
            if mapped.is_some() && mapped == file_frame(file, vma.offset + (at - vma.start))? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether the pages of `all` that are not in `own` have the same bytes as `file`.
    fn have_same_bytes(&self, vma: &Vma, file: &File, all: &PageRuns, own: &PageRuns) -> Result<bool> {
        let (mut mapped, mut named) = ([0; PAGE as usize], [0; PAGE as usize]);
        for run in all.runs() {
            for at in (run.address..run.end()).step_by(PAGE as usize).filter(|at| !own.contains(*at)) {
                self.mem.read(RemotePtr(at), &mut mapped)?;
                let offset = vma.offset + (at - vma.start);
                let mut len = 0;
                while len < named.len() {
                    let got = file.read_at(&mut named[len..], offset + len as u64);
                    match got.doing(|| format!("{}: reading", vma_link(self.source, vma)))? {
                        0 => break,
                        got => len += got,
                    }
                }
                named[len..].fill(0);
                if len == 0 || mapped != named {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }
}

fn vma_link(source: Pid, vma: &Vma) -> String {
    format!("/proc/{source}/map_files/{:x}-{:x}", vma.start, vma.end)
}

/// The first page of a run that is not in `own`.
fn first_outside(own: &PageRuns, run: Run) -> Option<u64> {
    let at = own.next_hole(run.address);
    (at < run.end()).then_some(at)
}

/// All pages of a mapping but its guard pages.
fn all_but_guards(vma: &Vma) -> PageRuns {
    let mut all = PageRuns::new();
    let mut at = vma.start;
    let guards = vma.guards.iter().map(|(start, pages)| (*start, start + pages * PAGE));
    for (start, end) in guards.chain([(vma.end, vma.end)]) {
        all.push(at, start.saturating_sub(at) / PAGE);
        at = at.max(end);
    }
    all
}
