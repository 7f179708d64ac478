//! Bytes of a file, mapped, and the one place in `src/` with `unsafe`.
#![allow(unsafe_code)]

use std::fs::File;
use std::ops::Deref;
use std::path::Path;

use memmap2::Mmap;

use crate::error::{Error, Result};

#[cfg(target_endian = "big")]
compile_error!("checkpoints are little-endian and are read in place: big-endian targets are not supported");

/// The content of a model file.
#[derive(Debug)]
pub(crate) enum Bytes {
    /// Mapped read-only: pages come from the file as they are touched.
    ///
    /// Replacing the file by a rename leaves a map valid. Truncating a mapped file in place makes reads beyond its new end
    /// raise SIGBUS, as for any program that maps files.
    Mapped(Mmap),
    /// Part of the binary.
    Static(&'static [u8]),
}

impl Bytes {
    /// Maps a file.
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
        Ok(Bytes::Mapped(map))
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Bytes::Mapped(map) => map,
            Bytes::Static(bytes) => bytes,
        }
    }
}

/// The bytes as `f32`, if they are aligned for it and a whole number of them.
pub(crate) fn as_f32s(bytes: &[u8]) -> Option<&[f32]> {
    // SAFETY: every bit pattern is an f32, and the target is little-endian as the file is (checked above).
    let (before, floats, after) = unsafe { bytes.align_to::<f32>() };
    (before.is_empty() && after.is_empty()).then_some(floats)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_seen_only_where_they_are_aligned() {
        let floats = [1.0f32, -2.5, 3.0];
        let bytes: Vec<u8> = floats.iter().flat_map(|x| x.to_le_bytes()).collect();
        let mut shifted = vec![0u8; bytes.len() + 8];
        let at = shifted.as_ptr().align_offset(4);
        shifted[at..][..bytes.len()].copy_from_slice(&bytes);
        assert_eq!(as_f32s(&shifted[at..][..bytes.len()]), Some(&floats[..]));
        assert_eq!(as_f32s(&shifted[at + 1..][..8]), None);
        assert_eq!(as_f32s(&shifted[at..][..7]), None);
    }
}
