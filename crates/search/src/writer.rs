//! The writer: adds, replaces and deletes documents, and makes it all visible with one commit.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use tantivy::query::{BooleanQuery, Query, TermQuery};
use tantivy::schema::{Field, IndexRecordOption};
use tantivy::{IndexWriter, Term};
use trivec::Embedding;
use trivec::numbers::grouped;

use crate::analyze::{self, UNKNOWN};
use crate::commit::Commit;
use crate::directory::{Index, Lock, SEGMENTS};
use crate::document::{Document, MAX_KEY_BYTES, Stored};
use crate::encode::{Encoder, batch_len};
use crate::error::{Error, Result, guarded};
use crate::filter::Filter;
use crate::keys::Keys;
use crate::reader::Reader;
use crate::segment::file::Kind;
use crate::segment::{SegmentRecord, SegmentWriter, path_of};

/// With more segments than this, compaction merges them.
const MANY_SEGMENTS: usize = 16;

/// Largest segment that compaction makes: what it holds in memory of the lexical weights is some 250 MB.
const MAX_SEGMENT_ROWS: u64 = 1 << 18;

/// How often tantivy's segments are merged again that it merges itself.
const MERGE_ATTEMPTS: usize = 10;

/// When this many segments of about one size follow each other at the end, the commit that adds the last of them joins them.
const JOINED: usize = 8;

/// Largest segment that a commit makes of others, in rows: so large that few are left, and so small that the commit takes little longer.
const MAX_JOINED_ROWS: u64 = 1 << 14;

/// Where the segments begin that the next commit would better find as one: at least [`JOINED`] at the end that are smaller than a power of
/// [`JOINED`], of the largest power for which that holds. So a row is copied once for each power.
fn small_tail(segments: &[SegmentRecord]) -> Option<usize> {
    let mut found = None;
    let mut below = JOINED as u64;
    while below <= MAX_JOINED_ROWS {
        let small = segments.iter().rev().take_while(|segment| segment.rows < below);
        let (count, rows) = small.fold((0, 0), |(count, rows), segment| (count + 1, rows + segment.rows));
        if count >= JOINED && rows <= MAX_JOINED_ROWS {
            found = Some(segments.len() - count);
        }
        below *= JOINED as u64;
    }
    found
}

/// What a commit did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    /// Counts the commits of the index.
    pub generation: u64,
    /// Documents added since the commit before.
    pub added: u64,
    /// Of them, cut to the index's maximum length.
    pub truncated: u64,
}

/// The writer of an index. What it did becomes visible, and safe from a crash, with [`commit`](Writer::commit); dropping it, or a crash,
/// leaves the last commit.
pub struct Writer {
    index: Index,
    text: IndexWriter,
    commit: Commit,
    segment: Option<SegmentWriter>,
    /// What was added and deleted since the last commit.
    keys: Keys,
    /// The last commit, once something had to be looked up in it.
    last: Option<Reader>,
    added: u64,
    truncated: u64,
    failed: Option<String>,
    /// Dropped last.
    _lock: Lock,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer")
            .field("index", &self.index.directory)
            .field("added", &self.added)
            .finish_non_exhaustive()
    }
}

impl Writer {
    pub(crate) fn open(index: &Index) -> Result<Writer> {
        let lock = Lock::take(&index.directory)?;
        index.text.validate()?;
        let text = index.text.writer()?;
        let payload = index.text.payload()?;
        let commit = Commit::read(&index.text.path, payload.as_deref(), &index.settings.uuid)?;
        let writer = Writer {
            index: index.clone(),
            text,
            commit,
            segment: None,
            keys: Keys::default(),
            last: None,
            added: 0,
            truncated: 0,
            failed: None,
            _lock: lock,
        };
        writer.remove_orphans()?;
        Ok(writer)
    }

    /// Removes files that no commit names, which a killed or failed writer has left.
    fn remove_orphans(&self) -> Result<()> {
        let directory = self.segments();
        let named: BTreeSet<PathBuf> = self
            .commit
            .segments
            .iter()
            .flat_map(|segment| segment.files.iter().map(|file| path_of(&directory, segment.id, file.kind)))
            .collect();
        for entry in fs::read_dir(&directory).map_err(|e| Error::io(&directory, e))? {
            let path = entry.map_err(|e| Error::io(&directory, e))?.path();
            if !named.contains(&path) {
                self.index.disk.remove(&path).map_err(|e| Error::io(&path, e))?;
            }
        }
        Ok(())
    }

    fn segments(&self) -> PathBuf {
        self.index.directory.join(SEGMENTS)
    }

    /// Calls `f`, unless an earlier call failed; remembers a failure.
    fn guarded<T>(&mut self, f: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if let Some(what) = &self.failed {
            return Err(Error::WriterFailed { what: what.clone() });
        }
        let path = self.index.directory.clone();
        let result = guarded(&path, || f(self)).map_err(|e| self.index.text.failure().unwrap_or(e));
        let result = self.index.unless_gone(result);
        if let Err(e) = &result {
            self.failed = Some(e.to_string());
        }
        result
    }

    /// Adds documents, each in the place of the one that has its key, embedded by `encoder`.
    ///
    /// # Errors
    /// [`Error::Document`] for one that cannot be taken: then none of the call is. Other errors end the writer.
    pub fn upsert(&mut self, encoder: &Encoder<'_>, documents: &[Document]) -> Result<()> {
        documents.iter().try_for_each(Document::validate)?;
        let last = self.guarded(Self::last_commit)?;
        self.keys.check_all(documents, &last)?;
        let mut rest = documents;
        while !rest.is_empty() {
            let (batch, others) = rest.split_at(batch_len(rest));
            rest = others;
            let embeddings = encoder.documents(batch)?;
            for (document, embedding) in batch.iter().zip(&embeddings) {
                self.put(document, embedding)?;
            }
        }
        Ok(())
    }

    /// Adds a document, in the place of the one that has its key, with the vectors of its
    /// [`searched_text`](Document::searched_text) made by the index's model with [`Encoder::document_options`].
    ///
    /// # Errors
    /// [`Error::Document`] if it cannot be taken, or an entry of another document has its key; other errors end the writer.
    pub fn upsert_embedded(&mut self, document: &Document, embedding: &Embedding) -> Result<()> {
        document.validate()?;
        self.check_key(document)?;
        self.put(document, embedding)
    }

    /// Whether the key of an entry is free for it, or its own.
    ///
    /// # Errors
    /// [`Error::Document`] if an entry of another document has it, after which the writer is as it was; [`Error::Damaged`];
    /// [`Error::WriterFailed`].
    pub(crate) fn check_key(&mut self, entry: &Document) -> Result<()> {
        let last = self.guarded(Self::last_commit)?;
        self.keys.check(entry, &last)
    }

    /// A view of the last commit.
    fn last_commit(&mut self) -> Result<Reader> {
        let view = match self.last.take() {
            Some(view) => view,
            None => self.index.reader()?,
        };
        self.last = Some(view.clone());
        Ok(view)
    }

    /// Adds an entry, whatever entries of other documents have its key.
    pub(crate) fn put(&mut self, document: &Document, embedding: &Embedding) -> Result<()> {
        self.guarded(|writer| {
            let fields = &writer.index.text.fields;
            match &document.document {
                None => writer.delete_term(fields.group, &document.key),
                // Of a chunk only the chunk itself goes: the others of its document may be new already. In an index of an earlier version
                // an entry of another document may have the chunk's key.
                Some(group) => writer.delete_chunk(group, &document.key)?,
            }
            writer.keys.add(document);
            writer.add(document, embedding)
        })
    }

    fn add(&mut self, document: &Document, embedding: &Embedding) -> Result<()> {
        let docno = self.commit.next_docno;
        let lang = self.language(document);
        let terms = analyze::document_terms(&document.searched_text(), &lang);
        let entry = self.index.text.entry(document, docno, &lang, terms);
        let body = Stored { docno, document: document.clone(), analyzed: lang.clone() }.to_bytes()?;
        if self.segment.is_none() {
            // In another index's directory the segment's files would take the place of its own.
            self.index.check_place()?;
            let (id, settings) = (self.commit.next_segment, &self.index.settings);
            self.segment = Some(SegmentWriter::create(&self.index.disk, &self.segments(), id, settings)?);
        }
        if let Some(segment) = &mut self.segment {
            segment.push(docno, &body, embedding)?;
        }
        self.text.add_document(entry).map_err(|e| Error::text(&self.index.text.path, e))?;
        self.commit.next_docno += 1;
        self.commit.languages.insert(lang);
        self.added += 1;
        self.truncated += u64::from(embedding.truncated);
        Ok(())
    }

    /// The language that a document's words are stemmed by.
    fn language(&self, document: &Document) -> String {
        let settings = &self.index.settings;
        let told = document.lang.as_deref().map(analyze::normalize_code).or_else(|| settings.language.clone());
        let found = || match analyze::detect(&document.searched_text(), &settings.languages) {
            Some((code, true)) => Some(code),
            // With a single possible language, an uncertain guess is accepted.
            Some((code, false)) if settings.languages.len() == 1 => Some(code),
            _ => None,
        };
        told.or_else(found).unwrap_or_else(|| UNKNOWN.to_owned())
    }

    /// Deletes the document of a key, and all its chunks; where there is no document of this key, the chunk that has it. That there is
    /// neither is no error.
    ///
    /// # Errors
    /// [`Error::Document`] for what cannot be a key; [`Error::Damaged`]; [`Error::WriterFailed`].
    pub fn delete(&mut self, key: &str) -> Result<()> {
        if key.is_empty() || key.len() > MAX_KEY_BYTES {
            return Err(Error::document(
                key,
                format!("a key of {} bytes, expected 1 to {}", grouped(key.len()), grouped(MAX_KEY_BYTES)),
            ));
        }
        self.guarded(|writer| {
            let fields = &writer.index.text.fields;
            let (document, entry) = (fields.group, fields.key);
            if writer.keys.has_added(key) || writer.last_commit()?.has_document(key)? {
                writer.keys.delete_document(key);
                writer.delete_term(document, key);
            } else {
                writer.keys.delete_entry(key);
                writer.delete_term(entry, key);
            }
            Ok(())
        })
    }

    /// Deletes a document and its chunks, and no chunk of another document that has the same key.
    pub(crate) fn delete_document(&mut self, key: &str) -> Result<()> {
        self.guarded(|writer| {
            writer.keys.delete_document(key);
            writer.delete_term(writer.index.text.fields.group, key);
            Ok(())
        })
    }

    fn delete_term(&mut self, field: Field, value: &str) {
        self.text.delete_term(Term::from_field_text(field, value));
    }

    fn delete_chunk(&mut self, document: &str, key: &str) -> Result<()> {
        let fields = &self.index.text.fields;
        let has = |field, value| -> Box<dyn Query> {
            Box::new(TermQuery::new(Term::from_field_text(field, value), IndexRecordOption::Basic))
        };
        let both = BooleanQuery::intersection(vec![has(fields.key, key), has(fields.group, document)]);
        let path = &self.index.text.path;
        self.text.delete_query(Box::new(both)).map_err(|e| Error::text(path, e))?;
        Ok(())
    }

    /// Deletes the committed documents that fulfil a filter; those that were added since the last commit stay. Returns how many.
    ///
    /// ```
    /// use trivec::Model;
    /// use trivec_search::{Document, Index, IndexOptions, ModelId};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let directory = tempfile::tempdir()?;
    /// # let model = Model::starter()?;
    /// # let id = ModelId::of(&model)?;
    /// # let index = Index::create(directory.path().join("notes"), &id, &IndexOptions::default())?;
    /// # let encoder = index.encoder(&model, &id)?;
    /// let mut writer = index.writer()?;
    /// writer.upsert(&encoder, &[Document::new("a", "one").with_field("year", 2020), Document::new("b", "two")])?;
    /// writer.commit()?;
    /// assert_eq!(writer.delete_where(&"year < 2022".parse()?)?, 1);
    /// writer.delete("no such key")?; // not an error
    /// writer.commit()?;
    ///
    /// let reader = index.reader()?;
    /// assert_eq!((reader.len(), reader.get("b")?.entries()[0].text.as_str()), (1, "two"));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::NoField`] and [`Error::FieldType`], after which the writer is as it was; [`Error::Damaged`]; [`Error::WriterFailed`].
    pub fn delete_where(&mut self, filter: &Filter) -> Result<u64> {
        let reader = self.guarded(|writer| writer.index.reader())?;
        reader.check_filter(filter)?;
        self.guarded(|writer| {
            let rows = reader.selected(Some(filter))?;
            for row in rows.iter() {
                let (segment, local) = reader.place(row)?;
                let docno = segment.rows.docno(local)?;
                writer.keys.delete_number(docno);
                writer.text.delete_term(Term::from_field_u64(writer.index.text.fields.docno, docno));
            }
            Ok(rows.count() as u64)
        })
    }

    /// A view of the last commit.
    ///
    /// # Errors
    /// As [`Index::reader`].
    pub fn view(&self) -> Result<Reader> {
        self.index.reader()
    }

    /// Documents added since the last commit.
    pub fn pending(&self) -> u64 {
        self.added
    }

    /// Makes everything since the last commit visible and safe: when it returns, a crash or a power cut takes nothing of it away.
    ///
    /// # Errors
    /// [`Error::Io`], for one that the disk is full: the last commit stays, and the writer is at its end.
    pub fn commit(&mut self) -> Result<Committed> {
        self.guarded(|writer| {
            let mut segments = writer.commit.segments.clone();
            if let Some(segment) = writer.segment.take() {
                segments.push(segment.finish()?);
                writer.commit.next_segment += 1;
            }
            writer.publish(segments)?;
            let done =
                Committed { generation: writer.commit.generation, added: writer.added, truncated: writer.truncated };
            (writer.added, writer.truncated) = (0, 0);
            writer.keys = Keys::default();
            writer.last = None;
            writer.join_small()?;
            Ok(Committed { generation: writer.commit.generation, ..done })
        })
    }

    /// Makes one segment of the last ones where many commits of few documents have left as many small ones: a search looks into every one.
    fn join_small(&mut self) -> Result<()> {
        while let Some(first) = small_tail(&self.commit.segments) {
            let reader = self.index.reader()?;
            let group = [(first..reader.segments().len()).collect()];
            // The documents are committed. If the copy fails, because the disk is full or a file damaged, the segments stay as they are.
            let Ok(records) = self.copy_living(&reader, &group) else { break };
            self.replace(&reader, &group, records)?;
        }
        Ok(())
    }

    /// Commits, waits until tantivy has merged the files that it wants to merge, and ends the writer. A writer that is dropped instead leaves
    /// the merging to the next one.
    ///
    /// # Errors
    /// As [`commit`](Self::commit).
    pub fn finish(mut self) -> Result<Committed> {
        let done = self.commit()?;
        self.end()?;
        Ok(done)
    }

    /// Waits until tantivy has merged what it wants to merge, and ends. What is not committed is lost.
    ///
    /// # Errors
    /// [`Error::Damaged`]; [`Error::Io`]. What was committed stays.
    pub fn end(self) -> Result<()> {
        let (index, text) = (self.index, self.text);
        let path = &index.text.path;
        guarded(path, || text.wait_merging_threads().map_err(|e| Error::text(path, e)))
    }

    /// The one commit point: the segments' files are on the disk and named; tantivy's commit names them, and is brought to the disk.
    fn publish(&mut self, segments: Vec<SegmentRecord>) -> Result<()> {
        // Another index's list would be lost by it.
        self.index.check_place()?;
        let commit = Commit { segments, generation: self.commit.generation + 1, ..self.commit.clone() };
        let path = &self.index.text.path;
        let fail = |e| Error::text(path, e);
        let payload = commit.to_payload()?;
        // Every commit sets the payload: one without takes it away.
        let mut prepared = self.text.prepare_commit().map_err(fail)?;
        prepared.set_payload(&payload);
        prepared.commit().map_err(fail)?;
        self.commit = commit;
        Ok(())
    }

    /// Rewrites segments of which more than a fifth is dead, and merges small ones if there are more than 16 (`all`: every segment that
    /// has a dead row, and as many small ones as fit), in a commit of its own. Commits what is pending first. Returns how many segments
    /// were rewritten.
    ///
    /// # Errors
    /// As [`commit`](Self::commit).
    pub fn compact(&mut self, all: bool) -> Result<usize> {
        self.commit()?;
        self.guarded(|writer| {
            let rewritten = writer.compact_committed(all)?;
            if all {
                writer.merge_text()?;
            }
            Ok(rewritten)
        })
    }

    /// Makes one segment of tantivy's of all, without what is deleted. A merge that tantivy has begun by itself may take some of them away
    /// meanwhile: then those that are there are merged.
    fn merge_text(&mut self) -> Result<()> {
        let path = &self.index.text.path;
        let fail = |e| Error::text(path, e);
        for _ in 0..MERGE_ATTEMPTS {
            let segments = self.index.text.index.searchable_segment_metas().map_err(fail)?;
            if segments.len() < 2 && !segments.iter().any(|segment| segment.has_deletes()) {
                break;
            }
            let ids: Vec<_> = segments.iter().map(|segment| segment.id()).collect();
            match self.text.merge(&ids).wait() {
                Ok(_) => break,
                Err(tantivy::TantivyError::InvalidArgument(_)) => {}
                Err(e) => return Err(fail(e)),
            }
        }
        Ok(())
    }

    fn compact_committed(&mut self, all: bool) -> Result<usize> {
        let reader = self.index.reader()?;
        let dead = |index: usize| {
            let (from, to) = (reader.bases()[index], reader.bases()[index + 1]);
            (from..to).filter(|&row| !reader.is_alive(row)).count() as u64
        };
        let many = reader.segments().len() > MANY_SEGMENTS;
        let mut groups: Vec<Vec<usize>> = Vec::new();
        let mut rows_of_last = 0;
        for (index, segment) in reader.segments().iter().enumerate() {
            let (rows, dead) = (segment.record.rows, dead(index));
            let living = rows - dead;
            let small = (many || all) && living < MAX_SEGMENT_ROWS / 2;
            let rewrite = small || dead * 5 > rows || (all && dead > 0);
            if !rewrite {
                // Segments of a group follow each other, as their documents do.
                groups.push(Vec::new());
                rows_of_last = 0;
                continue;
            }
            if groups.is_empty() || rows_of_last + living > MAX_SEGMENT_ROWS {
                groups.push(Vec::new());
                rows_of_last = 0;
            }
            rows_of_last += living;
            if let Some(group) = groups.last_mut() {
                group.push(index);
            }
        }
        // A segment alone that lost nothing stays as it is.
        groups.retain(|group| group.len() > 1 || group.iter().any(|&index| dead(index) > 0));
        self.rewrite(&reader, &groups)
    }

    /// Makes one segment of each group, without dead rows, in a commit of its own. Segments of a group follow each other. Returns how many
    /// segments were rewritten.
    fn rewrite(&mut self, reader: &Reader, groups: &[Vec<usize>]) -> Result<usize> {
        if groups.is_empty() {
            return Ok(0);
        }
        let records = self.copy_living(reader, groups)?;
        self.replace(reader, groups, records)
    }

    /// Writes the segments that are made of the groups. No commit names them yet.
    fn copy_living(&mut self, reader: &Reader, groups: &[Vec<usize>]) -> Result<Vec<SegmentRecord>> {
        let directory = self.segments();
        let mut records: Vec<SegmentRecord> = Vec::new();
        for group in groups {
            let id = self.commit.next_segment;
            let mut writer: Option<SegmentWriter> = None;
            for &index in group {
                let segment = &reader.segments()[index];
                for row in 0..segment.record.rows as usize {
                    if !reader.is_alive(reader.bases()[index] + row) {
                        continue;
                    }
                    if writer.is_none() {
                        writer = Some(SegmentWriter::create(&self.index.disk, &directory, id, &self.index.settings)?);
                    }
                    if let Some(writer) = &mut writer {
                        writer.copy(segment, row)?;
                    }
                }
            }
            if let Some(writer) = writer {
                records.push(writer.finish()?);
                self.commit.next_segment += 1;
            }
        }
        Ok(records)
    }

    /// Commits `records` in the place of the groups that they were made of, and removes the files of these. Returns how many they were.
    fn replace(&mut self, reader: &Reader, groups: &[Vec<usize>], records: Vec<SegmentRecord>) -> Result<usize> {
        let directory = self.segments();
        let rewritten: Vec<usize> = groups.concat();
        let old: Vec<SegmentRecord> = rewritten.iter().map(|&index| reader.segments()[index].record.clone()).collect();
        let kept = reader.segments().iter().enumerate().filter(|(index, _)| !rewritten.contains(index));
        let mut segments: Vec<SegmentRecord> = kept.map(|(_, segment)| segment.record.clone()).chain(records).collect();
        segments.sort_by_key(|segment| segment.first);
        self.publish(segments)?;
        // Readers that have them open can still read them. Files that cannot be removed are left to the next writer.
        for segment in &old {
            for kind in Kind::ALL {
                let path = path_of(&directory, segment.id, kind);
                if path.exists() {
                    self.index.disk.remove(&path).map_err(|e| Error::io(&path, e))?;
                }
            }
        }
        Ok(old.len())
    }
}
