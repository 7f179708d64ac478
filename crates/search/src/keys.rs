//! Refuses an entry whose key belongs to another document already, among the entries that wait for the writer's commit and those of the
//! last commit. A key names one document, or one chunk: by it, what a search has found can be read, deleted, judged and exported. Without
//! the refusal a document `d#0` and the first chunk of a document `d` could both have the key `d#0`; the one that is added later is
//! refused.

use std::collections::{BTreeMap, BTreeSet};

use crate::document::Document;
use crate::error::{Error, Result};
use crate::reader::Reader;

/// The keys that were added and deleted since the last commit.
#[derive(Debug, Default, Clone)]
pub(crate) struct Keys {
    /// By the key of a document, its entries that were added and not deleted since. A document stays here when all of them are deleted.
    documents: BTreeMap<String, Entries>,
    /// By the key of a chunk that was added, the key of its document.
    chunks: BTreeMap<String, String>,
    /// Keys of documents that were deleted or replaced: their entries in the last commit do not count.
    gone: BTreeSet<String>,
    /// Keys and numbers of single entries that were deleted: their entries in the last commit do not count either.
    gone_keys: BTreeSet<String>,
    gone_numbers: BTreeSet<u64>,
}

/// The entries of one document that were added since the last commit.
#[derive(Debug, Default, Clone)]
struct Entries {
    /// Whether the whole document is an entry.
    own: bool,
    chunks: Vec<String>,
}

impl Keys {
    /// Whether an entry of the document was added since the last commit, even if it was deleted again.
    pub fn has_added(&self, document: &str) -> bool {
        self.documents.contains_key(document)
    }

    /// Refuses an entry if an entry of another document has its key or the key of its document, or if it is a chunk and its key is that of
    /// a document in chunks. Entries that were added since the last commit count, and those in `last`, the view of the last commit.
    ///
    /// # Errors
    /// [`Error::Document`] names the entry, and the document that has the key already.
    pub fn check(&self, entry: &Document, last: &Reader) -> Result<()> {
        self.check_added(entry)?;
        let (key, group) = (entry.key.as_str(), entry.group());
        if last.is_empty() {
            return Ok(());
        }
        let check = |name: &str, rows: Vec<usize>| {
            for row in rows {
                let stored = last.stored(row)?;
                let (own, other) = (&stored.document.key, stored.document.group());
                let gone = self.gone.contains(other)
                    || self.gone_keys.contains(own)
                    || self.gone_numbers.contains(&stored.docno);
                if other != group && !gone {
                    return Err(taken(entry, name, other));
                }
            }
            Ok(())
        };
        check(key, last.rows_of_key(key)?)?;
        if group != key {
            check(group, last.rows_of_key(group)?)?;
            check(key, last.rows_of_document(key)?)?;
        }
        Ok(())
    }

    /// [`check`](Self::check) for entries that are to be added one after the other.
    ///
    /// # Errors
    /// [`Error::Document`] names the first entry whose key is taken, and the document that has this key.
    pub fn check_all(&self, entries: &[Document], last: &Reader) -> Result<()> {
        let mut added = Keys::default();
        let mut is_free = |entry: &Document| {
            let free = added.check_added(entry).is_ok() && self.check(entry, last).is_ok();
            added.add(entry);
            free
        };
        if entries.iter().all(&mut is_free) {
            return Ok(());
        }
        // An entry's key may be free only because an earlier entry of the list replaces the document that had it. So the entries are
        // checked again, each after the ones before it were added.
        let mut keys = self.clone();
        entries.iter().try_for_each(|entry| {
            keys.check(entry, last)?;
            keys.add(entry);
            Ok(())
        })
    }

    /// [`check`](Self::check) against the entries that were added since the last commit.
    fn check_added(&self, entry: &Document) -> Result<()> {
        let (key, group) = (entry.key.as_str(), entry.group());
        for name in [key, group] {
            if let Some(other) = self.chunks.get(name).filter(|other| *other != group) {
                return Err(taken(entry, name, other));
            }
        }
        match self.documents.get(key) {
            Some(entries) if (entries.own || !entries.chunks.is_empty()) && group != key => Err(taken(entry, key, key)),
            _ => Ok(()),
        }
    }

    /// Notes that an entry is added. A whole document replaces all entries that the document had; a chunk replaces only the chunk of its
    /// key.
    pub fn add(&mut self, entry: &Document) {
        let group = entry.group();
        if entry.document.is_none() {
            self.delete_document(group);
        }
        let entries = self.documents.entry(group.to_owned()).or_default();
        if entry.key == group {
            entries.own = true;
        } else if self.chunks.insert(entry.key.clone(), group.to_owned()).is_none() {
            entries.chunks.push(entry.key.clone());
        }
    }

    /// Notes that a document is deleted, with all its chunks.
    pub fn delete_document(&mut self, key: &str) {
        if let Some(entries) = self.documents.get_mut(key) {
            entries.own = false;
            for chunk in entries.chunks.drain(..) {
                self.chunks.remove(&chunk);
            }
        }
        self.gone.insert(key.to_owned());
    }

    /// Notes that the entries with this key are deleted: a chunk, or a whole document.
    pub fn delete_entry(&mut self, key: &str) {
        if let Some(entries) = self.chunks.remove(key).and_then(|group| self.documents.get_mut(&group)) {
            entries.chunks.retain(|chunk| chunk != key);
        }
        if let Some(entries) = self.documents.get_mut(key) {
            entries.own = false;
        }
        self.gone_keys.insert(key.to_owned());
    }

    /// Notes that the entry of the last commit that has this number is deleted.
    pub fn delete_number(&mut self, number: u64) {
        self.gone_numbers.insert(number);
    }
}

/// The error for an entry that is refused. `name`, its key or the key of its document, is already the key of the document `other`, or of a
/// chunk of `other`.
fn taken(entry: &Document, name: &str, other: &str) -> Error {
    let whose = if other == name { "a document" } else { "a chunk of the document" };
    let of = if other == name { String::new() } else { format!(" `{}`", crate::error::shown(other)) };
    let what = match &entry.document {
        Some(own) if own == name && *own != entry.key => {
            format!("it would be a chunk of `{}`, a key that {whose}{of} has already", crate::error::shown(own))
        }
        Some(own) if *own != entry.key => {
            format!("a chunk of `{}` would have this key, which {whose}{of} has already", crate::error::shown(own))
        }
        _ => format!("{whose}{of} has this key already"),
    };
    Error::document(&entry.key, format!("{what}: delete that one, or give one of them another key"))
}
