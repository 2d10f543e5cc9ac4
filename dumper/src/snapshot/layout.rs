//! Records to a layout: the order of an image.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::checkpoint::view::View;
use crate::dump::files::CollectedFiles;
use crate::dump::{cow_pages, memory};
use crate::error::Result;
use crate::freeze::target::Target;
use crate::image::builder::LayoutBuilder;
use crate::image::format;
use crate::image::frame::Record;
use crate::kind::fd_state::Named;
use crate::memory::source::{Kept, MemorySource, MemorySources};
use crate::pstree::record;
use crate::read_ahead::ImageReader;
use crate::snapshot::SnapshotData;
use crate::snapshot::collect::Collected;
use crate::sys::memory::MemFile;
use crate::sys::pid::Pid;

/// Whether whoever is to be signalled will be there again.
pub fn is_known(tree: &record::Tree, who: Named) -> bool {
    tree.processes.iter().any(|process| match who {
        Named::Task(tid) => process.threads.contains(&tid),
        Named::Process(pid) => process.pid == pid && !process.is_placeholder(),
        // A group is made by its leader, be it gone since.
        Named::Group(pgid) => process.pid == pgid,
    })
}

/// Page sets, records -> a layout in which every offset is known. `copies`: whose memory is read for a process.
pub fn tell(
    target: &Target,
    seen: Collected,
    copies: BTreeMap<Pid, Pid>,
    kept: BTreeMap<(Pid, u64), Kept>,
    stopped: Duration,
) -> Result<SnapshotData> {
    let Collected { mut looked, files, locked, .. } = seen;
    let source = |pid: Pid| copies.get(&pid).copied().unwrap_or(pid);
    let mut memory = Vec::new();
    for process in &mut looked.processes {
        let kept = |start: u64| kept.get(&(process.pid, start)).map(Kept::runs);
        memory.push(memory::complete(&mut process.mappings, source(process.pid), kept, locked.get(&process.pid))?);
    }
    let inherited = cow_pages::find(&mut looked, &mut memory, source)?;
    let mut builder = LayoutBuilder::new(format::epoch_ns(looked.taken));
    builder.stopped(stopped);
    builder.record(Record::new(record::TAG, &looked.tree)?)?;
    let (mut sources, mut places) = (Vec::new(), BTreeMap::new());
    let mut own = BTreeMap::new();
    for process in &mut looked.processes {
        for record in std::mem::take(&mut process.records) {
            builder.record(record)?;
        }
        // Who has another's memory has none that would be read.
        if !process.mappings.is_empty() {
            own.insert(process.pid, sources.len());
            sources.push(MemorySource::Memory(MemFile::open(source(process.pid))?, std::mem::take(&mut process.rseq)));
        }
    }
    for (key, kept) in kept {
        places.insert(key, sources.len());
        sources.push(MemorySource::Kept(kept));
    }
    for record in std::mem::take(&mut looked.sysv) {
        builder.record(record)?;
    }
    let CollectedFiles { objects, files, fd_states } = files.into_records(|who| is_known(&looked.tree, who))?;
    for (record, contents) in objects {
        builder.record(record)?;
        if let Some(contents) = contents {
            builder.pages(sources.len(), contents.runs);
            sources.push(MemorySource::File(contents.file.into()));
        }
    }
    for record in files.into_iter().chain(looked.tables).chain(fd_states) {
        builder.record(record)?;
    }
    for ((process, sets), mut inherited) in looked.processes.into_iter().zip(memory).zip(inherited) {
        let pid = process.pid;
        for ((_, vma), runs) in process.mappings.into_iter().zip(sets) {
            let place = places.get(&(pid, vma.start)).or_else(|| own.get(&pid)).copied().unwrap_or_default();
            let inherited = inherited.remove(&vma.start);
            builder.record(vma.record(inherited.as_ref())?)?;
            builder.pages(place, runs);
        }
    }
    let layout = Arc::new(builder.finish()?);
    let sources = Arc::new(MemorySources(sources));
    let view = View::new(target.to_string(), *layout.header(), Arc::clone(&layout) as _, Arc::clone(&sources) as _);
    let stream = ImageReader::new(layout, Arc::clone(&sources) as _);
    Ok(SnapshotData { stream, view: Arc::new(view), sources, copies, children: Vec::new() })
}
