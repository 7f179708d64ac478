//! The file: an SQLite database in WAL mode.
//!
//! Why SQLite: a damaged file ends in an error code and never in a crash (redb 4.1 panics on some flipped bytes, and trusts page numbers,
//! which can end in an allocation that aborts), the file's size has an exact bound, and several processes share one file.
//!
//! Crash safety: `journal_mode=WAL` with `synchronous=NORMAL`. A transaction is in the file whole or not at all, whenever the process is
//! killed. After a loss of power the last transactions may be missing, but what is there is sound, which is enough for a cache.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, TransactionBehavior, params};

use super::entry::{CHECK_BYTES, KEY_BYTES, Key, seal};
use trivec::internal::Stamp;
use trivec::output_path::missing_directory;

/// SQLite's `application_id` in the header of every cache: `triv` in ASCII.
const APPLICATION: i32 = 0x7472_6976;
/// The version of the tables below, SQLite's `user_version`. A file with another version is refused and left as it is.
const FORMAT: i32 = 1;
const PAGE_BYTES: u64 = 4096;

/// `used` is the id of the newest entry at the time of this entry's last recorded use; entries are evicted in its order. Values have a table
/// of their own (`parts`), so that recording a use rewrites a few bytes and not the vectors. The statements are sorted by their text, as the
/// query that checks a file returns them. So the index comes before its table, and they are executed from the last to the first.
const TABLES: [&str; 4] = [
    "CREATE INDEX by_use ON entries(used)",
    "CREATE TABLE digests(stamp BLOB PRIMARY KEY, digest BLOB NOT NULL) WITHOUT ROWID",
    "CREATE TABLE entries(id INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, used INTEGER NOT NULL)",
    "CREATE TABLE parts(id INTEGER PRIMARY KEY, value BLOB NOT NULL)",
];

/// How many digests of files are remembered.
const KEPT_DIGESTS: i64 = 64;

/// Why a cache cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// The file is not a cache. It is left as it is.
    #[error("{}: {what}; it is left as it is", path.display())]
    NotOurs {
        /// The file.
        path: PathBuf,
        /// What was found and expected.
        what: String,
    },
    /// The file is damaged.
    #[error("{}: the cache is damaged ({what}); it is left as it is: delete it (and -wal and -shm beside it) to begin anew", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found.
        what: String,
    },
    /// Opening, reading or writing failed.
    #[error("{}: {what}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system or SQLite said.
        what: String,
    },
}

impl CacheError {
    /// The error for the file at `path`: damage, or anything else that SQLite reports.
    pub(super) fn of(path: &Path, error: &rusqlite::Error) -> CacheError {
        let (path, what) = (path.to_path_buf(), error.to_string());
        if is_damage(error) { CacheError::Damaged { path, what } } else { CacheError::Io { path, what } }
    }
}

/// Whether an error means that the file itself is damaged, rather than that it cannot be read or written now.
pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
    use rusqlite::Error as E;
    match error {
        E::SqliteFailure(error, _) | E::SqlInputError { error, .. } => {
            // SQLite reports a missing table or column as a plain error (`Unknown`). The tables were there when the file was opened.
            matches!(error.code, ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::Unknown)
        }
        E::InvalidColumnType(..) | E::FromSqlConversionFailure(..) | E::IntegralValueOutOfRange(..) => true,
        _ => false,
    }
}

/// The digest of a model's file, and the stamp that the file had when it was computed.
#[derive(Debug, Clone, Copy)]
pub(super) struct FileDigest {
    pub stamp: Stamp,
    pub digest: [u8; 32],
}

/// The fields of a stamp as bytes, the key of the table `digests`.
fn stamp_bytes(stamp: &Stamp) -> Vec<u8> {
    let Stamp { device, inode, bytes, modified, changed } = stamp;
    let mut all = Vec::new();
    [device, inode, bytes].iter().for_each(|x| all.extend(x.to_le_bytes()));
    [modified, changed].iter().for_each(|x| all.extend(x.to_le_bytes()));
    all
}

/// The key for the checksum of a remembered digest. No entry has this key: `f` is not the letter of a representation.
fn digest_key(stamp: &[u8]) -> Key {
    let mut key = [0; KEY_BYTES];
    key[..32].copy_from_slice(&<[u8; 32]>::from(<sha2::Sha256 as sha2::Digest>::digest(stamp)));
    key[32] = b'f';
    key
}

/// What is written in one transaction.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// Keys and payloads.
    pub entries: Vec<(Key, Vec<u8>)>,
    /// Ids of entries that were read.
    pub used: Vec<i64>,
    /// Keys of damaged entries, to be removed.
    pub wrong: Vec<Key>,
    pub digests: Vec<FileDigest>,
}

/// The cache's file, opened for writing.
pub(super) struct Store {
    db: Connection,
    /// The number of pages up to which entries may fill the file. It is a sixteenth below the file's limit, which leaves room for SQLite's
    /// other pages.
    target_pages: u64,
}

/// What a file holds.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Extent {
    pub entries: u64,
    /// Bytes of the file less those of its free pages.
    pub bytes: u64,
    /// The newest entry's id.
    pub newest: i64,
}

/// Opens the file with SQLite; a call that finds it locked waits up to `wait`.
fn connect(path: &Path, flags: OpenFlags, wait: Duration) -> rusqlite::Result<Connection> {
    let flags = flags | OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags)?;
    db.busy_timeout(wait)?;
    // Turns on checks that SQLite omits for trusted files, limits its page cache to a few MB, and turns off memory mapping, because a
    // truncated file would then raise SIGBUS.
    db.execute_batch(
        "PRAGMA cell_size_check=ON; PRAGMA trusted_schema=OFF; PRAGMA cache_size=-4096; PRAGMA mmap_size=0; PRAGMA temp_store=MEMORY",
    )?;
    Ok(db)
}

/// Refuses a file that is not a cache, by its first bytes, before SQLite opens it. A file that does not exist, is empty, or may be one
/// empty page of SQLite passes.
fn refuse_others(path: &Path) -> Result<(), CacheError> {
    let io = |e: std::io::Error| CacheError::Io { path: path.to_path_buf(), what: e.to_string() };
    let refuse = |what: String| Err(CacheError::NotOurs { path: path.to_path_buf(), what });
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(io(e)),
    };
    if !file.metadata().map_err(io)?.is_file() {
        return refuse("not a regular file".to_owned());
    }
    let mut head = Vec::new();
    file.by_ref().take(100).read_to_end(&mut head).map_err(io)?;
    if head.is_empty() {
        return Ok(());
    }
    let length = file.metadata().map_err(io)?.len();
    let number = |at: usize| head.get(at..at + 4).and_then(|b| b.try_into().ok()).map(i32::from_be_bytes);
    let sqlite = head.starts_with(b"SQLite format 3\0");
    if sqlite && length == PAGE_BYTES && number(68) == Some(0) && number(60) == Some(0) {
        // It may be an empty page, left behind by a disk that was full when a cache was created. SQLite will check it.
        return Ok(());
    }
    if !sqlite || number(68) != Some(APPLICATION) {
        return refuse("not a cache of embeddings".to_owned());
    }
    match number(60) {
        Some(FORMAT) => Ok(()),
        Some(other) => refuse(format!("a cache of format {other}, expected {FORMAT}")),
        None => refuse("a cache that ends in its header".to_owned()),
    }
}

impl Store {
    /// Opens the file, or creates it. It never becomes larger than `size` bytes.
    pub(super) fn open(path: &Path, size: u64) -> Result<Store, CacheError> {
        refuse_others(path)?;
        if let Some(what) = missing_directory(path) {
            return Err(CacheError::Io { path: path.to_path_buf(), what });
        }
        Self::open_sqlite(path, size).map_err(|e| CacheError::of(path, &e))
    }

    /// Opens the database; creates the tables if it is new, else checks them; and makes it fit into `size` bytes.
    fn open_sqlite(path: &Path, size: u64) -> rusqlite::Result<Store> {
        let mut db = connect(path, OpenFlags::SQLITE_OPEN_CREATE, Duration::from_secs(5))?;
        if number(&db, "application_id")? == 0 {
            // Set before the first table is created: only then can the file be shrunk later.
            db.execute_batch("PRAGMA auto_vacuum=INCREMENTAL")?;
            let new = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
            // Another process may have created the tables meanwhile.
            if number(&new, "application_id")? == 0 {
                if new.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0))? != 0 {
                    return Err(damage("another program's tables"));
                }
                for table in TABLES.iter().rev() {
                    new.execute_batch(table)?;
                }
                // The application's number is written in the same transaction as the tables, and before WAL mode begins: so it stands in
                // the file itself, where `refuse_others` looks, and not only in the log.
                new.pragma_update(None, "user_version", FORMAT)?;
                new.pragma_update(None, "application_id", APPLICATION)?;
            }
            new.commit()?;
        }
        let found: Vec<String> = db
            .prepare("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY sql")?
            .query_map([], |row| row.get(0))?
            .collect::<rusqlite::Result<_>>()?;
        if found != TABLES {
            return Err(damage("its tables are not those of a cache"));
        }
        db.query_row("PRAGMA journal_mode=WAL", [], |_| Ok(()))?;
        db.execute_batch(
            "PRAGMA synchronous=NORMAL; PRAGMA wal_autocheckpoint=1000; PRAGMA journal_size_limit=4194304",
        )?;
        let pages = (size / PAGE_BYTES).max(1);
        let mut store = Store { db, target_pages: pages - pages / 16 };
        store.shrink(pages)?;
        store.db.query_row(&format!("PRAGMA max_page_count={pages}"), [], |_| Ok(()))?;
        Ok(store)
    }

    /// If the file has more than `pages` pages, evicts entries until [`Store::target_pages`] are in use, and cuts the free pages off.
    fn shrink(&mut self, pages: u64) -> rusqlite::Result<()> {
        if number(&self.db, "page_count")? as u64 <= pages {
            return Ok(());
        }
        // `Cache::open` counts again after the cut. Counting here finds damage in the pages that this reads while the file is still whole.
        self.extent()?;
        let target = self.target_pages;
        let transaction = self.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        evict(&transaction, target)?;
        let free = number(&transaction, "freelist_count")?;
        let mut cut = transaction.prepare(&format!("PRAGMA incremental_vacuum({free})"))?;
        let mut rows = cut.query([])?;
        while rows.next()?.is_some() {}
        drop(rows);
        drop(cut);
        transaction.commit()?;
        self.db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
    }

    /// What the file holds now.
    pub(super) fn extent(&self) -> rusqlite::Result<Extent> {
        let entries: i64 = self.db.prepare_cached("SELECT count(*) FROM entries")?.query_row([], |row| row.get(0))?;
        Ok(Extent { entries: entries.try_into().unwrap_or(0), ..self.quick_extent()? })
    }

    /// As [`Store::extent`], without counting the entries: their number is 0 in the result.
    pub(super) fn quick_extent(&self) -> rusqlite::Result<Extent> {
        let newest = self.db.prepare_cached("SELECT max(id) FROM entries")?.query_row([], |row| row.get(0));
        let newest: Option<i64> = newest?;
        Ok(Extent { entries: 0, bytes: used_pages(&self.db)? * PAGE_BYTES, newest: newest.unwrap_or(0) })
    }

    /// A number that changes when another connection writes.
    pub(super) fn version(&self) -> rusqlite::Result<i64> {
        number(&self.db, "data_version")
    }

    /// Writes a batch whole or not at all. Returns how many entries were added, and how many were removed: the damaged ones of the batch,
    /// and those evicted to make room.
    pub(super) fn write(&mut self, batch: &Batch) -> rusqlite::Result<(u64, u64)> {
        let transaction = self.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let (mut added, mut removed) = (0, 0);
        {
            for key in &batch.wrong {
                removed += remove(&transaction, "key = ?1", key)?;
            }
            let newest = newest(&transaction)?;
            let mut touch = transaction.prepare_cached("UPDATE entries SET used = ?2 WHERE id = ?1")?;
            for id in &batch.used {
                touch.execute(params![id, newest])?;
            }
            let pages: u64 =
                batch.entries.iter().map(|(_, payload)| bytes_on_disk(payload.len())).sum::<u64>() / PAGE_BYTES;
            removed += evict(&transaction, self.target_pages.saturating_sub(pages + 1))?;
            let mut entry = transaction.prepare_cached("INSERT OR IGNORE INTO entries(key, used) VALUES(?1, ?2)")?;
            let mut part = transaction.prepare_cached("INSERT OR REPLACE INTO parts(id, value) VALUES(?1, ?2)")?;
            let mut next = newest + 1;
            for (key, payload) in &batch.entries {
                if entry.execute(params![key, next])? == 1 {
                    part.execute(params![transaction.last_insert_rowid(), seal(key, payload)])?;
                    next += 1;
                    added += 1;
                }
            }
            for FileDigest { stamp, digest } in &batch.digests {
                let stamp = stamp_bytes(stamp);
                let sealed = seal(&digest_key(&stamp), digest);
                transaction.execute("INSERT OR REPLACE INTO digests VALUES(?1, ?2)", params![stamp, sealed])?;
                let others = "DELETE FROM digests WHERE stamp <> ?1 AND (SELECT count(*) FROM digests) > ?2";
                transaction.execute(others, params![stamp, KEPT_DIGESTS])?;
            }
        }
        transaction.commit()?;
        Ok((added, removed))
    }
}

/// The error that SQLite has for a corrupt file, for damage that is found here.
fn damage(what: &str) -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT), Some(what.to_owned()))
}

/// The value of a pragma that is a number.
fn number(db: &Connection, pragma: &str) -> rusqlite::Result<i64> {
    db.prepare_cached(&format!("PRAGMA {pragma}"))?.query_row([], |row| row.get(0))
}

/// The id of the newest entry; 0 if there is none.
fn newest(db: &Connection) -> rusqlite::Result<i64> {
    let newest: Option<i64> = db.prepare_cached("SELECT max(id) FROM entries")?.query_row([], |row| row.get(0))?;
    Ok(newest.unwrap_or(0))
}

/// The number of pages that are not free.
fn used_pages(db: &Connection) -> rusqlite::Result<u64> {
    Ok((number(db, "page_count")? - number(db, "freelist_count")?).try_into().unwrap_or(0))
}

/// An upper bound of the bytes that an entry of `payload` bytes takes in the file, with its key and its places in two indices. SQLite puts
/// as many rows on a page as fit; of a row that is longer than a page, at least an eighth of a page stays there, and the rest goes to
/// overflow pages.
fn bytes_on_disk(payload: usize) -> u64 {
    let row = (payload + CHECK_BYTES) as u64 + 16;
    let value = if row <= PAGE_BYTES - 35 { PAGE_BYTES / (PAGE_BYTES / row) } else { row.next_multiple_of(4092) + 600 };
    value + 200
}

/// Removes the first entry for which the SQL condition `which`, with `value` as its parameter, holds; returns how many were removed, 0 or 1.
fn remove(db: &Connection, which: &str, value: impl rusqlite::ToSql) -> rusqlite::Result<u64> {
    let mut find = db.prepare_cached(&format!("SELECT id FROM entries WHERE {which}"))?;
    let id: Option<i64> = find.query_row([value], |row| row.get(0)).optional()?;
    let Some(id) = id else { return Ok(0) };
    db.prepare_cached("DELETE FROM parts WHERE id = ?1")?.execute([id])?;
    Ok(db.prepare_cached("DELETE FROM entries WHERE id = ?1")?.execute([id])? as u64)
}

/// Removes the least recently used entries until no more than `pages` pages are in use, or no entry is left; returns how many it removed.
fn evict(db: &Connection, pages: u64) -> rusqlite::Result<u64> {
    let mut removed = 0;
    while used_pages(db)? > pages {
        // The index `by_use` holds `used` and, after it, the id, so this order needs no sorting.
        match remove(db, "?1 ORDER BY used, id LIMIT 1", 1)? {
            0 => break,
            n => removed += n,
        }
    }
    Ok(removed)
}

/// The cache's file, opened for reading. Writers do not stop readers.
pub(super) struct Reader {
    db: Connection,
}

/// The id of an entry that was found, and its `used`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub id: i64,
    pub used: i64,
}

impl Reader {
    pub(super) fn open(path: &Path) -> rusqlite::Result<Reader> {
        let db = connect(path, OpenFlags::empty(), Duration::from_millis(50))?;
        db.execute_batch("PRAGMA query_only=ON")?;
        Ok(Reader { db })
    }

    /// Reads in one transaction, which sees one state of the file.
    pub(super) fn together<R>(&mut self, read: impl FnOnce(&Reader) -> rusqlite::Result<R>) -> rusqlite::Result<R> {
        let transaction = self.db.unchecked_transaction()?;
        let result = read(self);
        drop(transaction);
        result
    }

    /// Calls `see` with the stored bytes of the entry with this key, checksum and payload, and returns its result; `None` if there is no
    /// such entry.
    pub(super) fn get<R>(&self, key: &Key, see: impl FnOnce(&[u8]) -> R) -> rusqlite::Result<Option<(Place, R)>> {
        let sql = "SELECT e.id, e.used, p.value FROM entries e JOIN parts p ON p.id = e.id WHERE e.key = ?1";
        let mut statement = self.db.prepare_cached(sql)?;
        let mut rows = statement.query([key])?;
        let Some(row) = rows.next()? else { return Ok(None) };
        let place = Place { id: row.get(0)?, used: row.get(1)? };
        let value = row.get_ref(2)?.as_blob().map_err(|_| damage("a value is not what was stored"))?;
        Ok(Some((place, see(value))))
    }

    /// The remembered digest of the model's file with this stamp, if its checksum is right.
    pub(super) fn digest(&self, stamp: &Stamp) -> rusqlite::Result<Option<[u8; 32]>> {
        let stamp = stamp_bytes(stamp);
        let mut statement = self.db.prepare_cached("SELECT digest FROM digests WHERE stamp = ?1")?;
        let sealed: Option<Vec<u8>> = statement.query_row([&stamp], |row| row.get(0)).optional()?;
        let digest = sealed.as_ref().and_then(|sealed| sealed.get(CHECK_BYTES..)?.try_into().ok());
        let sound = |digest: &[u8; 32]| sealed.as_deref() == Some(&seal(&digest_key(&stamp), digest)[..]);
        Ok(digest.filter(sound))
    }
}
