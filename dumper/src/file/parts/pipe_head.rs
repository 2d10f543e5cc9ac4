//! What the records of pipes and of FIFOs have in common.

use std::os::fd::OwnedFd;

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::file::parts::owner::Owner;
use crate::file::parts::pipe_buffer::PipeBuffers;
use crate::kind::external::External;
use crate::kind::object::RestoredObject;
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

    /// Whether a process outside the tree held the pipe.
    pub fn is_external(&self) -> bool {
        self.external.is_some()
    }

    /// Returns the existing pipe if a process outside the tree held it, otherwise the one that
    /// `make` creates. `shown` is its name in errors.
    pub fn find_or(
        &self,
        shown: &str,
        make: impl FnOnce() -> Result<(OwnedFd, Option<OwnedFd>)>,
    ) -> Result<RestoredObject> {
        let (fd, other) = match &self.external {
            Some(external) => (external.find(shown)?, None),
            None => make()?,
        };
        Ok(RestoredObject { fd, other, len: 0, made: None })
    }
}
