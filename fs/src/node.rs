//! What stands in the mount: every path, its mode, and which process it speaks of.

use std::ffi::OsStr;

use crate::process::{ProcId, Range};

/// One path. A process is named with its start, so that a node outlives no process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Node {
    /// The mount's root.
    Root,
    /// `restore`
    Restore,
    /// `image`: the whole container.
    Image,
    /// `status`
    Status,
    /// `PID/`
    Folder(ProcId),
    /// A file in `PID/`.
    File(ProcId, File),
    /// `PID/vmas/`
    Vmas(ProcId),
    /// `PID/vmas/START-END`
    Vma(ProcId, Range),
}

/// The files of a process's folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum File {
    /// The image of the tree rooted here.
    Image,
    /// The process as an ELF core file.
    Core,
    /// Its records as text.
    Info,
    /// Its mappings as text.
    Maps,
    /// Stop and go on.
    Freeze,
    /// SIGKILL to the tree.
    Kill,
}

/// What a node is to a program that opens it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A directory.
    Directory,
    /// Told by a snapshot: read-only, for the owner alone.
    Snapshot,
    /// Text that is made when it is opened.
    Text,
    /// Only a write does something; its size is 0, so that archivers pass it by.
    Control,
}

/// The files of the root, in the order of listing.
const ROOT: [(&str, Node); 3] = [("image", Node::Image), ("restore", Node::Restore), ("status", Node::Status)];

/// The files of a process's folder, in the order of listing; `vmas` follows them.
const FOLDER: [(&str, File); 6] = [
    ("image", File::Image),
    ("core", File::Core),
    ("info.json", File::Info),
    ("maps", File::Maps),
    ("freeze", File::Freeze),
    ("kill", File::Kill),
];

const VMAS: &str = "vmas";

impl Node {
    /// The fixed entries of this directory; the processes of the root and the mappings of `vmas` come beside them.
    pub fn fixed_children(self) -> Vec<(&'static str, Node)> {
        match self {
            Node::Root => ROOT.to_vec(),
            Node::Folder(id) => {
                let files = FOLDER.iter().map(|&(name, file)| (name, Node::File(id, file)));
                files.chain([(VMAS, Node::Vmas(id))]).collect()
            }
            _ => Vec::new(),
        }
    }

    /// The fixed entry of that name.
    pub fn fixed_child(self, name: &OsStr) -> Option<Node> {
        self.fixed_children().into_iter().find(|(known, _)| name == *known).map(|(_, node)| node)
    }

    /// What it is.
    pub fn role(self) -> Role {
        match self {
            Node::Root | Node::Folder(_) | Node::Vmas(_) => Role::Directory,
            Node::Image | Node::File(_, File::Image | File::Core | File::Info | File::Maps) | Node::Vma(..) => {
                Role::Snapshot
            }
            Node::Status => Role::Text,
            Node::Restore | Node::File(_, File::Freeze | File::Kill) => Role::Control,
        }
    }

    /// Its permission bits. A folder's list of mappings tells no more than /proc/PID/map_files: the owner's alone.
    pub fn mode(self) -> u16 {
        match self.role() {
            Role::Directory if matches!(self, Node::Vmas(_)) => 0o500,
            Role::Directory => 0o555,
            Role::Snapshot => 0o400,
            Role::Text => 0o444,
            Role::Control => 0o644,
        }
    }

    /// The process that it speaks of.
    pub fn process(self) -> Option<ProcId> {
        match self {
            Node::Root | Node::Image | Node::Restore | Node::Status => None,
            Node::Folder(id) | Node::File(id, _) | Node::Vmas(id) | Node::Vma(id, _) => Some(id),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const ID: ProcId = ProcId { pid: 7, start: 1 };

    #[test]
    fn every_fixed_child_is_found_by_its_name() {
        for folder in [Node::Root, Node::Folder(ID)] {
            for (name, node) in folder.fixed_children() {
                assert_eq!(folder.fixed_child(OsStr::new(name)), Some(node));
                assert_eq!(folder.fixed_child(OsStr::new(&name.to_uppercase())), None);
            }
        }
        assert!(Node::Status.fixed_children().is_empty());
    }

    #[test]
    fn images_are_for_their_owner_and_controls_can_be_seen() {
        assert_eq!((Node::File(ID, File::Image).mode(), Node::Image.mode()), (0o400, 0o400));
        assert_eq!(Node::Vma(ID, Range { start: 0, end: 1 }).mode(), 0o400);
        for control in [Node::Restore, Node::File(ID, File::Freeze), Node::File(ID, File::Kill)] {
            assert_eq!((control.role(), control.mode()), (Role::Control, 0o644));
        }
        assert_eq!(Node::Folder(ID).mode(), 0o555);
        assert_eq!(Node::Folder(ID).process(), Some(ID));
    }
}
