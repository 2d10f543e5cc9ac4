//! Symbolic links that were removed while they were open (O_PATH), and device nodes that were
//! removed while they or their devices were open.
//!
//! A restore makes such a node under its old name if that is free, or under another name beside it,
//! and removes it again.

use std::ffi::{OsStr, OsString};
use std::fs::FileType;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use nix::fcntl::readlinkat;
use nix::sys::stat::SFlag;
use serde::{Deserialize, Serialize};

use crate::error::{Context, Doing, Result};
use crate::file::device;
use crate::file::parts::directory::{self, ParentDir};
use crate::file::parts::owner::Owner;
use crate::file::parts::times::FileTimes;
use crate::kind::object::{DumpContext, Dumped, Object, Reference, RestoreContext, RestoredObject};
use crate::kind::observed::{OPENING, ObservedFile, open_link};
use crate::kind::open_file::OpenFile;

/// Table row: the object.
pub struct RemovedNode;

/// Its record.
#[derive(Debug, Serialize, Deserialize)]
pub struct RemovedNodeBody {
    path: Vec<u8>,
    /// Readable twin of `path`.
    name: String,
    node: Node,
    #[serde(flatten)]
    owner: Owner,
    times: FileTimes,
}

/// What was removed.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Node {
    /// A symbolic link with this text.
    Symlink(Vec<u8>),
    /// A character device of this number.
    CharDevice(u64),
    /// A block device of this number.
    BlockDevice(u64),
}

impl Object for RemovedNode {
    type Body = RemovedNodeBody;
    const KIND: &'static str = "removed_node";

    fn dump(&self, observed: &ObservedFile<'_>) -> Result<Dumped<RemovedNodeBody>> {
        let path = observed.name_before();
        let (kind, rdev) = (observed.stat.file_type(), observed.stat.rdev());
        let node = match () {
            () if kind.is_char_device() => Node::CharDevice(rdev),
            () if kind.is_block_device() => Node::BlockDevice(rdev),
            () => {
                let text = readlinkat(observed.anew(libc::O_PATH)?, c"");
                Node::Symlink(text.doing(|| format!("{}: readlink", observed.subject))?.into_vec())
            }
        };
        let body = RemovedNodeBody {
            name: path.display().to_string(),
            path: path.into_os_string().into_vec(),
            node,
            owner: Owner::of(&observed.stat),
            times: FileTimes::of(&observed.stat),
        };
        Ok(Dumped { body, blob: Vec::new(), contents: None })
    }

    fn make(&self, body: &RemovedNodeBody, _blob: &[u8]) -> Result<RestoredObject> {
        let path = Path::new(OsStr::from_bytes(&body.path));
        let (dir, name) = ParentDir::of(path)?;
        let opens = matches!(body.node, Node::CharDevice(rdev) if device::is_stateless_number(rdev));
        let (fd, name): (OwnedFd, OsString) = match &body.node {
            Node::Symlink(text) => dir.make_symlink(name, OsStr::from_bytes(text))?,
            Node::CharDevice(device) => dir.make_device(name, SFlag::S_IFCHR, *device)?,
            Node::BlockDevice(device) => dir.make_device(name, SFlag::S_IFBLK, *device)?,
        };
        dir.unlink(&name)?;
        directory::is_gone(&fd, path)?;
        Ok(RestoredObject { only_name: !opens, ..RestoredObject::new(fd, 0) })
    }

    fn finish(&self, body: &RemovedNodeBody, object: &RestoredObject) -> Result<()> {
        let doing = || format!("finishing removed {}", body.name);
        let link = link(object);
        body.owner.restore_at(&link, !matches!(body.node, Node::Symlink(_)), doing)?;
        body.times.restore_at(&link).on(doing)
    }
}

/// The name of the node for calls that take one. It leads to the node itself, a symbolic link
/// included.
fn link(object: &RestoredObject) -> String {
    format!("/proc/self/fd/{}", object.fd.as_raw_fd())
}

/// Table row: a description of it.
pub struct RemovedNodeDescription;

impl OpenFile for RemovedNodeDescription {
    type Body = Reference;
    const KIND: &'static str = "removed_node";

    fn takes(&self, observed: &ObservedFile<'_>) -> bool {
        let is_path = observed.flags & libc::O_PATH != 0;
        let is_node = |kind: FileType| kind.is_symlink() || kind.is_char_device() || kind.is_block_device();
        (is_path && is_node(observed.stat.file_type()) || device::is_stateless(&observed.stat))
            && observed.stat.nlink() == 0
            && observed.is_unlinked()
    }

    fn dump(&self, observed: &ObservedFile<'_>, objects: &mut dyn DumpContext) -> Result<Reference> {
        let object = objects.id_of(&RemovedNode, observed)?;
        Ok(Reference { object, flags: observed.flags & !OPENING, position: 0 })
    }

    fn restore(&self, body: Reference, context: &dyn RestoreContext) -> Result<OwnedFd> {
        let object = context.object(body.object)?;
        match body.flags & (libc::O_PATH | libc::O_NOFOLLOW) {
            flags if flags & libc::O_PATH == 0 => object.open(body.flags, 0),
            // A description that is only a name has no state, so it may be the object's own.
            flags if flags & libc::O_NOFOLLOW != 0 => {
                object.fd.try_clone().doing(|| "duplicating the descriptor of a removed file")
            }
            _ => open_link(Path::new(&link(object)), body.flags).map(OwnedFd::from),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs::File;

    use nix::fcntl::{FcntlArg, fcntl};

    use super::*;
    use crate::error::Kind;
    use crate::kind::object::fake::OneObject;
    use crate::kind::observed::fake::observed;
    use crate::kind::observed::open_path;

    #[test]
    fn a_removed_symbolic_link_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("link");
        std::os::unix::fs::symlink("no such file", &path).unwrap();
        std::os::unix::fs::lchown(&path, Some(12), Some(34)).unwrap();
        let file = open_path(&path, libc::O_PATH | libc::O_NOFOLLOW).unwrap();
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "another").unwrap();
        let observed = ObservedFile { flags: libc::O_PATH | libc::O_NOFOLLOW, ..observed(&file) };
        assert!(OpenFile::takes(&RemovedNodeDescription, &observed));
        let Dumped { body, .. } = Object::dump(&RemovedNode, &observed).unwrap();
        assert_eq!(body.node, Node::Symlink(b"no such file".to_vec()));
        let object = Object::make(&RemovedNode, &body, &[]).unwrap();
        Object::finish(&RemovedNode, &body, &object).unwrap();
        let context = OneObject(Some(object));
        for flags in [libc::O_PATH, libc::O_PATH | libc::O_NOFOLLOW] {
            let reference = Reference { object: 0, flags, position: 0 };
            let again = File::from(OpenFile::restore(&RemovedNodeDescription, reference, &context).unwrap());
            assert_eq!(readlinkat(&again, c"").unwrap(), "no such file");
            assert_eq!(fcntl(&again, FcntlArg::F_GETFL).unwrap(), flags);
            let stat = again.metadata().unwrap();
            assert_eq!((stat.uid(), stat.gid(), stat.nlink()), (12, 34, 0));
            assert_eq!(stat.mtime(), file.metadata().unwrap().mtime());
        }
        assert_eq!(std::fs::read(&path).unwrap(), b"another");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn only_a_device_without_a_state_is_opened() {
        let dir = tempfile::tempdir().unwrap();
        let number = |path: &str| std::fs::metadata(path).unwrap().rdev();
        let nodes = [
            (Node::CharDevice(number("/dev/null")), true),
            (Node::CharDevice(number("/dev/kmsg")), false),
            (Node::BlockDevice(number("/dev/null")), false),
            (Node::Symlink(b"/dev/null".to_vec()), false),
        ];
        for (node, opens) in nodes {
            let (path, stat) = (dir.path().join("node"), dir.path().metadata().unwrap());
            let name = path.display().to_string();
            let path = path.into_os_string().into_vec();
            let body = RemovedNodeBody { path, name, node, owner: Owner::of(&stat), times: FileTimes::of(&stat) };
            let context = OneObject(Some(Object::make(&RemovedNode, &body, &[]).unwrap()));
            let open = |flags| {
                let reference = Reference { object: 0, flags, position: 0 };
                OpenFile::restore(&RemovedNodeDescription, reference, &context).map(drop).map_err(|error| error.kind())
            };
            assert_eq!(open(libc::O_RDONLY), if opens { Ok(()) } else { Err(Kind::Damaged) }, "{:?}", body.node);
            open(libc::O_PATH).unwrap();
        }
    }
}
