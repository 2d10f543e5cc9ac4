//! The adapter to fuser: a request becomes a call of the tree, its result a reply. It decides
//! nothing.

pub mod page_cache;
pub mod probe;
pub mod reply;
pub mod workers;

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use ckptfs_dumper::{Pid, ReadAhead};
use fuser::{
    BsdFileFlags, CopyFileRangeFlags, Errno, FileHandle, Filesystem, FopenFlags, INodeNo, InitFlags, IoctlFlags,
    KernelConfig, LockOwner, OpenAccMode, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLseek, ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow,
    WriteFlags,
};

use crate::fuse::page_cache::PageCache;
use crate::fuse::reply::{BLOCK_SIZE, attributes, code, done, entered, listed, opened, written};
use crate::fuse::workers::Workers;
use crate::node::Steady;
use crate::process::caller::Caller;
use crate::tree::Tree;
use crate::tree::entry::Access;

/// Largest read and write of one request.
const MAX_REQUEST: u32 = 1 << 20;

/// How many background requests the kernel may have in progress: those that no process waits for
/// (releases, read-ahead).
const MAX_BACKGROUND: u16 = 64;

/// Whose jobs those are that no user waits for, or that free something: they never wait for other
/// jobs.
const ROOT: u32 = 0;

/// The filesystem that fuser serves.
pub struct Fuse {
    tree: Arc<Tree>,
    workers: Arc<Workers>,
    page_cache: Arc<PageCache>,
}

impl Fuse {
    /// Serves `tree`. Requests that block run on `workers`, so that no other request waits for
    /// them. `page_cache` is connected before the first request.
    pub fn new(tree: Arc<Tree>, workers: Arc<Workers>, page_cache: Arc<PageCache>) -> Fuse {
        Fuse { tree, workers, page_cache }
    }
}

fn caller(req: &Request) -> Caller {
    Caller { thread: req.pid() as Pid, uid: req.uid(), gid: req.gid() }
}

impl Filesystem for Fuse {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // Errors are ignored: they mean that this kernel lacks a capability or has a lower bound,
        // which works too.
        let _ = config.set_max_write(MAX_REQUEST);
        let _ = config.set_max_background(MAX_BACKGROUND);
        let wanted = InitFlags::FUSE_ATOMIC_O_TRUNC
            | InitFlags::FUSE_PARALLEL_DIROPS
            | InitFlags::FUSE_DIRECT_IO_ALLOW_MMAP
            | InitFlags::FUSE_AUTO_INVAL_DATA;
        let _ = config.add_capabilities(wanted & config.capabilities());
        Ok(())
    }

    fn lookup(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        if let Some(ino) = self.page_cache.inode_by_name(parent, name, req.pid() as Pid) {
            let tree = Arc::clone(&self.tree);
            self.workers.run(req.uid(), move || entered(reply, tree.lookup_number(ino)));
        } else if self.tree.lookup_blocks(parent.0, name) {
            let (tree, name, caller) = (Arc::clone(&self.tree), name.to_owned(), caller(req));
            self.workers.run(req.uid(), move || entered(reply, tree.lookup(parent.0, &name, caller)));
        } else {
            entered(reply, self.tree.lookup(parent.0, name, caller(req)));
        }
    }

    fn forget(&self, _req: &Request, ino: INodeNo, nlookup: u64) {
        self.tree.forget(ino.0, nlookup);
    }

    fn getattr(&self, req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        if self.tree.attr_blocks(ino.0) {
            let tree = Arc::clone(&self.tree);
            self.workers.run(req.uid(), move || attributes(reply, tree.attr(ino.0)));
        } else {
            attributes(reply, self.tree.attr(ino.0));
        }
    }

    fn setattr(
        &self,
        _req: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        match size {
            Some(size) if mode.is_none() && uid.is_none() && gid.is_none() => {
                attributes(reply, self.tree.truncate(ino.0, size))
            }
            _ => reply.error(Errno::EPERM),
        }
    }

    fn open(&self, req: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let mode = flags.acc_mode();
        let access = Access {
            write: mode != OpenAccMode::O_RDONLY,
            read: mode != OpenAccMode::O_WRONLY,
            append: flags.0 & libc::O_APPEND != 0,
            truncate: flags.0 & libc::O_TRUNC != 0,
            caller: caller(req),
        };
        let steady = self.tree.steady(ino.0);
        if self.tree.open_blocks(ino.0) {
            let (tree, page_cache) = (Arc::clone(&self.tree), Arc::clone(&self.page_cache));
            self.workers.run(req.uid(), move || {
                let handle = tree.open(ino.0, access);
                // A kernel that does not have the size must not cache: it asks for each piece.
                let is_size_known = steady != Steady::WhileOpen || handle.is_err() || page_cache.learn_attributes(ino);
                opened(reply, handle, if is_size_known { steady } else { Steady::Never });
            });
        } else {
            opened(reply, self.tree.open(ino.0, access), steady);
        }
    }

    fn read(
        &self,
        _req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        size: u32,
        flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        // For the page cache the kernel reads ahead itself, with several requests at once.
        let ahead = if flags.0 & libc::O_DIRECT != 0 { ReadAhead::Ours } else { ReadAhead::Theirs };
        match self.tree.read(fh.0, offset, size as usize, ahead) {
            Ok(bytes) => reply.data(&bytes),
            Err(error) => reply.error(code(&error)),
        }
    }

    fn write(
        &self,
        req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let caller = caller(req);
        match self.tree.write_blocks(fh.0, data.len()) {
            Ok(true) => {
                let (tree, data) = (Arc::clone(&self.tree), data.to_vec());
                let write = move || written(reply, tree.write(fh.0, offset, &data, caller), data.len());
                self.workers.run(req.uid(), write);
            }
            Ok(false) => written(reply, self.tree.write(fh.0, offset, data, caller), data.len()),
            Err(error) => reply.error(code(&error)),
        }
    }

    fn lseek(&self, _req: &Request, _ino: INodeNo, fh: FileHandle, offset: i64, whence: i32, reply: ReplyLseek) {
        let data = match whence {
            libc::SEEK_DATA => true,
            libc::SEEK_HOLE => false,
            _ => return reply.error(Errno::EINVAL),
        };
        let Ok(offset) = u64::try_from(offset) else { return reply.error(Errno::ENXIO) };
        match self.tree.seek(fh.0, offset, data) {
            Ok(offset) => reply.offset(i64::try_from(offset).unwrap_or(i64::MAX)),
            Err(error) => reply.error(code(&error)),
        }
    }

    fn flush(&self, _req: &Request, _ino: INodeNo, fh: FileHandle, _lock_owner: LockOwner, reply: ReplyEmpty) {
        if self.tree.close_blocks(fh.0) {
            let tree = Arc::clone(&self.tree);
            self.workers.run(ROOT, move || done(reply, tree.flush(fh.0)));
        } else {
            done(reply, self.tree.flush(fh.0));
        }
    }

    fn release(
        &self,
        _req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        if self.tree.close_blocks(fh.0) {
            let tree = Arc::clone(&self.tree);
            self.workers.run(ROOT, move || {
                // Control files are not cached, so nothing is left to do.
                drop(tree.release(fh.0));
                reply.ok();
            });
            return;
        }
        if let Some(closing) = self.tree.release(fh.0) {
            self.page_cache.forget_attributes(ino);
            let page_cache = Arc::clone(&self.page_cache);
            self.workers.run(ROOT, move || {
                page_cache.forget_contents(ino);
                drop(closing);
            });
        }
        reply.ok();
    }

    fn fsync(&self, _req: &Request, _ino: INodeNo, _fh: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        reply.ok();
    }

    fn opendir(&self, req: &Request, ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        let access = Access { write: false, read: true, append: false, truncate: false, caller: caller(req) };
        let tree = Arc::clone(&self.tree);
        let open = move || match tree.open(ino.0, access) {
            Ok(handle) => reply.opened(FileHandle(handle), FopenFlags::empty()),
            Err(error) => reply.error(code(&error)),
        };
        if self.tree.list_blocks(ino.0) { self.workers.run(req.uid(), open) } else { open() }
    }

    fn readdir(&self, req: &Request, ino: INodeNo, fh: FileHandle, offset: u64, reply: ReplyDirectory) {
        let (tree, caller, rewound) = (Arc::clone(&self.tree), caller(req), offset == 0);
        let read = move || match tree.read_directory(ino.0, fh.0, rewound, caller) {
            Ok(entries) => listed(reply, ino, offset, &entries),
            Err(error) => reply.error(code(&error)),
        };
        // The handle has the entries from the first one on.
        if rewound && self.tree.list_blocks(ino.0) { self.workers.run(req.uid(), read) } else { read() }
    }

    fn releasedir(&self, _req: &Request, _ino: INodeNo, fh: FileHandle, _flags: OpenFlags, reply: ReplyEmpty) {
        self.tree.release(fh.0);
        reply.ok();
    }

    fn statfs(&self, _req: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        reply.statfs(0, 0, 0, 0, 0, BLOCK_SIZE, 255, BLOCK_SIZE);
    }

    // Only pinned snapshots can be created, removed and renamed; everything else in the tree
    // follows the processes. Each request is refused here, because fuser's default answer (ENOSYS)
    // logs a warning that the request is missing.

    fn mknod(&self, _: &Request, _: INodeNo, _: &OsStr, _mode: u32, _umask: u32, _rdev: u32, reply: ReplyEntry) {
        reply.error(Errno::EPERM);
    }

    fn mkdir(&self, req: &Request, parent: INodeNo, name: &OsStr, _mode: u32, _umask: u32, reply: ReplyEntry) {
        let (tree, name, caller) = (Arc::clone(&self.tree), name.to_owned(), caller(req));
        self.workers.run(req.uid(), move || entered(reply, tree.make_directory(parent.0, &name, caller)));
    }

    fn unlink(&self, _: &Request, _: INodeNo, _: &OsStr, reply: ReplyEmpty) {
        reply.error(Errno::EPERM);
    }

    fn rmdir(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let (tree, name) = (Arc::clone(&self.tree), name.to_owned());
        self.workers.run(req.uid(), move || done(reply, tree.remove_directory(parent.0, &name)));
    }

    fn symlink(&self, _: &Request, _: INodeNo, _: &OsStr, _target: &Path, reply: ReplyEntry) {
        reply.error(Errno::EPERM);
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        // Nothing is ever replaced, so RENAME_NOREPLACE changes nothing.
        if flags.difference(RenameFlags::RENAME_NOREPLACE).is_empty() {
            done(reply, self.tree.rename(parent.0, name, newparent.0, newname));
        } else {
            reply.error(Errno::EINVAL);
        }
    }

    fn link(&self, _: &Request, _: INodeNo, _newparent: INodeNo, _newname: &OsStr, reply: ReplyEntry) {
        reply.error(Errno::EPERM);
    }

    fn create(&self, _: &Request, _: INodeNo, _: &OsStr, _mode: u32, _umask: u32, _flags: i32, reply: ReplyCreate) {
        reply.error(Errno::EPERM);
    }

    fn copy_file_range(
        &self,
        _: &Request,
        _: INodeNo,
        _fh_in: FileHandle,
        _offset_in: u64,
        _ino_out: INodeNo,
        _fh_out: FileHandle,
        _offset_out: u64,
        _len: u64,
        _flags: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        // As for getxattr, ENOSYS means never: from then on the kernel copies by itself.
        reply.error(Errno::ENOSYS);
    }

    fn ioctl(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _flags: IoctlFlags,
        _cmd: u32,
        _in_data: &[u8],
        _out_size: u32,
        reply: ReplyIoctl,
    ) {
        // Programs that open a file as text ask whether it is a terminal.
        reply.error(Errno::ENOTTY);
    }

    fn getxattr(&self, _: &Request, _: INodeNo, _: &OsStr, _size: u32, reply: ReplyXattr) {
        // For the kernel ENOSYS means "never": it asks once and answers EOPNOTSUPP by itself from
        // then on.
        reply.error(Errno::ENOSYS);
    }

    fn listxattr(&self, _: &Request, _: INodeNo, _size: u32, reply: ReplyXattr) {
        reply.error(Errno::ENOSYS);
    }
}
