//! The part of an index that tantivy keeps: words for BM25, fields for filters, and which documents live.
//!
//! No text of a user reaches tantivy's query parser: terms are made by [`crate::analyze`] and put into queries one by one.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Map, Value};
use tantivy::directory::MmapDirectory;
use tantivy::schema::{
    FAST, Field, INDEXED, IndexRecordOption, JsonObjectOptions, OwnedValue, STRING, Schema, TextFieldIndexing,
    TextOptions,
};
use tantivy::tokenizer::{PreTokenizedString, Token};
use tantivy::{DocAddress, IndexSettings, IndexWriter, ReloadPolicy, Searcher, TantivyDocument, Term};

use crate::document::Document;
use crate::error::{Error, Result, guarded};

/// Memory that tantivy collects documents in before it writes them out.
const WRITER_MEMORY: usize = 64 << 20;

/// The fields of the text index.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fields {
    pub key: Field,
    /// Of a chunk, the key of its document; else the key.
    pub group: Field,
    pub docno: Field,
    pub hash: Field,
    pub lang: Field,
    pub words: Field,
    pub metadata: Field,
}

/// Names of the fields that filters read.
pub(crate) const KEY: &str = "key";
pub(crate) const GROUP: &str = "document";
pub(crate) const LANG: &str = "lang";
pub(crate) const METADATA: &str = "metadata";
pub(crate) const DOCNO: &str = "docno";
pub(crate) const HASH: &str = "hash";

fn schema() -> (Schema, Fields) {
    let mut schema = Schema::builder();
    // "raw" is what is named for words as well: they come as terms, and nothing is left to cut.
    let words = TextFieldIndexing::default().set_tokenizer("raw").set_index_option(IndexRecordOption::WithFreqs);
    let fields = Fields {
        key: schema.add_text_field(KEY, STRING | FAST),
        group: schema.add_text_field(GROUP, STRING | FAST),
        docno: schema.add_u64_field(DOCNO, INDEXED | FAST),
        hash: schema.add_u64_field(HASH, FAST),
        lang: schema.add_text_field(LANG, STRING | FAST),
        words: schema.add_text_field("words", TextOptions::default().set_indexing_options(words)),
        metadata: schema.add_json_field(METADATA, JsonObjectOptions::default().set_fast("raw")),
    };
    (schema.build(), fields)
}

/// The text index.
#[derive(Debug, Clone)]
pub(crate) struct TextIndex {
    pub index: tantivy::Index,
    pub fields: Fields,
    pub path: PathBuf,
    /// Names of files whose checksums were right. tantivy never writes to a name again.
    sound: Arc<Mutex<BTreeSet<PathBuf>>>,
}

impl TextIndex {
    pub fn create(path: &Path) -> Result<TextIndex> {
        let (schema, fields) = schema();
        let directory = MmapDirectory::open(path).map_err(|e| Error::io(path, std::io::Error::other(e.to_string())))?;
        let index =
            tantivy::Index::create(directory, schema, IndexSettings::default()).map_err(|e| Error::text(path, e))?;
        Ok(TextIndex { index, fields, path: path.to_path_buf(), sound: Arc::default() })
    }

    pub fn open(path: &Path) -> Result<TextIndex> {
        let (schema, fields) = schema();
        let index = guarded(path, || {
            let directory = MmapDirectory::open(path).map_err(|e| Error::damaged(path, e.to_string()))?;
            tantivy::Index::open(directory).map_err(|e| match Error::text(path, e) {
                // A file of tantivy's that is missing.
                Error::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                    Error::damaged(path, source.to_string())
                }
                other => other,
            })
        })?;
        if index.schema() != schema {
            return Err(Error::damaged(path, "it has other fields than an index of this format"));
        }
        Ok(TextIndex { index, fields, path: path.to_path_buf(), sound: Arc::default() })
    }

    pub fn writer(&self) -> Result<IndexWriter> {
        // One thread: documents keep their order.
        guarded(&self.path, || {
            self.index.writer_with_num_threads(1, WRITER_MEMORY).map_err(|e| Error::text(&self.path, e))
        })
    }

    /// What the last commit carries.
    pub fn payload(&self) -> Result<Option<String>> {
        guarded(&self.path, || Ok(self.index.load_metas().map_err(|e| Error::text(&self.path, e))?.payload))
    }

    pub fn searcher(&self) -> Result<Searcher> {
        guarded(&self.path, || {
            let reader = self.index.reader_builder().reload_policy(ReloadPolicy::Manual).try_into();
            Ok(reader.map_err(|e| Error::text(&self.path, e))?.searcher())
        })
    }

    /// What tantivy is handed of a document.
    pub fn entry(&self, document: &Document, docno: u64, lang: &str, terms: Vec<String>) -> TantivyDocument {
        let fields = &self.fields;
        let mut entry = TantivyDocument::default();
        entry.add_text(fields.key, &document.key);
        entry.add_text(fields.group, document.group());
        entry.add_u64(fields.docno, docno);
        entry.add_u64(fields.hash, document.content_hash());
        entry.add_text(fields.lang, lang);
        let token =
            |(position, text): (usize, String)| Token { position, text, position_length: 1, ..Token::default() };
        let tokens = terms.into_iter().enumerate().map(token).collect();
        entry.add_pre_tokenized_text(fields.words, PreTokenizedString { text: String::new(), tokens });
        if !document.metadata.is_empty() {
            entry.add_field_value(fields.metadata, &object(&document.metadata));
        }
        entry
    }

    /// Compares the checksums of the files that the last commit names, but for those that were compared before: tantivy believes the
    /// lengths in its files, and asks for as much memory.
    pub fn validate(&self) -> Result<()> {
        guarded(&self.path, || {
            let metas = self.index.load_metas().map_err(|e| Error::text(&self.path, e))?;
            for name in metas.list_segment_files() {
                let mut seen = self.sound.lock().unwrap_or_else(PoisonError::into_inner);
                // Of the names that a segment may have, those are there that it has.
                if seen.contains(&name) || !self.path.join(&name).exists() {
                    continue;
                }
                let fail =
                    |e: tantivy::directory::error::OpenReadError| Error::damaged(&self.path.join(&name), e.to_string());
                if !self.index.directory().validate_checksum(&name).map_err(fail)? {
                    return Err(Error::damaged(&self.path.join(&name), "its checksum is wrong"));
                }
                seen.insert(name);
            }
            Ok(())
        })
    }

    /// Where a document stands, if it lives.
    pub fn address(&self, searcher: &Searcher, term: &Term) -> Result<Option<DocAddress>> {
        let fail = |e: tantivy::TantivyError| Error::text(&self.path, e);
        for (ordinal, segment) in searcher.segment_readers().iter().enumerate() {
            let index = segment.inverted_index(term.field()).map_err(fail)?;
            let postings = index.read_postings(term, IndexRecordOption::Basic).map_err(|e| fail(e.into()))?;
            let Some(mut postings) = postings else { continue };
            use tantivy::DocSet;
            let mut doc = postings.doc();
            while doc != tantivy::TERMINATED {
                if !segment.is_deleted(doc) {
                    return Ok(Some(DocAddress::new(ordinal as u32, doc)));
                }
                doc = postings.advance();
            }
        }
        Ok(None)
    }
}

/// Metadata as tantivy takes it. (Its own conversion makes dates of strings that look like some.)
fn object(map: &Map<String, Value>) -> OwnedValue {
    OwnedValue::Object(map.iter().map(|(name, value)| (name.clone(), owned(value))).collect())
}

fn owned(value: &Value) -> OwnedValue {
    match value {
        Value::Null => OwnedValue::Null,
        Value::Bool(b) => OwnedValue::Bool(*b),
        Value::String(text) => OwnedValue::Str(text.clone()),
        Value::Array(list) => OwnedValue::Array(list.iter().map(owned).collect()),
        Value::Object(map) => object(map),
        Value::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(n), _, _) => OwnedValue::I64(n),
            (_, Some(n), _) => OwnedValue::U64(n),
            (_, _, Some(n)) => OwnedValue::F64(n),
            _ => OwnedValue::Null,
        },
    }
}
