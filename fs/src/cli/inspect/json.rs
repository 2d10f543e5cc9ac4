//! An image as one JSON document, written while it is read. Bodies are the same as in the image.

use std::io::Write;

use ckptfs_dumper::image::{Header, PAGE_SIZE, Record, Sink};
use ckptfs_dumper::{Doing, Error, Result};
use serde::de::IgnoredAny;
use serde_json::json;

/// `{"images":[{"header":{...},"records":[{...}],"whole":true}]}`, with `"error"` behind the images
/// if they are damaged.
pub(super) struct Document<'a> {
    out: &'a mut dyn Write,
    images: u64,
    /// The number of written records of the open image, if one is open.
    open: Option<u64>,
    /// The record with pages that are being counted, and the count.
    pending: Option<(Record, u64)>,
}

impl<'a> Document<'a> {
    pub(super) fn new(out: &'a mut dyn Write) -> Result<Document<'a>> {
        let mut document = Document { out, images: 0, open: None, pending: None };
        document.write(b"{\"images\":[")?;
        Ok(document)
    }

    /// Completes the document, whatever is still open in it.
    pub(super) fn close(&mut self, error: Option<&Error>) -> Result<()> {
        self.close_image(false)?;
        self.write(b"]")?;
        if let Some(error) = error {
            self.write(format!(",\"error\":{}", json!(error.to_string())).as_bytes())?;
        }
        self.write(b"}\n")
    }

    fn close_image(&mut self, whole: bool) -> Result<()> {
        self.close_record()?;
        match self.open.take() {
            Some(_) => self.write(format!("],\"whole\":{whole}}}").as_bytes()),
            None => Ok(()),
        }
    }

    fn close_record(&mut self) -> Result<()> {
        let Some((record, pages)) = self.pending.take() else { return Ok(()) };
        let separator = if self.open == Some(0) { "" } else { "," };
        self.open = self.open.map(|records| records + 1);
        let pages = record.pages.then_some(pages);
        let tag = json!(record.tag.to_string());
        self.write(format!("{separator}\n{{\"tag\":{tag},\"optional\":{},\"body\":", record.optional).as_bytes())?;
        self.write(&record.json)?;
        self.write(format!(",\"blob_bytes\":{},\"pages\":{}}}", record.blob.len(), json!(pages)).as_bytes())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).doing(|| "writing the document")
    }
}

impl Sink for Document<'_> {
    fn header(&mut self, header: &Header) -> Result<()> {
        let separator = if self.images == 0 { "" } else { "," };
        self.images += 1;
        self.open = Some(0);
        let Header { version, arch, page_size, total, time_ns, stopped_ns } = header;
        let header = json!({
            "version": version, "arch": arch, "page_size": page_size, "total": total, "time_ns": time_ns,
            "stood_ns": stopped_ns
        });
        self.write(format!("{separator}\n{{\"header\":{header},\"records\":[").as_bytes())
    }

    fn record(&mut self, record: Record) -> Result<()> {
        self.close_record()?;
        // Bytes that are not JSON would break the document.
        record.body::<IgnoredAny>()?;
        self.pending = Some((record, 0));
        Ok(())
    }

    fn pages(&mut self, _: u64, bytes: &[u8]) -> Result<()> {
        if let Some((_, pages)) = &mut self.pending {
            *pages += bytes.len() as u64 / PAGE_SIZE;
        }
        Ok(())
    }

    fn end_of_pages(&mut self) -> Result<()> {
        self.close_record()
    }

    fn end(&mut self, _: u64) -> Result<()> {
        self.close_image(true)
    }
}
