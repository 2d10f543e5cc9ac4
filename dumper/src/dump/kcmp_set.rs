//! Kernel objects in the order of kcmp(2).
//!
//! kcmp(2) orders objects of one kind, so an object is found among n others with log2(n) calls.
//! The sorts and trees of the standard library take no comparison that can fail, and a process can
//! be killed at any time.

use std::cmp::Ordering;

use crate::error::Result;

/// A chunk that reaches this length is divided. An insertion moves at most so many elements.
const CHUNK: usize = 512;

/// Elements in order, without two that are equal.
pub struct KcmpSet<T> {
    /// None is empty.
    chunks: Vec<Vec<T>>,
}

/// Where an element belongs that is not in the set.
pub struct Place {
    chunk: usize,
    at: usize,
}

impl<T> Default for KcmpSet<T> {
    fn default() -> Self {
        Self { chunks: Vec::new() }
    }
}

impl<T> KcmpSet<T> {
    /// The element that is equal to the wanted one, or the place of the wanted one. `order`
    /// compares an element with the wanted one.
    ///
    /// # Errors
    /// Those of `order`.
    pub fn find(&self, mut order: impl FnMut(&T) -> Result<Ordering>) -> Result<std::result::Result<&T, Place>> {
        let after = match search(&self.chunks, |chunk| chunk.first().map_or(Ok(Ordering::Less), &mut order))? {
            Ok(chunk) => return Ok(self.chunks[chunk].first().ok_or(Place { chunk, at: 0 })),
            Err(after) => after,
        };
        let chunk = after.saturating_sub(1);
        let elements = self.chunks.get(chunk).map_or(&[][..], Vec::as_slice);
        Ok(search(elements, order)?.map(|at| &elements[at]).map_err(|at| Place { chunk, at }))
    }

    /// Adds an element at the place that [`KcmpSet::find`] has returned for it.
    pub fn insert(&mut self, place: Place, element: T) {
        let Place { chunk: number, at } = place;
        match self.chunks.get_mut(number) {
            Some(chunk) => {
                chunk.insert(at, element);
                if chunk.len() == CHUNK {
                    let rest = chunk.split_off(CHUNK / 2);
                    self.chunks.insert(number + 1, rest);
                }
            }
            None => self.chunks.push(vec![element]),
        }
    }
}

/// A binary search with a comparison that can fail: where the wanted element is, or where it
/// belongs.
fn search<T>(
    elements: &[T],
    mut order: impl FnMut(&T) -> Result<Ordering>,
) -> Result<std::result::Result<usize, usize>> {
    let (mut from, mut to) = (0, elements.len());
    while from < to {
        let middle = from + (to - from) / 2;
        match order(&elements[middle])? {
            Ordering::Less => from = middle + 1,
            Ordering::Equal => return Ok(Ok(middle)),
            Ordering::Greater => to = middle,
        }
    }
    Ok(Err(from))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::error::{Error, Kind};

    /// Adds a number. Returns whether it is new, and how many comparisons it took.
    fn add(set: &mut KcmpSet<u32>, number: u32) -> (bool, u32) {
        let mut comparisons = 0;
        let counted = |other: &u32| {
            comparisons += 1;
            Ok(other.cmp(&number))
        };
        let Err(place) = set.find(counted).unwrap() else { return (false, comparisons) };
        set.insert(place, number);
        (true, comparisons)
    }

    #[test]
    fn an_element_is_found_again_with_few_comparisons() {
        let mut set = KcmpSet::default();
        let numbers = || (0..20_000_u32).map(|number| number.wrapping_mul(0x9E37_79B1));
        let most = numbers().map(|number| add(&mut set, number)).map(|(is_new, count)| {
            assert!(is_new);
            count
        });
        assert!(most.max().unwrap() < 25);
        assert!(numbers().all(|number| !add(&mut set, number).0));
        let all: Vec<u32> = set.chunks.concat();
        assert!(all.is_sorted() && all.len() == 20_000);
        assert!(set.chunks.iter().all(|chunk| !chunk.is_empty() && chunk.len() < CHUNK));
    }

    #[test]
    fn a_comparison_that_fails_ends_the_search() {
        let mut set = KcmpSet::default();
        add(&mut set, 5);
        let gone = set.find(|_| Err(Error::new(Kind::NoProcess, "gone"))).err();
        assert_eq!(gone.unwrap().kind(), Kind::NoProcess);
    }
}
