//! Reads PyTorch's own files (`torch.save`: `.bin`, `.pt`) in place: the zip directory, then the pickle that describes the tensors. Each
//! tensor is checked against the bytes that its storage has in the file. No code of the file runs (`pickle.rs`).

mod pickle;
mod zip;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use super::mmap::{AlignedBytes, Bytes};
use super::safetensors::{Header, TensorEntry};
use crate::error::{Error, Result};
use zip::{Entries, Entry};

/// A file's tensors together may be at most this many times as long as the file. They can be longer than the file because views may share a
/// storage, which is legal, but rare.
const MAX_SHARING: u64 = 4;
/// Up to this many bytes of tensors are accepted whatever the length of the file, because views can be large in proportion to a small file.
const MIN_TOTAL: u64 = 1 << 20;

/// A tensor whose elements do not lie one after another in the file, so that they have to be gathered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Strided {
    /// Where in the file the tensor's first element begins, and where its storage ends.
    range: Range<usize>,
    element_bytes: usize,
    shape: Vec<usize>,
    /// One for each dimension, counted in elements.
    strides: Vec<usize>,
}

/// What was read from a file.
#[derive(Debug, Default)]
pub(super) struct TorchFile {
    /// All tensors. The range of a tensor that is in `strided` is one of its gathered bytes; all other ranges are in the file.
    pub header: Header,
    pub strided: BTreeMap<String, Strided>,
    /// The zip entries that hold tensors, by name: each with its range in the file and its CRC-32, for [`check_checksums`].
    pub storages: BTreeMap<String, (Range<usize>, u32)>,
}

/// Reads and checks a file's directory and pickle, but not the checksums of its tensors. `path` names the file in errors.
pub(super) fn read(file: &[u8], path: &Path) -> Result<TorchFile> {
    if let Some(what) = foreign(file) {
        return Err(Error::format(path, what));
    }
    let entries = zip::read(file).map_err(|what| Error::format(path, what))?;
    let archive = Archive { file, path, prefix: prefix(&entries, path)?, entries };
    archive.check_byte_order()?;
    let (pickle_name, pickle) = archive.entry("data.pkl")?;
    let pickle_bytes = &file[pickle.range.clone()];
    // The pickle decides how everything else is read, so its checksum is always checked.
    if crc32fast::hash(pickle_bytes) != pickle.crc32 {
        return Err(bad_checksum(path, &pickle_name));
    }
    let tensors = pickle::read(pickle_bytes).map_err(|what| Error::format(path, what))?;
    let mut read = TorchFile::default();
    let most = (file.len() as u64).saturating_mul(MAX_SHARING).max(MIN_TOTAL);
    let mut total = 0u64;
    for (name, tensor) in &tensors {
        total = total.saturating_add(archive.add(name, tensor, &mut read)?);
        if total > most {
            let what = format!("with it the tensors have {total} bytes, but the file only {}", file.len());
            return Err(Error::tensor(path, name, what));
        }
    }
    Ok(read)
}

/// The part of an error message that says how to convert a file of an older format to the present one.
const AGAIN: &str = "PyTorch 1.13 or a later one writes it anew: `torch.save(torch.load(FILE, map_location=\"cpu\", weights_only=True), FILE)`";

/// The error message for a file that does not begin as a zip archive, which says what it is if that can be seen; `None` for a zip archive.
fn foreign(file: &[u8]) -> Option<String> {
    /// The first pickle of the format before PyTorch 1.6: a magic number.
    const LEGACY: [u8; 14] = *b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19";
    let start = file.trim_ascii_start();
    let begins = |text: &str| start.get(..text.len()).is_some_and(|start| start.eq_ignore_ascii_case(text.as_bytes()));
    if file.starts_with(b"PK") {
        return None;
    }
    let what = if file.is_empty() {
        "the file is empty".to_owned()
    } else if file.starts_with(&LEGACY) {
        format!("PyTorch's old format, from before 1.6: {AGAIN}")
    } else if file.starts_with(b"GGUF") {
        "a GGUF file, expected PyTorch's zip archive (or safetensors)".to_owned()
    } else if begins("<!doctype") || begins("<html") {
        "an HTML page, not weights: the download went wrong".to_owned()
    } else if begins("version https://git-lfs") {
        "a Git LFS pointer, not the weights themselves: fetch them with `git lfs pull`".to_owned()
    } else if file.get(8) == Some(&b'{') {
        "a safetensors file by its content: rename it to .safetensors".to_owned()
    } else if file.get(257..262) == Some(b"ustar") {
        "a tar archive, expected the zip archive that torch.save writes: unpack it, and give the files in it".to_owned()
    } else if file.starts_with(&[0x80]) {
        format!("a bare pickle, expected the zip archive that torch.save writes: if it is from PyTorch, {AGAIN}")
    } else {
        "not a PyTorch file: it does not begin as a zip archive".to_owned()
    };
    Some(what)
}

/// The folder of the archive's `data.pkl`, with its slash; "" if that is in no folder. An error if there is not exactly one `data.pkl`, or
/// if the archive is a TorchScript program.
fn prefix(entries: &Entries, path: &Path) -> Result<String> {
    let mut pickles = entries.keys().filter(|name| name.as_str() == "data.pkl" || name.ends_with("/data.pkl"));
    let (Some(pickle), None) = (pickles.next(), pickles.next()) else {
        return Err(Error::format(
            path,
            "a zip archive, but not one of torch.save: there is no single `data.pkl` in it",
        ));
    };
    let prefix = pickle.strip_suffix("data.pkl").unwrap_or_default();
    let is_script = |name: &&String| {
        name.strip_prefix(prefix).is_some_and(|name| name == "constants.pkl" || name.starts_with("code/"))
    };
    if entries.keys().any(|name| is_script(&name)) {
        return Err(Error::format(
            path,
            "a TorchScript program: save the model's state_dict() with torch.save instead",
        ));
    }
    Ok(prefix.to_owned())
}

fn bad_checksum(path: &Path, entry: &str) -> Error {
    Error::format(path, format!("zip entry `{entry}`: its checksum is wrong, the file is damaged"))
}

/// An archive whose zip directory has been read.
struct Archive<'a> {
    file: &'a [u8],
    path: &'a Path,
    prefix: String,
    entries: Entries,
}

impl Archive<'_> {
    /// The entry `name` of that folder, and its full name; an error if it is missing.
    fn entry(&self, name: &str) -> Result<(String, &Entry)> {
        let name = format!("{}{name}", self.prefix);
        match self.entries.get(&name) {
            Some(entry) => Ok((name, entry)),
            None => Err(Error::format(self.path, format!("zip entry `{name}` is missing"))),
        }
    }

    /// Refuses a file that names another byte order than little-endian.
    fn check_byte_order(&self) -> Result<()> {
        // Files from before PyTorch 2.1 do not name the byte order; nearly all are little-endian.
        let Ok((_, entry)) = self.entry("byteorder") else { return Ok(()) };
        match &self.file[entry.range.clone()] {
            b"little" => Ok(()),
            _ => Err(Error::format(self.path, "its byte order is not `little`")),
        }
    }

    /// Checks a tensor against its storage and adds it to `read`. Returns the tensor's length in bytes.
    fn add(&self, name: &str, tensor: &pickle::Tensor<'_>, read: &mut TorchFile) -> Result<u64> {
        let refuse = |what: String| Error::tensor(self.path, name, what);
        let pickle::Storage { key, element, elements, .. } = tensor.storage;
        let (entry_name, entry) = self.entry(&format!("data/{key}")).map_err(|e| refuse(e.to_string()))?;
        let storage = entry.range.clone();
        let width = element.bytes as u64;
        if elements.checked_mul(width) != Some(storage.len() as u64) {
            let found = storage.len();
            let what = format!("its storage `{key}` of {elements} {} has {found} bytes in the file", element.dtype);
            return Err(refuse(what));
        }
        let layout = Layout::check(tensor).map_err(refuse)?;
        // The offset is limited, because that of a tensor without elements may lie beyond its storage. The storage's bytes are in the file,
        // so the product fits.
        let begin = storage.start + tensor.offset.min(elements) as usize * element.bytes;
        let bytes = layout.elements.checked_mul(width).and_then(|bytes| usize::try_from(bytes).ok());
        let bytes = bytes.ok_or_else(|| refuse(format!("the size of shape {:?} overflows", tensor.shape)))?;
        let size = |sizes: &[u64]| sizes.iter().map(|&size| size as usize).collect::<Vec<_>>();
        let shape = size(&tensor.shape);
        let range = if layout.contiguous {
            begin..begin + bytes
        } else {
            let strided = Strided {
                range: begin..storage.end,
                element_bytes: element.bytes,
                shape: shape.clone(),
                strides: size(&tensor.strides),
            };
            read.strided.insert(name.to_owned(), strided);
            0..bytes
        };
        read.header.tensors.insert(name.to_owned(), TensorEntry { dtype: element.dtype.to_owned(), shape, range });
        read.storages.insert(entry_name, (storage, entry.crc32));
        Ok(bytes as u64)
    }
}

/// What a tensor's shape and strides say together.
struct Layout {
    elements: u64,
    /// Whether the elements lie one after another in row-major order.
    contiguous: bool,
}

impl Layout {
    /// Checks that every element of the tensor is inside its storage.
    fn check(tensor: &pickle::Tensor<'_>) -> std::result::Result<Layout, String> {
        let pickle::Tensor { storage, offset, shape, strides } = tensor;
        let overflow = || format!("the size of shape {shape:?} overflows");
        let elements = shape.iter().try_fold(1u64, |product, &size| product.checked_mul(size)).ok_or_else(overflow)?;
        // A shape whose sizes would overflow is refused even if another size is 0.
        shape.iter().filter(|&&size| size > 0).try_fold(8u64, |p, &size| p.checked_mul(size)).ok_or_else(overflow)?;
        if elements == 0 {
            return Ok(Layout { elements, contiguous: true });
        }
        let last = shape.iter().zip(strides).try_fold(*offset, |last, (&size, &stride)| {
            (size - 1).checked_mul(stride).and_then(|step| last.checked_add(step))
        });
        if last.is_none_or(|last| last >= storage.elements) {
            return Err(format!(
                "shape {shape:?} with strides {strides:?} from {offset} reaches beyond its storage of {} elements",
                storage.elements
            ));
        }
        let mut next = 1;
        let contiguous = shape.iter().zip(strides).rev().filter(|(size, _)| **size != 1).all(|(&size, &stride)| {
            let follows = stride == next;
            next *= size;
            follows
        });
        Ok(Layout { elements, contiguous })
    }
}

impl Strided {
    /// Copies the elements out of `file`, which is the whole file, in row-major order.
    pub(super) fn gather(&self, file: &[u8]) -> AlignedBytes {
        let source = &file[self.range.clone()];
        let len = self.shape.iter().product::<usize>() * self.element_bytes;
        let mut index = vec![0usize; self.shape.len()];
        let mut at = 0;
        AlignedBytes::filled(len, |line| {
            for out in line.chunks_exact_mut(self.element_bytes) {
                out.copy_from_slice(&source[at * self.element_bytes..][..self.element_bytes]);
                // Step to the next element: advance the last dimension that is not at its end, and reset those after it.
                for dim in (0..index.len()).rev() {
                    index[dim] += 1;
                    at += self.strides[dim];
                    if index[dim] < self.shape[dim] {
                        break;
                    }
                    at -= index[dim] * self.strides[dim];
                    index[dim] = 0;
                }
            }
        })
    }
}

/// Compares the checksums of all zip entries that hold tensors; an error names the first that is wrong. The file is read 1 MiB at a time.
pub(super) fn check_checksums(file: &Bytes, torch: &TorchFile, path: &Path) -> Result<()> {
    let mut buffer = vec![0; 1 << 20];
    for (name, (range, expected)) in &torch.storages {
        let mut hasher = crc32fast::Hasher::new();
        for from in range.clone().step_by(buffer.len()) {
            let part = (range.end - from).min(buffer.len());
            file.copy_to(from, &mut buffer[..part]);
            hasher.update(&buffer[..part]);
        }
        if hasher.finalize() != *expected {
            return Err(bad_checksum(path, name));
        }
    }
    Ok(())
}

/// Whether `pickle` describes a state dict; for fuzzing.
pub(super) fn pickle_is_valid(pickle: &[u8]) -> bool {
    pickle::read(pickle).is_ok()
}

/// Whether a file can be read, gathers all its strided tensors and has the right checksums; for fuzzing.
pub(super) fn is_valid(file: &[u8]) -> bool {
    let path = Path::new("fuzz");
    let Ok(torch) = read(file, path) else { return false };
    for strided in torch.strided.values() {
        strided.gather(file);
    }
    check_checksums(&Bytes::Owned(AlignedBytes::new(file)), &torch, path).is_ok()
}

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
