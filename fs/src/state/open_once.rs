//! Values that are made at the first open and dropped at the last close. There is one per key, and
//! all opens in between share it.

use std::collections::HashMap;
use std::hash::Hash;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use ckptfs_dumper::{Error, Kind, Result};
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
    /// The value is being made or dropped, and other opens wait. A failure is stored in the flight
    /// and answers all of them.
    Busy(Arc<Flight>),
    Open {
        value: Arc<V>,
        /// How many [`Opened`] share the value.
        opens: usize,
        /// How many of these were flushed and not read since.
        flushed: usize,
    },
}

type Flight = OnceLock<Error>;

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

    /// Marks this open as flushed (`true`), or as read after a flush (`false`).
    ///
    /// The kernel reports a close(2) at once (FLUSH). It reports later, asynchronously, that this
    /// was the last close of the file (RELEASE). The next open of the same caller may overtake that
    /// report, and would then get the old instant. So an open that finds all others flushed waits a
    /// moment for their release. If no release comes, a duplicate of the descriptor is still open
    /// somewhere, and the value is shared as usual.
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
    pub fn open(self: &Arc<Self>, key: K, make: impl FnOnce() -> Result<V>) -> Result<Opened<K, V>> {
        let mut slots = self.slots.lock();
        if let Some(value) = self.join_locked(&mut slots, key)? {
            return Ok(Opened::new(self, key, value));
        }
        let turn = OpenTurn { once: self, key, flight: Arc::default() };
        slots.insert(key, Slot::Busy(Arc::clone(&turn.flight)));
        drop(slots);
        match make() {
            Ok(value) => Ok(Opened::new(self, key, turn.finish_with(value))),
            Err(error) => {
                // Only this thread sets it, and only once, so this cannot fail.
                let _ = turn.flight.set(error.clone());
                Err(error)
            }
        }
    }

    /// Like [`OpenOnce::open`], but it makes no value if none is open.
    pub fn join(self: &Arc<Self>, key: K) -> Result<Option<Opened<K, V>>> {
        let value = self.join_locked(&mut self.slots.lock(), key)?;
        Ok(value.map(|value| Opened::new(self, key, value)))
    }

    /// Counts one open more, if there is a value.
    fn join_locked(&self, slots: &mut MutexGuard<'_, HashMap<K, Slot<V>>>, key: K) -> Result<Option<Arc<V>>> {
        let deadline = Instant::now() + self.grace;
        loop {
            match slots.get_mut(&key) {
                None => return Ok(None),
                Some(Slot::Open { opens, flushed, .. }) if *flushed >= *opens => {
                    if self.changed.wait_until(slots, deadline).timed_out()
                        && let Some(Slot::Open { flushed, .. }) = slots.get_mut(&key)
                    {
                        *flushed = 0;
                    }
                }
                Some(Slot::Open { value, opens, .. }) => {
                    *opens += 1;
                    return Ok(Some(Arc::clone(value)));
                }
                Some(Slot::Busy(flight)) => {
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
            Slot::Busy(_) => true,
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
            let last = std::mem::replace(slot, Slot::Busy(Arc::clone(&turn.flight)));
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
            Slot::Busy(_) => None,
        });
        open.collect()
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
        if matches!(slots.get(&self.key), Some(Slot::Busy(flight)) if Arc::ptr_eq(flight, &self.flight)) {
            slots.remove(&self.key);
        }
        drop(slots);
        self.once.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc::channel;

    #[test]
    fn shared_while_open_and_made_anew_after_the_last_close() {
        let shared = OpenOnce::new();
        let made = AtomicUsize::new(0);
        let open = || shared.open('a', || Ok(made.fetch_add(1, Ordering::SeqCst))).unwrap();
        let (first, second) = (open(), open());
        assert_eq!((*first, *second), (0, 0));
        let other = shared.open('b', || Ok(77)).unwrap();
        assert_eq!(*other, 77);
        drop(first);
        let third = open();
        assert_eq!(*third, 0, "one was still open");
        drop((second, third));
        assert!(shared.peek('a').is_none());
        let fourth = open();
        assert_eq!(*fourth, 1);
        assert_eq!(shared.all_open().len(), 2);
    }

    #[test]
    fn a_failure_answers_all_opens_that_waited_and_none_after_them() {
        let shared = &OpenOnce::<u8, u8>::new();
        let (started, has_started) = channel();
        let (go, may_go) = channel::<()>();
        std::thread::scope(|scope| {
            let maker = scope.spawn(move || {
                shared.open(1, || {
                    started.send(()).unwrap();
                    may_go.recv().unwrap();
                    Err(Error::unsupported("no"))
                })
            });
            has_started.recv().unwrap();
            let waiter = scope.spawn(|| shared.open(1, || panic!("the one in flight answers")));
            assert!(shared.open(2, || Ok(2)).is_ok(), "other keys do not wait");
            // Give the waiter time to get its flight: it waits after it has taken the lock behind
            // the maker's insert.
            while !waiter.is_finished()
                && shared.slots.lock().get(&1).is_some_and(|slot| match slot {
                    Slot::Busy(flight) => Arc::strong_count(flight) < 3,
                    Slot::Open { .. } => false,
                })
            {
                std::thread::yield_now();
            }
            go.send(()).unwrap();
            assert_eq!(maker.join().unwrap().err().unwrap().to_string(), "no");
            assert_eq!(waiter.join().unwrap().err().unwrap().to_string(), "no");
        });
        assert_eq!(*shared.open(1, || Ok(5)).unwrap(), 5);
    }

    #[test]
    fn settled_is_what_was_flushed_and_released() {
        let shared = Arc::new(OpenOnce::with_grace(Duration::from_secs(600)));
        shared.settle(1);
        let opened = shared.open(1, || Ok(())).unwrap();
        shared.settle(1);
        opened.set_flushed(true);
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| shared.settle(1));
            std::thread::sleep(Duration::from_millis(20));
            assert!(!waiter.is_finished(), "flushed, not released");
            drop(opened);
        });
        assert!(shared.peek(1).is_none());
        let hasty = Arc::new(OpenOnce::with_grace(Duration::ZERO));
        let duplicated = hasty.open(1, || Ok(())).unwrap();
        duplicated.set_flushed(true);
        hasty.settle(1);
        assert!(hasty.peek(1).is_some(), "a duplicate of the descriptor may be open for good");
    }

    #[test]
    fn an_open_behind_a_flush_waits_for_the_release() {
        let shared = Arc::new(OpenOnce::with_grace(Duration::from_secs(600)));
        let first = shared.open(1, || Ok("first")).unwrap();
        first.set_flushed(true);
        std::thread::scope(|scope| {
            let next = scope.spawn(|| *shared.open(1, || Ok("second")).unwrap());
            drop(first);
            assert_eq!(next.join().unwrap(), "second");
        });
    }

    #[test]
    fn an_open_behind_a_flush_shares_if_no_release_comes() {
        let shared = Arc::new(OpenOnce::with_grace(Duration::from_millis(1)));
        let first = shared.open(1, || Ok("first")).unwrap();
        first.set_flushed(true);
        let second = shared.open(1, || Ok("second")).unwrap();
        assert_eq!(*second, "first");
        drop(second);
        first.set_flushed(false);
        assert_eq!(*shared.open(1, || Ok("second")).unwrap(), "first");
    }

    #[test]
    fn a_flush_is_counted_once() {
        let shared = Arc::new(OpenOnce::with_grace(Duration::from_secs(600)));
        let (first, second) = (shared.open(1, || Ok(())).unwrap(), shared.open(1, || Ok(())).unwrap());
        first.set_flushed(false);
        first.set_flushed(true);
        first.set_flushed(true);
        // The second is not flushed, so nothing is waited for.
        shared.settle(1);
        let third = shared.join(1).unwrap().unwrap();
        drop(first);
        second.set_flushed(true);
        second.set_flushed(false);
        shared.settle(1);
        drop((second, third));
    }

    #[test]
    fn an_open_waits_until_the_old_value_is_dropped() {
        struct Slow(Arc<AtomicUsize>, Mutex<std::sync::mpsc::Receiver<()>>);
        impl Drop for Slow {
            fn drop(&mut self) {
                // An error means that the other end is gone, which is fine.
                let _ = self.1.lock().recv();
                self.0.fetch_add(1, Ordering::SeqCst);
            }
        }
        let dropped = Arc::new(AtomicUsize::new(0));
        let shared = OpenOnce::new();
        let (go, may_go) = channel();
        let (_, nothing) = channel();
        let first = shared.open(1, || Ok(Slow(Arc::clone(&dropped), Mutex::new(may_go)))).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| drop(first));
            while shared.peek(1).is_some() {
                std::thread::yield_now();
            }
            let next = scope.spawn(|| {
                let make = || {
                    assert_eq!(dropped.load(Ordering::SeqCst), 1, "made while the old one was still there");
                    Ok(Slow(Arc::clone(&dropped), Mutex::new(nothing)))
                };
                shared.open(1, make).is_ok()
            });
            go.send(()).unwrap();
            assert!(next.join().unwrap());
        });
    }
}
