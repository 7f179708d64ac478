//! The frame of a segment's file.
//!
//! ```text
//! 64 bytes   header: magic, kind, dimensions, rows, items, bits, length of the content, checksum of the table, checksum of the header
//! content    sections that each begin at a multiple of 64 bytes
//! table      CRC-32 of every MiB of the content, u32 each
//! ```
//! All numbers are little-endian. The commit records each file's length and its header's checksum, which depends on every byte of the file
//! because the header has the checksum of the table. So a file of another segment, or of another commit, is recognised before anything of
//! it is used. The length and the checksums of header and table are compared when a file is opened; each MiB of the content when it is
//! first read.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};
use tantivy::directory::{Directory, MmapDirectory, OwnedBytes};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::disk::{Disk, DiskFile};
use crate::error::{Error, Result};

const MAGIC: [u8; 8] = *b"TRVSEG\x00\x01";
const HEADER: usize = 64;
/// Bytes of content that one checksum covers.
const BLOCK: usize = 1 << 20;
/// Sections of the content begin at multiples of this.
const ALIGN: u64 = 64;

#[cfg(target_endian = "big")]
compile_error!("segment files are little-endian and are read in place: big-endian targets are not supported");

/// What a segment's file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    Rows,
    Documents,
    Dense8,
    Dense16,
    Lexical,
    Colbert,
}

impl Kind {
    pub const ALL: [Kind; 6] = [Kind::Rows, Kind::Documents, Kind::Dense8, Kind::Dense16, Kind::Lexical, Kind::Colbert];

    pub fn extension(self) -> &'static str {
        match self {
            Kind::Rows => "rows",
            Kind::Documents => "docs",
            Kind::Dense8 => "dense8",
            Kind::Dense16 => "dense16",
            Kind::Lexical => "lex",
            Kind::Colbert => "colbert",
        }
    }

    /// The number by which a file's header says its kind.
    fn number(self) -> u32 {
        self as u32 + 1
    }
}

/// What a commit records of a file: its kind, its length, and the checksum of its header.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileRecord {
    pub kind: Kind,
    pub bytes: u64,
    pub crc: u32,
}

/// What a file's header says of its content; 0 for what its kind does not have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Shape {
    pub dim: u32,
    pub bits: u32,
    pub rows: u64,
    /// The number of token vectors in ColBERT files, of weights in lexical files, of bytes of all documents in files of documents.
    pub items: u64,
    /// The number of token ids that occur, in lexical files.
    pub more: u64,
}

/// Writes a segment's file: header and table around the content that is appended.
pub(crate) struct FileWriter {
    file: Box<dyn DiskFile>,
    path: PathBuf,
    kind: Kind,
    length: u64,
    block: crc32fast::Hasher,
    table: Vec<u32>,
}

impl FileWriter {
    pub fn create(disk: &Arc<dyn Disk>, path: &Path, kind: Kind) -> Result<FileWriter> {
        let mut file = disk.create(path).map_err(|e| Error::io(path, e))?;
        file.append(&[0; HEADER]).map_err(|e| Error::io(path, e))?;
        let (path, block) = (path.to_path_buf(), crc32fast::Hasher::new());
        Ok(FileWriter { file, path, kind, length: 0, block, table: Vec::new() })
    }

    pub fn append(&mut self, mut bytes: &[u8]) -> Result<()> {
        self.file.append(bytes).map_err(|e| Error::io(&self.path, e))?;
        while !bytes.is_empty() {
            let room = BLOCK - (self.length % BLOCK as u64) as usize;
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.block.update(now);
            self.length += now.len() as u64;
            if self.length.is_multiple_of(BLOCK as u64) {
                self.table.push(std::mem::take(&mut self.block).finalize());
            }
            bytes = later;
        }
        Ok(())
    }

    pub fn append_all<T: IntoBytes + Immutable>(&mut self, values: &[T]) -> Result<()> {
        self.append(values.as_bytes())
    }

    /// Appends zeros up to where the next section begins, and returns that position in the content.
    pub fn align(&mut self) -> Result<u64> {
        let over = self.length % ALIGN;
        if over > 0 {
            self.append(&[0; ALIGN as usize][over as usize..])?;
        }
        Ok(self.length)
    }

    /// Writes table and header, syncs the file to the disk, and returns what the commit must record of it.
    pub fn finish(mut self, shape: Shape) -> Result<FileRecord> {
        if !self.length.is_multiple_of(BLOCK as u64) {
            self.table.push(std::mem::take(&mut self.block).finalize());
        }
        let table_crc = crc32fast::hash(self.table.as_bytes());
        let fail = |e| Error::io(&self.path, e);
        self.file.append(self.table.as_bytes()).map_err(fail)?;
        let header = header(self.kind, shape, self.length, table_crc);
        self.file.overwrite_start(&header).map_err(fail)?;
        self.file.sync().map_err(fail)?;
        let crc = crc32fast::hash(&header[..HEADER - 4]);
        Ok(FileRecord { kind: self.kind, bytes: HEADER as u64 + self.length + 4 * self.table.len() as u64, crc })
    }
}

/// The header of a file whose content has `length` bytes; its last four bytes are the checksum of those before.
fn header(kind: Kind, shape: Shape, length: u64, table_crc: u32) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &MAGIC);
    put(8, &kind.number().to_le_bytes());
    put(12, &shape.dim.to_le_bytes());
    put(16, &shape.rows.to_le_bytes());
    put(24, &shape.items.to_le_bytes());
    put(32, &length.to_le_bytes());
    put(40, &shape.bits.to_le_bytes());
    put(44, &table_crc.to_le_bytes());
    put(48, &shape.more.to_le_bytes());
    let crc = crc32fast::hash(&header[..HEADER - 4]);
    header[HEADER - 4..].copy_from_slice(&crc.to_le_bytes());
    header
}

/// A segment's file, mapped, whose header and table have been checked.
pub(crate) struct SegmentFile {
    path: PathBuf,
    bytes: OwnedBytes,
    shape: Shape,
    length: usize,
    /// A bit for every block whose checksum has been compared.
    seen: Vec<AtomicU64>,
}

impl std::fmt::Debug for SegmentFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SegmentFile").field("path", &self.path).field("shape", &self.shape).finish_non_exhaustive()
    }
}

impl SegmentFile {
    /// Maps a file, which must be the one that `record` describes.
    pub fn open(path: &Path, record: &FileRecord) -> Result<SegmentFile> {
        let bytes = map(path)?;
        if bytes.len() as u64 != record.bytes {
            return Err(Error::damaged(
                path,
                format!("it has {} bytes, the commit says {}", bytes.len(), record.bytes),
            ));
        }
        Self::of_bytes(path, bytes, record.kind, Some(record.crc))
    }

    /// Opens a file whose bytes are in memory. Its header must have the checksum `crc`; with `None`, any intact file of the kind is
    /// accepted.
    pub fn of_bytes(path: &Path, bytes: OwnedBytes, kind: Kind, crc: Option<u32>) -> Result<SegmentFile> {
        let wrong = |what: String| Err(Error::damaged(path, what));
        let Some(header) = bytes.first_chunk::<HEADER>() else {
            return wrong(format!("it has {} bytes, its header alone takes {HEADER}", bytes.len()));
        };
        if header[..8] != MAGIC {
            return wrong("it does not begin as a segment's file of this format".to_owned());
        }
        let u32_at = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
        let found = crc32fast::hash(&header[..HEADER - 4]);
        if found != u32_at(HEADER - 4) {
            return wrong("the checksum of its header is wrong".to_owned());
        }
        if u32_at(8) != kind.number() {
            return wrong(format!(
                "it is of the kind {}, expected {} ({})",
                u32_at(8),
                kind.number(),
                kind.extension()
            ));
        }
        if crc.is_some_and(|crc| crc != found) {
            return wrong("it is a sound file, but not the one that the commit names".to_owned());
        }
        let length = u64_at(32);
        let blocks = length.div_ceil(BLOCK as u64);
        let whole = blocks
            .checked_mul(4)
            .and_then(|table| table.checked_add(length))
            .and_then(|n| n.checked_add(HEADER as u64));
        let Some(length) = usize::try_from(length).ok().filter(|_| whole == Some(bytes.len() as u64)) else {
            return wrong(format!("it has {} bytes, its header describes {length} and a table", bytes.len()));
        };
        if crc32fast::hash(&bytes[HEADER + length..]) != u32_at(44) {
            return wrong("the checksum of its table is wrong".to_owned());
        }
        let shape = Shape { dim: u32_at(12), bits: u32_at(40), rows: u64_at(16), items: u64_at(24), more: u64_at(48) };
        let seen = (0..blocks.div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        Ok(SegmentFile { path: path.to_path_buf(), bytes, shape, length, seen })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// A range of the content. The checksums of the blocks that it touches are compared first, each block's once.
    pub fn bytes(&self, range: Range<usize>) -> Result<&[u8]> {
        if range.start > range.end || range.end > self.length {
            return Err(Error::damaged(&self.path, format!("its lists point to bytes {range:?} of {}", self.length)));
        }
        let content = &self.bytes[HEADER..HEADER + self.length];
        for block in range.start / BLOCK..range.end.div_ceil(BLOCK) {
            let (word, bit) = (&self.seen[block / 64], 1 << (block % 64));
            if word.load(Ordering::Relaxed) & bit != 0 {
                continue;
            }
            let bytes = &content[block * BLOCK..self.length.min((block + 1) * BLOCK)];
            let at = HEADER + self.length + 4 * block;
            let known = self.bytes[at..at + 4].first_chunk::<4>().map(|crc| u32::from_le_bytes(*crc));
            if known != Some(crc32fast::hash(bytes)) {
                return Err(Error::damaged(&self.path, format!("the checksum of its MiB {block} is wrong")));
            }
            word.fetch_or(bit, Ordering::Relaxed);
        }
        Ok(&content[range])
    }

    /// Items `range` of the list of `T` that begins at byte `start` of the content.
    pub fn list<T: FromBytes + Immutable + KnownLayout>(&self, start: usize, range: Range<usize>) -> Result<&[T]> {
        let at = |index: usize| index.checked_mul(size_of::<T>()).and_then(|bytes| bytes.checked_add(start));
        let (Some(from), Some(to)) = (at(range.start), at(range.end)) else {
            return Err(Error::damaged(&self.path, format!("its lists point to item {range:?}")));
        };
        let bytes = self.bytes(from..to)?;
        <[T]>::ref_from_bytes(bytes)
            .map_err(|_| Error::damaged(&self.path, format!("its list at byte {start} is not aligned")))
    }

    /// Checks that the content has exactly `expected` bytes, the sum of its parts. `None` stands for a sum that overflows, and fails.
    pub fn expect_len(&self, expected: Option<u64>) -> Result<()> {
        if expected != Some(self.length as u64) {
            let expected = expected.map_or("2^64 or more".to_owned(), |n| n.to_string());
            return Err(Error::damaged(
                &self.path,
                format!("its content has {} bytes, its parts take {expected}", self.length),
            ));
        }
        Ok(())
    }

    /// Compares the checksums of all blocks of the content that were not compared before.
    pub fn check(&self) -> Result<()> {
        self.bytes(0..self.length).map(drop)
    }
}

/// The first position from `bytes` on at which a section can begin; `None` if it overflows.
pub(crate) fn aligned(bytes: u64) -> Option<u64> {
    bytes.checked_next_multiple_of(ALIGN)
}

/// Maps a file, by tantivy's directory, so that this crate needs no `unsafe` of its own. A file that is replaced by a rename or removed
/// stays readable; if a file is truncated in place while it is mapped, reading it ends the process, as for every program that maps files.
fn map(path: &Path) -> Result<OwnedBytes> {
    let fail = |e: std::io::Error| Error::io(path, e);
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(fail(std::io::ErrorKind::InvalidInput.into()));
    };
    let directory = MmapDirectory::open(parent).map_err(|e| fail(std::io::Error::other(e.to_string())))?;
    let file = directory.open_read(Path::new(name)).map_err(|e| match e {
        tantivy::directory::error::OpenReadError::FileDoesNotExist(_) => {
            Error::damaged(path, "the file is missing, which the commit names")
        }
        other => fail(std::io::Error::other(other.to_string())),
    })?;
    file.read_bytes().map_err(fail)
}

/// What a commit records of a segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SegmentRecord {
    /// Its files are `seg/NNNNNN.*`.
    pub id: u32,
    /// How many documents the segment holds.
    pub rows: u64,
    /// The index's number of the segment's first document. The index numbers documents in the order in which they were added.
    pub first: u64,
    /// The index's number of the segment's last document.
    pub last: u64,
    /// The segment's files, each with the length and checksum that it must have.
    pub files: Vec<FileRecord>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::RealDisk;

    fn written(path: &Path, content: &[u8]) -> FileRecord {
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let mut writer = FileWriter::create(&disk, path, Kind::Rows).unwrap();
        for part in content.chunks(700_001) {
            writer.append(part).unwrap();
        }
        writer.finish(Shape { rows: 7, ..Shape::default() }).unwrap()
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.rows");
        let content: Vec<u8> = (0..3000u32).map(|i| (i * 7) as u8).collect();
        let record = written(&path, &content);
        let good = std::fs::read(&path).unwrap();
        let read = |bytes: Vec<u8>| {
            let file = SegmentFile::of_bytes(&path, OwnedBytes::new(bytes), Kind::Rows, Some(record.crc))?;
            file.bytes(0..file.length).map(<[u8]>::to_vec)
        };
        assert_eq!(read(good.clone()).unwrap(), content);
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1 << (at % 8);
            assert!(matches!(read(bad), Err(Error::Damaged { .. })), "byte {at}");
            assert!(matches!(read(good[..at].to_vec()), Err(Error::Damaged { .. })), "cut at {at}");
        }
        std::fs::write(&path, &good[..good.len() - 1]).unwrap();
        assert!(matches!(SegmentFile::open(&path, &record), Err(Error::Damaged { .. })));
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(SegmentFile::open(&path, &record), Err(Error::Damaged { .. })));
    }

    #[test]
    fn blocks_are_checked_when_they_are_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.rows");
        let content: Vec<u8> = (0..2 * BLOCK + 17).map(|i| (i % 251) as u8).collect();
        let record = written(&path, &content);
        assert_eq!(SegmentFile::open(&path, &record).unwrap().bytes(5..BLOCK + 9).unwrap(), &content[5..BLOCK + 9]);
        let mut bad = std::fs::read(&path).unwrap();
        bad[HEADER + BLOCK + 5] ^= 1;
        std::fs::write(&path, bad).unwrap();
        let file = SegmentFile::open(&path, &record).unwrap();
        assert!(file.bytes(0..BLOCK).is_ok() && file.bytes(2 * BLOCK..2 * BLOCK + 17).is_ok());
        assert!(file.bytes(BLOCK - 1..BLOCK + 1).is_err() && file.check().is_err());
        assert!(file.bytes(0..usize::MAX).is_err() && file.list::<u64>(0, 0..usize::MAX).is_err());
    }
}
