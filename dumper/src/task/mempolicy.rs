//! The NUMA policy of a thread, set_mempolicy(2): the nodes that its memory comes from. Policies of
//! address ranges (mbind(2)) are not recorded, because no call reads those of all memory at once.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::image::frame::Tag;
use crate::kind::attribute::{Attribute, DumpedThread, RestoredThread, Scope};
use crate::kind::phase::Phase;
use crate::sys::pid::Pid;
use crate::sys::remote::batch::{Batch, Ticket};

/// How many nodes the call asks for: more than any kernel is built with (CONFIG_NODES_SHIFT).
const NODES: usize = 1024;
const WORDS: usize = NODES / 64;
/// The kernel reads and writes one bit less than this argument.
const MAXNODE: u64 = NODES as u64 + 1;

/// Table row.
pub struct Mempolicy;

/// The record.
#[derive(Serialize, Deserialize)]
pub struct MempolicyBody {
    /// MPOL_*, with its flags; null on a kernel without NUMA.
    mode: Option<i32>,
    /// Node numbers.
    nodes: Vec<u32>,
}

/// The calls that the thread makes.
pub struct MempolicyTickets {
    mode: Ticket<[u64; 1]>,
    /// A bit for each node.
    nodes: Ticket<[u64; WORDS]>,
}

impl Attribute for Mempolicy {
    type Body = MempolicyBody;
    type Tickets = MempolicyTickets;
    /// The NUMA policy of a thread, set_mempolicy(2).
    const TAG: Tag = Tag(*b"NUMA");
    const SCOPE: Scope = Scope::Thread;
    const PHASE: Phase = Phase::Thread;

    fn ask(&self, _pid: Pid, batch: &mut Batch) -> MempolicyTickets {
        MempolicyTickets {
            mode: batch.call_into(libc::SYS_get_mempolicy, [0, 0, 0, 0, 0], 0),
            nodes: batch.call_into(libc::SYS_get_mempolicy, [0, 0, MAXNODE, 0, 0], 1),
        }
    }

    fn dump(&self, thread: &mut DumpedThread<'_>, asked: Self::Tickets) -> Result<(MempolicyBody, Vec<u8>)> {
        if thread.raw(asked.mode) == -i64::from(libc::ENOSYS) {
            return Ok((MempolicyBody { mode: None, nodes: Vec::new() }, Vec::new()));
        }
        let [mode] = thread.answer(asked.mode, "get_mempolicy")?;
        let mask = thread.answer(asked.nodes, "get_mempolicy")?;
        let nodes = (0..NODES as u32).filter(|node| mask[*node as usize / 64] >> (node % 64) & 1 == 1).collect();
        Ok((MempolicyBody { mode: Some(mode as u32 as i32), nodes }, Vec::new()))
    }

    fn restore(&self, body: MempolicyBody, _blob: &[u8], thread: &mut RestoredThread<'_>) -> Result<()> {
        let Some(mode) = body.mode else { return Ok(()) };
        let doing = format!("pid {} task {}: NUMA policy {mode:#x} of nodes {:?}", thread.pid, thread.tid, body.nodes);
        let mut mask = [0_u64; WORDS];
        for node in &body.nodes {
            let word = mask.get_mut(*node as usize / 64).ok_or_else(|| Error::damaged(format!("NUMA node {node}")))?;
            *word |= 1 << (node % 64);
        }
        let (at, len) = match body.nodes.is_empty() {
            true => (0, 0),
            false => (thread.batch.put(&mask.map(u64::to_le_bytes).concat()).0, MAXNODE),
        };
        // The default policy is set too, because this program may run under another one. A kernel
        // without NUMA has no policy at all.
        let mode_word = u64::from(mode.cast_unsigned());
        match mode {
            libc::MPOL_DEFAULT => thread.batch.call_or(libc::SYS_set_mempolicy, [0, 0, 0], libc::ENOSYS, doing),
            _ => thread.call(libc::SYS_set_mempolicy, [mode_word, at, len], doing),
        }
        Ok(())
    }
}
