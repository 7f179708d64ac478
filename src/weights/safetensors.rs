//! The safetensors header: which tensors a file holds, checked against the file's real length before anything is trusted.
//!
//! Layout: `u64` header length, JSON `{name: {dtype, shape, data_offsets}, "__metadata__": {…}}`, data. The `safetensors`
//! crate reads the same layout (the tests compare with it). Here each error also names the tensor and the lengths, and a name that comes
//! twice is an error, where a JSON parser would silently keep one of the two.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::path::Path;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};

use crate::error::{Error, Result};
use crate::magic;

/// The longest header that is read: the format's own limit.
pub(crate) const MAX_HEADER_BYTES: u64 = 100_000_000;

/// A tensor's entry in the header. It has been checked that the range lies inside the file and is as long as the shape says.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TensorEntry {
    /// `F32`, `F16`, `BF16`, `U8`, …
    pub dtype: String,
    pub shape: Vec<usize>,
    /// Where the tensor's bytes are, counted from the start of the file.
    pub range: Range<usize>,
}

/// A file's tensors and its free-text metadata.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Header {
    pub tensors: BTreeMap<String, TensorEntry>,
    pub metadata: BTreeMap<String, String>,
}

/// A tensor's entry as the header has it, not checked yet.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTensor {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: [u64; 2],
}

/// The header as the file has it, not checked yet.
#[derive(Default)]
struct RawHeader {
    tensors: BTreeMap<String, RawTensor>,
    metadata: BTreeMap<String, String>,
}

/// Reads the JSON object entry by entry, so that a name that comes twice is noticed.
impl<'de> Deserialize<'de> for RawHeader {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = RawHeader;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawHeader, A::Error> {
                let mut header = RawHeader::default();
                let mut has_metadata = false;
                while let Some(name) = map.next_key::<String>()? {
                    let repeated = if name == "__metadata__" {
                        header.metadata = map.next_value()?;
                        std::mem::replace(&mut has_metadata, true)
                    } else {
                        header.tensors.insert(name.clone(), map.next_value()?).is_some()
                    };
                    if repeated {
                        return Err(serde::de::Error::custom(format_args!("the name `{name}` comes twice")));
                    }
                }
                Ok(header)
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

/// The bytes of one element of this type; `None` for a type that is not read.
fn element_bytes(dtype: &str) -> Option<u64> {
    Some(match dtype {
        "BOOL" | "U8" | "I8" | "F8_E5M2" | "F8_E4M3" | "F8_E8M0" | "F8_E4M3FNUZ" | "F8_E5M2FNUZ" => 1,
        "F16" | "BF16" | "I16" | "U16" => 2,
        "F32" | "I32" | "U32" => 4,
        "F64" | "I64" | "U64" | "C64" => 8,
        _ => return None,
    })
}

/// How many of a file's first bytes are looked at to recognise text.
const LOOKED_AT: usize = 256;

/// What the file is, if it is recognisably something else than a safetensors file; `None` if it may be one.
fn something_else(file: &[u8]) -> Option<&'static str> {
    // A header length below 2^32 and the beginning of a header: this is meant to be a safetensors file.
    if file.get(4..9) == Some(b"\0\0\0\0{") {
        return None;
    }
    let head = &file[..file.len().min(LOOKED_AT)];
    match magic::kind(&head[..head.len().min(magic::HEAD)]) {
        Some("a zip archive") => {
            return Some("a zip archive (PyTorch's own files are such: give the directory they are in)");
        }
        Some("a pickle of Python") => {
            return Some("a pickle of Python (PyTorch's old files are such: give the directory they are in)");
        }
        Some("GGUF") => return Some("a GGUF file, which trivec does not read"),
        Some(kind) => return Some(kind),
        None if file.get(257..262) == Some(b"ustar") => {
            return Some("a tar archive (unpack it, and give the directory of the model that was in it)");
        }
        None => {}
    }
    // The last byte of a valid header length is always 0, which text does not have, so no safetensors file is taken for text.
    let text = match std::str::from_utf8(head) {
        Ok(text) => text,
        // The end of `head` may cut a character.
        Err(e) if e.error_len().is_none() => std::str::from_utf8(&head[..e.valid_up_to()]).unwrap_or_default(),
        Err(_) => return None,
    };
    if text.len() < 8 || text.chars().any(|c| c.is_control() && !c.is_whitespace()) {
        return None;
    }
    let begins =
        |begin: &str| text.trim_start().get(..begin.len()).is_some_and(|text| text.eq_ignore_ascii_case(begin));
    Some(if begins("version https://git-lfs") {
        "a pointer of Git LFS and not the file itself (`git lfs pull` fetches that)"
    } else if begins("<!doctype html") || begins("<html") {
        "a web page"
    } else if begins("{") || begins("[") {
        "JSON (a model is given by its directory)"
    } else {
        "text"
    })
}

/// Reads and checks a file's header. `path` names the file in errors.
pub(crate) fn read_header(file: &[u8], path: &Path) -> Result<Header> {
    let actual = file.len() as u64;
    if let Some(found) = something_else(file) {
        return Err(Error::format(path, format!("this is {found}, expected a safetensors file")));
    }
    let short = |expected: u64| Error::FileLength { path: path.to_path_buf(), expected, actual };
    let length = file.first_chunk::<8>().map(|bytes| u64::from_le_bytes(*bytes)).ok_or_else(|| short(8))?;
    if length > MAX_HEADER_BYTES {
        return Err(Error::format(
            path,
            format!("no safetensors file: the header's length is {length}, expected at most {MAX_HEADER_BYTES}"),
        ));
    }
    let data_start = 8 + length;
    if data_start > actual {
        return Err(short(data_start));
    }
    let json = &file[8..data_start as usize];
    if json.first() != Some(&b'{') {
        return Err(Error::format(path, format!("the header of {length} bytes does not begin with `{{`")));
    }
    let raw: RawHeader =
        serde_json::from_slice(json).map_err(|e| Error::format(path, format!("the header is not valid: {e}")))?;

    let mut by_offset: Vec<(&String, &RawTensor)> = raw.tensors.iter().collect();
    by_offset.sort_by_key(|(_, tensor)| tensor.data_offsets);
    let mut end_of_last = 0;
    let mut tensors = BTreeMap::new();
    for (name, tensor) in by_offset {
        let refuse = |what: String| Error::tensor(path, name, what);
        let [begin, end] = tensor.data_offsets;
        if begin > end {
            return Err(refuse(format!("its offsets descend: {begin} to {end}")));
        }
        if begin != end_of_last {
            let problem = if begin < end_of_last { "overlaps what ends" } else { "leaves a hole after what ends" };
            return Err(refuse(format!("it begins at {begin} and {problem} at {end_of_last}")));
        }
        let element = element_bytes(&tensor.dtype).ok_or_else(|| refuse(format!("unknown dtype {}", tensor.dtype)))?;
        let size = tensor.shape.iter().try_fold(element, |size, &dim| size.checked_mul(dim));
        let size = size.ok_or_else(|| refuse(format!("the size of shape {:?} overflows", tensor.shape)))?;
        if size != end - begin {
            let found = end - begin;
            return Err(refuse(format!(
                "shape {:?} of {} takes {size} bytes, found {found}",
                tensor.shape, tensor.dtype
            )));
        }
        end_of_last = end;
        // Whether `end` lies inside the file is checked below, for the last tensor. Sums that overflow certainly do not.
        let range = data_start.checked_add(begin).zip(data_start.checked_add(end));
        let range = range.and_then(|(begin, end)| Some(usize::try_from(begin).ok()?..usize::try_from(end).ok()?));
        let range = range.ok_or_else(|| refuse(format!("its end {end} overflows")))?;
        let shape = tensor.shape.iter().map(|&dim| usize::try_from(dim).ok()).collect::<Option<Vec<_>>>();
        let shape = shape.ok_or_else(|| refuse(format!("the size of shape {:?} overflows", tensor.shape)))?;
        tensors.insert(name.clone(), TensorEntry { dtype: tensor.dtype.clone(), shape, range });
    }
    let expected = data_start.saturating_add(end_of_last);
    if expected != actual {
        return Err(short(expected));
    }
    Ok(Header { tensors, metadata: raw.metadata })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn file(header: &str, data: usize) -> Vec<u8> {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(header.as_bytes());
        bytes.resize(bytes.len() + data, 0);
        bytes
    }

    fn read(bytes: &[u8]) -> Result<Header> {
        read_header(bytes, Path::new("m.safetensors"))
    }

    fn refusal(bytes: &[u8]) -> String {
        let message = read(bytes).unwrap_err().to_string();
        assert!(message.starts_with("m.safetensors: "), "{message}");
        message
    }

    const GOOD: &str = r#"{"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},"b":{"dtype":"F16","shape":[4],"data_offsets":[24,32]}}"#;

    #[test]
    fn reads_what_the_library_reads() {
        let bytes = file(GOOD, 32);
        let header = read(&bytes).unwrap();
        let library = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(header.tensors.len(), library.len());
        for (name, entry) in &header.tensors {
            let tensor = library.tensor(name).unwrap();
            assert_eq!((&entry.shape[..], &bytes[entry.range.clone()]), (tensor.shape(), tensor.data()));
        }
        assert_eq!(header.metadata["format"], "pt");
        assert!(read(&file("{}", 0)).unwrap().tensors.is_empty());
    }

    #[test]
    fn a_file_cut_anywhere_is_refused_with_both_lengths() {
        let bytes = file(GOOD, 32);
        for cut in 0..bytes.len() {
            let Err(Error::FileLength { expected, actual, .. }) = read(&bytes[..cut]) else { panic!("cut at {cut}") };
            assert!(actual == cut as u64 && expected > actual, "cut at {cut}: {expected}, {actual}");
        }
        let longer = file(GOOD, 33);
        assert!(matches!(read(&longer), Err(Error::FileLength { .. })));
    }

    #[test]
    fn wrong_header_lengths_are_refused() {
        for length in [0, 1, 7, 100_000_001, 1 << 63, u64::MAX] {
            let mut bytes = file(GOOD, 32);
            bytes[..8].copy_from_slice(&length.to_le_bytes());
            assert!(read(&bytes).is_err(), "{length}");
        }
    }

    #[test]
    fn contradictory_entries_are_refused_by_name() {
        let tensor = |shape: &str, offsets: &str| {
            format!(
                r#"{{"x":{{"dtype":"F32","shape":[2],"data_offsets":[0,8]}},"t":{{"dtype":"F32","shape":{shape},"data_offsets":{offsets}}}}}"#
            )
        };
        for (shape, offsets, expected) in [
            ("[2]", "[8,12]", "takes 8 bytes, found 4"),
            ("[2]", "[4,12]", "overlaps"),
            ("[2]", "[12,20]", "hole"),
            ("[2]", "[16,8]", "descend"),
            ("[4294967296,4294967296]", "[8,16]", "overflows"),
            ("[9223372036854775807]", "[8,16]", "overflows"),
        ] {
            let message = refusal(&file(&tensor(shape, offsets), 20));
            assert!(message.contains("`t`") && message.contains(expected), "{shape} {offsets}: {message}");
        }
        let far = r#"{"t":{"dtype":"U8","shape":[18446744073709551615],"data_offsets":[0,18446744073709551615]}}"#;
        assert!(read(&file(far, 0)).is_err());
        let unknown = r#"{"t":{"dtype":"F12","shape":[1],"data_offsets":[0,4]}}"#;
        assert!(refusal(&file(unknown, 4)).contains("F12"));
    }

    #[test]
    fn bad_json_is_refused() {
        let twice = r#"{"t":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"t":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}"#;
        assert!(refusal(&file(twice, 0)).contains("`t` comes twice"));
        for header in [
            "{\"a\":".repeat(10_000),
            format!("{{\"a\":{}", "[".repeat(10_000)),
            "{} x".into(),
            "[]".into(),
            "{\"a\":1}".into(),
            r#"{"t":{"dtype":"U8","shape":[-1],"data_offsets":[0,0]}}"#.into(),
            r#"{"t":{"dtype":"U8","shape":[0],"data_offsets":[0,0,0]}}"#.into(),
        ] {
            assert!(read(&file(&header, 0)).is_err(), "{}", &header[..header.len().min(60)]);
        }
        let mut bytes = file("{\"\u{0}\"}", 0);
        bytes[10] = 0xff;
        assert!(read(&bytes).is_err());
    }

    proptest! {
        #[test]
        fn never_panics_and_accepts_nothing_the_library_refuses(at in 0usize..200, value: u8, cut in 0usize..240) {
            let mut bytes = file(GOOD, 32);
            let at = at % bytes.len();
            bytes[at] = value;
            bytes.truncate(cut.max(1).min(bytes.len()));
            if read(&bytes).is_ok() {
                prop_assert!(safetensors::SafeTensors::deserialize(&bytes).is_ok());
            }
        }
    }
}
