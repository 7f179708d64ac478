//! The keys of entries that wait for a writer's commit. A key names one document, or one chunk: with it, what a search has found can
//! be got, deleted, judged and handed over. A document, in chunks or not, and a chunk of another one could have the same key, as `d#0`; the later one is
//! refused.

use std::collections::{BTreeMap, BTreeSet};

use crate::document::Document;
use crate::error::{Error, Result};
use crate::reader::Reader;

/// What was added and deleted since the last commit.
#[derive(Debug, Default, Clone)]
pub(crate) struct Keys {
    /// The documents of which entries were added, those that are deleted again too.
    documents: BTreeMap<String, Entries>,
    /// The chunks that were added: to their keys, the keys of their documents.
    chunks: BTreeMap<String, String>,
    /// Documents of the last commit that are deleted or replaced.
    gone: BTreeSet<String>,
    /// Entries of the last commit that are deleted by their keys, and by their numbers.
    gone_keys: BTreeSet<String>,
    gone_numbers: BTreeSet<u64>,
}

/// The entries of a document.
#[derive(Debug, Default, Clone)]
struct Entries {
    /// Whether the document itself is one.
    own: bool,
    chunks: Vec<String>,
}

impl Keys {
    /// Whether an entry of the document was added, even if it is deleted again.
    pub fn has_added(&self, document: &str) -> bool {
        self.documents.contains_key(document)
    }

    /// Refuses an entry if an entry of another document has its key or that of its document, or is a chunk of a document that has its key: one
    /// that was added, or is in `last`, the view of the last commit.
    ///
    /// # Errors
    /// [`Error::Document`] names both.
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

    /// The same for entries that are added one after the other.
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
        // An entry may be free only because an earlier one of the list replaces the document that had its key. So the entries are tried again,
        // each after the ones before it were added.
        let mut keys = self.clone();
        entries.iter().try_for_each(|entry| {
            keys.check(entry, last)?;
            keys.add(entry);
            Ok(())
        })
    }

    /// [`check`](Self::check) among those that were added.
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

    /// An entry is added. A document takes the place of all entries that it had, a chunk of itself alone.
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

    /// A document is deleted, with all its chunks.
    pub fn delete_document(&mut self, key: &str) {
        if let Some(entries) = self.documents.get_mut(key) {
            entries.own = false;
            for chunk in entries.chunks.drain(..) {
                self.chunks.remove(&chunk);
            }
        }
        self.gone.insert(key.to_owned());
    }

    /// The entries of this key are deleted.
    pub fn delete_entry(&mut self, key: &str) {
        if let Some(entries) = self.chunks.remove(key).and_then(|group| self.documents.get_mut(&group)) {
            entries.chunks.retain(|chunk| chunk != key);
        }
        if let Some(entries) = self.documents.get_mut(key) {
            entries.own = false;
        }
        self.gone_keys.insert(key.to_owned());
    }

    /// An entry of the last commit is deleted.
    pub fn delete_number(&mut self, number: u64) {
        self.gone_numbers.insert(number);
    }
}

/// The refusal of an entry of which `name`, its key or that of its document, is the key of the document `other` or of a chunk of that.
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
