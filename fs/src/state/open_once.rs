//! Values that are made at the first open and dropped at the last close. There is one per key, and
//! all opens in between share it.

use std::collections::HashMap;
use std::hash::Hash;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use ckptfs_dumper::{Error, Kind, Pid, Result};
use parking_lot::{Condvar, Mutex, MutexGuard};

/// How long an open waits for the release of earlier opens that were flushed. See
/// [`Opened::set_flushed`].
const GRACE: Duration = Duration::from_millis(100);

/// One value per key, for as long as it is open.
pub struct OpenOnce<K, V> {
    /// A leaf lock: values are made and dropped outside of it.
    slots: Mutex<HashMap<K, Slot<V>>>,
    changed: Condvar,
    grace: Duration,
}

enum Slot<V> {
    /// The value is being made, and the opens of callers that share it wait. A failure is stored in
    /// the flight and answers all of them.
    Making {
        flight: Arc<Flight>,
        /// The process that the value is made for, if it is known.
        reader: Option<Pid>,
    },
    /// The value is being dropped, and all opens wait.
    Dropping(Arc<Flight>),
    Open {
        value: Arc<V>,
        /// How many [`Opened`] share the value.
        opens: usize,
        /// How many of these were flushed and not read since.
        flushed: usize,
    },
}

type Flight = OnceLock<Error>;

/// Whether an open shares a value that is open already.
#[derive(Clone, Copy)]
pub enum Share {
    /// It does.
    Always,
    /// Only if this process `holds` the value. One that is being made is shared if it is made for
    /// this `reader`.
    Held {
        /// The process that opens.
        reader: Option<Pid>,
        /// Whether it has the value open.
        holds: bool,
    },
}

impl Share {
    fn reader(self) -> Option<Pid> {
        match self {
            Share::Always => None,
            Share::Held { reader, .. } => reader,
        }
    }
}

/// What an open finds.
enum Found<V> {
    Nothing,
    Shared(Arc<V>),
    /// A value that it does not share.
    NotShared,
}

/// One open of a value. Dropping it closes it. The last close of a key drops the value, unless a
/// caller still holds it from [`OpenOnce::peek`]. Other opens of the key wait until the value is
/// gone.
pub struct Opened<K: Eq + Hash + Copy, V> {
    // Fields drop in this order: the open's own share goes first, so that the last close drops the
    // value in its slot, and opens wait for that.
    value: Arc<V>,
    closer: Closer<K, V>,
}

impl<K: Eq + Hash + Copy, V> Opened<K, V> {
    fn new(once: &Arc<OpenOnce<K, V>>, key: K, value: Arc<V>) -> Self {
        Self { value, closer: Closer { once: Arc::clone(once), key, flushed: AtomicBool::new(false) } }
    }

    /// The key of the value.
    pub fn key(&self) -> K {
        self.closer.key
    }

    /// Marks this open as flushed (`true`), or as read after a flush (`false`).
    ///
    /// The kernel reports a close(2) at once (FLUSH). It reports later, asynchronously, that this
    /// was the last close of the file (RELEASE). The next open of the same caller may overtake that
    /// report, and would then get the old instant. So an open that finds all others flushed waits a
    /// moment for their release. If no release comes, a duplicate of the descriptor is still open
    /// somewhere.
    pub fn set_flushed(&self, flushed: bool) {
        if self.closer.flushed.swap(flushed, Ordering::Relaxed) != flushed {
            self.closer.once.count_flushed(self.closer.key, flushed);
        }
    }
}

impl<K: Eq + Hash + Copy, V> Deref for Opened<K, V> {
    type Target = V;
    fn deref(&self) -> &V {
        &self.value
    }
}

/// Removes one open from the slot when it is dropped.
struct Closer<K: Eq + Hash + Copy, V> {
    once: Arc<OpenOnce<K, V>>,
    key: K,
    /// Whether this open was flushed and not read since.
    flushed: AtomicBool,
}

impl<K: Eq + Hash + Copy, V> Drop for Closer<K, V> {
    fn drop(&mut self) {
        self.once.close(self.key, *self.flushed.get_mut());
    }
}

/// A value that is open now, for lists.
pub struct OpenValue<K, V> {
    /// The key it is open under.
    pub key: K,
    /// The value.
    pub value: Arc<V>,
    /// How many opens share it.
    pub opens: usize,
}

impl<K: Eq + Hash + Copy, V> OpenOnce<K, V> {
    /// A table without open values.
    pub fn new() -> Arc<Self> {
        Arc::new(Self::with_grace(GRACE))
    }

    fn with_grace(grace: Duration) -> Self {
        Self { slots: Mutex::default(), changed: Condvar::new(), grace }
    }

    /// Opens the value of `key`: the one that is open, or the one that `make` makes. Only one
    /// `make` runs for a key at a time. Opens that waited for it get its value or its failure.
    /// `None` means that one is open which this open does not share.
    pub fn open(
        self: &Arc<Self>,
        key: K,
        share: Share,
        make: impl FnOnce() -> Result<V>,
    ) -> Result<Option<Opened<K, V>>> {
        let mut slots = self.slots.lock();
        match self.join_locked(&mut slots, key, share)? {
            Found::Shared(value) => return Ok(Some(Opened::new(self, key, value))),
            Found::NotShared => return Ok(None),
            Found::Nothing => {}
        }
        let turn = OpenTurn { once: self, key, flight: Arc::default() };
        slots.insert(key, Slot::Making { flight: Arc::clone(&turn.flight), reader: share.reader() });
        drop(slots);
        match make() {
            Ok(value) => Ok(Some(Opened::new(self, key, turn.finish_with(value)))),
            Err(error) => {
                // Only this thread sets it, and only once, so this cannot fail.
                let _ = turn.flight.set(error.clone());
                Err(error)
            }
        }
    }

    /// Like [`OpenOnce::open`], but it makes no value if none is open.
    pub fn join(self: &Arc<Self>, key: K) -> Result<Option<Opened<K, V>>> {
        match self.join_locked(&mut self.slots.lock(), key, Share::Always)? {
            Found::Shared(value) => Ok(Some(Opened::new(self, key, value))),
            Found::Nothing | Found::NotShared => Ok(None),
        }
    }

    /// Counts one open more, if there is a value that it shares.
    fn join_locked(&self, slots: &mut MutexGuard<'_, HashMap<K, Slot<V>>>, key: K, share: Share) -> Result<Found<V>> {
        let deadline = Instant::now() + self.grace;
        // Also a value that this open has waited for.
        let mut holds = matches!(share, Share::Held { holds: true, .. });
        loop {
            match slots.get_mut(&key) {
                None => return Ok(Found::Nothing),
                // The caller may have closed it itself, and its release is on the way.
                Some(Slot::Open { opens, flushed, .. }) if *flushed >= *opens && !holds => {
                    if self.changed.wait_until(slots, deadline).timed_out()
                        && let Some(Slot::Open { flushed, .. }) = slots.get_mut(&key)
                    {
                        match share {
                            Share::Always => *flushed = 0,
                            Share::Held { .. } => return Ok(Found::NotShared),
                        }
                    }
                }
                Some(Slot::Open { value, opens, .. }) => {
                    if matches!(share, Share::Held { .. }) && !holds {
                        return Ok(Found::NotShared);
                    }
                    *opens += 1;
                    return Ok(Found::Shared(Arc::clone(value)));
                }
                Some(Slot::Making { reader, .. })
                    if matches!(share, Share::Held { .. })
                        && (share.reader().is_none() || share.reader() != *reader) =>
                {
                    return Ok(Found::NotShared);
                }
                Some(slot @ (Slot::Making { .. } | Slot::Dropping(_))) => {
                    holds |= matches!(slot, Slot::Making { .. });
                    let (Slot::Making { flight, .. } | Slot::Dropping(flight)) = slot else { continue };
                    let flight = Arc::clone(flight);
                    self.changed.wait(slots);
                    if let Some(error) = flight.get() {
                        return Err(error.clone());
                    }
                }
            }
        }
    }

    fn count_flushed(&self, key: K, is_flushed: bool) {
        if let Some(Slot::Open { flushed, .. }) = self.slots.lock().get_mut(&key) {
            *flushed = if is_flushed { *flushed + 1 } else { flushed.saturating_sub(1) };
        }
        self.changed.notify_all();
    }

    /// Waits a moment until opens of `key` that were all flushed are released. For the caller that
    /// closed them they have ended already.
    pub fn settle(&self, key: K) {
        let deadline = Instant::now() + self.grace;
        let mut slots = self.slots.lock();
        let about_to_end = |slot: &Slot<V>| match slot {
            Slot::Making { .. } | Slot::Dropping(_) => true,
            Slot::Open { opens, flushed, .. } => flushed >= opens,
        };
        while slots.get(&key).is_some_and(about_to_end) {
            if self.changed.wait_until(&mut slots, deadline).timed_out() {
                return;
            }
        }
    }

    /// Counts one open less. `was_flushed` is the last value of [`Opened::set_flushed`].
    fn close(&self, key: K, was_flushed: bool) {
        let mut slots = self.slots.lock();
        let Some(slot) = slots.get_mut(&key) else { return };
        let Slot::Open { opens, flushed, .. } = slot else { return };
        *opens = opens.saturating_sub(1);
        if was_flushed {
            *flushed = flushed.saturating_sub(1);
        }
        if *opens == 0 {
            let turn = OpenTurn { once: self, key, flight: Arc::default() };
            let last = std::mem::replace(slot, Slot::Dropping(Arc::clone(&turn.flight)));
            drop(slots);
            drop(last);
            drop(turn);
        } else {
            drop(slots);
            self.changed.notify_all();
        }
    }

    /// The value of `key` if it is open now. Never waits.
    pub fn peek(&self, key: K) -> Option<Arc<V>> {
        match self.slots.lock().get(&key) {
            Some(Slot::Open { value, .. }) => Some(Arc::clone(value)),
            _ => None,
        }
    }

    /// Everything that is open now.
    pub fn all_open(&self) -> Vec<OpenValue<K, V>> {
        let slots = self.slots.lock();
        let open = slots.iter().filter_map(|(&key, slot)| match slot {
            Slot::Open { value, opens, .. } => Some(OpenValue { key, value: Arc::clone(value), opens: *opens }),
            Slot::Making { .. } | Slot::Dropping(_) => None,
        });
        open.collect()
    }

    /// The keys of the values that are open or being made now. A value is about to be dropped if
    /// all its opens were flushed, so it does not count.
    pub fn open_keys(&self) -> Vec<K> {
        let is_open = |slot: &Slot<V>| match slot {
            Slot::Making { .. } => true,
            Slot::Open { opens, flushed, .. } => flushed < opens,
            Slot::Dropping(_) => false,
        };
        self.slots.lock().iter().filter(|(_, slot)| is_open(slot)).map(|(key, _)| *key).collect()
    }

    /// All keys.
    pub fn keys(&self) -> Vec<K> {
        self.slots.lock().keys().copied().collect()
    }
}

/// The right to make or drop one key's value. However it ends, opens stop waiting for it.
struct OpenTurn<'a, K: Eq + Hash + Copy, V> {
    once: &'a OpenOnce<K, V>,
    key: K,
    flight: Arc<Flight>,
}

impl<K: Eq + Hash + Copy, V> OpenTurn<'_, K, V> {
    fn finish_with(self, value: V) -> Arc<V> {
        let value = Arc::new(value);
        let open = Slot::Open { value: Arc::clone(&value), opens: 1, flushed: 0 };
        self.once.slots.lock().insert(self.key, open);
        value
    }
}

impl<K: Eq + Hash + Copy, V> Drop for OpenTurn<'_, K, V> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = self.flight.set(Error::new(Kind::SnapshotLost, "the dump ended without an answer"));
        }
        let mut slots = self.once.slots.lock();
        let is_its_turn = |flight: &Arc<Flight>| Arc::ptr_eq(flight, &self.flight);
        if matches!(slots.get(&self.key), Some(Slot::Making { flight, .. } | Slot::Dropping(flight)) if is_its_turn(flight))
        {
            slots.remove(&self.key);
        }
        drop(slots);
        self.once.changed.notify_all();
    }
}

#[cfg(test)]
mod tests;
