#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use crate::image::fake::{FakePages, layout, signed_layout};
use crate::read_ahead::block::BUFFERS;
use crate::read_ahead::*;

const LISTS: [u64; 5] = [300, 1, 0, 4000, 77];
const PAGES: usize = 4378;

fn reader() -> (ImageReader, Arc<FakePages>) {
    let fake = Arc::new(FakePages::default());
    (ImageReader::new(Arc::new(layout(&LISTS)), fake.clone()), fake)
}

fn whole() -> Vec<u8> {
    let layout = layout(&LISTS);
    let mut bytes = vec![0; layout.len() as usize];
    layout.read_at(&FakePages::default(), 0, &mut bytes).unwrap();
    bytes
}

fn pass(reader: &ImageReader, from: u64, step: usize, whole: &[u8]) {
    for at in (from..whole.len() as u64).step_by(step) {
        let piece = reader.read(at, step, ReadAhead::Ours).unwrap();
        let expected = &whole[at as usize..whole.len().min(at as usize + step)];
        assert!(*piece == *expected, "{step} bytes at {at}");
    }
}

fn has_workers(reader: &ImageReader) -> bool {
    reader.workers.lock().is_some()
}

#[test]
fn a_pass_from_front_to_back_reads_every_page_once() {
    let whole = whole();
    for step in [10_240, 1 << 20, 99_991, 3 << 20, 512 << 10] {
        let (reader, fake) = reader();
        pass(&reader, 0, step, &whole);
        fake.assert_each_page_once(PAGES);
        assert!(has_workers(&reader), "steps of {step} were not read ahead");
        // A worker may still hold the last block.
        let workers = reader.workers.lock().take().unwrap();
        drop(workers.jobs);
        workers.threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(reader.shared.pool.held(), 0, "memory is held after the last byte");
    }
}

/// The signature costs no page a second read, whichever threads fill the blocks.
#[test]
fn a_pass_over_a_signed_image_reads_every_page_once() {
    let layout = signed_layout(&LISTS);
    let mut whole = vec![0; layout.len() as usize];
    layout.read_at(&FakePages::default(), 0, &mut whole).unwrap();
    for step in [1 << 20, 3 << 20, 512 << 10] {
        let fake = Arc::new(FakePages::default());
        let reader = ImageReader::new(Arc::new(signed_layout(&LISTS)), fake.clone());
        pass(&reader, 0, step, &whole);
        fake.assert_each_page_once(PAGES);
    }
}

/// A caller that reads ahead itself gets no read-ahead, and nothing is kept for it. Every byte is
/// right.
#[test]
fn a_caller_that_reads_ahead_itself_is_left_alone() {
    let (whole, (reader, _)) = (whole(), reader());
    for (at, expected) in whole.chunks(1 << 20).enumerate() {
        let piece = reader.read((at << 20) as u64, 1 << 20, ReadAhead::Theirs).unwrap();
        assert!(*piece == *expected, "the piece {at}");
    }
    assert!(!has_workers(&reader));
    assert_eq!(reader.shared.pool.held(), 0);
}

/// A reader that stops in the middle, and one that comes later.
#[test]
fn a_reader_at_rest_holds_nothing() {
    let whole = whole();
    let (reader, _) = reader();
    for _ in 0..2 {
        pass(&reader, 0, 1 << 20, &whole[..5 << 20]);
        assert!(has_workers(&reader) && reader.shared.pool.held() > 0);
        reader.rest();
        assert!(!has_workers(&reader));
        assert_eq!(reader.shared.pool.held(), 0);
    }
    pass(&reader, 5 << 20, 1 << 20, &whole);
}

#[test]
fn two_readers_at_once_and_many() {
    let whole = whole();
    for steps in [vec![10_240, 1 << 20], vec![1 << 20; 2], vec![4096, 65_536, 99_991, 1 << 20, 2 << 20, 10_240]] {
        let (reader, _) = reader();
        std::thread::scope(|scope| {
            for (index, step) in steps.into_iter().enumerate() {
                let (reader, whole) = (&reader, &whole);
                scope.spawn(move || pass(reader, index as u64 * 1_500_000, step, whole));
            }
        });
    }
}

/// A reader of 4 MiB at once arrives as four requests in parallel, in any order.
#[test]
fn requests_that_overtake_each_other() {
    let whole = whole();
    let (reader, _) = reader();
    std::thread::scope(|scope| {
        for first in 0..4u64 {
            let (reader, whole) = (&reader, &whole);
            scope.spawn(move || {
                for at in (first << 20..whole.len() as u64).step_by(4 << 20) {
                    let piece = reader.read(at, 1 << 20, ReadAhead::Ours).unwrap();
                    assert!(*piece == whole[at as usize..whole.len().min(at as usize + (1 << 20))]);
                }
            });
        }
    });
}

#[test]
fn random_reads_equal_a_pass_and_hold_nothing() {
    let whole = whole();
    let (reader, _) = reader();
    let mut place = 12_345u64;
    for round in 0..400 {
        place = place.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let at = (place >> 20) % (whole.len() as u64 + 5000);
        let len = if round % 20 == 0 { 1 << 20 } else { 10_240 };
        let piece = reader.read(at, len, ReadAhead::Ours).unwrap();
        let from = whole.len().min(at as usize);
        assert!(*piece == whole[from..whole.len().min(from + len)], "{len} bytes at {at}");
    }
    assert!(!has_workers(&reader));
    assert_eq!(reader.shared.pool.held(), 0);
}

#[test]
fn memory_is_bounded_for_any_reader() {
    let (reader, _) = reader();
    let mut held = Vec::new();
    for at in 0..17 {
        held.push(reader.read(at << 20, 1 << 20, ReadAhead::Ours).unwrap());
        assert!(reader.shared.pool.held() <= BUFFERS);
    }
    assert_eq!(held.iter().map(|piece| piece.len()).sum::<usize>(), 17 << 20);
}

#[test]
fn a_failure_is_returned_and_the_read_tried_again() {
    let whole = whole();
    let (reader, fake) = reader();
    pass(&reader, 0, 1 << 20, &whole[..2 << 20]);
    fake.fail(true);
    let far = 9 << 20;
    for _ in 0..2 {
        // Once by a direct read, once as a block of a sequential reader.
        assert_eq!(reader.read(far, 4096, ReadAhead::Ours).err().unwrap().to_string(), "lost");
        reader.shared.table.lock().advance(far, far);
    }
    // What was read ahead meanwhile fails too, and a read that comes before that gets the failure.
    let ahead = reader.shared.table.lock().filling(u64::MAX, 0, u64::MAX);
    ahead.iter().for_each(|cell| drop(cell.wait()));
    fake.fail(false);
    pass(&reader, 9 << 20, 10_240, &whole);
    pass(&reader, 0, 1 << 20, &whole);
}

/// Panics when a worker reads. A reader reads as usual.
struct Trap(FakePages);

impl PageSource for Trap {
    fn read(&self, source: usize, address: u64, buf: &mut [u8]) -> Result<()> {
        assert!(std::thread::current().name() != Some("read-ahead"), "a worker came (this panic is wanted)");
        self.0.read(source, address, buf)
    }
}

#[test]
fn no_reader_waits_for_a_worker_that_panicked() {
    let layout = Arc::new(layout(&[1000]));
    let reader = ImageReader::new(layout.clone(), Arc::new(Trap(FakePages::default())));
    let mut expected = vec![0; 1 << 20];
    for at in (0..layout.len()).step_by(1 << 20) {
        let len = layout.read_at(&FakePages::default(), at, &mut expected).unwrap();
        // The worker's failure is returned once. Then the reader reads for itself.
        let piece =
            reader.read(at, 1 << 20, ReadAhead::Ours).or_else(|_| reader.read(at, 1 << 20, ReadAhead::Ours)).unwrap();
        assert!(*piece == expected[..len]);
    }
}

struct Bomb;

impl PageSource for Bomb {
    fn read(&self, _: usize, _: u64, _: &mut [u8]) -> Result<()> {
        panic!("a reader came (this panic is wanted)");
    }
}

#[test]
fn a_panic_in_a_readers_own_thread_leaves_no_cell_behind() {
    let reader = ImageReader::new(Arc::new(layout(&[10])), Arc::new(Bomb));
    reader.shared.table.lock().advance(0, 4096);
    assert!(catch_unwind(AssertUnwindSafe(|| reader.read(4096, 10, ReadAhead::Ours).map(|_| ()))).is_err());
    assert!(!reader.shared.table.lock().holds(4096));
    assert_eq!(reader.shared.pool.held(), 1);
}
