//! Values that are made at the first open and dropped after the last close: one per key, made once, shared meanwhile.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use ckptfs_dumper::{Error, Kind, Result};
use parking_lot::{Condvar, Mutex, MutexGuard};

/// How long an open waits for the last close of its predecessors to be told. See [`OpenOnce::closing`].
const GRACE: Duration = Duration::from_millis(100);

/// One value per key, for as long as somebody holds it open.
pub struct OpenOnce<K, V> {
    /// A leaf lock: values are made and dropped outside of it.
    slots: Mutex<HashMap<K, Slot<V>>>,
    changed: Condvar,
    grace: Duration,
}

enum Slot<V> {
    /// Being made or being dropped: everybody else waits. A failure stands in the flight, for all who waited.
    Busy(Arc<Flight>),
    Open {
        value: Arc<V>,
        /// How many opens have not been closed.
        handles: usize,
        /// How many of these have been flushed and not read since.
        closing: usize,
    },
}

type Flight = OnceLock<Error>;

/// A value that is open now.
pub struct Held<K, V> {
    /// Whose it is.
    pub key: K,
    /// It.
    pub value: Arc<V>,
    /// How many opens share it.
    pub handles: usize,
}

impl<K: Eq + Hash + Copy, V> OpenOnce<K, V> {
    /// Nothing is open.
    pub fn new() -> Self {
        Self { slots: Mutex::default(), changed: Condvar::new(), grace: GRACE }
    }

    /// The value of `key`: the one that is open, or the one that `make` makes. One `make` runs for a key at a time; who
    /// waited for it gets its value or its failure. Every success must be followed by one [`OpenOnce::close`].
    pub fn open(&self, key: K, make: impl FnOnce() -> Result<V>) -> Result<Arc<V>> {
        let mut slots = self.slots.lock();
        if let Some(value) = self.join_locked(&mut slots, key)? {
            return Ok(value);
        }
        let turn = OpenTurn { shared: self, key, flight: Arc::default() };
        slots.insert(key, Slot::Busy(Arc::clone(&turn.flight)));
        drop(slots);
        match make() {
            Ok(value) => Ok(turn.finish_with(value)),
            Err(error) => {
                // Set once, by the only maker: the result says nothing.
                let _ = turn.flight.set(error.clone());
                Err(error)
            }
        }
    }

    /// As [`OpenOnce::open`], but where nothing is open it stays so.
    pub fn join(&self, key: K) -> Result<Option<Arc<V>>> {
        self.join_locked(&mut self.slots.lock(), key)
    }

    fn join_locked(&self, slots: &mut MutexGuard<'_, HashMap<K, Slot<V>>>, key: K) -> Result<Option<Arc<V>>> {
        let deadline = Instant::now() + self.grace;
        loop {
            match slots.get_mut(&key) {
                None => return Ok(None),
                Some(Slot::Open { handles, closing, .. }) if *closing >= *handles => {
                    if self.changed.wait_until(slots, deadline).timed_out()
                        && let Some(Slot::Open { closing, .. }) = slots.get_mut(&key)
                    {
                        *closing = 0;
                    }
                }
                Some(Slot::Open { value, handles, .. }) => {
                    *handles += 1;
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

    /// One of the opens of `key` was flushed (`true`) or read after that (`false`).
    ///
    /// The kernel tells a close(2) at once (FLUSH), but that it was the last one (RELEASE) only behind the closer's
    /// back: the closer's next open may overtake it, and would then be given the old instant. So an open that finds all
    /// others flushed waits a moment for their release; if it does not come, a duplicate of the descriptor is still
    /// open somewhere, and the value is shared as always.
    pub fn closing(&self, key: K, flushed: bool) {
        if let Some(Slot::Open { closing, .. }) = self.slots.lock().get_mut(&key) {
            *closing = if flushed { *closing + 1 } else { closing.saturating_sub(1) };
        }
        self.changed.notify_all();
    }

    /// Waits a moment for opens of `key` that have all been flushed to be over: whoever has closed them takes them for that.
    pub fn settle(&self, key: K) {
        let deadline = Instant::now() + self.grace;
        let mut slots = self.slots.lock();
        let about_to_end = |slot: &Slot<V>| match slot {
            Slot::Busy(_) => true,
            Slot::Open { handles, closing, .. } => closing >= handles,
        };
        while slots.get(&key).is_some_and(about_to_end) {
            if self.changed.wait_until(&mut slots, deadline).timed_out() {
                return;
            }
        }
    }

    /// One of the opens of `key` is over; `flushed` as last told to [`OpenOnce::closing`]. The last one drops the value,
    /// unless the caller still holds it; opens meanwhile wait until it is gone.
    pub fn close(&self, key: K, flushed: bool) {
        let mut slots = self.slots.lock();
        let Some(slot) = slots.get_mut(&key) else { return };
        let Slot::Open { handles, closing, .. } = slot else { return };
        *handles = handles.saturating_sub(1);
        if flushed {
            *closing = closing.saturating_sub(1);
        }
        if *handles == 0 {
            let turn = OpenTurn { shared: self, key, flight: Arc::default() };
            let last = std::mem::replace(slot, Slot::Busy(Arc::clone(&turn.flight)));
            drop(slots);
            drop(last);
            drop(turn);
        } else {
            drop(slots);
            self.changed.notify_all();
        }
    }

    /// The value of `key` if it is open now. Waits for nobody.
    pub fn peek(&self, key: K) -> Option<Arc<V>> {
        match self.slots.lock().get(&key) {
            Some(Slot::Open { value, .. }) => Some(Arc::clone(value)),
            _ => None,
        }
    }

    /// Everything that is open now.
    pub fn held(&self) -> Vec<Held<K, V>> {
        let slots = self.slots.lock();
        let held = slots.iter().filter_map(|(&key, slot)| match slot {
            Slot::Open { value, handles, .. } => Some(Held { key, value: Arc::clone(value), handles: *handles }),
            Slot::Busy(_) => None,
        });
        held.collect()
    }
}

/// The right to make or drop one key's value. However it ends, nobody waits for it any longer.
struct OpenTurn<'a, K: Eq + Hash + Copy, V> {
    shared: &'a OpenOnce<K, V>,
    key: K,
    flight: Arc<Flight>,
}

impl<K: Eq + Hash + Copy, V> OpenTurn<'_, K, V> {
    fn finish_with(self, value: V) -> Arc<V> {
        let value = Arc::new(value);
        let open = Slot::Open { value: Arc::clone(&value), handles: 1, closing: 0 };
        self.shared.slots.lock().insert(self.key, open);
        value
    }
}

impl<K: Eq + Hash + Copy, V> Drop for OpenTurn<'_, K, V> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = self.flight.set(Error::new(Kind::SnapshotLost, "the dump ended without an answer"));
        }
        let mut slots = self.shared.slots.lock();
        if matches!(slots.get(&self.key), Some(Slot::Busy(flight)) if Arc::ptr_eq(flight, &self.flight)) {
            slots.remove(&self.key);
        }
        drop(slots);
        self.shared.changed.notify_all();
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
        assert_eq!((*open(), *open()), (0, 0));
        assert_eq!(*shared.open('b', || Ok(77)).unwrap(), 77);
        shared.close('a', false);
        assert_eq!(*open(), 0, "one was still open");
        shared.close('a', false);
        shared.close('a', false);
        assert!(shared.peek('a').is_none());
        assert_eq!(*open(), 1);
        assert_eq!(shared.held().len(), 2);
    }

    #[test]
    fn a_failure_answers_all_who_waited_and_nobody_after_them() {
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
            // Give the waiter its flight: it waits once the lock was taken after the maker's insert.
            while !waiter.is_finished()
                && shared.slots.lock().get(&1).is_some_and(|slot| match slot {
                    Slot::Busy(flight) => Arc::strong_count(flight) < 3,
                    Slot::Open { .. } => false,
                })
            {
                std::thread::yield_now();
            }
            go.send(()).unwrap();
            assert_eq!(maker.join().unwrap().unwrap_err().to_string(), "no");
            assert_eq!(waiter.join().unwrap().unwrap_err().to_string(), "no");
        });
        assert_eq!(*shared.open(1, || Ok(5)).unwrap(), 5);
    }

    #[test]
    fn settled_is_what_was_flushed_and_released() {
        let shared = OpenOnce { grace: Duration::from_secs(600), ..OpenOnce::new() };
        shared.settle(1);
        drop(shared.open(1, || Ok(())).unwrap());
        shared.settle(1);
        shared.closing(1, true);
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| shared.settle(1));
            std::thread::sleep(Duration::from_millis(20));
            assert!(!waiter.is_finished(), "flushed, not released");
            shared.close(1, true);
        });
        assert!(shared.peek(1).is_none());
        let hasty = OpenOnce { grace: Duration::ZERO, ..OpenOnce::new() };
        drop(hasty.open(1, || Ok(())).unwrap());
        hasty.closing(1, true);
        hasty.settle(1);
        assert!(hasty.peek(1).is_some(), "a duplicate of the descriptor may be open for good");
    }

    #[test]
    fn an_open_behind_a_flush_waits_for_the_release() {
        let shared = OpenOnce { grace: Duration::from_secs(600), ..OpenOnce::new() };
        let first = shared.open(1, || Ok("first")).unwrap();
        shared.closing(1, true);
        std::thread::scope(|scope| {
            let next = scope.spawn(|| *shared.open(1, || Ok("second")).unwrap());
            drop(first);
            shared.close(1, true);
            assert_eq!(next.join().unwrap(), "second");
        });
    }

    #[test]
    fn an_open_behind_a_flush_shares_if_no_release_comes() {
        let shared = OpenOnce { grace: Duration::from_millis(1), ..OpenOnce::new() };
        let _first = shared.open(1, || Ok("first")).unwrap();
        shared.closing(1, true);
        assert_eq!(*shared.open(1, || Ok("second")).unwrap(), "first");
        shared.close(1, false);
        shared.closing(1, false);
        assert_eq!(*shared.open(1, || Ok("second")).unwrap(), "first");
    }

    #[test]
    fn an_open_waits_until_the_old_value_is_dropped() {
        struct Slow(Arc<AtomicUsize>, Mutex<std::sync::mpsc::Receiver<()>>);
        impl Drop for Slow {
            fn drop(&mut self) {
                // An error means that the other end is gone: go on.
                let _ = self.1.lock().recv();
                self.0.fetch_add(1, Ordering::SeqCst);
            }
        }
        let dropped = Arc::new(AtomicUsize::new(0));
        let shared = OpenOnce::new();
        let (go, may_go) = channel();
        let (_, nothing) = channel();
        drop(shared.open(1, || Ok(Slow(Arc::clone(&dropped), Mutex::new(may_go)))).unwrap());
        std::thread::scope(|scope| {
            scope.spawn(|| shared.close(1, false));
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
