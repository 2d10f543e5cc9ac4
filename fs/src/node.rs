//! What stands in the mount: every path, its mode, and whose instant it tells of.

use ckptfs_dumper::Pid;

use crate::process::{ProcId, Range};

/// One path. A process is named with its start and a pinned snapshot with its number, so that a node outlives neither.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Node {
    /// The mount's root.
    Root,
    /// `restore`
    Restore,
    /// `status`
    Status,
    /// `PID/`, `NAME/` of a pinned snapshot, or `NAME/PID/`
    Folder(Of),
    /// A file in a folder; `image` of the root is the container's.
    File(Of, File),
    /// `vmas/`
    Vmas(Of),
    /// `vmas/START-END`
    Vma(Of, Range),
    /// `PID/snapshots/`: of whoever has that number, now or when they were taken. With [`ProcId::CONTAINER`]'s the root's.
    Snapshots(Pid),
}

/// Whose files these are, and of when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Of {
    /// A process, or the container, as it is when a file is opened.
    Live(ProcId),
    /// The process, or the container, that a pinned snapshot was taken of.
    Pinned(PinId),
    /// Another process of a pinned snapshot.
    Within(PinId, Pid),
}

/// One pinned snapshot. A number is given once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PinId {
    /// Which.
    pub number: u64,
    /// Whose.
    pub of: ProcId,
}

/// The files that tell of a process or act on it.
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

/// How long what the kernel knows of a node stays true: its contents and what stat(2) tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Steady {
    /// It changes at any time.
    Never,
    /// While it is open it is of one instant.
    WhileOpen,
    /// For as long as it is there, and the place where it stands too.
    Always,
}

/// In which folders a row stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Where {
    /// Of whatever a snapshot is taken of.
    Snapshots,
    /// Of every process of a snapshot.
    Processes,
    /// Of live processes.
    Live,
}

/// The files of the root that are nobody's, in the order of listing; `image` comes before them, `snapshots` behind.
const ROOT: [(&str, Node); 2] = [("restore", Node::Restore), ("status", Node::Status)];

/// The files of a folder, in the order of listing; `vmas` and `snapshots` follow them.
const FILES: [(&str, File, Where); 6] = [
    ("image", File::Image, Where::Snapshots),
    ("core", File::Core, Where::Processes),
    ("info.json", File::Info, Where::Processes),
    ("maps", File::Maps, Where::Processes),
    ("freeze", File::Freeze, Where::Live),
    ("kill", File::Kill, Where::Live),
];

const VMAS: &str = "vmas";
const SNAPSHOTS: &str = "snapshots";

impl Of {
    /// The container, now.
    pub const CONTAINER: Of = Of::Live(ProcId::CONTAINER);

    /// The process by its number in the snapshot; the container's is 0.
    pub fn pid(self) -> Pid {
        match self {
            Of::Live(id) => id.pid,
            Of::Pinned(pin) => pin.of.pid,
            Of::Within(_, pid) => pid,
        }
    }

    /// The pinned snapshot that tells of it.
    pub fn pin(self) -> Option<PinId> {
        match self {
            Of::Live(_) => None,
            Of::Pinned(pin) | Of::Within(pin, _) => Some(pin),
        }
    }

    fn is_at(self, place: Where) -> bool {
        match place {
            Where::Snapshots => !matches!(self, Of::Within(..)),
            Where::Processes => self.pid() != ProcId::CONTAINER.pid,
            Where::Live => matches!(self, Of::Live(_)) && self != Of::CONTAINER,
        }
    }
}

impl Node {
    /// The fixed entries of this directory. Processes, mappings and pinned snapshots come beside them.
    pub fn fixed_children(self) -> Vec<(&'static str, Node)> {
        let of = match self {
            Node::Root => Of::CONTAINER,
            Node::Folder(of) => of,
            _ => return Vec::new(),
        };
        let files = FILES.iter().filter(|(.., place)| of.is_at(*place));
        let mut children: Vec<_> = files.map(|&(name, file, _)| (name, Node::File(of, file))).collect();
        if self == Node::Root {
            children.extend(ROOT);
        }
        if of.is_at(Where::Processes) {
            children.push((VMAS, Node::Vmas(of)));
        }
        if let Of::Live(id) = of {
            children.push((SNAPSHOTS, Node::Snapshots(id.pid)));
        }
        children
    }

    /// What it is.
    pub fn role(self) -> Role {
        match self {
            Node::Root | Node::Folder(_) | Node::Vmas(_) | Node::Snapshots(_) => Role::Directory,
            Node::File(_, File::Image | File::Core | File::Info | File::Maps) | Node::Vma(..) => Role::Snapshot,
            Node::Status => Role::Text,
            Node::Restore | Node::File(_, File::Freeze | File::Kill) => Role::Control,
        }
    }

    /// Its permission bits. A folder's list of mappings tells no more than /proc/PID/map_files: the owner's alone. Who may read an image
    /// may keep one.
    pub fn mode(self) -> u16 {
        match self.role() {
            Role::Directory if matches!(self, Node::Vmas(_)) => 0o500,
            Role::Directory if matches!(self, Node::Snapshots(_)) => 0o755,
            Role::Directory => 0o555,
            Role::Snapshot => 0o400,
            Role::Text => 0o444,
            Role::Control => 0o644,
        }
    }

    /// Whether it tells of, or acts on, all of a tree: then it belongs to whom all of that belongs.
    pub fn is_of_all(self) -> bool {
        matches!(self, Node::File(_, File::Image | File::Freeze | File::Kill) | Node::Snapshots(_))
    }

    /// Whose instant it tells of.
    pub fn of(self) -> Option<Of> {
        match self {
            Node::Root | Node::Restore | Node::Status | Node::Snapshots(_) => None,
            Node::Folder(of) | Node::File(of, _) | Node::Vmas(of) | Node::Vma(of, _) => Some(of),
        }
    }

    /// How long all that can be told of it stays the same. The folder of a pinned snapshot can be renamed, and another one may have its name
    /// then. Texts of a live process are small, and are not worth the kernel's memory.
    pub fn steady(self) -> Steady {
        match self {
            Node::Folder(Of::Pinned(_)) => Steady::Never,
            Node::File(Of::Live(_), File::Image | File::Core) | Node::Vma(Of::Live(_), _) => Steady::WhileOpen,
            node if node.of().is_some_and(|of| of.pin().is_some()) => Steady::Always,
            _ => Steady::Never,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const ID: ProcId = ProcId { pid: 7, start: 1 };
    const LIVE: Of = Of::Live(ID);
    const PIN: PinId = PinId { number: 3, of: ID };
    const WHOLE: PinId = PinId { number: 4, of: ProcId::CONTAINER };

    fn names(node: Node) -> Vec<&'static str> {
        node.fixed_children().into_iter().map(|(name, _)| name).collect()
    }

    #[test]
    fn a_folder_holds_what_there_is_of_whom_it_tells() {
        assert!(Node::Status.fixed_children().is_empty());
        assert_eq!(names(Node::Root), ["image", "restore", "status", "snapshots"]);
        assert_eq!(
            names(Node::Folder(LIVE)),
            ["image", "core", "info.json", "maps", "freeze", "kill", "vmas", "snapshots"]
        );
        assert_eq!(names(Node::Folder(Of::Pinned(PIN))), ["image", "core", "info.json", "maps", "vmas"]);
        assert_eq!(names(Node::Folder(Of::Pinned(WHOLE))), ["image"]);
        assert_eq!(names(Node::Folder(Of::Within(WHOLE, 7))), ["core", "info.json", "maps", "vmas"]);
    }

    #[test]
    fn images_are_for_their_owner_and_controls_can_be_seen() {
        assert_eq!(Node::File(Of::Within(PIN, 8), File::Info).mode(), 0o400);
        assert_eq!(
            (Node::File(LIVE, File::Image).mode(), Node::File(Of::CONTAINER, File::Image).mode()),
            (0o400, 0o400)
        );
        assert_eq!(Node::Vma(LIVE, Range { start: 0, end: 1 }).mode(), 0o400);
        for control in [Node::Restore, Node::File(LIVE, File::Freeze), Node::File(LIVE, File::Kill)] {
            assert_eq!((control.role(), control.mode()), (Role::Control, 0o644));
        }
        assert_eq!((Node::Folder(LIVE).mode(), Node::Snapshots(7).mode()), (0o555, 0o755));
        assert_eq!((Node::Folder(LIVE).of(), Node::Snapshots(7).of()), (Some(LIVE), None));
    }

    #[test]
    fn what_is_pinned_is_fixed_but_for_its_name() {
        let fixed =
            [Node::File(Of::Pinned(PIN), File::Image), Node::Vmas(Of::Pinned(PIN)), Node::Folder(Of::Within(PIN, 8))];
        assert!(fixed.into_iter().all(|node| node.steady() == Steady::Always));
        let moving = [Node::Folder(Of::Pinned(PIN)), Node::Folder(LIVE), Node::Snapshots(7), Node::Root, Node::Status];
        assert!(moving.into_iter().all(|node| node.steady() == Steady::Never));
        let of_an_instant = [Node::File(LIVE, File::Image), Node::Vma(LIVE, Range { start: 0, end: 1 })];
        assert!(of_an_instant.into_iter().all(|node| node.steady() == Steady::WhileOpen));
    }
}
