//! The end of an image: its length, its digest and its signature are verified.

use crate::error::{Error, Result};
use crate::image::decoder::sink::Sink;
use crate::image::decoder::{Decoder, DecoderState};
use crate::image::frame::Record;
use crate::image::signature;
use crate::image::trailer::Trailer;

impl Decoder {
    pub(super) fn trailer(&mut self, record: &Record, sink: &mut dyn Sink) -> Result<()> {
        let at = self.image.frame_at;
        let refuse = |why: String| Err(Error::damaged(format!("offset {at}: {why}")));
        if self.position() != self.image.total {
            let (here, total) = (self.position(), self.image.total);
            return refuse(format!("the trailer ends the image at {here} bytes, its header says {total}"));
        }
        let found: Trailer = record.body().map_err(|error| self.with_offset(error))?;
        let expected = self.image.digest.trailer();
        if found.frames != expected.frames {
            return refuse(format!("the trailer counts {} frames, there are {}", found.frames, expected.frames));
        }
        if found.digest != expected.digest {
            return refuse("the digest of the whole image does not hold".to_string());
        }
        if self.is_verifying() {
            let mac = self.image.mac.ok_or_else(|| signature::wrong_mac(at))?;
            // All of it as this build writes it: the MAC does not cover the trailer. Hashes are
            // compared, because that takes the same time wherever the MACs differ.
            let written = expected.with_mac(Some(mac)).record()?;
            if blake3::hash(&record.json) != blake3::hash(&written.json) {
                return Err(signature::wrong_mac(at));
            }
        }
        self.images += 1;
        self.state = DecoderState::Between;
        sink.end(self.image.total).map_err(|error| self.with_offset(error))
    }
}
