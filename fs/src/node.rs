//! Every path of the mount, its mode, and the process and instant that it shows.

use ckptfs_dumper::Pid;

use crate::process::caller::Viewer;
use crate::process::{ProcId, Range};

/// One path. A process is identified with its start time and a pinned snapshot with its number, so
/// a node never leads to a later one with the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Node {
    /// The mount's root.
    Root,
    /// `restore`, as this user reads it. Each user has an inode of its own, because the kernel may
    /// cache the contents of an inode (splice(2), mmap(2)) and would give them to anybody.
    Restore(Viewer),
    /// `status`, in the same way.
    Status(Viewer),
    /// `PID/`, `NAME/` of a pinned snapshot, or `NAME/PID/`
    Folder(Of),
    /// A file in a folder; `image` of the root is the container's.
    File(Of, File),
    /// `vmas/`
    Vmas(Of),
    /// `vmas/START-END`
    Vma(Of, Range),
    /// `PID/snapshots/`: the snapshots of all processes that have or had this pid. The pid of
    /// [`ProcId::CONTAINER`] stands for `snapshots/` of the root.
    Snapshots(Pid),
}

/// The process and the instant that a file shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Of {
    /// A process, or the container, at the moment of an open.
    Live(ProcId),
    /// The same, at the moment of an open by a caller that shares no instant with those that have
    /// the path open already. Such an instant has inodes of its own, because the kernel caches one
    /// content of an inode.
    Apart(ApartId),
    /// The root of a pinned snapshot: the process, or the container, that it was taken of.
    Pinned(PinId),
    /// Another process of a pinned snapshot.
    Within(PinId, Pid),
}

/// The identity of a pinned snapshot. A number is given only once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PinId {
    /// Its number.
    pub number: u64,
    /// The process or container that it was taken of.
    pub of: ProcId,
}

/// The identity of an instant apart from others of the same process. A number is given only once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ApartId {
    /// Its number.
    pub number: u64,
    /// The process or container that it shows.
    pub of: ProcId,
}

/// The files that show a process or act on it.
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
    /// Everything that would refuse a dump of the tree, one line each.
    Check,
    /// Stops and thaws the tree.
    Freeze,
    /// Sends SIGKILL to the tree.
    Kill,
}

/// What a node is for a program that opens it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A directory.
    Directory,
    /// A file of a snapshot: read-only, for the owner only.
    Snapshot,
    /// A text that is made when it is opened, and says something of this moment.
    Text,
    /// Only a write has an effect. The size is 0, so that archivers skip it.
    Control,
}

/// How long the kernel may cache a node: its contents and its attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Steady {
    /// Not at all: the node changes at any time.
    Never,
    /// While the node is open: it then shows one instant.
    WhileOpen,
    /// As long as the node exists. Its directory entry does not change either.
    Always,
}

/// Which folders have a file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Where {
    /// Folders of everything that a snapshot is taken of.
    Snapshots,
    /// Folders of every process of a snapshot.
    Processes,
    /// Folders of live processes.
    Live,
}

/// The files of the root that show no process, in the order of listing. `image` comes before them,
/// `snapshots` after.
const ROOT: [(&str, Node); 2] = [("restore", Node::Restore(Viewer::All)), ("status", Node::Status(Viewer::All))];

/// The files of a folder, in the order of listing. `vmas` and `snapshots` follow them.
const FILES: [(&str, File, Where); 7] = [
    ("image", File::Image, Where::Snapshots),
    ("core", File::Core, Where::Processes),
    ("info.json", File::Info, Where::Processes),
    ("maps", File::Maps, Where::Processes),
    ("check", File::Check, Where::Live),
    ("freeze", File::Freeze, Where::Live),
    ("kill", File::Kill, Where::Live),
];

const VMAS: &str = "vmas";
const SNAPSHOTS: &str = "snapshots";

impl Of {
    /// The container, now.
    pub const CONTAINER: Of = Of::Live(ProcId::CONTAINER);

    /// The pid of the process, or 0 for the container.
    pub fn pid(self) -> Pid {
        match self {
            Of::Live(id) | Of::Apart(ApartId { of: id, .. }) => id.pid,
            Of::Pinned(pin) => pin.of.pid,
            Of::Within(_, pid) => pid,
        }
    }

    /// The process. What a pinned snapshot shows of another process than its root has ended.
    pub fn id(self) -> ProcId {
        match self {
            Of::Live(id) | Of::Apart(ApartId { of: id, .. }) => id,
            Of::Pinned(pin) => pin.of,
            Of::Within(_, pid) => ProcId::ended(pid),
        }
    }

    /// The pinned snapshot, if this is not live.
    pub fn pin(self) -> Option<PinId> {
        match self {
            Of::Live(_) | Of::Apart(_) => None,
            Of::Pinned(pin) | Of::Within(pin, _) => Some(pin),
        }
    }

    /// The process or container, if this is live.
    pub fn live(self) -> Option<ProcId> {
        match self {
            Of::Live(id) | Of::Apart(ApartId { of: id, .. }) => Some(id),
            Of::Pinned(_) | Of::Within(..) => None,
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
    /// The fixed entries of this directory. Processes, mappings and pinned snapshots are added to
    /// them.
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

    /// What the node is for a program that opens it.
    pub fn role(self) -> Role {
        match self {
            Node::Root | Node::Folder(_) | Node::Vmas(_) | Node::Snapshots(_) => Role::Directory,
            Node::File(_, File::Image | File::Core | File::Info | File::Maps) | Node::Vma(..) => Role::Snapshot,
            Node::Status(_) | Node::File(_, File::Check) => Role::Text,
            Node::Restore(_) | Node::File(_, File::Freeze | File::Kill) => Role::Control,
        }
    }

    /// The permission bits. Only the owner may list `vmas`, as with /proc/PID/map_files.
    /// `snapshots` is writable for the owner, because a user that may read an image may pin one.
    pub fn mode(self) -> u16 {
        match self.role() {
            Role::Directory if matches!(self, Node::Vmas(_)) => 0o500,
            Role::Directory if matches!(self, Node::Snapshots(_)) => 0o755,
            Role::Directory => 0o555,
            Role::Snapshot => 0o400,
            Role::Text if matches!(self, Node::File(..)) => 0o400,
            Role::Text => 0o444,
            Role::Control => 0o644,
        }
    }

    /// Whether the node shows, or acts on, a whole tree. It then belongs to the owner of all
    /// processes in the tree.
    pub fn is_of_all(self) -> bool {
        matches!(self, Node::File(_, File::Image | File::Check | File::Freeze | File::Kill) | Node::Snapshots(_))
    }

    /// The process and the instant that the node shows.
    pub fn of(self) -> Option<Of> {
        match self {
            Node::Root | Node::Restore(_) | Node::Status(_) | Node::Snapshots(_) => None,
            Node::Folder(of) | Node::File(of, _) | Node::Vmas(of) | Node::Vma(of, _) => Some(of),
        }
    }

    /// The same path with the instant of `of`.
    pub fn with(self, of: Of) -> Node {
        match self {
            Node::Root | Node::Restore(_) | Node::Status(_) | Node::Snapshots(_) => self,
            Node::Folder(_) => Node::Folder(of),
            Node::File(_, file) => Node::File(of, file),
            Node::Vmas(_) => Node::Vmas(of),
            Node::Vma(_, range) => Node::Vma(of, range),
        }
    }

    /// Whether its name leads every caller to it, for as long as its directory exists. A pid may
    /// belong to another process later, a pinned snapshot may get another name, and what shows one
    /// instant while it is open may show each caller another one.
    pub fn has_fixed_name(self) -> bool {
        let is_moving = matches!(self, Node::Folder(Of::Live(_) | Of::Pinned(_)));
        !is_moving && self.viewer().is_none() && self.steady() != Steady::WhileOpen
    }

    /// Whose inode it is, if each user has one.
    pub fn viewer(self) -> Option<Viewer> {
        match self {
            Node::Restore(viewer) | Node::Status(viewer) => Some(viewer),
            _ => None,
        }
    }

    /// The inode of `viewer` at this path.
    pub fn seen_by(self, viewer: Viewer) -> Node {
        match self {
            Node::Restore(_) => Node::Restore(viewer),
            Node::Status(_) => Node::Status(viewer),
            node => node,
        }
    }

    /// Whether it does no harm if the kernel checks permissions with attributes that are a moment
    /// old: everybody may list the directory and look names up, or each open is checked here.
    pub fn may_be_checked_late(self) -> bool {
        matches!(self, Node::Root | Node::Folder(_) | Node::Vma(..))
    }

    /// How long the node stays the same. The folder of a pinned snapshot can be renamed, and
    /// another one may get its name. Texts of a live process are small, and not worth the kernel's
    /// memory.
    pub fn steady(self) -> Steady {
        match self {
            Node::Folder(Of::Pinned(_)) => Steady::Never,
            Node::File(Of::Live(_) | Of::Apart(_), File::Image | File::Core)
            | Node::Vma(Of::Live(_) | Of::Apart(_), _) => Steady::WhileOpen,
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
    fn a_folder_holds_the_files_of_what_it_shows() {
        assert!(Node::Status(Viewer::All).fixed_children().is_empty());
        assert_eq!(names(Node::Root), ["image", "restore", "status", "snapshots"]);
        assert_eq!(
            names(Node::Folder(LIVE)),
            ["image", "core", "info.json", "maps", "check", "freeze", "kill", "vmas", "snapshots"]
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
        let check = Node::File(LIVE, File::Check);
        assert!((check.role(), check.mode()) == (Role::Text, 0o400) && check.is_of_all());
        for control in [Node::Restore(Viewer::All), Node::File(LIVE, File::Freeze), Node::File(LIVE, File::Kill)] {
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
        let status = Node::Status(Viewer::All);
        let moving = [Node::Folder(Of::Pinned(PIN)), Node::Folder(LIVE), status, Node::Snapshots(7), Node::Root];
        assert!(moving.into_iter().all(|node| node.steady() == Steady::Never));
        assert!(
            moving[..3].iter().all(|node| !node.has_fixed_name()) && moving[3..].iter().all(|it| it.has_fixed_name())
        );
        let of_an_instant = [Node::File(LIVE, File::Image), Node::Vma(LIVE, Range { start: 0, end: 1 })];
        assert!(of_an_instant.into_iter().all(|node| node.steady() == Steady::WhileOpen));
    }
}
