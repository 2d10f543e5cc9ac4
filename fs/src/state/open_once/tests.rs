#![allow(clippy::unwrap_used, clippy::panic)]
use crate::state::open_once::*;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;

impl<K: Eq + Hash + Copy, V> OpenOnce<K, V> {
    /// An open that shares what is open.
    fn always(self: &Arc<Self>, key: K, make: impl FnOnce() -> Result<V>) -> Result<Opened<K, V>> {
        self.open(key, Share::Always, make).map(Option::unwrap)
    }
}

#[test]
fn shared_while_open_and_made_anew_after_the_last_close() {
    let shared = OpenOnce::new();
    let made = AtomicUsize::new(0);
    let open = || shared.always('a', || Ok(made.fetch_add(1, Ordering::SeqCst))).unwrap();
    let (first, second) = (open(), open());
    assert_eq!((*first, *second), (0, 0));
    let other = shared.always('b', || Ok(77)).unwrap();
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
            shared.always(1, || {
                started.send(()).unwrap();
                may_go.recv().unwrap();
                Err(Error::unsupported("no"))
            })
        });
        has_started.recv().unwrap();
        let waiter = scope.spawn(|| shared.always(1, || panic!("the one in flight answers")));
        assert!(shared.always(2, || Ok(2)).is_ok(), "other keys do not wait");
        // Give the waiter time to get its flight: it waits after it has taken the lock behind
        // the maker's insert.
        while !waiter.is_finished()
            && shared.slots.lock().get(&1).is_some_and(|slot| match slot {
                Slot::Making { flight, .. } => Arc::strong_count(flight) < 3,
                Slot::Open { .. } | Slot::Dropping(_) => false,
            })
        {
            std::thread::yield_now();
        }
        go.send(()).unwrap();
        assert_eq!(maker.join().unwrap().err().unwrap().to_string(), "no");
        assert_eq!(waiter.join().unwrap().err().unwrap().to_string(), "no");
    });
    assert_eq!(*shared.always(1, || Ok(5)).unwrap(), 5);
}

#[test]
fn settled_is_what_was_flushed_and_released() {
    let shared = Arc::new(OpenOnce::with_grace(Duration::from_secs(600)));
    shared.settle(1);
    let opened = shared.always(1, || Ok(())).unwrap();
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
    let duplicated = hasty.always(1, || Ok(())).unwrap();
    duplicated.set_flushed(true);
    hasty.settle(1);
    assert!(hasty.peek(1).is_some(), "a duplicate of the descriptor may be open for good");
}

#[test]
fn an_open_behind_a_flush_waits_for_the_release() {
    let shared = Arc::new(OpenOnce::with_grace(Duration::from_secs(600)));
    let first = shared.always(1, || Ok("first")).unwrap();
    first.set_flushed(true);
    std::thread::scope(|scope| {
        let next = scope.spawn(|| *shared.always(1, || Ok("second")).unwrap());
        drop(first);
        assert_eq!(next.join().unwrap(), "second");
    });
}

#[test]
fn an_open_behind_a_flush_shares_if_no_release_comes() {
    let shared = Arc::new(OpenOnce::with_grace(Duration::from_millis(1)));
    let first = shared.always(1, || Ok("first")).unwrap();
    first.set_flushed(true);
    let second = shared.always(1, || Ok("second")).unwrap();
    assert_eq!(*second, "first");
    drop(second);
    first.set_flushed(false);
    assert_eq!(*shared.always(1, || Ok("second")).unwrap(), "first");
}

#[test]
fn a_flush_is_counted_once() {
    let shared = Arc::new(OpenOnce::with_grace(Duration::from_secs(600)));
    let (first, second) = (shared.always(1, || Ok(())).unwrap(), shared.always(1, || Ok(())).unwrap());
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
    let first = shared.always(1, || Ok(Slow(Arc::clone(&dropped), Mutex::new(may_go)))).unwrap();
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
            shared.always(1, make).is_ok()
        });
        go.send(()).unwrap();
        assert!(next.join().unwrap());
    });
}

#[test]
fn a_value_is_shared_with_its_holders_only() {
    let shared = Arc::new(OpenOnce::with_grace(Duration::ZERO));
    let held = |reader, holds| Share::Held { reader: Some(reader), holds };
    let open = |share| shared.open(1, share, || Ok("made")).unwrap();
    let first = open(held(7, false)).unwrap();
    assert!(open(held(8, false)).is_none() && open(held(7, false)).is_none());
    let second = open(held(8, true)).unwrap();
    first.set_flushed(true);
    second.set_flushed(true);
    assert!(open(held(7, false)).is_none(), "closed by its holder, and not released");
    assert!(open(held(8, true)).is_some());
    drop((first, second));
    assert!(open(held(9, false)).is_some(), "it is free");
}

#[test]
fn a_value_in_the_making_is_shared_with_the_reader_it_is_made_for() {
    let shared = &OpenOnce::<u8, u8>::new();
    let (started, has_started) = channel();
    let (go, may_go) = channel::<()>();
    let of = |reader| Share::Held { reader, holds: false };
    std::thread::scope(|scope| {
        let make = move || {
            started.send(()).unwrap();
            may_go.recv().unwrap();
            Ok(5)
        };
        let maker = scope.spawn(move || shared.open(1, of(Some(7)), make).unwrap());
        has_started.recv().unwrap();
        for other in [Some(8), None] {
            assert!(shared.open(1, of(other), || panic!("one is being made")).unwrap().is_none());
        }
        let same = scope.spawn(|| shared.open(1, of(Some(7)), || Ok(6)).unwrap());
        // The value is shared with an open that waits for it.
        while !same.is_finished()
            && shared.slots.lock().get(&1).is_some_and(|slot| match slot {
                Slot::Making { flight, .. } => Arc::strong_count(flight) < 3,
                Slot::Open { .. } | Slot::Dropping(_) => false,
            })
        {
            std::thread::yield_now();
        }
        go.send(()).unwrap();
        assert_eq!((*maker.join().unwrap().unwrap(), *same.join().unwrap().unwrap()), (5, 5));
    });
}
