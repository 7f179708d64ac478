//! Lines of an input.

use std::io::BufRead;

use super::source::{MAX_RECORD_BYTES, Source};
use crate::exit::Result;

/// Lines of a stream. LF, CR LF and CR all end one; the last needs no end.
pub(crate) struct Lines<R> {
    pub(super) source: Source<R>,
}

impl<R: BufRead> Lines<R> {
    pub(crate) fn new(source: Source<R>) -> Self {
        Lines { source }
    }

    /// The next line without its end, and its number.
    pub(crate) fn next(&mut self) -> Result<Option<(u64, String)>> {
        self.source.take_second_half()?;
        let (line, start) = (self.source.place().line, self.source.offset());
        let mut bytes = Vec::new();
        loop {
            let available = self.source.available()?;
            if available.is_empty() {
                // The last line may lack a line end; without bytes there is no further line.
                return if bytes.is_empty() {
                    Ok(None)
                } else {
                    self.source.text(bytes, line, start).map(|text| Some((line, text)))
                };
            }
            let end = available.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
            let taken = end.unwrap_or(available.len());
            if bytes.len() + taken > MAX_RECORD_BYTES {
                return Err(self.source.refuse(line, format!("longer than {} MiB", MAX_RECORD_BYTES >> 20)));
            }
            bytes.extend_from_slice(&available[..taken]);
            self.source.take(taken + usize::from(end.is_some()));
            if end.is_some() {
                return self.source.text(bytes, line, start).map(|text| Some((line, text)));
            }
        }
    }
}
