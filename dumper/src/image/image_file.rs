//! An image in a file: its records, and where each of its pages is stored. One pass finds them and
//! reads no page.
//!
//! The decoder makes the pass, so a file is refused for the same reasons, with the same sentences
//! and offsets, as a stream. The digest of the whole is checked as well. The pages of a chunk are
//! checked against their CRC when the first of them is read. With a key the pass reads the pages
//! too, because the signature covers them.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Context, Doing, Error, Result};
use crate::image::crc;
use crate::image::decoder::Decoder;
use crate::image::decoder::page_contents::wrong_crc;
use crate::image::decoder::pages::{Ahead, SkippedPages};
use crate::image::decoder::sink::Sink;
use crate::image::format::{FOOTER_LEN, Header, PAGE_SIZE, empty, u32_at};
use crate::image::frame::Record;
use crate::image::page_runs::PageRuns;
use crate::image::page_source::PageSource;
use crate::image::record_set::{RecordSet, RecordView};
use crate::key::Key;

/// Bytes read at a time. Memory grows with the contents of the file, not with the length in its
/// header.
const PIECE: u64 = 1 << 20;

/// The image in a file.
#[derive(Debug)]
pub struct ImageFile {
    name: String,
    file: File,
    header: Header,
    records: Vec<(Record, Option<usize>)>,
    lists: Vec<List>,
}

/// One list of pages.
#[derive(Debug, Default)]
struct List {
    runs: PageRuns,
    chunks: Vec<Chunk>,
}

/// Where the pages of one chunk are stored.
#[derive(Debug)]
struct Chunk {
    /// Offset of the first one.
    at: u64,
    /// How many of the list's pages are in earlier chunks.
    before: u64,
    /// Whether its CRC has been checked.
    is_verified: AtomicBool,
}

impl ImageFile {
    /// Opens the image in `path`. Every error begins with that path. Zero bytes may follow the
    /// image. With a `key` it must be signed with it: then all of it is read.
    ///
    /// # Errors
    /// Damage and truncation with their offsets, ESPIPE for a file without offsets, EOPNOTSUPP for
    /// a file of several images, EKEYREJECTED.
    pub fn open(path: &Path, key: Option<&Key>) -> Result<ImageFile> {
        let name = path.display().to_string();
        let file = File::open(path).doing(|| format!("opening {name}"))?;
        let facts = file.metadata().doing(|| format!("stat of {name}"))?;
        if !facts.is_file() {
            return Err(Error::os(format!("{name} is no regular file: reading it at any offset"), libc::ESPIPE));
        }
        let mut found = FoundRecords::default();
        let decoder = Decoder::new(key);
        pass(&file, facts.len(), decoder, &mut found).on(|| &name)?;
        let header = found.header.ok_or_else(|| empty(&name))?;
        Ok(ImageFile { name, file, header, records: found.records, lists: found.lists })
    }

    /// The image's header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Bytes of the image from `offset` on, as stored in the file. Fewer only at its end.
    pub fn read_at(&self, offset: u64, len: usize) -> Result<Vec<u8>> {
        let left = self.header.total.saturating_sub(offset);
        let mut bytes = vec![0; (len as u64).min(left) as usize];
        self.fill(offset, &mut bytes)?;
        Ok(bytes)
    }

    fn fill(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.file.read_exact_at(buf, offset).doing(|| format!("{}: reading at offset {offset}", self.name))
    }

    /// Reads part of the chunk `number` of a list; reads and checks the whole chunk the first time.
    fn read_chunk(&self, list: &List, number: usize, from: u64, buf: &mut [u8]) -> Result<()> {
        let chunk = &list.chunks[number];
        if chunk.is_verified.load(Ordering::Relaxed) {
            return self.fill(chunk.at + from, buf);
        }
        let len = (list.behind(number) - chunk.before) * PAGE_SIZE;
        let mut bytes = vec![0; len as usize + FOOTER_LEN];
        self.fill(chunk.at, &mut bytes)?;
        let (pages, footer) = bytes.split_at(len as usize);
        if crc::of(pages) != u32_at(footer, 0) {
            let first = list.runs.nth(chunk.before).unwrap_or_default();
            return Err(wrong_crc(chunk.at + len, first).on(&self.name));
        }
        chunk.is_verified.store(true, Ordering::Relaxed);
        buf.copy_from_slice(&pages[from as usize..from as usize + buf.len()]);
        Ok(())
    }
}

impl List {
    /// How many pages the chunks up to `number` hold.
    fn behind(&self, number: usize) -> u64 {
        self.chunks.get(number + 1).map_or(self.runs.pages(), |next| next.before)
    }
}

impl RecordSet for ImageFile {
    fn records(&self) -> Box<dyn Iterator<Item = RecordView<'_>> + '_> {
        Box::new(self.records.iter().map(|(record, list)| RecordView {
            tag: record.tag,
            json: &record.json,
            blob: &record.blob,
            pages: list.map(|list| (list, &self.lists[list].runs)),
        }))
    }
}

/// Source `n` is the image's `n`th list.
impl PageSource for ImageFile {
    fn read(&self, source: usize, address: u64, buf: &mut [u8]) -> Result<()> {
        let missing = || Error::damaged(format!("{}: list {source} has no page at {address:#x}", self.name));
        let list = self.lists.get(source).ok_or_else(missing)?;
        let mut at = list.runs.index_of(address).ok_or_else(missing)? * PAGE_SIZE + address % PAGE_SIZE;
        if list.runs.next_hole(address) - address < buf.len() as u64 {
            return Err(missing());
        }
        let mut rest = buf;
        while !rest.is_empty() {
            let number = list.chunks.partition_point(|chunk| chunk.before * PAGE_SIZE <= at).saturating_sub(1);
            let end = list.behind(number) * PAGE_SIZE;
            let (piece, behind) = rest.split_at_mut((end - at).min(rest.len() as u64) as usize);
            self.read_chunk(list, number, at - list.chunks[number].before * PAGE_SIZE, piece)?;
            at += piece.len() as u64;
            rest = behind;
        }
        Ok(())
    }
}

/// What the decoder found.
#[derive(Default)]
struct FoundRecords {
    header: Option<Header>,
    records: Vec<(Record, Option<usize>)>,
    lists: Vec<List>,
}

impl FoundRecords {
    fn skipped(&mut self, skipped: &SkippedPages) {
        self.chunk(skipped.at);
        let Some(list) = self.lists.last_mut() else { return };
        skipped.addresses.iter().for_each(|address| list.runs.push(*address, 1));
    }

    /// The pages of the next chunk begin at `at`.
    fn chunk(&mut self, at: u64) {
        let Some(list) = self.lists.last_mut() else { return };
        list.chunks.push(Chunk { at, before: list.runs.pages(), is_verified: AtomicBool::new(false) });
    }
}

impl Sink for FoundRecords {
    fn header(&mut self, header: &Header) -> Result<()> {
        if self.header.is_some() {
            return Err(Error::unsupported(
                "a second image stands behind the first: such a file cannot be looked into",
            ));
        }
        self.header = Some(*header);
        Ok(())
    }

    fn record(&mut self, record: Record) -> Result<()> {
        let list = record.pages.then_some(self.lists.len());
        self.lists.extend(list.map(|_| List::default()));
        self.records.push((record, list));
        Ok(())
    }

    /// Only of a pass with a key. The others skip the pages.
    fn pages(&mut self, address: u64, bytes: &[u8]) -> Result<()> {
        let list = self.lists.last_mut();
        list.into_iter().for_each(|list| list.runs.push(address, bytes.len() as u64 / PAGE_SIZE));
        Ok(())
    }

    fn end_of_pages(&mut self) -> Result<()> {
        Ok(())
    }

    fn end(&mut self, _: u64) -> Result<()> {
        Ok(())
    }
}

/// One pass over the frames of `file`, which has `len` bytes.
fn pass(file: &File, len: u64, mut decoder: Decoder, found: &mut FoundRecords) -> Result<()> {
    let mut bytes = Vec::new();
    loop {
        let at = decoder.offset();
        let left = len.saturating_sub(at);
        if left == 0 {
            break;
        }
        let wanted = match decoder.ahead() {
            Ahead::Pages(wanted) if decoder.is_verifying() => {
                found.chunk(at);
                wanted
            }
            Ahead::Pages(_) => match decoder.skip_pages(left) {
                Some(skipped) => {
                    found.skipped(&skipped);
                    continue;
                }
                None => break,
            },
            // Zeros may follow the image, as many as an archiver has added.
            Ahead::Bytes(_) if decoder.is_complete() && at > 0 => PIECE,
            Ahead::Bytes(wanted) => wanted,
        };
        bytes.resize(wanted.clamp(1, PIECE).min(left) as usize, 0);
        file.read_exact_at(&mut bytes, at).doing(|| format!("reading at offset {at}"))?;
        decoder.push(&bytes, found)?;
    }
    decoder.finish()
}
