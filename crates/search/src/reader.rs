//! A view of one commit: its segments, the rows that are not deleted, and the mapping between rows and documents.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use tantivy::{Searcher, Term};

use crate::bits::Bits;
use crate::commit::Commit;
use crate::document::{Document, Stored};
use crate::error::{Error, Result, guarded};
use crate::filter::Filter;
use crate::index::{Index, SEGMENTS};
use crate::segment::Segment;
use crate::text::{DOCNO, HASH};

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
    /// The first row of each segment among those of all, and at last how many there are.
    pub bases: Vec<usize>,
    /// The rows whose documents live.
    pub alive: Bits,
    living: usize,
    /// How many documents in a language have a term, of some that were asked for.
    counts: Mutex<BTreeMap<(String, String), u64>>,
}

/// Most counts that are remembered.
const MOST_COUNTS: usize = 4_096;

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
        let mut last = None;
        for _ in 0..ATTEMPTS {
            // The payload and the documents are read one after the other: if no commit came between, they belong together.
            let before = text.payload()?;
            let searcher = match text.validate().and_then(|()| text.searcher()) {
                Ok(searcher) => searcher,
                // A merge has removed a file meanwhile, or the index is damaged. The last attempt's error is returned.
                Err(e) => {
                    last = Some(e);
                    continue;
                }
            };
            if text.payload()? != before {
                continue;
            }
            let commit = Commit::read(&text.path, before.as_deref(), &index.settings.uuid)?;
            match View::open(index, commit, searcher, known) {
                Ok(view) => return Ok(Reader { index: index.clone(), view: Arc::new(view) }),
                Err(e) => last = Some(e),
            }
            // Compaction may have removed files of that commit; if there was none, they are damaged.
            if text.payload()? == before {
                break;
            }
        }
        Err(last.unwrap_or_else(|| Error::damaged(&text.path, "it changes faster than it can be read")))
    }

    /// A view of the last commit, if there has been one since this view; else this one.
    ///
    /// # Errors
    /// As [`Index::reader`].
    pub fn refresh(&self) -> Result<Reader> {
        let payload = self.index.text.payload()?;
        let commit = Commit::read(&self.index.text.path, payload.as_deref(), &self.index.settings.uuid)?;
        if commit == self.view.commit {
            return Ok(self.clone());
        }
        let known = self.view.segments.iter().map(|segment| (segment.record.id, Arc::clone(segment))).collect();
        Self::open_with(&self.index, &known)
    }

    /// Living documents (chunks count each).
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

    /// The document of a key, as it was given.
    ///
    /// # Errors
    /// [`Error::NoDocument`]; [`Error::Damaged`].
    pub fn get(&self, key: &str) -> Result<Document> {
        let missing = || Error::NoDocument { key: key.to_owned() };
        if key.len() > crate::document::MAX_KEY_BYTES {
            return Err(missing());
        }
        let text = &self.index.text;
        let term = Term::from_field_text(text.fields.key, key);
        let docno = guarded(&text.path, || {
            let Some(address) = text.address(self.searcher(), &term)? else { return Ok(None) };
            let segment = self.searcher().segment_reader(address.segment_ord);
            let docnos = segment.fast_fields().u64(DOCNO).map_err(|e| Error::text(&text.path, e))?;
            Ok(docnos.first(address.doc_id))
        })?;
        let row = docno.map(|docno| self.row_of(docno)).transpose()?.flatten().ok_or_else(missing)?;
        let document = self.stored(row)?.document;
        match document.key == key {
            true => Ok(document),
            false => {
                Err(Error::damaged(&text.path, format!("the key `{}` leads to another document", key.escape_debug())))
            }
        }
    }

    /// How many documents fulfil a filter.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn count(&self, filter: &Filter) -> Result<usize> {
        Ok(self.selected(Some(filter))?.count())
    }

    /// All living documents in the order they were added, to `each`, which may end it with an error of its own.
    ///
    /// # Errors
    /// [`Error::Damaged`], and those of `each`.
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

    /// Rows of all segments, of living documents and others.
    pub(crate) fn rows(&self) -> usize {
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

    /// The living rows that fulfil a filter.
    pub(crate) fn selected(&self, filter: Option<&Filter>) -> Result<Bits> {
        let Some(filter) = filter else { return Ok(self.view.alive.clone()) };
        let path = &self.index.text.path;
        guarded(path, || {
            let mut rows = Bits::none(self.rows());
            for segment in self.searcher().segment_readers() {
                let found = filter.of_segment(segment, path)?;
                let docnos = segment.fast_fields().u64(DOCNO).map_err(|e| Error::text(path, e))?;
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

    /// The hash of the content of the living document of a key.
    pub(crate) fn content_hash(&self, key: &str) -> Result<Option<u64>> {
        let text = &self.index.text;
        guarded(&text.path, || {
            let term = Term::from_field_text(text.fields.key, key);
            let Some(address) = text.address(self.searcher(), &term)? else { return Ok(None) };
            let segment = self.searcher().segment_reader(address.segment_ord);
            let hashes = segment.fast_fields().u64(HASH).map_err(|e| Error::text(&text.path, e))?;
            Ok(hashes.first(address.doc_id))
        })
    }

    /// Of every row, what a field of one string has; empty where it does not live.
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
