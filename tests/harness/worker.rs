//! The victim of all tests that are not about one kernel object: `victims/worker.c`.

use std::fs;

use crate::{Event, Spec, Victim, process, wait};

/// A victim that works all the time and notices a disturbance.
pub fn worker() -> Victim {
    Victim::ready(&Spec::c("worker"))
}

/// How far the worker has got.
pub fn count(victim: &Victim) -> u64 {
    let text = fs::read_to_string(victim.dir().join("count")).unwrap();
    text.trim().parse().unwrap_or_default()
}

/// Checks that the worker runs and that no copy-on-write child of it is left.
pub fn goes_on(victim: &Victim) {
    let before = count(victim);
    wait::until("the worker goes on", || count(victim) > before + 2);
    wait::until("the snapshot's child is gone", || process::children(victim.pid()).is_empty());
}

/// Checks that the worker ends on its own and finds no error.
pub fn ends_well(victim: Victim) {
    goes_on(&victim);
    victim.go(1);
    assert_eq!(victim.event(1), Event::Ok);
    victim.finish();
}
