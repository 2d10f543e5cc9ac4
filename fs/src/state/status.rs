//! The text of `status`: what the mount has done and what it holds.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use ckptfs_dumper::{Error, Pid};
use parking_lot::Mutex;
use serde::Serialize;

use crate::errno::errno_name;
use crate::node::Of;
use crate::process::ProcId;
use crate::state::json_time::{milliseconds, timestamp};
use crate::state::open_once::OpenValue;
use crate::state::pins::Pinned;
use crate::state::view::SnapshotView;

/// How many freezes and errors are kept.
const REMEMBERED: usize = 100;

/// Of how many processes the time of the last dump is kept.
const DUMPS_MOST: usize = 4096;

/// Counters and recent events of a mount.
#[derive(Default)]
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
    recent: Mutex<Recent>,
}

#[derive(Default)]
struct Recent {
    freezes: VecDeque<FreezeReport>,
    errors: VecDeque<ErrorReport>,
    /// When the last snapshot of each process was taken.
    dumps: BTreeMap<ProcId, String>,
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
    /// Absent if no process is known yet: a restore that failed early.
    #[serde(flatten)]
    id: Option<FailedId>,
    doing: &'static str,
    error: String,
    errno: String,
}

/// The process of an error. Its pid may belong to another process later.
#[derive(Clone, Copy, Serialize)]
struct FailedId {
    pid: Pid,
    #[serde(skip)]
    id: ProcId,
}

#[derive(Serialize)]
struct Report<'a> {
    version: &'static str,
    daemon: u32,
    target: &'a str,
    mountpoint: &'a str,
    snapshots: Vec<OpenReport>,
    pinned: Vec<PinReport>,
    frozen: &'a [Pid],
    counters: Counters,
    freezes: Vec<FreezeReport>,
    /// When the last snapshot of each living process was taken.
    last_dump: BTreeMap<Pid, String>,
    /// The last error of each process that failed lately and lives.
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
        Status { target, mountpoint, ..Status::default() }
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
        let mut recent = self.recent.lock();
        remember(&mut recent.freezes, freeze);
        recent.dumps.insert(id, time);
        if recent.dumps.len() > DUMPS_MOST
            && let Some(oldest) = recent.dumps.iter().min_by_key(|(_, time)| *time).map(|(id, _)| *id)
        {
            recent.dumps.remove(&oldest);
        }
    }

    /// A snapshot could not be taken.
    pub fn dump_failed(&self, id: ProcId, error: &Error) {
        self.dump_failures.fetch_add(1, Ordering::Relaxed);
        self.failed("dump", Some(id), error);
    }

    /// An image was restored.
    pub fn restored(&self) {
        self.restores.fetch_add(1, Ordering::Relaxed);
    }

    /// A restore failed.
    pub fn restore_failed(&self, error: &Error) {
        self.restore_failures.fetch_add(1, Ordering::Relaxed);
        self.failed("restore", None, error);
    }

    /// Something else failed on a process. The error goes to the log and into the list.
    pub fn failed(&self, doing: &'static str, id: Option<ProcId>, error: &Error) {
        log::warn!("{doing}: {error}");
        let (time, errno) = (timestamp(SystemTime::now()), errno_name(error.kind()));
        let id = id.map(|id| FailedId { pid: id.pid, id });
        let failure = ErrorReport { time, id, doing, error: error.to_string(), errno };
        remember(&mut self.recent.lock().errors, failure);
    }

    /// Counts bytes that were read from the mount.
    pub fn count_read(&self, bytes: usize) {
        self.bytes_read.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Counts bytes that were written to `restore`.
    pub fn count_written(&self, bytes: usize) {
        self.bytes_written.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// The text at this moment: one JSON object.
    pub fn text(&self, snapshots: &[OpenValue<Of, SnapshotView>], pinned: &[Pinned], frozen: &[Pid]) -> String {
        let mut live: Vec<OpenReport> = snapshots
            .iter()
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
        let pinned = pinned.iter().map(|Pinned { pin, path, view }| PinReport {
            path: path.display().to_string(),
            pid: pin.of.pid,
            taken: timestamp(view.taken()),
            stopped_ms: stopped_ms(view),
            image_bytes: view.image_len(),
            memory_bytes: view.memory_lately(),
        });
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = Counters {
            dumps: count(&self.dumps),
            dump_failures: count(&self.dump_failures),
            restores: count(&self.restores),
            restore_failures: count(&self.restore_failures),
            bytes_read: count(&self.bytes_read),
            bytes_written: count(&self.bytes_written),
        };
        let (freezes, errors, dumps) = {
            let recent = self.recent.lock();
            (recent.freezes.clone().into(), Vec::from(recent.errors.clone()), recent.dumps.clone())
        };
        let report = Report {
            version: env!("CARGO_PKG_VERSION"),
            daemon: std::process::id(),
            target: &self.target,
            mountpoint: &self.mountpoint,
            snapshots: live,
            pinned: pinned.collect(),
            frozen,
            counters,
            freezes,
            last_dump: dumps.into_iter().filter(|(id, _)| lives(id)).map(|(id, time)| (id.pid, time)).collect(),
            last_error: last_errors(&errors),
            errors,
        };
        // The report has no map with keys that JSON refuses. If it is refused anyway, the reader
        // gets the error.
        let text = serde_json::to_string_pretty(&report).unwrap_or_else(|error| format!("{{\"error\": \"{error}\"}}"));
        text + "\n"
    }
}

/// The last error of each process. A process that has ended is left out: its pid may belong to
/// another one by now.
fn last_errors(errors: &[ErrorReport]) -> BTreeMap<Pid, String> {
    let of_id: BTreeMap<ProcId, &str> =
        errors.iter().filter_map(|failure| Some((failure.id?.id, failure.error.as_str()))).collect();
    of_id.into_iter().filter(|(id, _)| lives(id)).map(|(id, error)| (id.pid, error.to_owned())).collect()
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

/// Appends an item and drops the oldest if the list is full.
fn remember<T>(list: &mut VecDeque<T>, item: T) {
    if list.len() == REMEMBERED {
        list.pop_front();
    }
    list.push_back(item);
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
            status.dump_failed(ProcId { pid: pid % 120, start: 1 }, &Error::unsupported(format!("fd {pid}")));
        }
        status.restore_failed(&Error::damaged("offset 7: \"quoted\""));
        let report: serde_json::Value = serde_json::from_str(&status.text(&[], &[], &[5, 9])).unwrap();
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
            status.dump_failed(id, &Error::unsupported(format!("fd {fd}")));
        }
        status.dump_failed(ProcId::CONTAINER, &Error::unsupported("all"));
        let report = || serde_json::from_str::<serde_json::Value>(&status.text(&[], &[], &[])).unwrap();
        assert_eq!(report()["last_error"], serde_json::json!({ "0": "all", id.pid.to_string(): "fd 2" }));
        drop(sleeper);
        assert_eq!(report()["last_error"], serde_json::json!({ "0": "all" }));
        assert_eq!(report()["errors"].as_array().unwrap().len(), 4);
        assert_eq!(report()["errors"][1]["pid"], id.pid);
    }
}
