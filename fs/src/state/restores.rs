//! `restore`: images that are written to it are restored, and a read shows the results.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use ckptfs_dumper::{Error, Kind, Pid, RestoreOptions, Restored, Restorer, Result, image};
use parking_lot::{Condvar, Mutex};
use serde::Serialize;

use crate::errno::errno_name;
use crate::process;
use crate::process::caller::Viewer;
use crate::process::container::Container;
use crate::process::holders::MountedFile;
use crate::state::json_time::{milliseconds, timestamp};
use crate::state::lines::{Lines, Text};
use crate::state::status::Status;

/// How many attempts are kept.
const REMEMBERED: usize = 1000;

/// How long an open waits until failed sessions have cleaned up. See [`Journal::wait_for_endings`].
const GRACE: Duration = Duration::from_millis(100);

/// One attempt that ended, as a line of JSON.
#[derive(Serialize)]
#[serde(untagged)]
enum JournalLine<'a> {
    Restored {
        time: String,
        root: Pid,
        pids: &'a [Pid],
        bytes: u64,
        elapsed_ms: f64,
        #[serde(skip_serializing_if = "<[String]>::is_empty")]
        warnings: &'a [String],
    },
    Failed {
        time: String,
        bytes: u64,
        elapsed_ms: f64,
        error: String,
        errno: String,
    },
}

/// The restore attempts of a mount.
pub struct Journal {
    container: Arc<Container>,
    status: Arc<Status>,
    options: RestoreOptions,
    lines: Lines,
    /// How many sessions were closed in the middle of an image and not dropped yet. A leaf lock.
    ending: Mutex<usize>,
    ended: Condvar,
}

impl Journal {
    /// A journal without attempts. Restored processes join `container`.
    pub fn new(container: Arc<Container>, status: Arc<Status>, options: RestoreOptions) -> Arc<Journal> {
        let (ending, ended) = Default::default();
        Arc::new(Journal { container, status, options, lines: Lines::new(REMEMBERED), ending, ended })
    }

    /// Gives sessions that were closed in the middle of an image the time to kill the processes
    /// that they created.
    ///
    /// The kernel reports a close(2) at once, but the release of the file later, asynchronously.
    /// Without this wait the next attempt would find its pids taken by the one that just failed. If
    /// no release comes, a duplicate of the descriptor is open somewhere, and that restore has not
    /// ended.
    pub fn wait_for_endings(&self) {
        let deadline = Instant::now() + GRACE;
        let mut ending = self.ending.lock();
        while *ending > 0 && !self.ended.wait_until(&mut ending, deadline).timed_out() {}
    }

    /// The contents of `restore` for `viewer`: one line per attempt that ended, newest last.
    pub fn text(&self, viewer: Viewer) -> Text {
        self.lines.text(viewer)
    }

    /// Images were restored. The line belongs to the user of all that was restored.
    fn restored(&self, restored: &Restored) {
        let pids = &restored.pids;
        log::info!("restored pid {} ({} processes, {} bytes)", restored.root, pids.len(), restored.bytes);
        self.container.adopt(pids);
        self.status.restored();
        self.append(
            owner_of_all(pids),
            &JournalLine::Restored {
                time: timestamp(SystemTime::now()),
                root: restored.root,
                pids,
                bytes: restored.bytes,
                elapsed_ms: milliseconds(restored.elapsed),
                warnings: &restored.warnings,
            },
        );
    }

    /// An attempt of the user `uid` has failed.
    fn failed(&self, uid: u32, bytes: u64, since: Instant, error: &Error) {
        self.status.restore_failed(uid, error);
        self.append(
            Some(uid),
            &JournalLine::Failed {
                time: timestamp(SystemTime::now()),
                bytes,
                elapsed_ms: milliseconds(since.elapsed()),
                error: error.to_string(),
                errno: errno_name(error.kind()),
            },
        );
    }

    fn append(&self, owner: Option<u32>, line: &JournalLine) {
        let line = serde_json::to_string(line).unwrap_or_else(|error| format!("{{\"error\": \"{error}\"}}"));
        self.lines.push(owner, line + "\n");
    }
}

/// The user of all these processes, if it is one.
fn owner_of_all(pids: &[Pid]) -> Option<u32> {
    let mut owners = pids.iter().map(|pid| process::owner(*pid).map(|(uid, _)| uid));
    let first = owners.next()??;
    owners.all(|owner| owner == Some(first)).then_some(first)
}

/// One open of `restore` for writing. If it is dropped before the end of an image, the processes
/// created so far are killed.
pub struct Session {
    journal: Arc<Journal>,
    /// The inode number of `restore`.
    ino: u64,
    /// The user that has opened it.
    uid: u32,
    /// O_APPEND: the kernel counts offsets from a size that other writers change, so they are
    /// ignored.
    append: bool,
    /// Whether anything was written, in order or not.
    tried: bool,
    position: u64,
    flushed_at: u64,
    /// Whether this session is counted in [`Journal::ending`].
    ending: bool,
    active: Option<ActiveRestore>,
}

struct ActiveRestore {
    /// `None` after its end.
    restorer: Option<Restorer>,
    since: Instant,
    /// How many of the restorer's images are in the journal.
    journaled: usize,
    /// The failure after which every write fails.
    failure: Option<Error>,
}

impl Session {
    /// Starts nothing before the first byte. `ino` is the inode number of `restore`, and `uid` the
    /// user that has opened it.
    pub fn new(journal: Arc<Journal>, ino: u64, append: bool, uid: u32) -> Session {
        Session { journal, ino, uid, append, tried: false, position: 0, flushed_at: 0, ending: false, active: None }
    }

    /// Feeds the next bytes. They must follow the last ones, because an image is restored as it
    /// arrives.
    pub fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.tried = true;
        if !self.append && offset != self.position {
            let at = self.position;
            let sentence =
                format!("restore: bytes for offset {offset} were written, but those for offset {at} come next");
            return Err(Error::new(Kind::System(libc::ESPIPE), sentence));
        }
        if bytes.is_empty() {
            return Ok(());
        }
        self.set_ending(false);
        let active = match &mut self.active {
            Some(active) => active,
            None => {
                let restorer = Some(Restorer::new(self.journal.options.clone())?);
                self.active.insert(ActiveRestore { restorer, since: Instant::now(), journaled: 0, failure: None })
            }
        };
        self.position += bytes.len() as u64;
        let restorer = match (&active.failure, &mut active.restorer) {
            (None, Some(restorer)) => restorer,
            (failure, _) => return Err(failure.clone().unwrap_or_else(has_ended)),
        };
        let written = restorer.write(bytes);
        for restored in restorer.restored().iter().skip(active.journaled) {
            self.journal.restored(restored);
        }
        active.journaled = restorer.restored().len();
        if let Err(error) = &written {
            self.journal.failed(self.uid, self.position, active.since, error);
            active.failure = Some(error.clone());
        }
        written?;
        self.journal.status.count_written(bytes.len());
        Ok(())
    }

    /// A descriptor was closed. Returns an error if the bytes since the last flush are no whole
    /// image. If that was the last descriptor, the processes created so far have ended by then.
    /// Otherwise the session goes on, because a duplicate may still be written to. It also goes on
    /// if that is not known in time; then the release ends it.
    pub fn flush(&mut self) -> Result<()> {
        let Some(active) = &mut self.active else { return Ok(()) };
        let outcome = active.restorer.as_mut().map_or(Ok(()), Restorer::finish);
        let path = Path::new(self.journal.status.mountpoint()).join("restore");
        if outcome.is_err() && !(MountedFile { path, ino: self.ino }).may_be_open() {
            active.restorer = None;
        }
        let is_ending = outcome.is_err() && active.restorer.is_some();
        self.set_ending(is_ending);
        let Some(active) = self.active.as_ref().filter(|_| self.flushed_at != self.position) else {
            return Ok(());
        };
        self.flushed_at = self.position;
        if active.failure.is_none()
            && let Err(error) = &outcome
        {
            self.journal.failed(self.uid, self.position, active.since, error);
        }
        outcome
    }

    fn set_ending(&mut self, ending: bool) {
        if self.ending != ending {
            self.ending = ending;
            let mut count = self.journal.ending.lock();
            *count = if ending { *count + 1 } else { count.saturating_sub(1) };
            drop(count);
            self.journal.ended.notify_all();
        }
    }
}

fn has_ended() -> Error {
    Error::damaged("restore: the image before these bytes was closed in the middle")
}

impl Drop for Session {
    fn drop(&mut self) {
        if !self.tried {
            // No close reports this: a shell closes descriptors of this file before its command
            // writes.
            self.journal.failed(self.uid, 0, Instant::now(), &image::empty("restore"));
        }
        // First the restorer, which kills the processes of an incomplete image. Then the opens that
        // wait for this.
        self.active = None;
        self.set_ending(false);
    }
}
