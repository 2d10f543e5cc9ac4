//! Instances of epoll(7): what they watch, and with which events.
//!
//! An entry consists of an open file description and the number that its descriptor had when it was
//! added. It stays while the description lives, also when the number is closed or used again.
//! `fdinfo` shows the number and the inode (ep_show_fdinfo in fs/eventpoll.c), and kcmp(2) tells
//! which description it is.
//!
//! The task that has the instance adds the entries: it gives each file its number for a moment,
//! before it has its own descriptors. No other task may do that: a signalfd in an instance reports
//! the signals of the process that has added it (signalfd_poll in fs/signalfd.c).
//!
//! Which entries are ready is not shown. The kernel finds out when an entry is added, so an
//! edge-triggered entry whose file is ready reports it once more, and no event is lost. An entry
//! with EPOLLONESHOT that has fired becomes so again by firing, if its file is ready for anything.
//! Otherwise it would still report an error or a hangup, which every entry reports.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::eventfd::{EfdFlags, EventFd};
use rustix::event::epoll;
use serde::{Deserialize, Serialize};

use crate::error::{Context, Doing, Error, Result};
use crate::image::frame::Tag;
use crate::kind::object::{DumpContext, RestoreContext};
use crate::kind::observed::ObservedFile;
use crate::kind::open_file::OpenFile;
use crate::kind::relation::{Descriptions, EmptyTable, Relating, Relation, Wanted};
use crate::sys::epoll::{BusyPoll, busy_poll, set_busy_poll};
use crate::sys::fd;
use crate::sys::kcmp::{EpollEntry, epoll_order};
use crate::sys::proc::{kernel_device, read_text};

const NAME: &str = "anon_inode:[eventpoll]";

/// What every entry reports, unless it has fired.
const ALWAYS: u32 = (libc::EPOLLERR | libc::EPOLLHUP) as u32;

const EPOLLWAKEUP: u32 = libc::EPOLLWAKEUP as u32;

/// The bits that say how events are reported, and not which: EP_PRIVATE_BITS of fs/eventpoll.c.
const HOW: u32 = (libc::EPOLLONESHOT | libc::EPOLLET | libc::EPOLLEXCLUSIVE) as u32 | EPOLLWAKEUP;

/// Every event that a file can report.
const ANY: u32 = 0x27df;

/// How many entries a record has.
const IN_RECORD: usize = 1000;

/// How many events one epoll_wait(2) takes.
const AT_ONCE: usize = 64;

/// The length of a struct epoll_event, which is packed.
const EVENT_LEN: usize = size_of::<libc::epoll_event>();

/// Table row.
pub struct Epoll;

/// The record.
#[derive(Serialize, Deserialize)]
pub struct EpollBody {
    flags: i32,
    /// How it polls network devices, ioctl_eventpoll(2): microseconds, packets at a time, and
    /// whether interrupts are put off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    busy_poll: Option<(u32, u16, bool)>,
}

impl OpenFile for Epoll {
    type Body = EpollBody;
    const KIND: &'static str = "epoll";

    fn takes(&self, observed: &ObservedFile<'_>) -> bool {
        observed.target.as_os_str() == NAME
    }

    fn dump(&self, observed: &ObservedFile<'_>, _objects: &mut dyn DumpContext) -> Result<EpollBody> {
        let params = busy_poll(&observed.description()?).on(|| &observed.subject)?;
        let busy_poll =
            (params != BusyPoll::default()).then_some((params.microseconds, params.budget, params.prefer != 0));
        let body = EpollBody { flags: observed.flags, busy_poll };
        if body.busy_poll.is_some() {
            make(&body).on(|| &observed.subject)?;
        }
        Ok(body)
    }

    fn restore(&self, body: EpollBody, _context: &dyn RestoreContext) -> Result<OwnedFd> {
        make(&body)
    }
}

fn make(body: &EpollBody) -> Result<OwnedFd> {
    let made = epoll::create(epoll::CreateFlags::CLOEXEC).doing(|| "making an epoll instance")?;
    if let Some((microseconds, budget, prefer)) = body.busy_poll {
        set_busy_poll(&made, &BusyPoll::new(microseconds, budget, prefer))?;
    }
    fd::set_flags(&made, body.flags)?;
    Ok(made)
}

/// Table row.
pub struct Watches;

/// The record: entries of an epoll instance.
#[derive(Serialize, Deserialize)]
pub struct WatchesBody {
    watches: Vec<Watch>,
}

/// An entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Watch {
    /// The number that the descriptor had when it was added.
    number: i32,
    /// The id of the open file.
    file: u32,
    /// EPOLL*. Without an event: it has fired with EPOLLONESHOT and waits for EPOLL_CTL_MOD.
    events: u32,
    /// What the program gets with an event.
    data: u64,
}

impl Watch {
    /// Whether it reports nothing until it is changed.
    fn has_fired(&self) -> bool {
        self.events & !HOW == 0
    }
}

/// What `fdinfo` shows of an entry.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Entry {
    number: i32,
    events: u32,
    data: u64,
    /// Device and inode of its file.
    inode: (u64, u64),
}

impl Entry {
    /// The numbers of a line as "tfd: 7 events: 19 data: 7 pos:0 ino:414 sdev:10".
    fn parse(line: &str) -> Option<Self> {
        let line = line.strip_prefix("tfd:")?.replace(':', " ");
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let [number, "events", events, "data", data, "pos", _, "ino", inode, "sdev", device] = words[..] else {
            return None;
        };
        let hex = |text: &str| u64::from_str_radix(text, 16).ok();
        let (major, minor) = kernel_device(hex(device)?);
        let device = libc::makedev(major, minor);
        Some(Self {
            number: number.parse().ok()?,
            events: hex(events)? as u32,
            data: hex(data)?,
            inode: (device, hex(inode)?),
        })
    }

    /// The entries in a text of `fdinfo`, in the order of the kernel.
    fn all(text: &str) -> Result<Vec<Self>> {
        let lines = text.lines().filter(|line| line.starts_with("tfd:"));
        let unknown = |line: &str| Error::os(format_args!("an entry of an epoll instance: {line:?}"), libc::EIO);
        lines.map(|line| Self::parse(line).ok_or_else(|| unknown(line))).collect()
    }
}

impl Relation for Watches {
    type Body = WatchesBody;
    /// What an epoll instance watches.
    const TAG: Tag = Tag(*b"EPOL");

    fn takes(&self, observed: &ObservedFile<'_>) -> bool {
        OpenFile::takes(&Epoll, observed)
    }

    fn dump(&self, relating: &Relating<'_>, others: &mut dyn Descriptions) -> Result<Vec<WatchesBody>> {
        let (file, task, epoll) = (relating.file, relating.task, relating.number);
        let info = format!("/proc/{task}/fdinfo/{epoll}");
        let mut with_number: BTreeMap<i32, u32> = BTreeMap::new();
        let (mut watches, mut missing) = (Vec::new(), Vec::new());
        for entry in Entry::all(&read_text(&info)?)? {
            let Entry { number, events, data, inode } = entry;
            let before = with_number.entry(number).or_default();
            let entry_of = EpollEntry { task, epoll, number, before: *before };
            *before += 1;
            if others.has_refused(inode) {
                continue;
            }
            let wanted = Wanted { inode, first: (task, number) };
            let found = others.find(&wanted, &mut |task, number| epoll_order(task, number, entry_of))?;
            match found {
                Some(id) => watches.push(Watch { number, file: id, events, data }),
                None => missing.push(entry),
            }
        }
        // A program that runs may have removed some of them meanwhile.
        let now = if missing.is_empty() { Vec::new() } else { Entry::all(&read_text(&info)?)? };
        if let Some(Entry { number, .. }) = missing.iter().find(|entry| now.contains(entry)) {
            return Err(file.refuse(format_args!(
                "an entry of an epoll instance for descriptor {number}, which is closed, and whose file is open \
                 outside of the tree only,"
            )));
        }
        if watches.iter().any(|watch| watch.events & EPOLLWAKEUP != 0) && !may_wake_up()? {
            return Err(
                file.refuse("an epoll instance with EPOLLWAKEUP, for which the daemon needs CAP_BLOCK_SUSPEND,")
            );
        }
        Ok(watches.chunks(IN_RECORD).map(|some| WatchesBody { watches: some.to_vec() }).collect())
    }

    fn others(body: &WatchesBody) -> Vec<u32> {
        body.watches.iter().map(|watch| watch.file).collect()
    }

    fn restore(&self, id: u32, bodies: Vec<WatchesBody>, table: &mut dyn EmptyTable) -> Result<()> {
        let watches: Vec<Watch> = bodies.into_iter().flat_map(|body| body.watches).collect();
        // Those that have fired come first: then nothing else is taken out of the instance.
        let (fired, rest): (Vec<Watch>, Vec<Watch>) = watches.iter().partition(|watch| watch.has_fired());
        for round in rounds(&fired) {
            fire(id, &round, table)?;
        }
        for round in rounds(&rest) {
            let epoll = place(id, &round, table)?;
            for watch in &round {
                control(epoll, libc::EPOLL_CTL_ADD, watch, watch.events, table)?;
            }
            table.clear()?;
        }
        verify(&watches, &entries(table.fd(id)?)?)
    }
}

/// The entries in rounds, in each of which a number occurs once.
fn rounds(watches: &[Watch]) -> Vec<Vec<Watch>> {
    let mut used: BTreeMap<i32, usize> = BTreeMap::new();
    let mut rounds: Vec<Vec<Watch>> = Vec::new();
    for watch in watches {
        let round = used.entry(watch.number).or_default();
        match rounds.get_mut(*round) {
            Some(round) => round.push(*watch),
            None => rounds.push(vec![*watch]),
        }
        *round += 1;
    }
    rounds
}

/// Gives the files of a round their numbers, and the instance `id` a free one, which it returns.
fn place(id: u32, round: &[Watch], table: &mut dyn EmptyTable) -> Result<i32> {
    let mut files: BTreeMap<i32, u32> = round.iter().map(|watch| (watch.number, watch.file)).collect();
    let free = files.keys().zip(0..).take_while(|(number, at)| *number == at).count() as i32;
    files.insert(free, id);
    table.place(&files.into_iter().collect::<Vec<_>>())?;
    Ok(free)
}

/// Adds epoll_ctl(2) for an entry.
fn control(epoll: i32, operation: i32, watch: &Watch, events: u32, table: &mut dyn EmptyTable) -> Result<()> {
    let Watch { number, data, .. } = *watch;
    let calls = table.calls()?;
    let mut event = events.to_le_bytes().to_vec();
    event.extend_from_slice(&data.to_le_bytes());
    let event = calls.put(&event);
    let doing = format!("an entry of an epoll instance for descriptor {number}, with events {events:#x}");
    let arguments = [epoll as u64, operation as u64, number as u64, event.0];
    calls.call(libc::SYS_epoll_ctl, arguments, doing);
    Ok(())
}

/// Adds entries that have fired, and lets them fire.
fn fire(id: u32, round: &[Watch], table: &mut dyn EmptyTable) -> Result<()> {
    let epoll = place(id, round, table)?;
    for watch in round {
        control(epoll, libc::EPOLL_CTL_ADD, watch, watch.events | ANY, table)?;
    }
    for _ in 0..=round.len() / AT_ONCE {
        let calls = table.calls()?;
        let events = calls.put(&[0; AT_ONCE * EVENT_LEN]);
        let arguments = [epoll as u64, events.0, AT_ONCE as u64, 0];
        calls.call(libc::SYS_epoll_wait, arguments, "taking the events of an epoll instance");
    }
    table.flush()?;
    // Those of earlier rounds have none of these events any more.
    let has_not_fired = |entry: &Entry| entry.events & !HOW & !ALWAYS != 0;
    let armed: BTreeSet<i32> =
        entries(table.fd(id)?)?.iter().filter(|it| has_not_fired(it)).map(|it| it.number).collect();
    for watch in round.iter().filter(|watch| armed.contains(&watch.number)) {
        control(epoll, libc::EPOLL_CTL_MOD, watch, watch.events, table)?;
    }
    table.clear()
}

/// The entries of an instance of this process.
fn entries(epoll: i32) -> Result<Vec<Entry>> {
    Entry::all(&read_text(&format!("/proc/self/fdinfo/{epoll}"))?)
}

/// Compares the entries that an instance has with those that it must have.
fn verify(watches: &[Watch], entries: &[Entry]) -> Result<()> {
    let sorted = |them: &mut Vec<(i32, u32, u64)>| them.sort_unstable();
    let mut wanted: Vec<_> = watches.iter().map(|it| (it.number, it.events & !ALWAYS, it.data)).collect();
    let mut found: Vec<_> = entries.iter().map(|it| (it.number, it.events & !ALWAYS, it.data)).collect();
    sorted(&mut wanted);
    sorted(&mut found);
    match wanted.iter().zip(&found).find(|(wanted, found)| wanted != found) {
        Some(((number, events, data), found)) => {
            let wanted = format!("descriptor {number}, events {events:#x}, data {data:#x}");
            Err(Error::os(format_args!("an entry of an epoll instance: {wanted}: got {found:x?}"), libc::EINVAL))
        }
        None if wanted.len() != found.len() => Err(Error::damaged("an epoll instance with an entry twice")),
        None => Ok(()),
    }
}

/// Whether an entry of this process may keep the machine awake: the kernel removes EPOLLWAKEUP
/// without a word if not.
fn may_wake_up() -> Result<bool> {
    let doing = || "trying EPOLLWAKEUP";
    let epoll = make(&EpollBody { flags: 0, busy_poll: None })?;
    let event = EventFd::from_flags(EfdFlags::EFD_CLOEXEC).doing(doing)?;
    let events = epoll::EventFlags::from_bits_retain(EPOLLWAKEUP);
    epoll::add(&epoll, &event, epoll::EventData::new_u64(0), events).doing(doing)?;
    Ok(entries(epoll.as_raw_fd())?.iter().any(|entry| entry.events & EPOLLWAKEUP != 0))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::cmp::Ordering;

    use super::*;
    use crate::kind::object::fake::none;
    use crate::kind::observed::fake::{observed_fd, this};
    use crate::kind::relation::Order;
    use crate::sys::pid::Pid;

    /// The descriptors of this process, each with its number as its id.
    struct Numbers(Vec<i32>);

    impl Descriptions for Numbers {
        fn find(&self, wanted: &Wanted, order: &mut Order<'_>) -> Result<Option<u32>> {
            let task = wanted.first.0;
            let mut found = self.0.iter().filter(|number| order(task, **number).unwrap() == Ordering::Equal);
            Ok(found.next().map(|number| *number as u32))
        }

        fn id_of_name(&mut self, _link: &str, _subject: &str) -> Result<u32> {
            Ok(0)
        }
    }

    fn event() -> OwnedFd {
        EventFd::from_flags(EfdFlags::EFD_CLOEXEC).unwrap().into()
    }

    fn dump(epoll: &OwnedFd, known: &[&OwnedFd]) -> Result<Vec<WatchesBody>> {
        let this = this();
        let file = observed_fd(epoll, &this);
        assert!(Epoll.takes(&file) && Watches.takes(&file));
        let tid: Pid = std::process::id() as Pid;
        let relating = Relating { file: &file, tid, task: tid, number: epoll.as_raw_fd() };
        let mut numbers = Numbers(known.iter().map(|fd| fd.as_raw_fd()).collect());
        Relation::dump(&Watches, &relating, &mut numbers)
    }

    #[test]
    fn each_entry_is_found_by_its_file() {
        let instance = make(&EpollBody { flags: libc::O_NONBLOCK, busy_poll: None }).unwrap();
        let (mut one, other) = (event(), event());
        let events = epoll::EventFlags::IN | epoll::EventFlags::ET;
        epoll::add(&instance, &one, epoll::EventData::new_u64(u64::MAX), events).unwrap();
        // The number of `one` leads to the other file from now on.
        let number = one.as_raw_fd();
        let kept = one.try_clone().unwrap();
        nix::unistd::dup2(&other, &mut one).unwrap();
        epoll::add(&instance, &one, epoll::EventData::new_u64(5), epoll::EventFlags::empty()).unwrap();
        let found = dump(&instance, &[&kept, &other]).unwrap();
        let mut found: Vec<_> = found.into_iter().flat_map(|body| body.watches).collect();
        found.sort_unstable_by_key(|watch| watch.data);
        let watch = |file: &OwnedFd, events: i32, data| Watch {
            number,
            file: file.as_raw_fd() as u32,
            events: events as u32 | ALWAYS,
            data,
        };
        let wanted = [watch(&other, 0, 5), watch(&kept, libc::EPOLLIN | libc::EPOLLET, u64::MAX)];
        assert_eq!(found, wanted);
        assert_eq!(rounds(&found).iter().map(Vec::len).collect::<Vec<_>>(), [1, 1]);
        assert!(verify(&found, &entries(instance.as_raw_fd()).unwrap()).is_ok());
        assert!(verify(&found[..1], &entries(instance.as_raw_fd()).unwrap()).is_err());
        let error = dump(&instance, &[&other]).err().unwrap().to_string();
        assert!(error.contains(&format!("for descriptor {number}, which is closed")), "{error}");
    }

    #[test]
    fn flags_and_polling_of_devices_come_back() {
        for (flags, busy_poll) in [(libc::O_RDWR, None), (libc::O_RDWR | libc::O_NONBLOCK, Some((50, 8, true)))] {
            let this = this();
            let made = make(&EpollBody { flags, busy_poll }).unwrap();
            let body = OpenFile::dump(&Epoll, &observed_fd(&made, &this), &mut none()).unwrap();
            assert_eq!((body.flags, body.busy_poll), (flags, busy_poll));
            let again = OpenFile::restore(&Epoll, body, &none()).unwrap();
            assert_eq!(self::busy_poll(&again).unwrap(), self::busy_poll(&made).unwrap());
        }
    }

    #[test]
    fn a_line_of_fdinfo_is_understood() {
        let line = "tfd:      222 events: 80000019 data:               d9  pos:-1 ino:414 sdev:800010";
        let inode = (libc::makedev(8, 16), 0x414);
        let entry = Entry { number: 222, events: 0x8000_0019, data: 0xd9, inode };
        assert!(Entry::parse(line) == Some(entry) && Entry::parse("tfd: 3").is_none());
    }
}
