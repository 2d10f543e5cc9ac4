//! System calls for another process to make: an array of them, and the memory that they read and
//! write.
//!
//! The layout of the scratch memory is decided here: code, signal frame, calls, arena.

use std::marker::PhantomData;

use crate::error::Result;
use crate::sys::errno;
use crate::sys::memory::{RemotePtr, words};
use crate::sys::remote::sigframe;

/// Bytes of a mapped scratch area. Untouched pages cost nothing.
pub const SCRATCH_LEN: u64 = 512 << 10;
/// Offset of the signal frame in it: behind one page of code.
pub const FRAME_AT: u64 = 4096;
/// Offset of the array of calls in it.
pub(super) const CALLS_AT: u64 = FRAME_AT + sigframe::FRAME_ROOM as u64;
/// Calls of one batch.
pub(super) const CALLS_MAX: usize = 1024;
const ARENA_AT: u64 = CALLS_AT + 64 * CALLS_MAX as u64;
/// Bytes that the calls of one batch may read and write.
pub(super) const ARENA_LEN: usize = (SCRATCH_LEN - ARENA_AT) as usize;

/// One system call: number and arguments.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// SYS_*.
    pub nr: i64,
    /// rdi, rsi, rdx, r10, r8, r9.
    pub args: [u64; 6],
}

impl Call {
    /// A call with up to six arguments.
    pub fn new<const N: usize>(nr: i64, args: [u64; N]) -> Self {
        let mut all = [0; 6];
        all[..N].copy_from_slice(&args);
        Self { nr, args: all }
    }
}

/// Calls that are made one after the other, and the memory that they read and write.
#[derive(Debug)]
pub struct Batch {
    pub(super) arena_at: RemotePtr,
    pub(super) arena: Vec<u8>,
    pub(super) calls: Vec<Call>,
}

/// Stands for a call of a batch. It reads the call's answer after the batch has run.
#[derive(Clone, Copy, Debug)]
pub struct Ticket<T> {
    call: usize,
    room: RemotePtr,
    answer: PhantomData<T>,
}

/// The answer of a call.
pub trait Answer: Sized {
    /// Bytes that the call writes.
    const ROOM: usize;
    /// The answer of a successful call, from its result and the bytes that it wrote.
    fn read(result: u64, room: &[u8]) -> Self;
}

/// The result itself.
impl Answer for u64 {
    const ROOM: usize = 0;

    fn read(result: u64, _room: &[u8]) -> Self {
        result
    }
}

/// Words that the call writes.
impl<const N: usize> Answer for [u64; N] {
    const ROOM: usize = N * 8;

    fn read(_result: u64, room: &[u8]) -> Self {
        words(room)
    }
}

/// The answers of a batch.
#[derive(Debug)]
pub struct Answers {
    pub(super) arena_at: RemotePtr,
    pub(super) arena: Vec<u8>,
    pub(super) results: Vec<i64>,
}

impl Batch {
    /// A batch for the scratch at `scratch`.
    pub fn new(scratch: RemotePtr) -> Self {
        Self { arena_at: scratch.add(ARENA_AT), arena: Vec::new(), calls: Vec::new() }
    }

    /// Adds a call.
    pub fn call<const N: usize>(&mut self, nr: i64, args: [u64; N]) -> Ticket<u64> {
        self.calls.push(Call::new(nr, args));
        Ticket { call: self.calls.len() - 1, room: self.arena_at, answer: PhantomData }
    }

    /// Adds a call. Its argument `at` points to zeroed room for the answer.
    pub fn call_into<T: Answer, const N: usize>(&mut self, nr: i64, mut args: [u64; N], at: usize) -> Ticket<T> {
        let room = self.room(T::ROOM);
        args[at] = room.0;
        Ticket { call: self.call(nr, args).call, room, answer: PhantomData }
    }

    /// Places `bytes` where the calls can read them.
    pub fn put(&mut self, bytes: &[u8]) -> RemotePtr {
        self.arena.resize(self.arena.len().next_multiple_of(16), 0);
        let at = self.arena_at.add(self.arena.len() as u64);
        self.arena.extend_from_slice(bytes);
        at
    }

    /// Places a string, NUL-terminated.
    pub fn put_str(&mut self, text: &[u8]) -> RemotePtr {
        let at = self.put(text);
        self.arena.push(0);
        at
    }

    /// Makes room for `len` bytes of a result, zeroed.
    pub fn room(&mut self, len: usize) -> RemotePtr {
        self.put(&vec![0; len])
    }

    /// Whether there is no call in it.
    pub fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// Whether `more` calls or `bytes` would no longer fit.
    pub fn is_full(&self, more: usize, bytes: usize) -> bool {
        self.calls.len() + more > CALLS_MAX || self.arena.len() + bytes + 64 > ARENA_LEN
    }
}

impl Answers {
    /// The raw result of a call.
    pub fn raw<T>(&self, ticket: Ticket<T>) -> i64 {
        self.results.get(ticket.call).copied().unwrap_or(-i64::from(libc::ENOSYS))
    }

    /// The answer of a call. `doing` runs on failure only.
    pub fn get<T: Answer, D: std::fmt::Display>(&self, ticket: Ticket<T>, doing: impl FnOnce() -> D) -> Result<T> {
        let room = ticket.room;
        errno::check(self.raw(ticket), doing).map(|result| T::read(result, self.bytes(room, T::ROOM)))
    }

    /// The bytes that a call wrote at `at`.
    pub fn bytes(&self, at: RemotePtr, len: usize) -> &[u8] {
        let from = (at.0.wrapping_sub(self.arena_at.0)) as usize;
        self.arena.get(from..from.saturating_add(len)).unwrap_or_default()
    }

    /// Words that a call wrote at `at`.
    pub fn words<const N: usize>(&self, at: RemotePtr) -> [u64; N] {
        words(self.bytes(at, N * 8))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_reads_its_own_call_wherever_it_stands() {
        let mut batch = Batch::new(RemotePtr(0x10_0000));
        let first = batch.call(libc::SYS_getpid, []);
        let pair: Ticket<[u64; 2]> = batch.call_into(libc::SYS_getitimer, [0, 0], 1);
        let failed: Ticket<[u64; 1]> = batch.call_into(libc::SYS_getitimer, [1, 0], 1);
        let last = batch.call(libc::SYS_gettid, []);
        let mut answers = Answers { arena_at: batch.arena_at, arena: batch.arena, results: vec![7, 0, -22, 9] };
        let room = (batch.calls[1].args[1] - answers.arena_at.0) as usize;
        answers.arena[room..room + 16].copy_from_slice(&[3_u64, 4].map(u64::to_le_bytes).concat());
        assert_eq!((answers.get(first, || "").unwrap(), answers.get(last, || "").unwrap()), (7, 9));
        assert_eq!(answers.get(pair, || "").unwrap(), [3, 4]);
        assert_eq!(
            (answers.raw(failed), answers.get(failed, || "asking").unwrap_err().to_string()),
            (-22, "asking: invalid argument".to_owned())
        );
    }
}
