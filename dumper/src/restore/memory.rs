//! The address space of a new process, mapping after mapping, ascending. In a fork of its maker the
//! copied mappings give way to those of the image, piece by piece; only inherited pages stay.

use crate::error::{Error, Result};
use crate::file::mapped_lock::MappedLocks;
use crate::freeze::hole::HOLE_LEN;
use crate::kind::refs::Files;
use crate::memory::vma::{Type, Vma};
use crate::restore::attached::Attached;
use crate::restore::process::{NewProcess, TASK_SIZE};
use crate::sys::proc;

impl NewProcess {
    /// Makes a mapping. Its call waits in the batch until pages, or the end, need it.
    pub fn map(&mut self, vma: Vma, files: &dyn Files) -> Result<()> {
        let free_from = self.vmas.last().map_or(0, |last| last.end);
        let hole = (self.hole.0, self.hole.0 + HOLE_LEN);
        if vma.start < free_from || vma.start < hole.1 && hole.0 < vma.end {
            return Err(Error::damaged(format!("mapping {:x}-{:x} overlaps", vma.start, vma.end)));
        }
        let fd = match vma.file {
            None => None,
            Some(id) if vma.kind == Type::IpcShm => {
                self.segments.insert(id, Attached::of(files.fd(id)?)?);
                None
            }
            Some(id) => Some(match self.mapped.get(&id) {
                Some(fd) => *fd,
                None => {
                    let pushed = self.channel.push(&mut self.leader, &[files.fd(id)?])?;
                    let fd = pushed.first().copied().unwrap_or(-1);
                    self.mapped.insert(id, fd);
                    fd
                }
            }),
        };
        let kept = self.kept(&vma)?;
        self.clear(self.cleared, vma.start)?;
        let mut at = vma.start;
        for (from, upto) in kept.into_iter().chain([(vma.end, vma.end)]) {
            if at < from {
                self.clear(at, from)?;
                self.make_room()?;
                vma.map(at, from, fd, &mut self.calls);
            }
            if from < upto {
                self.make_room()?;
                vma.keep(from, upto, &mut self.calls, &mut self.leader)?;
            }
            at = upto;
            self.cleared = self.cleared.max(upto);
        }
        self.vmas.push(vma);
        Ok(())
    }

    /// The `error` of a mapping, or that the kernel allows no more mappings.
    pub fn explain(&self, error: Error) -> Error {
        /// The vDSO, the stub, and what a change in the middle of a mapping needs.
        const SPARE: usize = 8;
        match proc::max_map_count() {
            Some(most) if error.errno() == Some(libc::ENOMEM) && self.vmas.len() + SPARE >= most => {
                let has = self.vmas.len();
                Error::os(
                    format_args!("pid {}: it has {has} mappings or more, vm.max_map_count allows {most}", self.pid),
                    libc::ENOMEM,
                )
            }
            _ => error,
        }
    }

    /// The parts of `vma` in which the copies of its maker's mappings hold inherited pages,
    /// ascending.
    fn kept(&self, vma: &Vma) -> Result<Vec<(u64, u64)>> {
        let mut kept = Vec::new();
        let mut covered = 0;
        // They are ascending, like all mappings of a process.
        let first = self.copied.partition_point(|copy| copy.end <= vma.start);
        for copy in self.copied[first..].iter().take_while(|copy| copy.start < vma.end) {
            let (from, upto) = (copy.start.max(vma.start), copy.end.min(vma.end));
            let pages = vma.inherited_pages(from, upto);
            if pages > 0 && vma.is_copy_of(copy) {
                covered += pages;
                kept.push((from, upto));
            }
        }
        if covered != vma.inherited_pages(vma.start, vma.end) {
            return Err(Error::damaged(format!(
                "mapping {:x}-{:x}: its maker has not what it inherits",
                vma.start, vma.end
            )));
        }
        Ok(kept)
    }

    /// Unmaps the copied mappings up to `upto`, if there are any.
    fn clear(&mut self, from: u64, upto: u64) -> Result<()> {
        let from = self.cleared.min(from);
        self.cleared = upto;
        if self.copied.is_empty() {
            return Ok(());
        }
        let mut at = from;
        for (start, end) in self.untouchable().into_iter().chain([(upto, upto)]) {
            let start = start.min(upto);
            if start > at {
                self.make_room()?;
                let doing = format!("pid {}: clearing {at:x}-{start:x}", self.pid);
                self.calls.call(libc::SYS_munmap, [at, start - at], doing);
            }
            at = at.max(end);
        }
        Ok(())
    }

    pub(super) fn make_room(&mut self) -> Result<()> {
        if self.calls.is_full(0) { self.calls.flush(&mut self.leader) } else { Ok(()) }
    }

    /// Gives the mappings their protections, advice and locks, when every page is in and no further
    /// process is forked from this one. `locks` are those that only its mappings hold.
    pub fn finish_memory(&mut self, locks: Option<&MappedLocks>) -> Result<()> {
        self.clear_rest()?;
        for lock in locks.iter().flat_map(|locks| &locks.locks) {
            let at = self.vmas.binary_search_by_key(&lock.start, |vma| vma.start).ok();
            let file = at.and_then(|at| self.vmas[at].file);
            let missing = || Error::damaged(format!("pid {}: a lock of no mapping at {:x}", self.pid, lock.start));
            let fd = *file.and_then(|id| self.mapped.get(&id)).ok_or_else(missing)?;
            lock.restore(self.pid, fd, &mut self.calls);
            self.make_room()?;
        }
        for number in std::mem::take(&mut self.mapped).into_values() {
            self.calls.call(libc::SYS_close, [number as u64], "closing a mapped file");
            self.make_room()?;
        }
        self.attach()?;
        for vma in &self.vmas {
            vma.finish(&mut self.calls);
            if self.calls.is_full(0) {
                self.calls.flush(&mut self.leader)?;
            }
        }
        self.calls.flush(&mut self.leader)
    }

    /// Unmaps what is left of the copied mappings, when all mappings are made.
    pub fn clear_rest(&mut self) -> Result<()> {
        self.clear(self.cleared, TASK_SIZE)?;
        self.copied.clear();
        self.calls.flush(&mut self.leader)
    }
}
