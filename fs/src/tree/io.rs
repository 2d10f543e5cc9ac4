//! Reading, writing, seeking and flushing open files.

use std::sync::Arc;

use ckptfs_dumper::{ReadAhead, Result};

use crate::node::{File, Role};
use crate::process::caller::Caller;
use crate::tree::Tree;
use crate::tree::control_files::refuse_long;
use crate::tree::entry::{Attr, refused};
use crate::tree::handle::{Bytes, Handle, SnapshotFile, part_of};

impl Tree {
    /// `len` bytes at `offset`, fewer only at the end.
    pub fn read(&self, handle: u64, offset: u64, len: usize, ahead: ReadAhead) -> Result<Bytes> {
        let handle = self.handle(handle)?;
        let bytes = match &*handle {
            Handle::Snapshot(SnapshotFile { of, part, snapshot }) => {
                snapshot.set_flushed(false);
                part.read(snapshot, offset, len, ahead)
                    .inspect_err(|error| self.status.failed("read", of.id(), error))?
            }
            Handle::Refusal(text) => {
                text.set_flushed(false);
                part_of(text.as_bytes().into(), offset, len)
            }
            Handle::Text(text) | Handle::Status(text, _) => part_of(Arc::clone(text).into(), offset, len),
            Handle::Journal(text) | Handle::Restore { journal: Some(text), .. } => Bytes::Copy(text.read(offset, len)),
            Handle::Restore { journal: None, .. } => part_of([].into(), offset, len),
            Handle::Control(id, File::Freeze, _) => part_of(self.freezer.text(*id).as_bytes().into(), offset, len),
            Handle::Control(..) => part_of([].into(), offset, len),
            Handle::Directory(_) => return Err(refused(libc::EISDIR, "a directory")),
        };
        self.status.count_read(bytes.len());
        Ok(bytes)
    }

    /// Whether a write of `len` bytes may block: a tree must stop or end first, or a flush of the
    /// same session is looking for who has the file open.
    ///
    /// # Errors
    /// EINVAL: too much for a control file.
    pub fn write_blocks(&self, handle: u64, len: usize) -> Result<bool> {
        match &*self.handle(handle)? {
            Handle::Control(..) => refuse_long(len).map(|()| true),
            Handle::Restore { session, .. } => Ok(session.is_locked()),
            _ => Ok(false),
        }
    }

    /// Takes all of `bytes` from `writer`, or nothing.
    pub fn write(&self, handle: u64, offset: u64, bytes: &[u8], writer: Caller) -> Result<()> {
        let handle = self.handle(handle)?;
        match &*handle {
            Handle::Restore { session, .. } => session.lock().write(offset, bytes),
            Handle::Control(id, file, opener) => self
                .write_control(*id, *file, opener, writer, bytes)
                .inspect(|()| self.status.succeeded("control", *id))
                .inspect_err(|error| self.status.failed("control", *id, error)),
            _ => Err(refused(libc::EBADF, "not open for writing")),
        }
    }

    /// SEEK_DATA (`data`) or SEEK_HOLE (lseek(2)).
    pub fn seek(&self, handle: u64, offset: u64, data: bool) -> Result<u64> {
        let handle = self.handle(handle)?;
        match &*handle {
            Handle::Snapshot(SnapshotFile { part, snapshot, .. }) => {
                part.seek(snapshot, offset, data)?.ok_or_else(|| refused(libc::ENXIO, "no such offset"))
            }
            _ => Err(refused(libc::EINVAL, "neither data nor holes")),
        }
    }

    /// A descriptor of the handle was closed.
    pub fn flush(&self, handle: u64) -> Result<()> {
        match &*self.handle(handle)? {
            Handle::Snapshot(file) => file.snapshot.set_flushed(true),
            Handle::Refusal(text) => text.set_flushed(true),
            Handle::Restore { session, .. } => session.lock().flush()?,
            _ => {}
        }
        Ok(())
    }

    /// truncate(2), or O_TRUNC. A control file has size 0, so there is nothing to do for it.
    pub fn truncate(&self, ino: u64, size: u64) -> Result<Attr> {
        let node = self.node(ino)?;
        if node.role() == Role::Control && size == 0 { self.attr_of(node) } else { Err(refused(libc::EPERM, "fixed")) }
    }
}
