//! The calls that a decoder makes, as a list, so that two decodings can be compared.

use ckptfs_dumper::Result;
use ckptfs_dumper::image::{Decoder, Header, Record, Sink};

/// One call of a sink. Pages that arrive in several pieces are one event.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    Header(Header),
    Record(Record),
    Pages(u64, Vec<u8>),
    EndOfPages,
    End(u64),
}

#[derive(Default)]
pub struct Events(pub Vec<Event>);

impl Sink for Events {
    fn header(&mut self, header: &Header) -> Result<()> {
        self.0.push(Event::Header(*header));
        Ok(())
    }

    fn record(&mut self, record: Record) -> Result<()> {
        self.0.push(Event::Record(record));
        Ok(())
    }

    fn pages(&mut self, address: u64, bytes: &[u8]) -> Result<()> {
        assert!(!bytes.is_empty() && bytes.len().is_multiple_of(4096) && address.is_multiple_of(4096));
        if let Some(Event::Pages(start, before)) = self.0.last_mut()
            && *start + before.len() as u64 == address
        {
            before.extend_from_slice(bytes);
        } else {
            self.0.push(Event::Pages(address, bytes.to_vec()));
        }
        Ok(())
    }

    fn end_of_pages(&mut self) -> Result<()> {
        self.0.push(Event::EndOfPages);
        Ok(())
    }

    fn end(&mut self, total: u64) -> Result<()> {
        self.0.push(Event::End(total));
        Ok(())
    }
}

/// Decodes `pieces`, one push each, to the end of the input.
pub fn decode<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Event>, Result<()>) {
    decode_by(Decoder::new(None), pieces)
}

/// The same with a decoder that may have a key.
pub fn decode_by<'a>(mut decoder: Decoder, pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Event>, Result<()>) {
    let mut events = Events::default();
    for piece in pieces {
        if let Err(error) = decoder.push(piece, &mut events) {
            let again = decoder.push(b"anything", &mut events).unwrap_err();
            assert_eq!(again.to_string(), error.to_string(), "a failed decoder must stay failed");
            assert_eq!(decoder.finish().unwrap_err().to_string(), error.to_string());
            return (events.0, Err(error));
        }
    }
    let end = decoder.finish();
    assert_eq!(end.is_ok(), decoder.is_complete());
    (events.0, end)
}

/// The error sentence for `bytes`, which must name an offset.
pub fn refusal(bytes: &[u8]) -> String {
    let error = decode([bytes]).1.expect_err("damage was not noticed");
    assert_eq!(error.kind(), ckptfs_dumper::Kind::Damaged);
    assert!(error.to_string().starts_with("offset "), "no offset: {error}");
    error.to_string()
}
