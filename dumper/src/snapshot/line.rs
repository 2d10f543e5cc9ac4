//! A line of sessions that take turns, first come, first served. A lock would give no place in a
//! line: a wait for it that is interrupted to look after the reader would begin anew at the end.

use std::collections::VecDeque;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// The line. Its first has the turn.
#[derive(Default)]
pub struct Line {
    /// A leaf lock.
    waiting: Mutex<Waiting>,
    moved: Condvar,
}

#[derive(Default)]
struct Waiting {
    last: u64,
    tickets: VecDeque<u64>,
}

/// A place in the line. Drop leaves it, with or without the turn.
pub struct InLine<'a> {
    line: &'a Line,
    ticket: u64,
}

impl Line {
    /// A place at the end.
    pub fn join(&self) -> InLine<'_> {
        let mut waiting = self.waiting.lock();
        waiting.last += 1;
        let ticket = waiting.last;
        waiting.tickets.push_back(ticket);
        InLine { line: self, ticket }
    }
}

impl InLine<'_> {
    /// Waits for the turn, at most for `timeout`. Returns whether it has come. The place is kept.
    pub fn has_turn_within(&self, timeout: Duration) -> bool {
        let is_behind = |waiting: &mut Waiting| waiting.tickets.front() != Some(&self.ticket);
        let mut waiting = self.line.waiting.lock();
        !self.line.moved.wait_while_for(&mut waiting, is_behind, timeout).timed_out()
    }
}

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        self.line.waiting.lock().tickets.retain(|ticket| *ticket != self.ticket);
        self.line.moved.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_kept_while_the_reader_is_asked_about() {
        let line = Line::default();
        let (now, at_once) = (line.join(), Duration::ZERO);
        let (first, second, third) = (line.join(), line.join(), line.join());
        assert!(now.has_turn_within(at_once) && !second.has_turn_within(at_once) && !first.has_turn_within(at_once));
        drop(now);
        assert!(!second.has_turn_within(at_once) && first.has_turn_within(at_once));
        // Its reader was killed.
        drop(second);
        drop(first);
        assert!(third.has_turn_within(at_once));
    }

    #[test]
    fn a_wait_ends_with_the_turn_before() {
        let line = Line::default();
        let now = line.join();
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| line.join().has_turn_within(Duration::from_secs(60)));
            drop(now);
            assert!(waits.join().is_ok_and(|has_turn| has_turn));
        });
    }
}
