//! The text of `status`: what the mount has done and what it holds. A user reads what is about its
//! own processes.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use ckptfs_dumper::{Error, Pid};
use parking_lot::Mutex;
use serde::Serialize;

use crate::errno::errno_name;
use crate::node::Of;
use crate::process::caller::Viewer;
use crate::process::{self, ProcId};
use crate::state::json_time::{milliseconds, timestamp};
use crate::state::open_once::OpenValue;
use crate::state::pins::Pinned;
use crate::state::recent::Recent;
use crate::state::view::SnapshotView;

/// How many freezes and errors are kept.
const REMEMBERED: usize = 100;

/// Of how many processes the last dump and the last error are kept.
const PROCESSES_MOST: usize = 4096;

/// Counters and recent events of a mount.
pub struct Status {
    target: String,
    mountpoint: String,
    dumps: AtomicU64,
    dump_failures: AtomicU64,
    restores: AtomicU64,
    restore_failures: AtomicU64,
    bytes_read: AtomicU64,
    bytes_written: AtomicU64,
    /// A leaf lock.
    events: Mutex<Events>,
}

struct Events {
    freezes: Recent<FreezeReport>,
    errors: Recent<ErrorReport>,
    /// When the last snapshot of each process was taken.
    dumps: Recent<(ProcId, String)>,
    /// The last error of each process, if no dump of it has succeeded since.
    last_errors: Recent<LastError>,
}

struct LastError {
    id: ProcId,
    doing: &'static str,
    error: String,
}

#[derive(Clone, Serialize)]
struct FreezeReport {
    time: String,
    pid: Pid,
    stopped_ms: f64,
    /// Why it stayed stopped after that, until the image was closed.
    #[serde(skip_serializing_if = "Option::is_none")]
    read_while_stopped: Option<String>,
}

#[derive(Clone, Serialize)]
struct ErrorReport {
    time: String,
    /// Absent if no process is known yet: a restore that failed early. It may belong to another
    /// process later.
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<Pid>,
    doing: &'static str,
    error: String,
    errno: String,
}

#[derive(Serialize)]
struct Report<'a> {
    version: &'static str,
    daemon: u32,
    target: &'a str,
    mountpoint: &'a str,
    snapshots: Vec<OpenReport>,
    pinned: Vec<PinReport>,
    frozen: Vec<Pid>,
    counters: Counters,
    freezes: Vec<FreezeReport>,
    /// When the last snapshot of each living process was taken.
    last_dump: BTreeMap<Pid, String>,
    /// The last error of each living process, if no dump of it has succeeded since.
    last_error: BTreeMap<Pid, String>,
    errors: Vec<ErrorReport>,
}

#[derive(Serialize)]
struct OpenReport {
    pid: Pid,
    taken: String,
    stopped_ms: f64,
    image_bytes: u64,
    handles: usize,
    /// Why it stays stopped until the image is closed.
    #[serde(skip_serializing_if = "Option::is_none")]
    read_while_stopped: Option<String>,
}

#[derive(Serialize)]
struct PinReport {
    /// Relative to the mountpoint. Bytes that are not UTF-8 are replaced.
    path: String,
    pid: Pid,
    taken: String,
    stopped_ms: f64,
    image_bytes: u64,
    /// How many bytes would be free without this snapshot.
    memory_bytes: u64,
}

#[derive(Serialize)]
struct Counters {
    dumps: u64,
    dump_failures: u64,
    restores: u64,
    restore_failures: u64,
    bytes_read: u64,
    bytes_written: u64,
}

impl Status {
    /// Nothing has happened yet.
    pub fn new(target: String, mountpoint: String) -> Status {
        let events = Events {
            freezes: Recent::new(REMEMBERED),
            errors: Recent::new(REMEMBERED),
            dumps: Recent::new(PROCESSES_MOST),
            last_errors: Recent::new(PROCESSES_MOST),
        };
        let (dumps, dump_failures, restores, restore_failures, bytes_read, bytes_written) = Default::default();
        let events = Mutex::new(events);
        Status {
            target,
            mountpoint,
            dumps,
            dump_failures,
            restores,
            restore_failures,
            bytes_read,
            bytes_written,
            events,
        }
    }

    /// Where the mount is.
    pub fn mountpoint(&self) -> &str {
        &self.mountpoint
    }

    /// A snapshot was taken.
    pub fn dumped(&self, id: ProcId, snapshot: &SnapshotView) {
        self.dumps.fetch_add(1, Ordering::Relaxed);
        let stopped_ms = stopped_ms(snapshot);
        log::info!("{}: snapshot of {} bytes, stopped for {stopped_ms} ms", subject(id), snapshot.image_len());
        let read_while_stopped = snapshot.read_while_stopped().map(str::to_owned);
        let time = timestamp(snapshot.taken());
        let freeze = FreezeReport { time: time.clone(), pid: id.pid, stopped_ms, read_while_stopped };
        let owner = owner_in(snapshot, id.pid);
        let mut events = self.events.lock();
        events.freezes.push(owner, freeze);
        events.dumps.retain(|(known, _)| *known != id);
        events.dumps.push(owner, (id, time));
        events.last_errors.retain(|last| last.id != id);
    }

    /// A snapshot could not be taken. `owner` had all of the tree before.
    pub fn dump_failed(&self, id: ProcId, owner: Option<u32>, error: &Error) {
        self.dump_failures.fetch_add(1, Ordering::Relaxed);
        // The sentence may tell about any process of the tree, and one may have executed a
        // set-user-ID program meanwhile.
        self.record("dump", Some(id), owner_of(id).filter(|now| owner == Some(*now)), error);
    }

    /// An image was restored.
    pub fn restored(&self) {
        self.restores.fetch_add(1, Ordering::Relaxed);
    }

    /// A restore of the user `uid` failed.
    pub fn restore_failed(&self, uid: u32, error: &Error) {
        self.restore_failures.fetch_add(1, Ordering::Relaxed);
        self.record("restore", None, Some(uid), error);
    }

    /// Something else failed on a process. The error goes to the log and into the list.
    pub fn failed(&self, doing: &'static str, id: ProcId, error: &Error) {
        self.record(doing, Some(id), owner_of(id), error);
    }

    /// The user `uid` was refused something that is not about one process.
    pub fn refused(&self, doing: &'static str, uid: u32, error: &Error) {
        self.record(doing, None, Some(uid), error);
    }

    /// What has failed before has succeeded.
    pub fn succeeded(&self, doing: &'static str, id: ProcId) {
        self.events.lock().last_errors.retain(|last| last.id != id || last.doing != doing);
    }

    fn record(&self, doing: &'static str, id: Option<ProcId>, owner: Option<u32>, error: &Error) {
        log::warn!("{doing}: {error}");
        let (time, errno) = (timestamp(SystemTime::now()), errno_name(error.kind()));
        let error = error.to_string();
        let mut events = self.events.lock();
        if let Some(id) = id {
            events.last_errors.retain(|last| last.id != id);
            events.last_errors.push(owner, LastError { id, doing, error: error.clone() });
        }
        events.errors.push(owner, ErrorReport { time, pid: id.map(|id| id.pid), doing, error, errno });
    }

    /// Counts bytes that were read from the mount.
    pub fn count_read(&self, bytes: usize) {
        self.bytes_read.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Counts bytes that were written to `restore`.
    pub fn count_written(&self, bytes: usize) {
        self.bytes_written.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// The text at this moment, for `viewer`: one JSON object.
    pub fn text(
        &self,
        viewer: Viewer,
        snapshots: &[OpenValue<Of, SnapshotView>],
        pinned: &[Pinned],
        frozen: &[ProcId],
    ) -> String {
        let is_seen = |pid: Pid, view: &SnapshotView| viewer.sees(owner_in(view, pid)) || viewer.sees(view.opener());
        let mut live: Vec<OpenReport> = snapshots
            .iter()
            .filter(|open| is_seen(open.key.pid(), &open.value))
            .map(|open| OpenReport {
                pid: open.key.pid(),
                taken: timestamp(open.value.taken()),
                stopped_ms: stopped_ms(&open.value),
                image_bytes: open.value.image_len(),
                handles: open.opens,
                read_while_stopped: open.value.read_while_stopped().map(str::to_owned),
            })
            .collect();
        live.sort_unstable_by_key(|live| live.pid);
        let pinned = pinned.iter().filter(|Pinned { pin, view, .. }| is_seen(pin.of.pid, view));
        let pinned = pinned.map(|Pinned { pin, path, view }| PinReport {
            path: path.display().to_string(),
            pid: pin.of.pid,
            taken: timestamp(view.taken()),
            stopped_ms: stopped_ms(view),
            image_bytes: view.image_len(),
            memory_bytes: view.memory_lately(),
        });
        let is_all = viewer == Viewer::All;
        let frozen = frozen.iter().filter(|id| is_all || viewer.sees(owner_of(**id)));
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = Counters {
            dumps: count(&self.dumps),
            dump_failures: count(&self.dump_failures),
            restores: count(&self.restores),
            restore_failures: count(&self.restore_failures),
            bytes_read: count(&self.bytes_read),
            bytes_written: count(&self.bytes_written),
        };
        // Copied under the lock. Whether processes live is read from /proc, outside of it.
        let (freezes, errors, dumps, last_errors) = {
            let events = self.events.lock();
            let last = events.last_errors.seen_by(viewer).map(|last| (last.id, last.error.clone()));
            (
                events.freezes.seen_by(viewer).cloned().collect(),
                events.errors.seen_by(viewer).cloned().collect(),
                events.dumps.seen_by(viewer).cloned().collect::<Vec<_>>(),
                last.collect::<Vec<_>>(),
            )
        };
        let of_living = |events: Vec<(ProcId, String)>| {
            events.into_iter().filter(|(id, _)| lives(id)).map(|(id, text)| (id.pid, text)).collect()
        };
        let report = Report {
            version: env!("CARGO_PKG_VERSION"),
            daemon: std::process::id(),
            target: &self.target,
            mountpoint: &self.mountpoint,
            snapshots: live,
            pinned: pinned.collect(),
            frozen: frozen.map(|id| id.pid).collect(),
            counters,
            freezes,
            last_dump: of_living(dumps),
            last_error: of_living(last_errors),
            errors,
        };
        // The report has no map with keys that JSON refuses. If it is refused anyway, the reader
        // gets the error.
        let text = serde_json::to_string_pretty(&report).unwrap_or_else(|error| format!("{{\"error\": \"{error}\"}}"));
        text + "\n"
    }
}

/// Whether it can be dumped (again).
fn lives(id: &ProcId) -> bool {
    *id == ProcId::CONTAINER || id.is_alive()
}

fn stopped_ms(view: &SnapshotView) -> f64 {
    milliseconds(view.stopped().unwrap_or_default())
}

fn subject(id: ProcId) -> String {
    if id == ProcId::CONTAINER { "the container".to_owned() } else { format!("pid {}", id.pid) }
}

/// The user of the whole tree of a living process, which may read what is said about it.
pub fn owner_of(id: ProcId) -> Option<u32> {
    let owner = process::owner_of_tree(id.pid)?.0;
    id.is_alive().then_some(owner)
}

/// The user of all processes of an instant.
fn owner_in(view: &SnapshotView, pid: Pid) -> Option<u32> {
    Some(view.owner_of_all(pid).0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::process::Process;
    use crate::testing::Sleeper;

    #[test]
    fn errors_are_listed_newest_last_and_bounded() {
        let status = Status::new("all".into(), "/ckpt".into());
        for pid in 0..150 {
            status.dump_failed(ProcId { pid: pid % 120, start: 1 }, None, &Error::unsupported(format!("fd {pid}")));
        }
        status.restore_failed(0, &Error::damaged("offset 7: \"quoted\""));
        let report: serde_json::Value =
            serde_json::from_str(&status.text(Viewer::All, &[], &[], &[ProcId::ended(5), ProcId::ended(9)])).unwrap();
        let errors = report["errors"].as_array().unwrap();
        assert_eq!(errors.len(), REMEMBERED);
        assert_eq!(errors[REMEMBERED - 1]["error"], "offset 7: \"quoted\"");
        assert_eq!(errors[REMEMBERED - 1]["errno"], "EINVAL");
        assert!(errors[REMEMBERED - 1].get("pid").is_none());
        assert_eq!(errors[0]["errno"], "EOPNOTSUPP");
        assert_eq!(report["last_error"], serde_json::json!({}), "no such process is alive");
        assert_eq!(report["frozen"], serde_json::json!([5, 9]));
        assert_eq!(report["counters"]["dump_failures"], 150);
        assert_eq!((&report["target"], &report["mountpoint"]), (&"all".into(), &"/ckpt".into()));
    }

    /// `errors` is the history. `last_error` is about the processes that the mount shows now.
    #[test]
    fn the_last_error_is_that_of_a_living_process() {
        let status = Status::new("all".into(), "/ckpt".into());
        let sleeper = Sleeper::new();
        let id = Process::read(sleeper.pid()).unwrap().id;
        let before = ProcId { start: id.start.saturating_sub(1), ..id };
        for (id, fd) in [(id, 1), (id, 2), (before, 3)] {
            status.dump_failed(id, None, &Error::unsupported(format!("fd {fd}")));
        }
        status.dump_failed(ProcId::CONTAINER, None, &Error::unsupported("all"));
        let report = || serde_json::from_str::<serde_json::Value>(&status.text(Viewer::All, &[], &[], &[])).unwrap();
        assert_eq!(report()["last_error"], serde_json::json!({ "0": "all", id.pid.to_string(): "fd 2" }));
        drop(sleeper);
        assert_eq!(report()["last_error"], serde_json::json!({ "0": "all" }));
        assert_eq!(report()["errors"].as_array().unwrap().len(), 4);
        assert_eq!(report()["errors"][1]["pid"], id.pid);
    }
}
