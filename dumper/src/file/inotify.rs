//! Instances of inotify(7): the files and directories that they watch.
//!
//! `fdinfo` shows each watch with the handle of its file (inotify_show_fdinfo in
//! fs/notify/fdinfo.c, open_by_handle_at(2)). The file is recorded by its name, as an O_PATH
//! descriptor of it would be.
//!
//! Events that have not been read are not in the image: the kernel shows how many bytes they have,
//! and only a read, which takes them, shows more. A program soon reads them, so a dump tries again.

use std::os::fd::{AsRawFd, OwnedFd};

use rustix::fs::inotify;
use serde::{Deserialize, Serialize};

use crate::error::{Context, Doing, Error, Kind, Result};
use crate::image::frame::Tag;
use crate::kind::object::{DumpContext, RestoreContext};
use crate::kind::observed::ObservedFile;
use crate::kind::open_file::{Forget, OpenFile};
use crate::kind::relation::{Descriptions, EmptyTable, Relating, Relation};
use crate::kind::unnoticed::is_served;
use crate::sys::file_handle::FileHandle;
use crate::sys::inotify::set_next_watch;
use crate::sys::proc::{kernel_device, mountinfo, read_text};
use crate::sys::{fd, inotify as sys};

const NAME: &str = "anon_inode:inotify";

/// How many watches a record has.
const IN_RECORD: usize = 1000;

/// How often events are taken out of an instance.
const FORGETS: u32 = 100;

/// Table row.
pub struct Inotify;

/// The record.
#[derive(Serialize, Deserialize)]
pub struct InotifyBody {
    flags: i32,
}

impl OpenFile for Inotify {
    type Body = InotifyBody;
    const KIND: &'static str = "inotify";
    /// The restore opens and closes files that the tree may watch. What others did before the tree
    /// existed again is gone with it.
    const FORGET: Option<Forget> = Some(forget);

    fn takes(&self, observed: &ObservedFile<'_>) -> bool {
        observed.target.as_os_str() == NAME
    }

    fn dump(&self, observed: &ObservedFile<'_>, context: &mut dyn DumpContext) -> Result<InotifyBody> {
        let unread = fd::readable(&observed.description()?).on(|| &observed.subject)?;
        if unread != 0 && !context.only_checks() {
            let sentence = format!("{}: an inotify instance has events that have not been read", observed.subject);
            return Err(Error::new(Kind::Passing, sentence));
        }
        Ok(InotifyBody { flags: observed.flags })
    }

    fn restore(&self, body: InotifyBody, _context: &dyn RestoreContext) -> Result<OwnedFd> {
        let made = inotify::init(inotify::CreateFlags::CLOEXEC).doing(|| "making an inotify instance")?;
        fd::set_flags(&made, body.flags)?;
        Ok(made)
    }
}

/// Takes all events.
fn forget(instance: &OwnedFd) -> Result<()> {
    for _ in 0..FORGETS {
        let unread = fd::readable(instance)?;
        if unread == 0 {
            break;
        }
        let mut events = vec![0; unread as usize];
        rustix::io::read(instance, &mut events[..]).doing(|| "taking the events of an inotify instance")?;
    }
    Ok(())
}

/// Table row.
pub struct Marks;

/// The record: watches of an inotify instance.
#[derive(Serialize, Deserialize)]
pub struct MarksBody {
    watches: Vec<Watch>,
}

/// A watch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Watch {
    /// Its number.
    number: i32,
    /// The id of the open file (O_PATH) that it watches.
    file: u32,
    /// IN_*.
    mask: u32,
}

/// What `fdinfo` shows of a watch.
#[derive(Debug, PartialEq, Eq)]
struct Shown {
    number: i32,
    inode: u64,
    /// Of the filesystem, as `MAJOR:MINOR`.
    device: String,
    mask: u32,
    /// Missing if the filesystem has none.
    handle: Option<FileHandle>,
}

impl Shown {
    /// The numbers of a line as "inotify wd:1 ino:9c0006 sdev:fe00000 mask:fff ignored_mask:0
    /// fhandle-bytes:8 fhandle-type:1 f_handle:06009c0049a37e71".
    fn parse(line: &str) -> Option<Self> {
        let field =
            |name: &str| line.split_ascii_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix(':'));
        let hex = |name: &str| u64::from_str_radix(field(name)?, 16).ok();
        let handle = || {
            let text = field("f_handle")?;
            let byte = |at: usize| u8::from_str_radix(text.get(at..at + 2)?, 16).ok();
            let bytes = (0..text.len()).step_by(2).map(byte).collect::<Option<Vec<u8>>>()?;
            Some(FileHandle { kind: hex("fhandle-type")? as i32, bytes })
        };
        let (major, minor) = kernel_device(hex("sdev")?);
        Some(Self {
            number: i32::try_from(hex("wd")?).ok()?,
            inode: hex("ino")?,
            device: format!("{major}:{minor}"),
            mask: hex("mask")? as u32,
            handle: handle(),
        })
    }

    /// The watches in a text of `fdinfo`, ascending.
    fn all(text: &str) -> Result<Vec<Self>> {
        let lines = text.lines().filter(|line| line.starts_with("inotify "));
        let unknown = |line: &str| Error::os(format_args!("a watch of an inotify instance: {line:?}"), libc::EIO);
        let mut found = lines.map(|line| Self::parse(line).ok_or_else(|| unknown(line))).collect::<Result<Vec<_>>>()?;
        found.sort_unstable_by_key(|watch| watch.number);
        Ok(found)
    }

    /// The file, open as a name. `None` if the kernel does not say which it is.
    fn file(&self, mounts: &[mountinfo::Mount]) -> Option<OwnedFd> {
        let handle = self.handle.as_ref()?;
        let of_device = mounts.iter().filter(|mount| mount.device == self.device && !is_served(&mount.kind));
        of_device.filter_map(|mount| handle.find(&mount.mountpoint).ok()).next()
    }
}

impl Relation for Marks {
    type Body = MarksBody;
    /// What an inotify instance watches.
    const TAG: Tag = Tag(*b"INOT");

    fn takes(&self, observed: &ObservedFile<'_>) -> bool {
        OpenFile::takes(&Inotify, observed)
    }

    fn dump(&self, relating: &Relating<'_>, others: &mut dyn Descriptions) -> Result<Vec<MarksBody>> {
        let shown = Shown::all(&read_text(&format!("/proc/{}/fdinfo/{}", relating.task, relating.number))?)?;
        if !shown.is_empty() {
            sys::can_set_next_watch().on(|| &relating.file.subject)?;
        }
        let mounts = mountinfo::mounts()?;
        let mut watches = Vec::new();
        for watch in shown {
            let Shown { number, inode, ref device, mask, .. } = watch;
            let unknown = || {
                let what =
                    format!("inotify watch {number} of inode {inode} on device {device}, whose name is not known,");
                relating.file.refuse(what)
            };
            let file = watch.file(&mounts).ok_or_else(unknown)?;
            let link = format!("/proc/self/fd/{}", file.as_raw_fd());
            let subject = format!("{}: inotify watch {number}", relating.file.subject);
            watches.push(Watch { number, file: others.id_of_name(&link, &subject)?, mask });
        }
        Ok(watches.chunks(IN_RECORD).map(|some| MarksBody { watches: some.to_vec() }).collect())
    }

    fn others(body: &MarksBody) -> Vec<u32> {
        body.watches.iter().map(|watch| watch.file).collect()
    }

    fn restore(&self, id: u32, bodies: Vec<MarksBody>, table: &mut dyn EmptyTable) -> Result<()> {
        let instance = table.fd(id)?;
        for Watch { number, file, mask } in bodies.into_iter().flat_map(|body| body.watches) {
            let link = format!("/proc/self/fd/{}", table.own_fd(file)?);
            set_next_watch(instance, number)?;
            let made = sys::add_watch(instance, &link, mask)?;
            if made != number {
                let what = format!("watch {number} of an inotify instance: it is watch {made}");
                return Err(Error::os(what, libc::EEXIST));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::kind::object::fake::none;
    use crate::kind::observed::fake::{observed_fd, this};

    #[test]
    fn a_line_of_fdinfo_is_understood() {
        let line = "inotify wd:1f ino:9c0006 sdev:fe00000 mask:80000fff ignored_mask:0 fhandle-bytes:2 fhandle-type:81 \
                    f_handle:06ff";
        let handle = Some(FileHandle { kind: 0x81, bytes: vec![6, 255] });
        let device = "254:0".to_owned();
        let shown = Shown { number: 31, inode: 0x9c_0006, device, mask: 0x8000_0fff, handle };
        assert_eq!(Shown::parse(line), Some(shown));
        let without = Shown::parse("inotify wd:1 ino:2 sdev:3 mask:4 ignored_mask:0").unwrap();
        assert_eq!((without.device.as_str(), without.handle), ("0:3", None));
    }

    #[test]
    fn events_that_wait_are_refused_and_those_of_the_restore_forgotten() {
        let this = this();
        let instance = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK).unwrap();
        let dir = tempfile::tempdir().unwrap();
        inotify::add_watch(&instance, dir.path(), inotify::WatchFlags::CREATE).unwrap();
        let dump = || OpenFile::dump(&Inotify, &observed_fd(&instance, &this), &mut none());
        assert_eq!(dump().unwrap().flags & libc::O_NONBLOCK, libc::O_NONBLOCK);
        std::fs::write(dir.path().join("file"), "").unwrap();
        assert!(dump().err().unwrap().to_string().contains("has events that have not been read"));
        forget(&instance).unwrap();
        assert!(dump().is_ok());
    }

    #[test]
    fn a_watched_file_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let instance = inotify::init(inotify::CreateFlags::CLOEXEC).unwrap();
        inotify::add_watch(&instance, dir.path(), inotify::WatchFlags::CREATE).unwrap();
        let info = read_text(&format!("/proc/self/fdinfo/{}", instance.as_raw_fd())).unwrap();
        let file = Shown::all(&info).unwrap()[0].file(&mountinfo::mounts().unwrap()).unwrap();
        let name = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap();
        assert_eq!(name, dir.path());
    }
}
