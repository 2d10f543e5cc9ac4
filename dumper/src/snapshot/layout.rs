//! Forked -> layout: the order of an image, with every offset known.

use std::fs::File;
use std::sync::Arc;

use crate::checkpoint::view::View;
use crate::dump::cow_pages;
use crate::dump::files::CollectedFiles;
use crate::dump::memory::ProcessMemory;
use crate::dump::objects::CollectedObject;
use crate::dump::unreadable::{self, Unreadable};
use crate::error::Result;
use crate::freeze::target::Target;
use crate::image::builder::LayoutBuilder;
use crate::image::format;
use crate::image::frame::Record;
use crate::key::Key;
use crate::kind::object::ObjectContents;
use crate::memory::source::{MemorySource, MemorySources};
use crate::memory::vma;
use crate::pstree::record;
use crate::read_ahead::ImageReader;
use crate::refusals::Refusals;
use crate::snapshot::SnapshotData;
use crate::snapshot::collect::Collected;
use crate::snapshot::source::Forked;
use crate::sys::memory::MemFile;
use crate::task::address_space;

/// Finds the pages of every mapping and puts all records in the order of the image. The memory must
/// not change until the image is read. With a `key` the image is signed.
pub fn layout(target: &Target, forked: Forked, key: Option<&Key>) -> Result<SnapshotData> {
    let Forked { collected, memory_of, children } = forked;
    let Collected { mut tree, processes, mut files, sysv, taken, stopped, .. } = collected;
    files.refuse_strangers(&tree, &mut Refusals::first())?;
    let (mut tasks, mut tables, mut memory) = (Vec::new(), Vec::new(), Vec::new());
    for mut process in processes {
        let of_process = process.records.iter().find(|record| record.tag == address_space::TAG);
        let keys = of_process.map(address_space::allocated_keys).transpose()?.unwrap_or_default();
        tasks.append(&mut process.records);
        tables.append(&mut process.tables);
        let source = memory_of.get(&process.pid).copied().unwrap_or(process.pid);
        let found = ProcessMemory::find(process, source)?;
        vma::refuse_keys(found.pid, &keys, found.mappings.iter().map(|mapping| &mapping.vma))?;
        memory.push(found);
    }
    cow_pages::find(&mut tree, &mut memory)?;
    let CollectedFiles { objects, spool, files, fd_states, relations, unreadable } = files.into_records();

    let of_tree = unreadable.into_iter().chain(sysv.unreadable).map(|sentence| Unreadable { pid: None, sentence });
    let unreadable = of_tree.chain(unreadable::other_users(&tree, &tasks)?).collect();

    let time_ns = format::epoch_ns(taken);
    let mut builder = match key {
        Some(key) => LayoutBuilder::signed(time_ns, key.clone())?,
        None => LayoutBuilder::new(time_ns),
    };
    builder.stopped(stopped);
    let mut image = ImageLayout { builder, sources: Vec::new() };
    image.record(Record::new(record::TAG, &tree)?)?;
    image.records(tasks)?;
    image.records(sysv.records)?;
    image.objects(objects, spool)?;
    image.records(files)?;
    image.records(relations)?;
    image.records(tables)?;
    image.records(fd_states)?;
    image.memory(memory)?;

    let layout = Arc::new(image.builder.finish()?);
    let sources = Arc::new(MemorySources(image.sources));
    let view = View::new(target.to_string(), *layout.header(), Arc::clone(&layout) as _, Arc::clone(&sources) as _);
    let image = ImageReader::new(layout, Arc::clone(&sources) as _);
    Ok(SnapshotData { image, view: Arc::new(view), sources, memory_of, children, unreadable, read_while_stopped: None })
}

/// The image as far as it is laid out, and the sources of its pages.
struct ImageLayout {
    builder: LayoutBuilder,
    /// The layout refers to them by their number.
    sources: Vec<MemorySource>,
}

impl ImageLayout {
    fn record(&mut self, record: Record) -> Result<()> {
        self.builder.record(record)
    }

    fn records(&mut self, records: Vec<Record>) -> Result<()> {
        records.into_iter().try_for_each(|record| self.record(record))
    }

    fn objects(&mut self, objects: Vec<CollectedObject>, spool: Option<File>) -> Result<()> {
        let spool = spool.map(|file| self.source(MemorySource::File(file)));
        for CollectedObject { record, blob, contents } in objects {
            match (blob, spool) {
                (Some(blob), Some(spool)) => self.builder.record_with(&record, spool, blob.at, blob.sum)?,
                _ => self.record(record)?,
            }
            if let Some(ObjectContents { file, runs, .. }) = contents {
                let source = self.source(MemorySource::File(file.into()));
                self.builder.pages(source, runs);
            }
        }
        Ok(())
    }

    fn memory(&mut self, processes: Vec<ProcessMemory>) -> Result<()> {
        // A process that shares the memory of another has no mappings of its own.
        for process in processes.into_iter().filter(|process| !process.mappings.is_empty()) {
            let own = self.source(MemorySource::Memory(MemFile::open(process.source)?, process.rseq));
            for mapping in process.mappings {
                let source = mapping.kept.map_or(own, |kept| self.source(MemorySource::Kept(kept)));
                self.record(mapping.vma.record(mapping.inherited.as_ref())?)?;
                self.builder.pages(source, mapping.pages);
            }
        }
        Ok(())
    }

    /// Adds a source and returns its number.
    fn source(&mut self, source: MemorySource) -> usize {
        self.sources.push(source);
        self.sources.len() - 1
    }
}
