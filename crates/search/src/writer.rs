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

/// Largest segment that compaction makes, in rows: the lexical weights of that many rows, which are in memory until the segment is
/// complete, take some 250 MB.
const MAX_SEGMENT_ROWS: u64 = 1 << 18;

/// How often merging all of tantivy's segments is tried if a merge of tantivy's own takes some of them away meanwhile.
const MERGE_ATTEMPTS: usize = 10;

/// When this many small segments of about one size are the last ones of an index, the commit that adds the last of them joins them into
/// one.
const JOINED: usize = 8;

/// Largest segment that a commit makes by joining others, in rows: so large that few segments remain, and so small that the commit takes
/// little longer.
const MAX_JOINED_ROWS: u64 = 1 << 14;

/// The index of the first segment of the tail that is to be joined into one, if there is a tail. It has all last segments that each have
/// fewer rows than a power of [`JOINED`], for the largest power for which they are at least [`JOINED`] segments and have at most
/// [`MAX_JOINED_ROWS`] rows together. So each row is copied about once for each power.
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
    /// The number of the commit: how many commits the index has had.
    pub generation: u64,
    /// Entries that were added since the commit before: documents, and chunks of documents.
    pub added: u64,
    /// How many of the added entries were cut to the index's maximum length.
    pub truncated: u64,
}

/// An entry whose vectors are in the segment that is being written, and which the text index does not have yet.
#[derive(Debug)]
pub(crate) struct Staged {
    docno: u64,
    /// The language by whose rules its words are stemmed.
    lang: String,
    truncated: bool,
}

/// The writer of an index. Its changes become visible, and safe from a crash, with [`commit`](Writer::commit); if it is dropped, or the
/// process crashes, the index stays as of the last commit.
pub struct Writer {
    index: Index,
    text: IndexWriter,
    commit: Commit,
    segment: Option<SegmentWriter>,
    /// The keys that were added and deleted since the last commit.
    keys: Keys,
    /// A view of the last commit, once something had to be looked up in it.
    last: Option<Reader>,
    added: u64,
    truncated: u64,
    failed: Option<String>,
    /// The last field, so that it is dropped last: the index is locked until tantivy's writer is gone.
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
    /// Locks the index, checks the files of the text index, and removes what an earlier writer has left.
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

    /// The directory of the segments.
    fn segments(&self) -> PathBuf {
        self.index.directory.join(SEGMENTS)
    }

    /// Calls `f`, and turns a panic in it into an error. After an error the writer has ended: every later call of this fails with
    /// [`Error::WriterFailed`] without calling `f`.
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

    /// Embeds documents by `encoder` and adds them. A document replaces the one that has the same key.
    ///
    /// # Errors
    /// [`Error::Document`] for one that is not valid, that the model cannot embed, or whose key another document's entry has;
    /// [`Error::Engine`] if the model fails. Then none of the call is added, none replaces another, and the writer goes on. Other errors
    /// end the writer.
    pub fn upsert(&mut self, encoder: &Encoder<'_>, documents: &[Document]) -> Result<()> {
        documents.iter().try_for_each(Document::validate)?;
        let last = self.guarded(Self::last_commit)?;
        self.keys.check_all(documents, &last)?;
        let (mut rest, mut staged) = (documents, Vec::with_capacity(documents.len()));
        while !rest.is_empty() {
            let (batch, others) = rest.split_at(batch_len(rest));
            rest = others;
            let embeddings = encoder.documents(batch)?;
            for (document, embedding) in batch.iter().zip(&embeddings) {
                staged.push(self.stage(document, embedding)?);
            }
        }
        documents.iter().zip(staged).try_for_each(|(document, staged)| self.admit(document, staged))
    }

    /// Adds a document that is embedded already; it replaces the one that has the same key. `embedding` must be what the index's model
    /// makes of its [`searched_text`](Document::searched_text) with [`Encoder::document_options`].
    ///
    /// # Errors
    /// [`Error::Document`] if it is not valid, or an entry of another document has its key; other errors end the writer.
    pub fn upsert_embedded(&mut self, document: &Document, embedding: &Embedding) -> Result<()> {
        document.validate()?;
        self.check_key(document)?;
        self.put(document, embedding)
    }

    /// Checks that no entry of another document has the key of this entry.
    ///
    /// # Errors
    /// [`Error::Document`] if one has it, after which the writer is as it was; [`Error::Damaged`]; [`Error::WriterFailed`].
    pub(crate) fn check_key(&mut self, entry: &Document) -> Result<()> {
        let last = self.guarded(Self::last_commit)?;
        self.keys.check(entry, &last)
    }

    /// A view of the last commit, which is opened once for each commit.
    fn last_commit(&mut self) -> Result<Reader> {
        let view = match self.last.take() {
            Some(view) => view,
            None => self.index.reader()?,
        };
        self.last = Some(view.clone());
        Ok(view)
    }

    /// Adds an entry, which replaces the one of the same document with the same key, without a check whether entries of other documents
    /// have its key.
    pub(crate) fn put(&mut self, document: &Document, embedding: &Embedding) -> Result<()> {
        let staged = self.stage(document, embedding)?;
        self.admit(document, staged)
    }

    /// Appends an entry and its vectors to the segment that is being written, but not to the text index: until [`admit`](Self::admit) it is
    /// as a deleted one, and replaces none. If it is dropped, its row remains until compaction. No commit may come in between, because it
    /// may remove the row.
    pub(crate) fn stage(&mut self, document: &Document, embedding: &Embedding) -> Result<Staged> {
        self.guarded(|writer| {
            let docno = writer.commit.next_docno;
            let lang = writer.language(document);
            let body = Stored { docno, document: document.clone(), analyzed: lang.clone() }.to_bytes()?;
            if writer.segment.is_none() {
                // If another index were in the directory now, the new segment's files would overwrite its files.
                writer.index.check_place()?;
                let (id, settings) = (writer.commit.next_segment, &writer.index.settings);
                writer.segment = Some(SegmentWriter::create(&writer.index.disk, &writer.segments(), id, settings)?);
            }
            if let Some(segment) = &mut writer.segment {
                segment.push(docno, &body, embedding)?;
            }
            writer.commit.next_docno += 1;
            Ok(Staged { docno, lang, truncated: embedding.truncated })
        })
    }

    /// Appends an entry that was staged to the text index, by which it is an entry of the next commit. It replaces the one of the same
    /// document with the same key, without a check whether entries of other documents have its key.
    pub(crate) fn admit(&mut self, document: &Document, staged: Staged) -> Result<()> {
        self.guarded(|writer| {
            let text = &writer.index.text;
            let terms = analyze::document_terms(&document.searched_text(), &staged.lang);
            let entry = text.entry(document, staged.docno, &staged.lang, terms);
            match &document.document {
                None => writer.delete_term(text.fields.group, &document.key),
                // A chunk replaces only the chunk of its key: the other chunks of its document may be new already. In an index of an
                // earlier version an entry of another document may have the same key, which stays.
                Some(group) => writer.delete_chunk(group, &document.key)?,
            }
            writer.keys.add(document);
            writer.text.add_document(entry).map_err(|e| Error::text(&writer.index.text.path, e))?;
            writer.commit.languages.insert(staged.lang);
            writer.added += 1;
            writer.truncated += u64::from(staged.truncated);
            Ok(())
        })
    }

    /// The code of the language by whose rules a document's words are stemmed: the document's own, the index's, or the one that is
    /// detected; [`UNKNOWN`] if none is known.
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

    /// Deletes the document with this key, and all its chunks; if there is no such document, the chunk with this key. If there is no such
    /// chunk either, nothing happens.
    ///
    /// # Errors
    /// [`Error::Document`] for a key that is empty or too long; [`Error::Damaged`]; [`Error::WriterFailed`].
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

    /// Deletes a document and its chunks. A chunk of another document that has the same key stays.
    pub(crate) fn delete_document(&mut self, key: &str) -> Result<()> {
        self.guarded(|writer| {
            writer.keys.delete_document(key);
            writer.delete_term(writer.index.text.fields.group, key);
            Ok(())
        })
    }

    /// Deletes all entries that have `value` in `field`.
    fn delete_term(&mut self, field: Field, value: &str) {
        self.text.delete_term(Term::from_field_text(field, value));
    }

    /// Deletes the chunk of `document` that has this key.
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

    /// Deletes the committed entries that fulfil a filter; those that were added since the last commit stay. Returns how many were deleted.
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

    /// How many entries were added since the last commit.
    pub fn pending(&self) -> u64 {
        self.added
    }

    /// Makes all changes since the last commit visible and durable: after it has returned, neither a crash nor a power cut undoes them. May
    /// then join small segments into one, in a commit of its own.
    ///
    /// # Errors
    /// [`Error::Io`], for example because the disk is full. The index is as of its last commit, which is this one if only joining segments
    /// has failed, and the writer has ended.
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

    /// Joins the last segments into one where many commits of few documents have left many small ones, because a search reads every
    /// segment.
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

    /// Commits, waits until tantivy has finished the merges of its files that it has begun, and ends the writer. A writer that is dropped
    /// instead leaves merging to the next one.
    ///
    /// # Errors
    /// As [`commit`](Self::commit).
    pub fn finish(mut self) -> Result<Committed> {
        let done = self.commit()?;
        self.end()?;
        Ok(done)
    }

    /// Waits until tantivy has finished the merges that it has begun, and ends the writer. Changes that are not committed are lost.
    ///
    /// # Errors
    /// [`Error::Damaged`]; [`Error::Io`]. Earlier commits stay.
    pub fn end(self) -> Result<()> {
        let (index, text) = (self.index, self.text);
        let path = &index.text.path;
        guarded(path, || text.wait_merging_threads().map_err(|e| Error::text(path, e)))
    }

    /// Commits `segments` as the new list of segments, whose files must be on the disk under their names. This is the only place that
    /// commits: tantivy's commit carries the list, and is on the disk when this returns.
    fn publish(&mut self, segments: Vec<SegmentRecord>) -> Result<()> {
        // If another index were in the directory now, its list of segments would be overwritten.
        self.index.check_place()?;
        let commit = Commit { segments, generation: self.commit.generation + 1, ..self.commit.clone() };
        let path = &self.index.text.path;
        let fail = |e| Error::text(path, e);
        let payload = commit.to_payload()?;
        // Every commit must set the payload: a commit without one would drop the list of segments.
        let mut prepared = self.text.prepare_commit().map_err(fail)?;
        prepared.set_payload(&payload);
        prepared.commit().map_err(fail)?;
        self.commit = commit;
        Ok(())
    }

    /// Commits what is pending, and then, in a commit of its own, rewrites the segments of which more than a fifth of the rows are deleted,
    /// without these rows, and merges small segments if the index has more than 16 segments. With `all` it rewrites every segment that has
    /// a deleted row, merges small segments however many there are, and makes one of tantivy's segments too. Returns how many segments of
    /// vectors were rewritten.
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

    /// Merges all segments of tantivy's into one without the deleted documents. A merge that tantivy has begun by itself may take some of
    /// them away meanwhile: then the segments that exist after that are merged.
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

    /// Compacts the segments of vectors, as [`compact`](Self::compact) says. Nothing may be pending.
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
        // A group of one segment without deleted rows is left as it is.
        groups.retain(|group| group.len() > 1 || group.iter().any(|&index| dead(index) > 0));
        self.rewrite(&reader, &groups)
    }

    /// Makes one segment of each group of segments, given by their indices, without deleted rows, in a commit of its own. The segments of a
    /// group follow each other. Returns how many segments were rewritten.
    fn rewrite(&mut self, reader: &Reader, groups: &[Vec<usize>]) -> Result<usize> {
        if groups.is_empty() {
            return Ok(0);
        }
        let records = self.copy_living(reader, groups)?;
        self.replace(reader, groups, records)
    }

    /// Writes, for each group of segments, a segment with the rows that are not deleted; none if all are. No commit names the new segments
    /// yet.
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

    /// Commits the segments `records` in the place of the groups that they were made of, and removes the files of the replaced segments.
    /// Returns how many segments were replaced.
    fn replace(&mut self, reader: &Reader, groups: &[Vec<usize>], records: Vec<SegmentRecord>) -> Result<usize> {
        let directory = self.segments();
        let rewritten: Vec<usize> = groups.concat();
        let old: Vec<SegmentRecord> = rewritten.iter().map(|&index| reader.segments()[index].record.clone()).collect();
        let kept = reader.segments().iter().enumerate().filter(|(index, _)| !rewritten.contains(index));
        let mut segments: Vec<SegmentRecord> = kept.map(|(_, segment)| segment.record.clone()).chain(records).collect();
        segments.sort_by_key(|segment| segment.first);
        self.publish(segments)?;
        // Readers that have the files open can still read them. If one cannot be removed, this call fails although the commit is made; the
        // next writer removes what is left.
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
