//! The part of an index that tantivy stores: words for BM25, fields for filters, and which documents are deleted.
//!
//! No text of a user reaches tantivy's query parser: terms are made by [`crate::analyze`] and put into queries one by one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Map, Value};
use tantivy::schema::{
    FAST, Field, INDEXED, IndexRecordOption, JsonObjectOptions, OwnedValue, STRING, Schema, TextFieldIndexing,
    TextOptions,
};
use tantivy::tokenizer::{PreTokenizedString, Token};
use tantivy::{DocAddress, IndexSettings, IndexWriter, ReloadPolicy, Searcher, TantivyDocument, Term};

use crate::disk::Disk;
use crate::document::Document;
use crate::error::{Error, Result, guarded};
use crate::sealed::{SealedDirectory, Sum};

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
    files: SealedDirectory,
    /// Files that were compared, and what they are.
    sound: Arc<Mutex<BTreeMap<String, Sum>>>,
}

impl TextIndex {
    /// Makes the text index of the index `uuid` in an empty directory.
    pub fn create(path: &Path, uuid: &str, disk: &Arc<dyn Disk>) -> Result<TextIndex> {
        let (schema, fields) = schema();
        let files = SealedDirectory::open(path, uuid, disk)
            .map_err(|e| Error::io(path, std::io::Error::other(e.to_string())))?;
        let index = tantivy::Index::create(files.clone(), schema, IndexSettings::default());
        let index = index.map_err(|e| match files.take_failure() {
            Some((path, source)) => Error::io(&path, source),
            None => Error::text(path, e),
        })?;
        Ok(TextIndex { index, fields, path: path.to_path_buf(), files, sound: Arc::default() })
    }

    /// Opens the text index of the index `uuid`.
    pub fn open(path: &Path, uuid: &str, disk: &Arc<dyn Disk>) -> Result<TextIndex> {
        let (schema, fields) = schema();
        let (index, files) = guarded(path, || {
            let files = SealedDirectory::open(path, uuid, disk).map_err(|e| Error::damaged(path, e.to_string()))?;
            let index = tantivy::Index::open(files.clone()).map_err(|e| match Error::text(path, e) {
                // A file of tantivy's that is missing.
                Error::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                    Error::damaged(path, source.to_string())
                }
                other => other,
            })?;
            Ok((index, files))
        })?;
        if index.schema() != schema {
            return Err(Error::damaged(path, "it has other fields than an index of this format"));
        }
        Ok(TextIndex { index, fields, path: path.to_path_buf(), files, sound: Arc::default() })
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

    /// tantivy's own list of the files of its last commit or merge (`meta.json`), byte by byte. Two equal lists name the same files, so whoever
    /// copies an index reads the list before and after, and sees by it whether the files changed meanwhile.
    pub fn list(&self) -> Result<Vec<u8>> {
        std::fs::read(self.path.join("meta.json")).map_err(|e| self.damaged_meta(e))
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

    /// Compares the files of the last commit with their checksums, except those compared before. tantivy trusts the lengths in its files
    /// and would allocate as much memory as a damaged one says.
    pub fn validate(&self) -> Result<()> {
        let named = self.files.named().map_err(|e| self.damaged_meta(e))?;
        for (name, expected) in &named {
            if self.sound().get(name) == Some(expected) {
                continue;
            }
            let path = self.path.join(name);
            let found = self.files.sum_of(name).map_err(|e| Error::io(&path, e))?;
            let found = found.ok_or_else(|| Error::damaged(&path, "the file is missing, which the commit names"))?;
            if found.0 != expected.0 {
                return Err(Error::damaged(&path, format!("it has {} bytes, the commit says {}", found.0, expected.0)));
            }
            if found != *expected {
                return Err(Error::damaged(&path, "its checksum is not the one that the commit names"));
            }
            self.sound().insert(name.clone(), found);
        }
        Ok(())
    }

    /// Compares all of them, those that were compared before too. Returns how many files there are and their bytes.
    pub fn check(&self) -> Result<(u64, u64)> {
        self.sound().clear();
        self.validate()?;
        guarded(&self.path, || {
            // Its list of files to remove is read whenever an index is opened.
            tantivy::Index::open(self.files.clone()).map(drop).map_err(|e| Error::text(&self.path, e))
        })?;
        let named = self.files.named().map_err(|e| self.damaged_meta(e))?;
        Ok((named.len() as u64, named.values().map(|sum| sum.0).sum()))
    }

    /// The disk's own error, to be returned instead of what tantivy made of it.
    pub fn failure(&self) -> Option<Error> {
        self.files.take_failure().map(|(path, source)| Error::io(&path, source))
    }

    fn sound(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Sum>> {
        self.sound.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn damaged_meta(&self, e: std::io::Error) -> Error {
        let path = self.path.join("meta.json");
        match e.kind() {
            std::io::ErrorKind::InvalidData | std::io::ErrorKind::NotFound | std::io::ErrorKind::UnexpectedEof => {
                Error::damaged(&path, e.to_string())
            }
            _ => Error::io(&path, e),
        }
    }

    /// Where the living documents stand that have a term.
    pub fn addresses(&self, searcher: &Searcher, term: &Term) -> Result<Vec<DocAddress>> {
        let mut addresses = Vec::new();
        let fail = |e: tantivy::TantivyError| Error::text(&self.path, e);
        for (ordinal, segment) in searcher.segment_readers().iter().enumerate() {
            let index = segment.inverted_index(term.field()).map_err(fail)?;
            let postings = index.read_postings(term, IndexRecordOption::Basic).map_err(|e| fail(e.into()))?;
            let Some(mut postings) = postings else { continue };
            use tantivy::DocSet;
            let mut doc = postings.doc();
            while doc != tantivy::TERMINATED {
                if !segment.is_deleted(doc) {
                    addresses.push(DocAddress::new(ordinal as u32, doc));
                }
                doc = postings.advance();
            }
        }
        Ok(addresses)
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
