//! A batch of calls, each of which is checked.

use crate::error::{Error, Result};
use crate::sys::memory::RemotePtr;
use crate::sys::remote::batch::{Batch, Ticket};
use crate::sys::remote::owned::Owned;

/// A batch in which every call must succeed. The error names what the failed call was for.
pub struct Checked {
    batch: Batch,
    scratch: RemotePtr,
    expect: Vec<(Ticket<u64>, Expect, String)>,
}

/// What a call may return.
#[derive(Clone, Copy)]
pub enum Expect {
    Success,
    Value(u64),
    /// Success or this error.
    Or(i32),
}

impl Checked {
    /// An empty batch.
    pub fn new(scratch: RemotePtr) -> Self {
        Self { batch: Batch::new(scratch), scratch, expect: Vec::new() }
    }

    /// Places bytes that the calls read.
    pub fn put(&mut self, bytes: &[u8]) -> RemotePtr {
        self.batch.put(bytes)
    }

    /// Places a NUL-terminated string.
    pub fn put_str(&mut self, text: &[u8]) -> RemotePtr {
        self.batch.put_str(text)
    }

    /// Adds a call that must succeed.
    pub fn call<const N: usize>(&mut self, nr: i64, args: [u64; N], doing: impl Into<String>) {
        let ticket = self.batch.call(nr, args);
        self.expect.push((ticket, Expect::Success, doing.into()));
    }

    /// Adds a call that may also fail with `errno`, which means that its work is done already.
    pub fn call_or<const N: usize>(&mut self, nr: i64, args: [u64; N], errno: i32, doing: impl Into<String>) {
        let ticket = self.batch.call(nr, args);
        self.expect.push((ticket, Expect::Or(errno), doing.into()));
    }

    /// Adds a call that must return `value`.
    pub fn call_giving<const N: usize>(&mut self, nr: i64, args: [u64; N], value: u64, doing: impl Into<String>) {
        let ticket = self.batch.call(nr, args);
        self.expect.push((ticket, Expect::Value(value), doing.into()));
    }

    /// Whether the batch has no room for `bytes` and some more calls.
    pub fn is_full(&self, bytes: usize) -> bool {
        self.batch.is_full(80, bytes)
    }

    /// Makes the calls. The first that failed is the error.
    pub fn flush(&mut self, owned: &mut Owned) -> Result<()> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let batch = std::mem::replace(&mut self.batch, Batch::new(self.scratch));
        let expect = std::mem::take(&mut self.expect);
        let answers = owned.run(batch)?;
        for (ticket, value, doing) in expect {
            if matches!(value, Expect::Or(errno) if answers.raw(ticket) == -i64::from(errno)) {
                continue;
            }
            let got = answers.get(ticket, || &doing)?;
            if let Expect::Value(value) = value
                && got != value
            {
                return Err(Error::os(format_args!("{doing}: got {got:#x}, not {value:#x}"), libc::EBUSY));
            }
        }
        Ok(())
    }
}
