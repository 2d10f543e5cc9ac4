//! A set of pages as ascending runs. Each run takes 16 bytes, however long it is.

use crate::image::format::PAGE_SIZE;

/// Pages at consecutive addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Address of the first page.
    pub address: u64,
    /// How many pages; never 0.
    pub pages: u64,
}

impl Run {
    /// The first address behind the run.
    pub fn end(&self) -> u64 {
        self.address.saturating_add(self.pages.saturating_mul(PAGE_SIZE))
    }
}

/// Ascending runs of pages. Adjacent runs are one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PageRuns {
    starts: Vec<Start>,
    pages: u64,
    /// A pushed run was not behind all others, or not page-aligned.
    disordered: bool,
}

/// Where a run starts, and how many pages come before it (which also gives the length of the run
/// before).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Start {
    address: u64,
    before: u64,
}

impl PageRuns {
    /// A set without pages.
    pub fn new() -> PageRuns {
        PageRuns::default()
    }

    /// Adds `pages` pages from `address` on, which must be page-aligned and behind every page so
    /// far. A set with a wrong push is refused when a layout is made of it.
    pub fn push(&mut self, address: u64, pages: u64) {
        if pages == 0 {
            return;
        }
        let bytes = pages.checked_mul(PAGE_SIZE).and_then(|bytes| address.checked_add(bytes - 1));
        let end = self.last().map_or(0, |run| run.end());
        self.disordered |= bytes.is_none() || !address.is_multiple_of(PAGE_SIZE) || address < end;
        if self.starts.is_empty() || address != end {
            if self.starts.is_empty() {
                // Most sets are those of small mappings, and there may be very many of them.
                self.starts.reserve_exact(1);
            }
            self.starts.push(Start { address, before: self.pages });
        }
        self.pages = self.pages.saturating_add(pages);
    }

    /// How many pages.
    pub fn pages(&self) -> u64 {
        self.pages
    }

    /// Whether there is no page.
    pub fn is_empty(&self) -> bool {
        self.pages == 0
    }

    /// The runs, ascending.
    pub fn runs(&self) -> impl ExactSizeIterator<Item = Run> + '_ {
        (0..self.starts.len()).map(|index| self.run(index))
    }

    /// The address of the `index`th page.
    pub fn nth(&self, index: u64) -> Option<u64> {
        (index < self.pages).then(|| {
            let start = self.starts[self.run_of_index(index)];
            start.address + (index - start.before) * PAGE_SIZE
        })
    }

    /// The number of the page that contains `address`, as [`PageRuns::nth`] counts.
    pub fn index_of(&self, address: u64) -> Option<u64> {
        let index = self.starts.partition_point(|start| start.address <= address).checked_sub(1)?;
        let run = self.run(index);
        (address < run.end()).then(|| self.starts[index].before + (address - run.address) / PAGE_SIZE)
    }

    /// The pages of both sets.
    #[must_use]
    pub fn union(&self, other: &PageRuns) -> PageRuns {
        let mut both = PageRuns::new();
        let mut rest: Vec<_> = self.runs().chain(other.runs()).collect();
        rest.sort_unstable_by_key(|run| run.address);
        let mut end = 0;
        for run in rest {
            let from = run.address.max(end);
            end = end.max(run.end());
            both.push(from, end.saturating_sub(from) / PAGE_SIZE);
        }
        both
    }

    /// Whether the page that contains `address` is in the set.
    pub fn contains(&self, address: u64) -> bool {
        self.run_at(address).is_some()
    }

    /// The first address from `address` on that lies in a page of the set.
    pub fn next_data(&self, address: u64) -> Option<u64> {
        if self.contains(address) {
            return Some(address);
        }
        let next = self.starts.partition_point(|start| start.address <= address);
        self.starts.get(next).map(|start| start.address)
    }

    /// The first address from `address` on that lies in no page of the set.
    pub fn next_hole(&self, address: u64) -> u64 {
        self.run_at(address).map_or(address, |run| run.end())
    }

    /// The bytes `from..from + len` of all pages laid one behind the other, as pieces (address,
    /// bytes) of one run each.
    pub(super) fn pieces(&self, from: u64, len: u64) -> impl Iterator<Item = (u64, usize)> + '_ {
        let end = (from + len).min(self.pages * PAGE_SIZE);
        let mut at = from;
        let mut index = if at < end { self.run_of_index(at / PAGE_SIZE) } else { 0 };
        std::iter::from_fn(move || {
            if at >= end {
                return None;
            }
            let run = self.run(index);
            let run_from = self.starts[index].before * PAGE_SIZE;
            let upto = end.min(run_from + run.pages * PAGE_SIZE);
            let piece = (run.address + (at - run_from), (upto - at) as usize);
            at = upto;
            index += 1;
            Some(piece)
        })
    }

    /// Whether all runs were pushed in order.
    pub(super) fn is_ordered(&self) -> bool {
        !self.disordered
    }

    fn last(&self) -> Option<Run> {
        self.starts.len().checked_sub(1).map(|index| self.run(index))
    }

    fn run(&self, index: usize) -> Run {
        let start = self.starts[index];
        let behind = self.starts.get(index + 1).map_or(self.pages, |next| next.before);
        Run { address: start.address, pages: behind - start.before }
    }

    /// The run of the `index`th page, which must exist.
    fn run_of_index(&self, index: u64) -> usize {
        self.starts.partition_point(|start| start.before <= index).saturating_sub(1)
    }

    fn run_at(&self, address: u64) -> Option<Run> {
        let index = self.starts.partition_point(|start| start.address <= address).checked_sub(1)?;
        Some(self.run(index)).filter(|run| address < run.end())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn three() -> PageRuns {
        let mut runs = PageRuns::new();
        runs.push(0x1000, 2);
        runs.push(0x3000, 1);
        runs.push(0x8000, 1);
        runs.push(0x9000, 0);
        runs.push(0x10000, 3);
        runs
    }

    #[test]
    fn adjacent_runs_are_one() {
        let runs = three();
        let found: Vec<_> = runs.runs().map(|run| (run.address, run.pages)).collect();
        assert_eq!(found, [(0x1000, 3), (0x8000, 1), (0x10000, 3)]);
        assert_eq!(runs.pages(), 7);
        assert!(runs.is_ordered() && !runs.is_empty() && PageRuns::new().is_empty());
    }

    #[test]
    fn nth_counts_stored_pages() {
        let runs = three();
        let addresses: Vec<_> = (0..8).map(|index| runs.nth(index)).collect();
        let expected = [0x1000, 0x2000, 0x3000, 0x8000, 0x10000, 0x11000, 0x12000].map(Some);
        assert_eq!(addresses[..7], expected);
        assert_eq!(addresses[7], None);
    }

    #[test]
    fn every_page_has_its_number() {
        let runs = three();
        for index in 0..7 {
            assert_eq!(runs.index_of(runs.nth(index).unwrap() + 4095), Some(index));
        }
        assert_eq!([0, 0x4000, 0x13000].map(|address| runs.index_of(address)), [None; 3]);
    }

    #[test]
    fn a_union_has_the_pages_of_both_once() {
        let mut other = PageRuns::new();
        for (address, pages) in [(0x2000, 3), (0x7000, 1), (0x20000, 1)] {
            other.push(address, pages);
        }
        let both = three().union(&other);
        let found: Vec<_> = both.runs().map(|run| (run.address, run.pages)).collect();
        assert_eq!(found, [(0x1000, 4), (0x7000, 2), (0x10000, 3), (0x20000, 1)]);
        assert!(both.is_ordered() && other.union(&three()) == both);
        assert_eq!(three().union(&PageRuns::new()), three());
    }

    #[test]
    fn data_and_holes_are_found() {
        let runs = three();
        assert!(runs.contains(0x1000) && runs.contains(0x3fff) && !runs.contains(0x4000) && !runs.contains(0));
        assert_eq!(runs.next_data(0), Some(0x1000));
        assert_eq!(runs.next_data(0x2345), Some(0x2345));
        assert_eq!(runs.next_data(0x4000), Some(0x8000));
        assert_eq!(runs.next_data(0x13000), None);
        assert_eq!(runs.next_hole(0x2345), 0x4000);
        assert_eq!(runs.next_hole(0x4000), 0x4000);
        assert_eq!(PageRuns::new().next_data(0), None);
        assert_eq!(PageRuns::new().next_hole(5), 5);
    }

    #[test]
    fn pieces_cut_runs_at_any_byte() {
        let runs = three();
        let cut = |from, len| runs.pieces(from, len).collect::<Vec<_>>();
        assert_eq!(cut(0, 7 * 4096), [(0x1000, 0x3000), (0x8000, 0x1000), (0x10000, 0x3000)]);
        assert_eq!(cut(0x2fff, 0x1002), [(0x3fff, 1), (0x8000, 0x1000), (0x10000, 1)]);
        assert_eq!(cut(6 * 4096 + 10, 1 << 40), [(0x1200a, 4086)]);
        assert!(cut(7 * 4096, 1).is_empty());
        assert!(cut(0, 0).is_empty());
    }

    #[test]
    fn disorder_is_remembered() {
        for (address, pages) in
            [(0x12000, 1), (0x1000, 1), (0x20001, 1), (0xffff_ffff_ffff_f000, 2), (1 << 20, u64::MAX)]
        {
            let mut runs = three();
            runs.push(address, pages);
            assert!(!runs.is_ordered(), "{address:#x}");
        }
        let mut last = PageRuns::new();
        last.push(0xffff_ffff_ffff_f000, 1);
        assert!(last.is_ordered());
    }
}
