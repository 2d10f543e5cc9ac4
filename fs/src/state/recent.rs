//! A bounded list of what has happened lately, in which no user crowds out the others.

use std::collections::{HashMap, VecDeque};

use crate::process::caller::Viewer;

/// The newest items, oldest first, each with the user that it belongs to.
pub struct Recent<T> {
    most: usize,
    items: VecDeque<(Option<u32>, T)>,
}

impl<T> Recent<T> {
    /// No item. It holds `most`.
    pub fn new(most: usize) -> Recent<T> {
        Recent { most, items: VecDeque::new() }
    }

    /// Adds an item. If the list is full, the user that has most of it loses its oldest.
    pub fn push(&mut self, owner: Option<u32>, item: T) {
        if self.items.len() >= self.most {
            let mut counts: HashMap<Option<u32>, usize> = HashMap::new();
            self.items.iter().for_each(|(of, _)| *counts.entry(*of).or_default() += 1);
            let largest = counts.values().max().copied().unwrap_or(0);
            if let Some(at) = self.items.iter().position(|(of, _)| counts.get(of) == Some(&largest)) {
                self.items.remove(at);
            }
        }
        self.items.push_back((owner, item));
    }

    /// Drops the items for which `keep` is false.
    pub fn retain(&mut self, keep: impl Fn(&T) -> bool) {
        self.items.retain(|(_, item)| keep(item));
    }

    /// What `viewer` sees of them.
    pub fn seen_by(&self, viewer: Viewer) -> impl Iterator<Item = &T> {
        self.items.iter().filter(move |(owner, _)| viewer.sees(*owner)).map(|(_, item)| item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_crowds_out_itself_alone() {
        let mut recent = Recent::new(4);
        recent.push(None, 0);
        recent.push(Some(7), 1);
        for item in 2..100 {
            recent.push(Some(8), item);
        }
        let seen = |viewer| recent.seen_by(viewer).copied().collect::<Vec<i32>>();
        assert_eq!(seen(Viewer::All), [0, 1, 98, 99]);
        assert_eq!(
            (seen(Viewer::User(7)), seen(Viewer::User(8)), seen(Viewer::User(9))),
            (vec![1], vec![98, 99], vec![])
        );
    }
}
