//! The open files of an image, and the objects that they share, as descriptors of the restorer.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::file;
use crate::image::frame::Record;
use crate::kind::object::{DynObject, RestoreContext, RestoredObject};
use crate::kind::open_file::{self, DynOpenFile, Forget};
use crate::kind::refs::Files;
use crate::options::{ChangedFiles, RestoreOptions, TerminalRule};
use crate::restore::caller_terminal::ReplacedTerminal;
use crate::restore::pending::PendingRecords;
use crate::restore::replaced::{Holder, ReplacedFiles};
use crate::sys::clone::EndedProcess;
use crate::sys::pid::Pid;
use crate::sys::sysvipc::CreatedIpc;
use crate::sys::tty::TerminalState;

/// All of them, by id.
#[derive(Default)]
pub struct RestoredFiles {
    objects: RestoredObjects,
    files: BTreeMap<u32, OwnedFd>,
    replaced: ReplacedFiles,
    /// Open files that are opened when the image has been read to its end.
    opens_last: Vec<(u32, &'static dyn DynOpenFile, Record)>,
    /// Files that are to forget what the restore has caused.
    forgetting: Vec<(u32, Forget)>,
}

/// The objects, and what else a kind of open file needs from a restore.
#[derive(Default)]
struct RestoredObjects {
    by_id: BTreeMap<u32, PlacedObject>,
    options: RestoreOptions,
    warnings: RefCell<Vec<String>>,
    ended: RefCell<BTreeMap<Pid, EndedProcess>>,
    /// What takes the place of the terminal of the tree.
    terminal: Option<PathBuf>,
    /// That terminal.
    replaced_terminal: RefCell<ReplacedTerminal>,
}

/// An object, and the record that it comes from.
struct PlacedObject {
    object: RestoredObject,
    kind: &'static dyn DynObject,
    record: Record,
    /// Whether it existed before the restore.
    is_outside: bool,
}

/// What a kind of open file needs from the restore.
struct KindContext<'a>(&'a RestoredObjects, &'a PendingRecords);

impl RestoreContext for KindContext<'_> {
    fn object(&self, id: u32) -> Result<&RestoredObject> {
        self.0.get(id)
    }

    fn restores_task(&self, pid: Pid) -> bool {
        self.1.has_task(pid)
    }

    fn changed_files(&self) -> ChangedFiles {
        self.0.options.changed_files
    }

    fn terminals(&self) -> TerminalRule {
        self.0.options.terminal
    }

    fn terminal(&self) -> Option<&Path> {
        self.0.terminal.as_deref()
    }

    fn terminal_was(&self, device: u64, name: &str, state: Option<TerminalState>) -> Result<()> {
        self.0.replaced_terminal.borrow_mut().add(device, name, state)
    }

    fn keep_ended(&self, pid: Pid) -> Result<()> {
        let mut ended = self.0.ended.borrow_mut();
        if let Entry::Vacant(vacant) = ended.entry(pid) {
            vacant.insert(EndedProcess::make(pid)?);
        }
        Ok(())
    }

    fn warn(&self, sentence: String) {
        self.0.warn(sentence);
    }
}

impl RestoredObjects {
    fn get(&self, id: u32) -> Result<&RestoredObject> {
        let object = self.by_id.get(&id).map(|placed| &placed.object);
        object.ok_or_else(|| Error::damaged(format!("object {id} is not in the image")))
    }

    fn warn(&self, sentence: String) {
        log::warn!("{sentence}");
        let mut warnings = self.warnings.borrow_mut();
        if !warnings.contains(&sentence) {
            warnings.push(sentence);
        }
    }
}

/// The files as one holder gets them.
pub struct FilesOf<'a> {
    files: &'a RestoredFiles,
    holder: Holder<'a>,
}

impl Files for FilesOf<'_> {
    fn fd(&self, id: u32) -> Result<RawFd> {
        let file = self.files.get(id)?;
        self.files.replaced.check(id, file, self.holder)?;
        Ok(file.as_raw_fd())
    }
}

/// The files for a moment, whoever may open them: nobody keeps a descriptor.
pub struct AllFiles<'a>(pub &'a RestoredFiles);

impl Files for AllFiles<'_> {
    fn fd(&self, id: u32) -> Result<RawFd> {
        self.0.get(id).map(AsRawFd::as_raw_fd)
    }
}

impl RestoredFiles {
    /// Without any file so far.
    pub fn new(options: RestoreOptions) -> Self {
        let objects = RestoredObjects { options, ..RestoredObjects::default() };
        Self { objects, ..Self::default() }
    }

    /// From now on the terminal `path` takes the place of the one that the tree has. `replaced`:
    /// what is known of that.
    pub fn replace_terminal(&mut self, path: PathBuf, replaced: ReplacedTerminal) {
        self.objects.terminal = Some(path);
        self.objects.replaced_terminal = RefCell::new(replaced);
    }

    /// How the tree has left its terminal.
    pub fn terminal_state(&self) -> Option<TerminalState> {
        self.objects.replaced_terminal.borrow().state().cloned()
    }

    fn get(&self, id: u32) -> Result<&OwnedFd> {
        self.files.get(&id).ok_or_else(|| Error::damaged(format!("open file {id} is not in the image")))
    }

    /// The files for `holder`.
    pub fn of<'a>(&'a self, holder: Holder<'a>) -> FilesOf<'a> {
        FilesOf { files: self, holder }
    }

    /// Creates the object of a record, or connects to one that exists; gives its id.
    pub fn create_object(&mut self, record: Record) -> Result<u32> {
        let (id, name) = open_file::id_and_kind(&record)?;
        let kind = file::OBJECTS.iter().find(|kind| kind.kind() == name);
        let kind = *kind.ok_or_else(|| Error::damaged(format!("object {id}: unknown kind {name}")))?;
        let connected = match kind.outside(&record)? {
            Some(pipe) => pipe.connect(&self.objects.options, |sentence| self.objects.warn(sentence))?,
            None => None,
        };
        let is_outside = connected.is_some();
        let object = match connected {
            Some(fd) => RestoredObject::new(fd, 0),
            None => {
                let object = kind.make(&record)?;
                kind.warning(&record, &object)?.into_iter().for_each(|sentence| self.objects.warn(sentence));
                object
            }
        };
        self.objects.by_id.insert(id, PlacedObject { object, kind, record, is_outside });
        Ok(id)
    }

    /// Opens the file of a record, or keeps the record until [`RestoredFiles::open_last`].
    pub fn open(&mut self, record: Record, pending: &PendingRecords) -> Result<()> {
        let (id, name) = open_file::id_and_kind(&record)?;
        let kind = file::KINDS.iter().find(|kind| kind.kind() == name);
        let kind = *kind.ok_or_else(|| Error::damaged(format!("open file {id}: unknown kind {name}")))?;
        if kind.opens_last() {
            self.opens_last.push((id, kind, record));
        } else {
            self.restore_file(id, kind, &record, pending)?;
        }
        Ok(())
    }

    fn restore_file(
        &mut self,
        id: u32,
        kind: &'static dyn DynOpenFile,
        record: &Record,
        pending: &PendingRecords,
    ) -> Result<()> {
        let context = KindContext(&self.objects, pending);
        let file = kind.restore(record, &context)?;
        if !kind.is_handed_over(&context) {
            self.replaced.compare(id, record, &file)?;
        }
        self.files.insert(id, file);
        self.forgetting.extend(kind.forget().map(|forget| (id, forget)));
        Ok(())
    }

    /// Writes whole pages of an object, from `offset` on.
    pub fn fill(&self, id: u32, offset: u64, bytes: &[u8]) -> Result<()> {
        self.objects.get(id)?.fill(offset, bytes)
    }

    /// Makes the objects visible to other processes, opens the last files, and finishes the
    /// objects. It is called when the image is complete and its processes have their memory.
    /// Returns the System V objects that it created: they are removed again unless the restore
    /// succeeds.
    pub fn open_last(&mut self, pending: &PendingRecords) -> Result<Vec<CreatedIpc>> {
        for placed in self.objects.by_id.values_mut().filter(|placed| !placed.is_outside) {
            placed.kind.publish(&placed.record, &mut placed.object)?;
        }
        for (id, kind, record) in std::mem::take(&mut self.opens_last) {
            self.restore_file(id, kind, &record, pending)?;
        }
        let mut created = Vec::new();
        // Each is closed here: a file that is still open for writing cannot become an executable.
        for PlacedObject { mut object, kind, record, .. } in std::mem::take(&mut self.objects.by_id).into_values() {
            created.extend(object.made.take());
            kind.finish(&record, &object)?;
        }
        Ok(created)
    }

    /// Adds a sentence for the caller of the restore, unless it is there already.
    pub fn warn(&self, sentence: String) {
        self.objects.warn(sentence);
    }

    /// Closes all files and returns the sentences for the caller of the restore.
    pub fn close(self) -> Result<Vec<String>> {
        let Self { objects, mut files, forgetting, .. } = self;
        let forgetting: Vec<_> =
            forgetting.into_iter().filter_map(|(id, forget)| Some((files.remove(&id)?, forget))).collect();
        let warnings = objects.warnings.into_inner();
        drop(files);
        forgetting.into_iter().try_for_each(|(file, forget)| forget(&file))?;
        Ok(warnings)
    }
}
