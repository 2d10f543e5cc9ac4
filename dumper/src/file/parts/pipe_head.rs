//! What the records of pipes and of FIFOs have in common.

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::file::parts::owner::Owner;
use crate::file::parts::pipe_buffer::PipeBuffers;
use crate::kind::external::{External, OutsidePipe};
use crate::kind::observed::ObservedFile;

/// Owner, mode, buffers, and where to find a pipe that other processes hold as well.
#[derive(Serialize, Deserialize)]
pub struct PipeHead {
    #[serde(flatten)]
    pub owner: Owner,
    #[serde(flatten)]
    pub buffers: PipeBuffers,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    external: Option<External>,
}

impl PipeHead {
    /// The head of the observed pipe, and the bytes in its buffers.
    pub fn of(observed: &ObservedFile<'_>) -> Result<(Self, Vec<u8>)> {
        let (buffers, bytes) = PipeBuffers::peek(observed)?;
        Ok((Self { owner: Owner::of(&observed.stat), buffers, external: None }, bytes))
    }

    /// The head for a pipe that a process outside the tree holds as well. Such a pipe keeps its
    /// contents.
    pub fn held_outside(self, external: External) -> Self {
        Self { external: Some(external), buffers: self.buffers.without_contents(), ..self }
    }

    /// The pipe that a process outside the tree held. `shown` is its name in sentences.
    pub fn outside(&self, shown: String) -> Option<OutsidePipe> {
        self.external.clone().map(|external| OutsidePipe { external, shown })
    }
}
