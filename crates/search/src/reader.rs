//! A view of one commit: its segments, the rows that are not deleted, and the mapping between rows and documents.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use serde_json::Map;
use tantivy::schema::Field;
use tantivy::{Searcher, Term};

use crate::bits::Bits;
use crate::commit::Commit;
use crate::directory::{Index, SEGMENTS};
use crate::document::{Document, Stored};
use crate::error::{Error, Result, guarded};
use crate::filter::Filter;
use crate::kept::Kept;
use crate::query::Stop;
use crate::segment::Segment;
use crate::text::{DOCNO, GROUP, HASH, KEY};

/// Most attempts to open an index that changes meanwhile.
const ATTEMPTS: usize = 20;

/// A view of an index as it was when this was opened; later commits do not change it. Cheap to clone, shared between threads freely.
#[derive(Debug, Clone)]
pub struct Reader {
    pub(crate) index: Index,
    view: Arc<View>,
}

#[derive(Debug)]
pub(crate) struct View {
    pub commit: Commit,
    searcher: SearcherBox,
    pub segments: Vec<Arc<Segment>>,
    /// The number of each segment's first row, if the rows of all segments are counted through from 0. The last value is the number of all rows.
    pub bases: Vec<usize>,
    /// The rows whose documents are not deleted.
    pub alive: Bits,
    living: usize,
    /// How many documents live, once that was asked for.
    documents: OnceLock<usize>,
    /// How many documents in a language have a term, of some that were asked for.
    counts: Mutex<BTreeMap<(String, String), u64>>,
}

/// Most counts that are remembered.
const MOST_COUNTS: usize = 4_096;

/// The rows that a key names.
enum Under {
    /// A document's, or a chunk's.
    Entry(usize),
    /// Those of a document's chunks.
    Chunks(Vec<usize>),
}

/// tantivy's searcher, which shows little of itself.
struct SearcherBox(Searcher);

impl std::fmt::Debug for SearcherBox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Searcher of {} documents", self.0.num_docs())
    }
}

impl Reader {
    pub(crate) fn open(index: &Index) -> Result<Reader> {
        Self::open_with(index, &BTreeMap::new())
    }

    /// Opens the last commit; segments that `known` has are not mapped again.
    fn open_with(index: &Index, known: &BTreeMap<u32, Arc<Segment>>) -> Result<Reader> {
        let text = &index.text;
        let changing = || Error::Changing { path: index.directory.clone(), what: "opened", attempts: ATTEMPTS };
        for _ in 0..ATTEMPTS {
            // The payload and the documents are read one after the other: if no commit came between, they belong together.
            let before = text.payload()?;
            let list = text.list()?;
            let searcher = match text.validate().and_then(|()| text.searcher()) {
                Ok(searcher) => searcher,
                // A merge has removed a file in between, or it is damaged.
                Err(_) if text.list()? != list => continue,
                Err(e) => return Err(e),
            };
            if text.payload()? != before {
                continue;
            }
            let commit = Commit::read(&text.path, before.as_deref(), &index.settings.uuid)?;
            match View::open(index, commit, searcher, known) {
                Ok(view) => return Ok(Reader { index: index.clone(), view: Arc::new(view) }),
                // Compaction may have removed files of that commit; if there was none, they are damaged.
                Err(e) if text.payload()? == before => return Err(e),
                Err(_) => {}
            }
        }
        Err(changing())
    }

    /// A view of the last commit, if there has been one since this view; else this one.
    ///
    /// # Errors
    /// As [`Index::reader`].
    pub fn refresh(&self) -> Result<Reader> {
        self.index.unless_gone(self.refreshed())
    }

    fn refreshed(&self) -> Result<Reader> {
        let payload = self.index.text.payload()?;
        let commit = Commit::read(&self.index.text.path, payload.as_deref(), &self.index.settings.uuid)?;
        if commit == self.view.commit {
            return Ok(self.clone());
        }
        let known = self.view.segments.iter().map(|segment| (segment.record.id, Arc::clone(segment))).collect();
        Self::open_with(&self.index, &known)
    }

    /// How many documents live; one that was cut into chunks counts once. The first call goes through all keys, and its answer is kept.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn documents(&self) -> Result<usize> {
        match self.view.documents.get() {
            Some(&known) => Ok(known),
            None => {
                let count = self.count_documents()?;
                Ok(*self.view.documents.get_or_init(|| count))
            }
        }
    }

    fn count_documents(&self) -> Result<usize> {
        let path = &self.index.text.path;
        let fail = |e| Error::text(path, e);
        guarded(path, || {
            let mut lists = Vec::new();
            for segment in self.searcher().segment_readers() {
                let Some(column) = segment.fast_fields().str(GROUP).map_err(fail)? else { continue };
                let mut living = Bits::none(column.dictionary().num_terms());
                for doc in segment.doc_ids_alive() {
                    column.ords().first(doc).into_iter().for_each(|ord| living.set(ord as usize));
                }
                lists.push((column, living));
            }
            let mut streams: Vec<Box<dyn FnMut() -> Option<Vec<u8>> + '_>> = Vec::new();
            for (column, living) in &lists {
                let mut stream = column.dictionary().stream().map_err(|e| Error::io(path, e))?;
                streams.push(Box::new(move || {
                    while stream.advance() {
                        if living.get(stream.term_ord() as usize) {
                            return Some(stream.key().to_vec());
                        }
                    }
                    None
                }));
            }
            // The dictionaries are in order. A document may have chunks in several: the smallest key of all is counted, and passed over in
            // each of them.
            let mut keys: Vec<Option<Vec<u8>>> = streams.iter_mut().map(|next| next()).collect();
            let mut count = 0;
            while let Some(least) = keys.iter().flatten().min().cloned() {
                count += 1;
                for (key, next) in keys.iter_mut().zip(&mut streams) {
                    if key.as_ref() == Some(&least) {
                        *key = next();
                    }
                }
            }
            Ok(count)
        })
    }

    /// Whether documents were cut into chunks, so that there are more entries than documents; until compaction, whether some were that are
    /// deleted since. It is known without looking at all keys.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn has_chunks(&self) -> Result<bool> {
        let path = &self.index.text.path;
        guarded(path, || {
            for segment in self.searcher().segment_readers() {
                let keys = |field: &str| -> Result<usize> {
                    let column = segment.fast_fields().str(field).map_err(|e| Error::text(path, e))?;
                    Ok(column.map_or(0, |column| column.num_terms()))
                };
                // The chunks of a document have a key each, and one document.
                if keys(KEY)? > keys(GROUP)? {
                    return Ok(true);
                }
            }
            Ok(false)
        })
    }

    /// Living entries: documents, and each chunk of those that were cut.
    pub fn len(&self) -> usize {
        self.view.living
    }

    /// Whether it has no documents.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Counts the commits of the index.
    pub fn generation(&self) -> u64 {
        self.view.commit.generation
    }

    /// The languages of the documents.
    pub fn languages(&self) -> impl Iterator<Item = &str> {
        self.view.commit.languages.iter().map(String::as_str)
    }

    /// What the index has under a key: the document, as it was given; the chunks that it was cut into, if it was; or else the chunk that has
    /// this key.
    ///
    /// # Errors
    /// [`Error::NoDocument`]; [`Error::Damaged`].
    pub fn get(&self, key: &str) -> Result<Kept> {
        let read = |row: usize, is_right: fn(&Document) -> &str| {
            let document = self.stored(row)?.document;
            if is_right(&document) == key {
                return Ok(document);
            }
            let what = format!("the key `{}` leads to another document", key.escape_debug());
            Err(Error::damaged(&self.index.text.path, what))
        };
        match self.rows_under(key)? {
            Under::Entry(row) => Ok(Kept::Document(read(row, |document| &document.key)?)),
            Under::Chunks(rows) => {
                let chunks: Result<Vec<Document>> = rows.into_iter().map(|row| read(row, Document::group)).collect();
                Ok(Kept::chunks(key, chunks?))
            }
        }
    }

    /// Bytes that [`get`](Self::get) reads: known before it does.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn bytes_of_key(&self, key: &str) -> Result<u64> {
        let bytes = |row: usize| {
            let (segment, local) = self.place(row)?;
            Ok(segment.documents.row(local)?.len() as u64)
        };
        match self.rows_under(key)? {
            Under::Entry(row) => bytes(row),
            Under::Chunks(rows) => rows.into_iter().map(bytes).sum(),
        }
    }

    /// The rows of the living entries of a key, which are more than one only in indexes of earlier versions.
    pub(crate) fn rows_of_key(&self, key: &str) -> Result<Vec<usize>> {
        self.rows_of(self.index.text.fields.key, key)
    }

    /// The rows of the living entries of a document.
    pub(crate) fn rows_of_document(&self, key: &str) -> Result<Vec<usize>> {
        self.rows_of(self.index.text.fields.group, key)
    }

    /// The rows that a key names.
    fn rows_under(&self, key: &str) -> Result<Under> {
        let fields = &self.index.text.fields;
        let (entries, parts) = (self.rows_of(fields.key, key)?, self.rows_of(fields.group, key)?);
        let own = entries.iter().find(|row| parts.contains(row));
        match (own, entries.first()) {
            (Some(&row), _) => Ok(Under::Entry(row)),
            (None, _) if !parts.is_empty() => Ok(Under::Chunks(parts)),
            (None, Some(&row)) => Ok(Under::Entry(row)),
            (None, None) => Err(Error::NoDocument { key: key.to_owned() }),
        }
    }

    /// The rows of the living entries that have a key in a field, in their order.
    fn rows_of(&self, field: Field, key: &str) -> Result<Vec<usize>> {
        if key.len() > crate::document::MAX_KEY_BYTES {
            return Ok(Vec::new());
        }
        let text = &self.index.text;
        guarded(&text.path, || {
            let mut rows = Vec::new();
            for address in text.addresses(self.searcher(), &Term::from_field_text(field, key))? {
                let segment = self.searcher().segment_reader(address.segment_ord);
                let docnos = segment.fast_fields().u64(DOCNO).map_err(|e| Error::text(&text.path, e))?;
                if let Some(row) = docnos.first(address.doc_id).map(|no| self.row_of(no)).transpose()?.flatten() {
                    rows.push(row);
                }
            }
            rows.sort_unstable();
            Ok(rows)
        })
    }

    /// How many entries [`Writer::delete`](crate::Writer::delete) of this key takes away: a document and its chunks, or else one chunk.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn count_of_key(&self, key: &str) -> Result<usize> {
        match self.count(&Filter::of_document(key))? {
            0 => self.count(&Filter::of_entry(key)),
            entries => Ok(entries),
        }
    }

    /// Whether a document of this key lives, itself or as chunks.
    pub(crate) fn has_document(&self, key: &str) -> Result<bool> {
        let text = &self.index.text;
        let term = Term::from_field_text(text.fields.group, key);
        guarded(&text.path, || Ok(!text.addresses(self.searcher(), &term)?.is_empty()))
    }

    /// How many entries fulfil a filter.
    ///
    /// # Errors
    /// As [`check_filter`](Self::check_filter).
    pub fn count(&self, filter: &Filter) -> Result<usize> {
        Ok(self.selected(Some(filter))?.count())
    }

    /// All living entries in the order they were added, to `each`, which may end it with an error of its own.
    ///
    /// # Errors
    /// As [`check_filter`](Self::check_filter), and those of `each`.
    pub fn for_each(&self, filter: Option<&Filter>, mut each: impl FnMut(Document) -> Result<()>) -> Result<()> {
        for row in self.selected(filter)?.iter() {
            each(self.stored(row)?.document)?;
        }
        Ok(())
    }

    /// How many documents in a language have a term: what was counted before, or what `count` gives.
    pub(crate) fn remembered<E>(
        &self,
        lang: &str,
        term: &str,
        count: impl FnOnce() -> std::result::Result<u64, E>,
    ) -> std::result::Result<u64, E> {
        let counts = || self.view.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (lang.to_owned(), term.to_owned());
        let known = counts().get(&key).copied();
        match known {
            Some(count) => Ok(count),
            None => {
                let found = count()?;
                let mut counts = counts();
                if counts.len() < MOST_COUNTS {
                    counts.insert(key, found);
                }
                Ok(found)
            }
        }
    }

    pub(crate) fn commit(&self) -> &Commit {
        &self.view.commit
    }

    pub(crate) fn searcher(&self) -> &Searcher {
        &self.view.searcher.0
    }

    pub(crate) fn segments(&self) -> &[Arc<Segment>] {
        &self.view.segments
    }

    pub(crate) fn bases(&self) -> &[usize] {
        &self.view.bases
    }

    /// Rows of the index's files: those of living documents, and of deleted ones until compaction takes them away.
    pub fn rows(&self) -> usize {
        self.view.bases.last().copied().unwrap_or_default()
    }

    pub(crate) fn is_alive(&self, row: usize) -> bool {
        self.view.alive.get(row)
    }

    /// The segment and its row that a row of all is.
    pub(crate) fn place(&self, row: usize) -> Result<(&Segment, usize)> {
        let index = self.view.bases.partition_point(|&base| base <= row).wrapping_sub(1);
        match self.view.segments.get(index) {
            Some(segment) => Ok((segment, row - self.view.bases[index])),
            None => Err(Error::damaged(&self.index.directory, format!("row {row} of {}", self.rows()))),
        }
    }

    /// The row of a document's number.
    pub(crate) fn row_of(&self, docno: u64) -> Result<Option<usize>> {
        self.view.row_of(docno)
    }

    /// The stored document of a row.
    pub(crate) fn stored(&self, row: usize) -> Result<Stored> {
        let (segment, local) = self.place(row)?;
        Stored::read(segment.documents.row(local)?, segment.rows.docno(local)?, segment.documents.path())
    }

    /// Refuses a filter that compares a field which no document has, or with a value of a type that the field has in no document. Whatever takes
    /// a filter does so; an index without documents refuses none.
    ///
    /// # Errors
    /// [`Error::NoField`] has the field, and those that there are; [`Error::FieldType`] has its type and the value; [`Error::Damaged`].
    pub fn check_filter(&self, filter: &Filter) -> Result<()> {
        if self.is_empty() {
            return Ok(());
        }
        let path = &self.index.text.path;
        guarded(path, || filter.check_names(self.searcher().segment_readers(), path))
    }

    /// The living rows that fulfil a filter.
    pub(crate) fn selected(&self, filter: Option<&Filter>) -> Result<Bits> {
        self.selected_until(filter, &Stop::of([]))
    }

    /// As [`Reader::selected`], but the call ends early when the flag of `stop` is set.
    pub(crate) fn selected_until(&self, filter: Option<&Filter>, stop: &Stop<'_>) -> Result<Bits> {
        let Some(filter) = filter else { return Ok(self.view.alive.clone()) };
        self.check_filter(filter)?;
        let path = &self.index.text.path;
        guarded(path, || {
            let mut rows = Bits::none(self.rows());
            for segment in self.searcher().segment_readers() {
                stop.check()?;
                let docnos = segment.fast_fields().u64(DOCNO).map_err(|e| Error::text(path, e))?;
                let metadata = |doc| {
                    stop.check()?;
                    let row = docnos.first(doc).map(|docno| self.row_of(docno)).transpose()?.flatten();
                    // A deleted document's row may be gone: it is none that a filter is asked for.
                    row.map_or_else(|| Ok(Map::new()), |row| Ok(self.stored(row)?.document.metadata))
                };
                let found = filter.of_segment(segment, path, &metadata)?;
                for doc in found.iter() {
                    if let Some(row) = docnos.first(doc as u32).map(|docno| self.row_of(docno)).transpose()?.flatten() {
                        rows.set(row);
                    }
                }
            }
            rows.and(&self.view.alive);
            Ok(rows)
        })
    }

    /// The hash of the content of a living entry: of the document `document` itself where `key` is the same, else of its chunk `key`.
    pub(crate) fn content_hash(&self, document: &str, key: &str) -> Result<Option<u64>> {
        let text = &self.index.text;
        let fail = |e| Error::text(&text.path, e);
        guarded(&text.path, || {
            let mut group = String::new();
            for address in text.addresses(self.searcher(), &Term::from_field_text(text.fields.key, key))? {
                let fields = self.searcher().segment_reader(address.segment_ord).fast_fields();
                let Some(groups) = fields.str(GROUP).map_err(fail)? else { continue };
                let Some(ord) = groups.ords().first(address.doc_id) else { continue };
                group.clear();
                groups.ord_to_str(ord, &mut group).map_err(|e| Error::io(&text.path, e))?;
                if group == document {
                    return Ok(fields.u64(HASH).map_err(fail)?.first(address.doc_id));
                }
            }
            Ok(None)
        })
    }

    /// The value of a field that holds one string, for every row; an empty string for rows of deleted documents and rows without the field.
    pub(crate) fn strings(&self, field: &str) -> Result<Vec<String>> {
        let path = &self.index.text.path;
        let mut strings = vec![String::new(); self.rows()];
        guarded(path, || {
            for segment in self.searcher().segment_readers() {
                let fail = |e| Error::text(path, e);
                let docnos = segment.fast_fields().u64(DOCNO).map_err(fail)?;
                let Some(column) = segment.fast_fields().str(field).map_err(fail)? else { continue };
                for doc in segment.doc_ids_alive() {
                    let row = docnos.first(doc).map(|docno| self.row_of(docno)).transpose()?.flatten();
                    let ord = column.ords().first(doc);
                    if let (Some(text), Some(ord)) = (row.and_then(|row| strings.get_mut(row)), ord) {
                        column.ord_to_str(ord, text).map_err(|e| Error::io(path, e))?;
                    }
                }
            }
            Ok(())
        })?;
        Ok(strings)
    }

    /// Compares all files with their checksums, and documents with vectors.
    pub(crate) fn check(&self) -> Result<()> {
        for segment in self.segments() {
            segment.check()?;
        }
        for row in self.view.alive.iter() {
            let stored = self.stored(row)?;
            stored.document.validate()?;
        }
        Ok(())
    }
}

impl View {
    fn open(index: &Index, commit: Commit, searcher: Searcher, known: &BTreeMap<u32, Arc<Segment>>) -> Result<View> {
        let directory = index.directory.join(SEGMENTS);
        let mut segments = Vec::new();
        let mut bases = vec![0];
        for record in &commit.segments {
            let segment = match known.get(&record.id).filter(|segment| segment.record == *record) {
                Some(segment) => Arc::clone(segment),
                None => Arc::new(Segment::open(&directory, record, &index.settings)?),
            };
            bases.push(bases[segments.len()] + record.rows as usize);
            segments.push(segment);
        }
        let rows = bases[segments.len()];
        let alive = Bits::none(rows);
        let mut view = View {
            commit,
            searcher: SearcherBox(searcher),
            segments,
            bases,
            alive,
            living: 0,
            documents: OnceLock::new(),
            counts: Mutex::default(),
        };
        view.alive = guarded(&index.text.path, || view.living_rows(&index.text.path))?;
        view.living = view.alive.count();
        if view.living as u64 != view.searcher.0.num_docs() {
            let what = format!("{} documents live, but {} have vectors", view.searcher.0.num_docs(), view.living);
            return Err(Error::damaged(&index.directory, what));
        }
        Ok(view)
    }

    /// The rows whose documents exist in the text index, which alone decides what is deleted.
    fn living_rows(&self, path: &Path) -> Result<Bits> {
        let mut alive = Bits::none(self.bases.last().copied().unwrap_or_default());
        for segment in self.searcher.0.segment_readers() {
            let docnos = segment.fast_fields().u64(DOCNO).map_err(|e| Error::text(path, e))?;
            for doc in segment.doc_ids_alive() {
                let docno = docnos.first(doc).ok_or_else(|| Error::damaged(path, "a document has no number"))?;
                let row = self.row_of(docno)?;
                alive.set(row.ok_or_else(|| Error::damaged(path, format!("document {docno} has no vectors")))?);
            }
        }
        Ok(alive)
    }

    fn row_of(&self, docno: u64) -> Result<Option<usize>> {
        let index = self.segments.partition_point(|segment| segment.record.last < docno);
        let Some(segment) = self.segments.get(index) else { return Ok(None) };
        Ok(segment.rows.find(docno)?.map(|row| self.bases[index] + row))
    }
}
