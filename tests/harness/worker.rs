//! The guinea pig of whatever is no test of one kernel object: `victims/worker.c`.

use std::fs;

use crate::{Event, Spec, Victim, process, wait};

/// A victim that works all the while and knows when it was disturbed.
pub fn worker() -> Victim {
    Victim::ready(&Spec::c("worker"))
}

/// How far the worker got.
pub fn count(victim: &Victim) -> u64 {
    let text = fs::read_to_string(victim.dir().join("count")).unwrap();
    text.trim().parse().unwrap_or_default()
}

/// The worker goes on now, and nobody is left beside it or holds it.
pub fn goes_on(victim: &Victim) {
    let before = count(victim);
    wait::until("the worker goes on", || count(victim) > before + 2);
    wait::until("the snapshot's child is gone", || process::children(victim.pid()).is_empty());
}

/// The worker ends by itself, and ends well.
pub fn ends_well(victim: Victim) {
    goes_on(&victim);
    victim.go(1);
    assert_eq!(victim.event(1), Event::Ok);
    victim.finish();
}
