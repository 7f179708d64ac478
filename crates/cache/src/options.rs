//! What a cache says of itself, and how it deals with a writer that is behind.

/// A function that takes warnings. It gets at most one a minute, besides the one which says that the cache is given up.
pub type Warn = Box<dyn Fn(&str) + Send + Sync>;

/// What an insert does when the writer is behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenBehind {
    /// The entries are not kept.
    Drop,
    /// The caller waits.
    Wait,
}

/// Counters, and what the file holds as far as this process knows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Texts for which the cache had everything that was wanted.
    pub hits: u64,
    /// Texts for which something was missing.
    pub misses: u64,
    /// Entries in the file. An entry is one representation of one text: its dense vector, its lexical weights or its ColBERT vectors.
    pub entries: u64,
    /// Bytes of the entries.
    pub bytes: u64,
    /// Entries that were removed to make room for others.
    pub evictions: u64,
    /// Damaged entries, failed reads and failed writes.
    pub errors: u64,
    /// Texts that were not kept because the writer was behind.
    pub dropped: u64,
}
