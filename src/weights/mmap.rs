//! The bytes of a file, mapped into memory. This is the only file in `src/` with `unsafe`.
#![allow(unsafe_code)]

use std::fs::File;
use std::marker::PhantomData;
use std::ops::{Deref, Range};
use std::path::Path;
use std::sync::Arc;

use memmap2::Mmap;

use crate::error::{Error, Result};

#[cfg(target_endian = "big")]
compile_error!("checkpoints are little-endian and are read in place: big-endian targets are not supported");

/// The bytes of a model file, wherever they are.
#[derive(Debug)]
pub(crate) enum Bytes {
    /// Mapped read-only: pages come from the file as they are touched.
    ///
    /// Replacing the file by a rename leaves a map valid. Truncating a mapped file in place makes reads beyond its new end
    /// raise SIGBUS, as for any program that maps files (it ends as SIGSEGV on a thread that has used AMX: `kernels/src/simd/amx.rs`).
    Mapped(Mmap, File),
    /// Bytes that are part of the binary.
    Static(&'static [u8]),
    /// A copy in memory.
    Owned(AlignedBytes),
}

/// Bytes in memory, aligned to a cache line, so that every tensor can be read in place.
#[derive(Debug, Default)]
pub(crate) struct AlignedBytes {
    lines: Vec<Line>,
    len: usize,
}

/// One cache line.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; 64]);

impl AlignedBytes {
    /// A copy of `bytes`.
    pub(crate) fn new(bytes: &[u8]) -> AlignedBytes {
        let (whole, rest) = bytes.as_chunks::<64>();
        let mut lines: Vec<Line> = whole.iter().map(|line| Line(*line)).collect();
        if !rest.is_empty() {
            let mut last = [0; 64];
            last[..rest.len()].copy_from_slice(rest);
            lines.push(Line(last));
        }
        AlignedBytes { lines, len: bytes.len() }
    }

    /// `len` bytes, which `fill` writes in order: it is called for every 64 bytes, and once more for the rest.
    pub(crate) fn filled(len: usize, mut fill: impl FnMut(&mut [u8])) -> AlignedBytes {
        let mut lines = vec![Line([0; 64]); len.div_ceil(64)];
        for (index, line) in lines.iter_mut().enumerate() {
            fill(&mut line.0[..(len - 64 * index).min(64)]);
        }
        AlignedBytes { lines, len }
    }

    fn as_slice(&self) -> &[u8] {
        // SAFETY: lines are 64 bytes each without padding, one after another, and `len` is at most their sum.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }
}

/// A file mapped read-only, for the crates above that read large files in place.
///
/// Replacing or removing the file leaves the map valid. Whoever cuts a mapped file in place ends the program at the next read beyond its
/// new end, as for any program that maps files.
#[derive(Debug)]
pub struct MappedFile(Bytes);

impl MappedFile {
    /// Maps the whole file; what is appended to it later is not seen.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Format`] if it is no regular file.
    pub fn open(path: &Path) -> Result<MappedFile> {
        Bytes::map(path).map(MappedFile)
    }
}

impl Deref for MappedFile {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl Bytes {
    /// Maps the whole file. An error if it is no regular file.
    pub(crate) fn map(path: &Path) -> Result<Bytes> {
        let file = File::open(path).map_err(|e| Error::io(path, e))?;
        let metadata = file.metadata().map_err(|e| Error::io(path, e))?;
        if !metadata.is_file() {
            return Err(Error::format(path, "not a regular file"));
        }
        if metadata.len() == 0 {
            return Ok(Bytes::Static(&[]));
        }
        // SAFETY: the map is private to this value and read-only. That nobody changes the file's content meanwhile is the
        // documented condition of loading a model (see `Mapped`): values read from it are numbers and text, checked before use,
        // never offsets that are trusted twice.
        let map = unsafe { Mmap::map(&file) }.map_err(|e| Error::io(path, e))?;
        Ok(Bytes::Mapped(map, file))
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Bytes::Mapped(map, _) => map,
            Bytes::Static(bytes) => bytes,
            Bytes::Owned(bytes) => bytes.as_slice(),
        }
    }
}

impl Bytes {
    /// Fills `out` with the bytes from `from` on.
    ///
    /// On Unix a mapped file is read with `read_at` instead of through the map: touching a page of the map can count megabytes around it as
    /// this process's memory (Linux 6.18 maps whole large folios), and the rows read from a table are few and scattered.
    pub(crate) fn copy_to(&self, from: usize, out: &mut [u8]) {
        #[cfg(unix)]
        if let Bytes::Mapped(_, file) = self
            && std::os::unix::fs::FileExt::read_exact_at(file, out, from as u64).is_ok()
        {
            return;
        }
        out.copy_from_slice(&self[from..][..out.len()]);
    }

    /// Asks Linux for huge pages. Every text reads the map from end to end; with huge pages the TLB misses once in 2 MB instead of
    /// once in 4 KB (kernels/EXPERIMENTS.md). Linux grants them if the file's pages are not in memory yet, or were loaded by such a map.
    pub(crate) fn prefer_huge_pages(&self) {
        #[cfg(target_os = "linux")]
        if let Bytes::Mapped(map, _) = self {
            // A kernel without huge pages refuses; nothing depends on them.
            let _ = map.advise(memmap2::Advice::HugePage);
        }
    }

    /// Brings all pages of a map into memory. Returns `false` if the system does not do it; then each page is loaded when it is touched.
    pub(crate) fn preload(&self) -> bool {
        match self {
            #[cfg(target_os = "linux")]
            Bytes::Mapped(map, _) => map.advise(memmap2::Advice::PopulateRead).is_ok(),
            #[cfg(not(target_os = "linux"))]
            Bytes::Mapped(..) => false,
            Bytes::Static(_) | Bytes::Owned(_) => true,
        }
    }
}

/// Types of numbers for which every bit pattern is a valid value.
pub(crate) trait Plain: sealed::Sealed + Copy + Send + Sync + 'static {}

mod sealed {
    pub(crate) trait Sealed {}
}

macro_rules! plain {
    ($($type:ty),+) => {$(
        impl sealed::Sealed for $type {}
        impl Plain for $type {}
    )+};
}
plain!(u8, i8, u16, i32, u32, f32, f64);

/// `bytes` as numbers of type `T`; `None` if they are not aligned for `T` or not a whole number of `T`.
fn as_numbers<T: Plain>(bytes: &[u8]) -> Option<&[T]> {
    // SAFETY: every bit pattern is a `Plain` value, and the target is little-endian as the file is (checked above).
    let (before, numbers, after) = unsafe { bytes.align_to::<T>() };
    (before.is_empty() && after.is_empty()).then_some(numbers)
}

/// Numbers of type `T` at a range of a file's bytes, read in place.
#[derive(Debug)]
pub(crate) struct InPlace<T> {
    bytes: Arc<Bytes>,
    range: Range<usize>,
    kind: PhantomData<T>,
}

impl<T: Plain> InPlace<T> {
    /// The numbers at `range` of `bytes`; `None` if the range is not inside `bytes`, not aligned for `T`, or not a whole number of `T`.
    pub(crate) fn new(bytes: Arc<Bytes>, range: Range<usize>) -> Option<InPlace<T>> {
        as_numbers::<T>(bytes.get(range.clone())?)?;
        Some(InPlace { bytes, range, kind: PhantomData })
    }

    pub(crate) fn as_slice(&self) -> &[T] {
        let bytes = &self.bytes[self.range.clone()];
        if bytes.is_empty() {
            return &[];
        }
        // SAFETY: `new` has found these bytes aligned and a whole number of `T`. They neither move nor change while this value holds them,
        // and every bit pattern is a `Plain` value.
        unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast(), bytes.len() / size_of::<T>()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_floats_only_if_aligned_and_whole() {
        let floats = [1.0f32, -2.5, 3.0];
        let bytes: Vec<u8> = floats.iter().flat_map(|x| x.to_le_bytes()).collect();
        let mut shifted = vec![0u8; bytes.len() + 8];
        let at = shifted.as_ptr().align_offset(4);
        shifted[at..][..bytes.len()].copy_from_slice(&bytes);
        assert_eq!(as_numbers::<f32>(&shifted[at..][..bytes.len()]), Some(&floats[..]));
        assert_eq!(as_numbers::<f32>(&shifted[at + 1..][..8]), None);
        assert_eq!(as_numbers::<f32>(&shifted[at..][..7]), None);
    }

    #[test]
    fn numbers_in_place_are_aligned_and_whole() {
        let bytes = Arc::new(Bytes::Owned(AlignedBytes::new(&[1, 0, 2, 0, 3])));
        let numbers = |range| InPlace::<u16>::new(Arc::clone(&bytes), range);
        assert_eq!(numbers(0..4).unwrap().as_slice(), [1, 2]);
        assert_eq!(numbers(2..4).unwrap().as_slice(), [2]);
        assert!(numbers(3..3).is_none_or(|numbers| numbers.as_slice().is_empty()));
        assert!(numbers(1..3).is_none() && numbers(0..5).is_none() && numbers(4..6).is_none());
    }

    #[test]
    fn owned_bytes_are_the_same_bytes_in_aligned_memory() {
        for len in [0, 1, 63, 64, 65, 1000] {
            let bytes: Vec<u8> = (0..len).map(|i| i as u8).collect();
            let owned = Bytes::Owned(AlignedBytes::new(&bytes));
            assert_eq!(&owned[..], &bytes[..]);
            assert!(len == 0 || owned.as_ptr().addr().is_multiple_of(64));
        }
    }
}
