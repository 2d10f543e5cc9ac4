//! System calls to be made by another process: an array of them, and the memory that they read and write.
//!
//! The layout of the scratch stands here: code, signal frame, calls, arena.

use crate::error::Result;
use crate::sys::errno;
use crate::sys::memory::{RemotePtr, words};
use crate::sys::remote::sigframe;

/// Bytes of a mapped scratch; pages that are not touched cost nothing.
pub const SCRATCH_LEN: u64 = 512 << 10;
/// Where the signal frame lies in it: behind one page of code.
pub(super) const FRAME_AT: u64 = 4096;
/// Where the array of calls lies in it.
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

/// Calls to be made one behind the other, and the memory that they read and write.
#[derive(Debug)]
pub struct Batch {
    pub(super) arena_at: RemotePtr,
    pub(super) arena: Vec<u8>,
    pub(super) calls: Vec<Call>,
}

/// What a batch gave.
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

    /// Adds a call; its place in the answers.
    pub fn call<const N: usize>(&mut self, nr: i64, args: [u64; N]) -> usize {
        self.calls.push(Call::new(nr, args));
        self.calls.len() - 1
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

    /// Whether it has none.
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
    pub fn raw(&self, call: usize) -> i64 {
        self.results.get(call).copied().unwrap_or(-i64::from(libc::ENOSYS))
    }

    /// The result of a call; `doing` runs on failure only.
    pub fn get<D: std::fmt::Display>(&self, call: usize, doing: impl FnOnce() -> D) -> Result<u64> {
        errno::check(self.raw(call), doing)
    }

    /// What a call wrote at `at`.
    pub fn bytes(&self, at: RemotePtr, len: usize) -> &[u8] {
        let from = (at.0.wrapping_sub(self.arena_at.0)) as usize;
        self.arena.get(from..from.saturating_add(len)).unwrap_or_default()
    }

    /// Words that a call wrote at `at`.
    pub fn words<const N: usize>(&self, at: RemotePtr) -> [u64; N] {
        words(self.bytes(at, N * 8))
    }
}
