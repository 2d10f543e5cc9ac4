//! What a kind of System V IPC object is.

use crate::error::Result;
use crate::image::frame::{Record, Tag};
use crate::sys::pid::Pid;
use crate::sys::remote::checked::Checked;
use crate::sys::sysvipc;
use crate::sysv::KINDS;

/// One at the restore.
pub struct RestoredIpc {
    row: &'static dyn DynSysv,
    record: Record,
    state: IpcState,
}

/// How one came to be there.
#[derive(Debug)]
pub enum IpcState {
    /// It was not there: it goes again if the restore fails.
    Made(sysvipc::CreatedIpc),
    /// It was there, and is not given back yet what it had.
    Found,
    /// It was there and is others' too: it keeps what it has. Its name.
    Others(String),
}

impl RestoredIpc {
    /// Reads the record and makes the object, with all that it holds; `None` if the record is of another kind.
    pub fn make(record: &Record) -> Option<Result<Self>> {
        let row = *KINDS.iter().find(|row| row.tag() == record.tag)?;
        Some(row.make(record).map(|state| Self { row, record: record.clone(), state }))
    }

    /// What whoever restores should know.
    pub fn warning(&self) -> Option<String> {
        match &self.state {
            IpcState::Others(name) => {
                Some(format!("{name} is used by others, or by nobody who is known: it stays as it is"))
            }
            IpcState::Made(_) | IpcState::Found => None,
        }
    }

    /// What processes have to do with it, when they are there and may do everything; then its permissions.
    pub fn finish(self, actors: &mut dyn Actors) -> Result<Option<sysvipc::CreatedIpc>> {
        self.row.finish(&self.record, &self.state, actors)?;
        Ok(if let IpcState::Made(made) = self.state { Some(made) } else { None })
    }
}

/// Those who are being restored.
pub trait Actors {
    /// Makes calls in `pid`; `false` if that is none of them.
    fn act(&mut self, pid: Pid, calls: &mut dyn FnMut(&mut Checked)) -> Result<bool>;
}

/// A kind in the table.
pub trait DynSysv: Sync {
    /// Its tag.
    fn tag(&self) -> Tag;
    /// Makes it with all that it holds, or finds it, and leaves it as it is.
    fn make(&self, record: &Record) -> Result<IpcState>;
    /// See [`RestoredIpc::finish`].
    fn finish(&self, record: &Record, state: &IpcState, actors: &mut dyn Actors) -> Result<()>;
}

/// Nobody is there yet: every number is free, and calls are made by short-lived processes.
pub struct NoActors;

impl Actors for NoActors {
    fn act(&mut self, _pid: Pid, _calls: &mut dyn FnMut(&mut Checked)) -> Result<bool> {
        Ok(false)
    }
}
