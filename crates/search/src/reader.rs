//! A view of one commit: its segments, the rows that are not deleted, and the mapping between rows and documents.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use serde_json::Map;
use tantivy::index::SegmentId;
use tantivy::schema::Field;
use tantivy::{Searcher, SegmentReader, Term};

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

/// How often opening an index is tried if it changes meanwhile.
const ATTEMPTS: usize = 20;

/// A view of an index as it was when this was opened; later commits do not change it. It is cheap to clone, and threads may share it.
#[derive(Debug, Clone)]
pub struct Reader {
    pub(crate) index: Index,
    view: Arc<View>,
}

/// The data of a [`Reader`], which its clones share.
#[derive(Debug)]
pub(crate) struct View {
    pub commit: Commit,
    searcher: SearcherBox,
    pub segments: Vec<Arc<Segment>>,
    /// The number of each segment's first row, where the rows of all segments are numbered from 0 on. The last value is the number of all
    /// rows.
    pub bases: Vec<usize>,
    /// The rows whose entries are not deleted.
    pub alive: Bits,
    /// How many rows are in `alive`.
    living: usize,
    /// How many documents are not deleted, once [`Reader::documents`] has counted them.
    documents: OnceLock<usize>,
    /// For tantivy's segments, whether they have chunks, once [`Reader::has_chunks`] had to know: their keys never change.
    chunks: Mutex<BTreeMap<SegmentId, bool>>,
    /// By language and term, how many documents in the language have the term: the counts that queries needed so far.
    counts: Mutex<BTreeMap<(String, String), u64>>,
}

/// The largest number of counts that a view remembers.
const MOST_COUNTS: usize = 4_096;

/// The rows that a key leads to.
enum Under {
    /// The row of a whole document, or of a chunk that has this key itself.
    Entry(usize),
    /// The rows of the chunks of the document that has this key.
    Chunks(Vec<usize>),
}

/// tantivy's searcher, which has no `Debug` of its own.
struct SearcherBox(Searcher);

impl std::fmt::Debug for SearcherBox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Searcher of {} documents", self.0.num_docs())
    }
}

impl Reader {
    /// Opens the last commit.
    pub(crate) fn open(index: &Index) -> Result<Reader> {
        Self::open_after(index, None)
    }

    /// Opens the last commit. Segments that the view `before` has are not mapped again.
    fn open_after(index: &Index, before: Option<&View>) -> Result<Reader> {
        let text = &index.text;
        let changing = || Error::Changing { path: index.directory.clone(), what: "opened", attempts: ATTEMPTS };
        for _ in 0..ATTEMPTS {
            // The payload and the documents are read one after the other: if no commit came between, they belong together.
            let payload = text.payload()?;
            let list = text.list()?;
            let searcher = match text.validate().and_then(|()| text.searcher()) {
                Ok(searcher) => searcher,
                // If tantivy's list of files is another one now, a merge has removed a file in between; else the file is damaged.
                Err(_) if text.list()? != list => continue,
                Err(e) => return Err(e),
            };
            if text.payload()? != payload {
                continue;
            }
            let commit = Commit::read(&text.path, payload.as_deref(), &index.settings.uuid)?;
            match View::open(index, commit, searcher, before) {
                Ok(view) => return Ok(Reader { index: index.clone(), view: Arc::new(view) }),
                // Compaction may have removed files of that commit; if no commit came in between, they are damaged.
                Err(e) if text.payload()? == payload => return Err(e),
                Err(_) => {}
            }
        }
        Err(changing())
    }

    /// A view of the last commit; this view itself if there has been no commit since.
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
        Self::open_after(&self.index, Some(&self.view))
    }

    /// How many documents are not deleted; one that was cut into chunks counts once. The first call goes through all keys; later calls
    /// return the number that it found.
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
            // The dictionaries are sorted, and a document may have chunks in several: in each step the smallest key of all is counted once,
            // and every dictionary that has it moves on.
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

    /// Whether documents were cut into chunks. Deleted chunks count until compaction. The first call goes through the keys of each of
    /// tantivy's segments for which no earlier view has done it, until it finds a chunk; later calls return what it found.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn has_chunks(&self) -> Result<bool> {
        let path = &self.index.text.path;
        guarded(path, || {
            let known = || self.view.chunks.lock().unwrap_or_else(PoisonError::into_inner);
            for segment in self.searcher().segment_readers() {
                let id = segment.segment_id();
                let found = known().get(&id).copied();
                let has = match found {
                    Some(has) => has,
                    None => keys_of_chunks(segment, path)?,
                };
                known().insert(id, has);
                if has {
                    return Ok(true);
                }
            }
            Ok(false)
        })
    }

    /// How many entries are not deleted: documents that are stored whole, and each chunk of the others.
    pub fn len(&self) -> usize {
        self.view.living
    }

    /// Whether the index has no entries that are not deleted.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number of the commit that this view is of: how many commits the index has had until then.
    pub fn generation(&self) -> u64 {
        self.view.commit.generation
    }

    /// The languages of all documents that the index ever had, also of those that are deleted.
    pub fn languages(&self) -> impl Iterator<Item = &str> {
        self.view.commit.languages.iter().map(String::as_str)
    }

    /// What the index has under a key: the document with this key, whole or as the chunks that it was cut into; or, if there is no such
    /// document, the chunk with this key.
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

    /// How many bytes [`get`](Self::get) of this key reads, as the documents are stored. This does not parse them.
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

    /// The rows of the entries with this key that are not deleted: more than one only in indexes that an earlier version wrote.
    pub(crate) fn rows_of_key(&self, key: &str) -> Result<Vec<usize>> {
        self.rows_of(self.index.text.fields.key, key)
    }

    /// The rows of the entries of a document that are not deleted: its own row, or those of its chunks.
    pub(crate) fn rows_of_document(&self, key: &str) -> Result<Vec<usize>> {
        self.rows_of(self.index.text.fields.group, key)
    }

    /// The rows that a key leads to: those of the document with this key, else the row of the chunk with this key.
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

    /// The rows, ascending, of the entries that have the value `key` in `field` and are not deleted.
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

    /// How many entries [`Writer::delete`](crate::Writer::delete) would delete for this key: those of the document, or if there is no such
    /// document, the chunk.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn count_of_key(&self, key: &str) -> Result<usize> {
        match self.count(&Filter::of_document(key))? {
            0 => self.count(&Filter::of_entry(key)),
            entries => Ok(entries),
        }
    }

    /// Whether the index has a document with this key, whole or as chunks, that is not deleted.
    pub(crate) fn has_document(&self, key: &str) -> Result<bool> {
        let text = &self.index.text;
        let term = Term::from_field_text(text.fields.group, key);
        guarded(&text.path, || Ok(!text.addresses(self.searcher(), &term)?.is_empty()))
    }

    /// How many entries that are not deleted fulfil a filter.
    ///
    /// # Errors
    /// As [`check_filter`](Self::check_filter).
    pub fn count(&self, filter: &Filter) -> Result<usize> {
        Ok(self.selected(Some(filter))?.count())
    }

    /// Calls `each` with every entry that is not deleted and fulfils the filter, in the order in which they were added. An error of `each`
    /// ends the call.
    ///
    /// # Errors
    /// As [`check_filter`](Self::check_filter), and those of `each`.
    pub fn for_each(&self, filter: Option<&Filter>, mut each: impl FnMut(Document) -> Result<()>) -> Result<()> {
        for row in self.selected(filter)?.iter() {
            each(self.stored(row)?.document)?;
        }
        Ok(())
    }

    /// How many documents in a language have a term: the number that is remembered, or else the one that `count` returns, which is
    /// remembered then.
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

    /// How many rows the segments have: one for each entry, and one for each deleted entry until compaction removes it.
    pub fn rows(&self) -> usize {
        self.view.bases.last().copied().unwrap_or_default()
    }

    pub(crate) fn is_alive(&self, row: usize) -> bool {
        self.view.alive.get(row)
    }

    /// The segment that a row of the index lies in, and the row's number in that segment.
    pub(crate) fn place(&self, row: usize) -> Result<(&Segment, usize)> {
        let index = self.view.bases.partition_point(|&base| base <= row).wrapping_sub(1);
        match self.view.segments.get(index) {
            Some(segment) => Ok((segment, row - self.view.bases[index])),
            None => Err(Error::damaged(&self.index.directory, format!("row {row} of {}", self.rows()))),
        }
    }

    /// The row of the document with this number; `None` if no segment has it.
    pub(crate) fn row_of(&self, docno: u64) -> Result<Option<usize>> {
        self.view.row_of(docno)
    }

    /// The stored document of a row.
    pub(crate) fn stored(&self, row: usize) -> Result<Stored> {
        let (segment, local) = self.place(row)?;
        Stored::read(segment.documents.row(local)?, segment.rows.docno(local)?, segment.documents.path())
    }

    /// Refuses a filter that compares a field which no document has, or that compares a field with a value of a type which the field has in
    /// no document. Every method that is given a filter refuses the same ones. An index without documents refuses none.
    ///
    /// # Errors
    /// [`Error::NoField`] names the field and the fields that exist; [`Error::FieldType`] names the field, its types and the value;
    /// [`Error::Damaged`].
    pub fn check_filter(&self, filter: &Filter) -> Result<()> {
        if self.is_empty() {
            return Ok(());
        }
        let path = &self.index.text.path;
        guarded(path, || filter.check_names(self.searcher().segment_readers(), path))
    }

    /// The rows of entries that are not deleted and fulfil the filter; without a filter, of all that are not deleted.
    pub(crate) fn selected(&self, filter: Option<&Filter>) -> Result<Bits> {
        self.selected_until(filter, &Stop::of([]))
    }

    /// As [`Reader::selected`], but the call fails with [`trivec::Error::Cancelled`] once a flag of `stop` is set.
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
                    // Compaction may have removed a deleted document's row. Its metadata does not matter, since deleted rows are dropped
                    // below.
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

    /// The [content hash](Document::content_hash) of an entry of the document `document` that is not deleted: of the whole document if
    /// `key` is `document`, else of its chunk `key`. `None` if there is no such entry.
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

    /// For every row, the value of a field that holds one string; empty for rows of deleted documents and for rows without the field.
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

    /// Compares the segments' files with their checksums and their lists with each other, and checks that every document can be read and is
    /// valid.
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

/// Whether one of tantivy's segments has an entry whose key is not the key of its document: a chunk. Without one, the two columns have the
/// same keys.
fn keys_of_chunks(segment: &SegmentReader, path: &Path) -> Result<bool> {
    let column = |field: &str| segment.fast_fields().str(field).map_err(|e| Error::text(path, e));
    let (Some(entries), Some(documents)) = (column(KEY)?, column(GROUP)?) else { return Ok(false) };
    if entries.num_terms() != documents.num_terms() {
        return Ok(true);
    }
    let fail = |e| Error::io(path, e);
    let mut own = entries.dictionary().stream().map_err(fail)?;
    let mut others = documents.dictionary().stream().map_err(fail)?;
    while own.advance() && others.advance() {
        if own.key() != others.key() {
            return Ok(true);
        }
    }
    Ok(false)
}

impl View {
    /// Opens the segments of a commit, except those that the view `before` has, and finds the rows that are not deleted. `searcher` must be
    /// of the same commit.
    fn open(index: &Index, commit: Commit, searcher: Searcher, before: Option<&View>) -> Result<View> {
        let known: BTreeMap<u32, &Arc<Segment>> = before
            .map(|view| view.segments.iter().map(|segment| (segment.record.id, segment)).collect())
            .unwrap_or_default();
        let mut chunks = before
            .map_or_else(BTreeMap::new, |view| view.chunks.lock().unwrap_or_else(PoisonError::into_inner).clone());
        let living: BTreeSet<SegmentId> = searcher.segment_readers().iter().map(SegmentReader::segment_id).collect();
        chunks.retain(|id, _| living.contains(id));
        let directory = index.directory.join(SEGMENTS);
        let mut segments = Vec::new();
        let mut bases = vec![0];
        for record in &commit.segments {
            let segment = match known.get(&record.id).filter(|segment| segment.record == *record) {
                Some(&segment) => Arc::clone(segment),
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
            chunks: Mutex::new(chunks),
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

    /// The rows whose documents the text index has and has not deleted: it alone decides what is deleted.
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
