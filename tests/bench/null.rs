//! The file server to compare with. It is set up as `ckptfs` sets up its own, and answers every
//! read from one buffer without any work.
//!
//! It provides any number of files: the name of a file is its size in decimal. fs/src/mount.rs and
//! fs/src/fuse/mod.rs explain each setting.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

use ckptfs_tests::{mounted, tool, wait};
use fuser::{
    Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, InitFlags,
    KernelConfig, LockOwner, OpenFlags, ReplyAttr, ReplyData, ReplyEmpty, ReplyEntry, ReplyOpen, Request, Session,
    SessionACL,
};
use nix::mount::{MsFlags, mount};
use tempfile::TempDir;

const MAX_REQUEST: u32 = 1 << 20;
const MAX_BACKGROUND: u16 = 64;
const THREADS: usize = 8;
const NO_TIME: Duration = Duration::ZERO;

/// The first inode number of a file. A file of N bytes has this number plus N.
const FIRST: u64 = 2;

struct Null(Vec<u8>);

fn attr(ino: INodeNo) -> FileAttr {
    let size = ino.0.saturating_sub(FIRST);
    let (kind, perm) = if ino.0 < FIRST { (FileType::Directory, 0o755) } else { (FileType::RegularFile, 0o400) };
    let time = SystemTime::UNIX_EPOCH;
    let (uid, gid) = (0, 0);
    FileAttr {
        ino,
        size,
        blocks: size.div_ceil(512),
        atime: time,
        mtime: time,
        ctime: time,
        crtime: time,
        kind,
        perm,
        nlink: 1,
        uid,
        gid,
        rdev: 0,
        blksize: MAX_REQUEST,
        flags: 0,
    }
}

impl Filesystem for Null {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let _ = config.set_max_write(MAX_REQUEST);
        let _ = config.set_max_background(MAX_BACKGROUND);
        let wanted =
            InitFlags::FUSE_ATOMIC_O_TRUNC | InitFlags::FUSE_PARALLEL_DIROPS | InitFlags::FUSE_DIRECT_IO_ALLOW_MMAP;
        let _ = config.add_capabilities(wanted & config.capabilities());
        Ok(())
    }

    fn lookup(&self, _req: &Request, _parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match name.to_str().and_then(|name| name.parse::<u64>().ok()) {
            Some(size) => reply.entry(&NO_TIME, &attr(INodeNo(FIRST + size)), Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&NO_TIME, &attr(ino));
    }

    fn open(&self, _req: &Request, _ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
    }

    fn read(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let left = ino.0.saturating_sub(FIRST).saturating_sub(offset);
        reply.data(&self.0[..left.min(u64::from(size)) as usize]);
    }

    fn flush(&self, _req: &Request, _ino: INodeNo, _fh: FileHandle, _lock_owner: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }
}

/// Serves `mountpoint` until it is unmounted.
pub fn serve(mountpoint: &Path) {
    let device = File::options().read(true).write(true).open("/dev/fuse").expect("opening /dev/fuse");
    let data = format!("fd={},rootmode=40000,user_id=0,group_id=0,default_permissions", device.as_raw_fd());
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("null"), mountpoint, Some("fuse.null"), flags, Some(data.as_str())).expect("mounting");
    let mut config = Config::default();
    config.n_threads = Some(THREADS);
    config.clone_fd = true;
    config.acl = SessionACL::Owner;
    let null = Null(vec![0x5a; MAX_REQUEST as usize]);
    let session = Session::from_fd(null, OwnedFd::from(device), config.acl, config).expect("starting the session");
    session.spawn().expect("serving").join().expect("serving to the end");
}

/// The server, a separate process like the daemon. Drop unmounts it.
pub struct Server {
    dir: TempDir,
    child: Child,
}

impl Server {
    /// Starts it and waits until the mount answers.
    pub fn start() -> Server {
        let dir = tempfile::Builder::new().prefix("ckptfs-null-").tempdir().expect("making the mountpoint");
        let program = std::env::current_exe().expect("finding this program");
        let mut command = Command::new(program);
        command.arg("--null").arg(dir.path()).stdin(Stdio::null());
        let server = Server { child: command.spawn().expect("starting the null server"), dir };
        wait::until("the null server answers", || {
            mounted::is_mounted(server.dir.path()) && fs::metadata(server.file(1)).is_ok_and(|meta| meta.len() == 1)
        });
        server
    }

    /// A file of this size.
    pub fn file(&self, size: u64) -> PathBuf {
        self.dir.path().join(size.to_string())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _told = tool::run(&[Path::new("umount"), Path::new("-l"), self.dir.path()]);
        let ended = wait::poll(wait::LONG, || self.child.try_wait().ok().flatten()).is_some();
        if !ended {
            let _gone = self.child.kill();
            let _status = self.child.wait();
        }
    }
}
