//! The text of `status`: what the mount did and holds.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use ckptfs_dumper::{Error, Pid};
use parking_lot::Mutex;
use serde::Serialize;

use crate::errno::errno_name;
use crate::process::ProcId;
use crate::state::json_time::{milliseconds, seconds};
use crate::state::open_once::OpenValue;
use crate::state::pins::Pinned;
use crate::state::view::SnapshotView;

/// How many freezes and errors are remembered.
const REMEMBERED: usize = 100;

/// What is counted and remembered for the life of a mount.
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
    freezes: VecDeque<Freeze>,
    errors: VecDeque<ErrorReport>,
}

#[derive(Clone, Serialize)]
struct Freeze {
    time: f64,
    pid: Pid,
    stopped_ms: f64,
}

#[derive(Clone, Serialize)]
struct ErrorReport {
    time: f64,
    /// Absent where no process is known yet: a restore that failed early.
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
    snapshots: Vec<Live>,
    pinned: Vec<PinReport>,
    frozen: &'a [Pid],
    counters: Counters,
    freezes: Vec<Freeze>,
    /// The last sentence of each process that failed lately.
    last_error: BTreeMap<Pid, String>,
    errors: Vec<ErrorReport>,
}

#[derive(Serialize)]
struct Live {
    pid: Pid,
    taken: f64,
    stopped_ms: f64,
    image_bytes: u64,
    handles: usize,
}

#[derive(Serialize)]
struct PinReport {
    /// Below the mountpoint; bytes that are no UTF-8 are replaced.
    path: String,
    pid: Pid,
    taken: f64,
    stopped_ms: f64,
    image_bytes: u64,
    /// What would be free without it.
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
    /// Nothing happened yet.
    pub fn new(target: String, mountpoint: String) -> Status {
        Status { target, mountpoint, ..Status::default() }
    }

    /// A snapshot was taken.
    pub fn dumped(&self, id: ProcId, snapshot: &SnapshotView) {
        self.dumps.fetch_add(1, Ordering::Relaxed);
        let stopped_ms = stopped_ms(snapshot);
        log::info!("{}: snapshot of {} bytes, stopped for {stopped_ms} ms", whom(id), snapshot.image_len());
        let freeze = Freeze { time: seconds(snapshot.taken()), pid: id.pid, stopped_ms };
        remember(&mut self.recent.lock().freezes, freeze);
    }

    /// A snapshot could not be taken.
    pub fn dump_failed(&self, id: ProcId, error: &Error) {
        self.dump_failures.fetch_add(1, Ordering::Relaxed);
        self.failed("dump", Some(id.pid), error);
    }

    /// An image lives again.
    pub fn restored(&self) {
        self.restores.fetch_add(1, Ordering::Relaxed);
    }

    /// A restore ended without a process.
    pub fn restore_failed(&self, error: &Error) {
        self.restore_failures.fetch_add(1, Ordering::Relaxed);
        self.failed("restore", None, error);
    }

    /// Something else failed on a process: its sentence goes to the log and into the list.
    pub fn failed(&self, doing: &'static str, pid: Option<Pid>, error: &Error) {
        log::warn!("{doing}: {error}");
        let (time, errno) = (seconds(SystemTime::now()), errno_name(error.kind()));
        let failure = ErrorReport { time, pid, doing, error: error.to_string(), errno };
        remember(&mut self.recent.lock().errors, failure);
    }

    /// Bytes went to a reader.
    pub fn count_read(&self, bytes: usize) {
        self.bytes_read.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Bytes came into `restore`.
    pub fn count_written(&self, bytes: usize) {
        self.bytes_written.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// The text of this moment: one JSON object.
    pub fn text(&self, snapshots: &[OpenValue<ProcId, SnapshotView>], pinned: &[Pinned], frozen: &[Pid]) -> String {
        let mut live: Vec<Live> = snapshots
            .iter()
            .map(|held| Live {
                pid: held.key.pid,
                taken: seconds(held.value.taken()),
                stopped_ms: stopped_ms(&held.value),
                image_bytes: held.value.image_len(),
                handles: held.opens,
            })
            .collect();
        live.sort_unstable_by_key(|live| live.pid);
        let pinned = pinned.iter().map(|Pinned { pin, path, view }| PinReport {
            path: path.display().to_string(),
            pid: pin.of.pid,
            taken: seconds(view.taken()),
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
        let (freezes, errors) = {
            let recent = self.recent.lock();
            (recent.freezes.iter().cloned().collect(), recent.errors.iter().cloned().collect::<Vec<_>>())
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
            last_error: errors.iter().filter_map(|failure| Some((failure.pid?, failure.error.clone()))).collect(),
            errors,
        };
        // Such a report has no map with keys that JSON could refuse; were it refused, the reader should learn that.
        let text = serde_json::to_string_pretty(&report).unwrap_or_else(|error| format!("{{\"error\": \"{error}\"}}"));
        text + "\n"
    }
}

fn stopped_ms(view: &SnapshotView) -> f64 {
    milliseconds(view.stopped().unwrap_or_default())
}

fn whom(id: ProcId) -> String {
    if id == ProcId::CONTAINER { "the container".to_owned() } else { format!("pid {}", id.pid) }
}

/// Appends, and forgets the oldest.
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
    use std::time::Duration;

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
        assert_eq!(report["last_error"]["29"], "fd 149");
        assert_eq!(report["frozen"], serde_json::json!([5, 9]));
        assert_eq!(report["counters"]["dump_failures"], 150);
        assert_eq!((&report["target"], &report["mountpoint"]), (&"all".into(), &"/ckpt".into()));
    }

    #[test]
    fn times_are_rounded_as_told() {
        assert_eq!(milliseconds(Duration::from_nanos(1_234_567)), 1.234);
        assert_eq!(seconds(SystemTime::UNIX_EPOCH + Duration::from_micros(1_500_999)), 1.5);
    }
}
