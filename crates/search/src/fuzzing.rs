//! Entry points to the parsers for `fuzz/` and for the replay of its corpus, and one for tests of older indexes; not part of the API. Each
//! parser's function returns whether it accepted the bytes, and panics only if something is wrong with the parser.

use std::path::Path;

use tantivy::directory::OwnedBytes;
use trivec::Embedding;

use crate::segment::SegmentRecord;
use crate::segment::colbert::{ColbertReader, Scratch};
use crate::segment::dense::{Dense8Reader, Dense16Reader};
use crate::segment::documents::DocumentsReader;
use crate::segment::file::{Kind, SegmentFile};
use crate::segment::lexical::LexicalReader;
use crate::segment::panels::QueryRows;
use crate::segment::rows::RowsReader;
use crate::settings::ColbertBits;
use crate::{Document, Filter, Result, Writer};

/// Longest vectors, and most rows, that [`segment`] works with: a hostile file may describe more, which would only take time.
const SMALL: u64 = 1 << 12;

/// Parses `bytes` as a filter. Parsing the accepted text again must give the same filter.
pub fn filter(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    match text.parse::<Filter>() {
        Ok(filter) => {
            assert!(filter.as_str().parse::<Filter>().is_ok_and(|again| again == filter));
            true
        }
        Err(e) => {
            assert!(!e.to_string().is_empty());
            false
        }
    }
}

/// Adds an entry even if an entry of another document has its key, as earlier versions did: for tests with indexes that they made.
///
/// # Errors
/// As [`Writer::upsert_embedded`].
pub fn add_unchecked(writer: &mut Writer, document: &Document, embedding: &Embedding) -> Result<()> {
    document.validate()?;
    writer.put(document, embedding)
}

/// Whether a source has documents, and none of them was refused.
fn all_good(documents: impl Iterator<Item = Result<Document>>) -> bool {
    let mut count = 0;
    let mut good = true;
    for document in documents {
        match document {
            Ok(document) => assert!(document.validate().is_ok()),
            Err(e) => {
                assert!(!e.to_string().is_empty());
                good = false;
            }
        }
        count += 1;
    }
    good && count > 0
}

/// Reads `bytes` as JSON Lines.
pub fn jsonl(bytes: &[u8]) -> bool {
    all_good(crate::ingest::read_jsonl(bytes, Path::new("fuzz"), &Default::default()))
}

/// Reads `bytes` as CSV and as TSV: accepted if they are accepted as one of them.
pub fn csv(bytes: &[u8]) -> bool {
    let read = |separator| {
        crate::ingest::read_csv(bytes, separator, Path::new("fuzz"), &Default::default()).is_ok_and(all_good)
    };
    read(b',') | read(b'\t')
}

/// Opens `bytes` as a segment's file of each kind, and reads rows, scores and lists from it: accepted if all of this works for a kind.
pub fn segment(bytes: &[u8]) -> bool {
    let path = Path::new("fuzz");
    let mut accepted = false;
    for kind in Kind::ALL {
        let Ok(file) = SegmentFile::of_bytes(path, OwnedBytes::new(bytes.to_vec()), kind, None) else { continue };
        let shape = file.shape();
        let (rows, dim) = (shape.rows, shape.dim as usize);
        let first = file.list::<u64>(0, 0..1).map_or(0, |list| list[0]);
        let last = (rows as usize)
            .checked_sub(1)
            .and_then(|at| file.list::<u64>(0, at..at + 1).ok())
            .map_or(0, |list| list[0]);
        let some_rows = 0..rows.min(SMALL) as usize;
        accepted |= match kind {
            Kind::Rows => {
                let record = SegmentRecord { id: 0, rows, first, last, files: Vec::new() };
                RowsReader::new(file, &record).is_ok_and(|reader| {
                    for docno in [0, 1, first, last, u64::MAX] {
                        let found = reader.find(docno);
                        assert!(!matches!(found, Ok(Some(row)) if row as u64 >= rows));
                    }
                    reader.check().is_ok()
                })
            }
            Kind::Dense8 if (1..=SMALL as usize).contains(&dim) => {
                Dense8Reader::new(file, rows, dim).is_ok_and(|reader| {
                    some_rows.fold(true, |good, row| good & reader.row(row).is_ok()) && reader.check().is_ok()
                })
            }
            Kind::Dense16 if (1..=SMALL as usize).contains(&dim) => {
                let mut row_values = vec![0.0; dim];
                Dense16Reader::new(file, rows, dim).is_ok_and(|reader| {
                    some_rows.fold(true, |good, row| good & reader.read(row, &mut row_values).is_ok())
                        && reader.check().is_ok()
                })
            }
            Kind::Documents => DocumentsReader::new(file, rows).is_ok_and(|reader| {
                some_rows.fold(true, |good, row| good & reader.row(row).is_ok()) && reader.check().is_ok()
            }),
            Kind::Lexical => LexicalReader::new(file, rows).is_ok_and(|reader| {
                let mut good = some_rows.fold(true, |good, row| good & reader.document(row).is_ok());
                for id in [0, 1, 100, u32::MAX] {
                    good &= reader.postings(id).is_ok();
                }
                good && reader.check().is_ok()
            }),
            Kind::Colbert if (1..=SMALL as usize).contains(&dim) => {
                let bits = match shape.bits {
                    1 => ColbertBits::One,
                    2 => ColbertBits::Two,
                    4 => ColbertBits::Four,
                    _ => ColbertBits::Eight,
                };
                let query = QueryRows::new(bits, dim, [vec![0.5; dim].as_slice()]);
                let reader = ColbertReader::new(file, rows, dim, bits);
                match (reader, query) {
                    (Ok(reader), Ok(query)) => {
                        let mut scratch = Scratch::default();
                        let mut good = true;
                        for row in some_rows.take(16) {
                            // For a document without tokens an error is accepted too.
                            let empty = reader.tokens(row).is_ok_and(|(from, to)| from == to);
                            good &= reader.score(&query, row, &mut scratch).is_ok() || empty;
                        }
                        good && reader.check().is_ok()
                    }
                    _ => false,
                }
            }
            _ => false,
        };
    }
    accepted
}
