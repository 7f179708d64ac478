//! The part of an index that tantivy stores: words for BM25, fields for filters, and which documents are deleted.
//!
//! No text of a user reaches tantivy's query parser: [`crate::analyze`] makes the terms, and they are put into queries one by one.

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

/// Bytes of memory in which tantivy gathers documents before it writes a segment.
const WRITER_MEMORY: usize = 64 << 20;

/// The fields of the text index.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fields {
    pub key: Field,
    /// The key of the whole document: for a chunk, that of the document it is a part of, else the own key.
    pub group: Field,
    pub docno: Field,
    pub hash: Field,
    pub lang: Field,
    pub words: Field,
    pub metadata: Field,
}

/// Names of the fields whose columns are read by name.
pub(crate) const KEY: &str = "key";
pub(crate) const GROUP: &str = "document";
pub(crate) const LANG: &str = "lang";
pub(crate) const METADATA: &str = "metadata";
pub(crate) const DOCNO: &str = "docno";
pub(crate) const HASH: &str = "hash";

/// tantivy's schema of the text index, and the fields in it.
fn schema() -> (Schema, Fields) {
    let mut schema = Schema::builder();
    // The field needs a tokenizer by name, but never uses it: its words are added as terms that are cut and stemmed already.
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

/// The text index: tantivy's index in the directory `text/`, and the fields that documents have in it.
#[derive(Debug, Clone)]
pub(crate) struct TextIndex {
    pub index: tantivy::Index,
    pub fields: Fields,
    pub path: PathBuf,
    files: SealedDirectory,
    /// The files that were found to be as the commit says, with their lengths and checksums.
    sound: Arc<Mutex<BTreeMap<String, Sum>>>,
}

impl TextIndex {
    /// Creates the text index of the index `uuid` in an empty directory.
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
                // One of tantivy's files is missing.
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

    /// tantivy's writer.
    pub fn writer(&self) -> Result<IndexWriter> {
        // It has one thread, so that documents keep their order.
        guarded(&self.path, || {
            self.index.writer_with_num_threads(1, WRITER_MEMORY).map_err(|e| Error::text(&self.path, e))
        })
    }

    /// The payload of the last commit: the list of segments, which [`Commit::read`](crate::commit::Commit::read) parses. `None` for a new
    /// index.
    pub fn payload(&self) -> Result<Option<String>> {
        guarded(&self.path, || Ok(self.index.load_metas().map_err(|e| Error::text(&self.path, e))?.payload))
    }

    /// The bytes of `meta.json`, tantivy's own list of the files of its last commit or merge. Two equal lists name the same files: a caller
    /// that reads the list before and after it opens files sees whether the files were replaced meanwhile.
    pub fn list(&self) -> Result<Vec<u8>> {
        std::fs::read(self.path.join("meta.json")).map_err(|e| self.damaged_meta(e))
    }

    /// tantivy's view of its last commit or merge.
    pub fn searcher(&self) -> Result<Searcher> {
        guarded(&self.path, || {
            let reader = self.index.reader_builder().reload_policy(ReloadPolicy::Manual).try_into();
            Ok(reader.map_err(|e| Error::text(&self.path, e))?.searcher())
        })
    }

    /// Makes the entry that tantivy indexes for a document: its fields for filters, and `terms`, which are its words in order.
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

    /// Compares the files of the last commit with their checksums, except those that were compared before. tantivy trusts the lengths in
    /// its files, and would allocate as much memory as a damaged file says.
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

    /// Compares all files of the last commit with their checksums, also those that were compared before. Returns how many they are, and how
    /// many bytes they have.
    pub fn check(&self) -> Result<(u64, u64)> {
        self.sound().clear();
        self.validate()?;
        guarded(&self.path, || {
            // Opening an index reads `.managed.json`, tantivy's list of the files that it may remove, and so compares its checksum.
            tantivy::Index::open(self.files.clone()).map(drop).map_err(|e| Error::text(&self.path, e))
        })?;
        let named = self.files.named().map_err(|e| self.damaged_meta(e))?;
        Ok((named.len() as u64, named.values().map(|sum| sum.0).sum()))
    }

    /// The last error of the disk itself since the previous call of this function, to be returned instead of what tantivy made of it.
    pub fn failure(&self) -> Option<Error> {
        self.files.take_failure().map(|(path, source)| Error::io(&path, source))
    }

    fn sound(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Sum>> {
        self.sound.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The error for a `meta.json` that cannot be read: damage if it is missing or its content is wrong, else the error of the disk.
    fn damaged_meta(&self, e: std::io::Error) -> Error {
        let path = self.path.join("meta.json");
        match e.kind() {
            std::io::ErrorKind::InvalidData | std::io::ErrorKind::NotFound | std::io::ErrorKind::UnexpectedEof => {
                Error::damaged(&path, e.to_string())
            }
            _ => Error::io(&path, e),
        }
    }

    /// The addresses, in tantivy's segments, of the documents that have a term and are not deleted.
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

/// Converts metadata to tantivy's values. (tantivy's own conversion would turn strings that look like dates into dates.)
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
