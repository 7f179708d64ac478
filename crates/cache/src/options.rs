//! The statistics and warnings of a cache, and what an insert does when the writer is behind.

/// The function that is called with each warning: at most once a minute, and once more if the cache is given up.
pub type Warn = Box<dyn Fn(&str) + Send + Sync>;

/// What an insert does when the writer is behind, so that its queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenBehind {
    /// The entries are not stored.
    Drop,
    /// The caller waits until there is room.
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
    /// Bytes of the file's pages that are in use.
    pub bytes: u64,
    /// Entries that were removed, to make room for others or because they were damaged.
    pub evictions: u64,
    /// Damaged entries, failed reads and failed writes.
    pub errors: u64,
    /// Texts that were not queued: the writer was behind, the text was too large, or the cache was closed or given up.
    pub dropped: u64,
}
