//! Writes a safetensors file whose tensors all begin at multiples of 64 bytes, and recognises a packed model.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::parallel::Team;
use crate::weights::packed::keys;
use crate::weights::safetensors::MAX_HEADER_BYTES;

/// Every tensor begins at a multiple of this many bytes.
const ALIGNMENT: usize = 64;

/// Whether a file is a packed model of any format, damaged ones too: by its header alone.
///
/// # Errors
/// That the file cannot be opened or read.
pub fn is_packed(path: &Path) -> io::Result<bool> {
    let mut file = File::open(path)?;
    let all = file.metadata()?.len();
    let mut length = [0; 8];
    if all < 8 {
        return Ok(false);
    }
    file.read_exact(&mut length)?;
    let length = u64::from_le_bytes(length);
    if length > MAX_HEADER_BYTES.min(all - 8) {
        return Ok(false);
    }
    let mut header = Vec::new();
    file.take(length).read_to_end(&mut header)?;
    let header = serde_json::from_slice::<Value>(&header);
    Ok(header.is_ok_and(|header| header["__metadata__"][keys::VERSION].is_string()))
}

/// Computes a tensor's bytes at the moment they are written.
pub(super) type Fill<'a> = Box<dyn Fn() -> Result<Vec<u8>> + Send + Sync + 'a>;

struct Tensor<'a> {
    name: String,
    dtype: &'static str,
    shape: Vec<usize>,
    bytes: usize,
    fill: Fill<'a>,
}

impl Tensor<'_> {
    /// The tensor's bytes with the padding up to the next tensor.
    fn padded(&self) -> u64 {
        self.bytes.next_multiple_of(ALIGNMENT) as u64
    }
}

/// A file to be written. Names and sizes are known first; the bytes are computed later.
pub(super) struct PackedWriter<'a> {
    metadata: BTreeMap<String, String>,
    tensors: Vec<Tensor<'a>>,
}

impl<'a> PackedWriter<'a> {
    pub(super) fn new() -> Self {
        PackedWriter { metadata: BTreeMap::new(), tensors: Vec::new() }
    }

    /// Adds an entry to the header's metadata, or replaces it.
    pub(super) fn meta(&mut self, key: &str, value: String) {
        self.metadata.insert(key.to_owned(), value);
    }

    /// Adds a tensor of `bytes` bytes, which `fill` makes.
    pub(super) fn add(&mut self, name: String, dtype: &'static str, shape: Vec<usize>, bytes: usize, fill: Fill<'a>) {
        self.tensors.push(Tensor { name, dtype, shape, bytes, fill });
    }

    /// The header as JSON: the tensors in the order in which they were added, with padding tensors between them where needed.
    fn header(&self) -> Result<Vec<u8>> {
        let mut entries = serde_json::Map::new();
        entries.insert("__metadata__".to_owned(), json!(self.metadata));
        let mut at = 0;
        for tensor in &self.tensors {
            let end = at + tensor.bytes;
            let entry = json!({"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": [at, end]});
            if entries.insert(tensor.name.clone(), entry).is_some() {
                let what = format!("two tensors are called `{}`", tensor.name);
                return Err(Error::Option { option: "model", what });
            }
            at = end.next_multiple_of(ALIGNMENT);
            if at > end {
                let pad = json!({"dtype": "U8", "shape": [at - end], "data_offsets": [end, at]});
                entries.insert(format!("pad.{end}"), pad);
            }
        }
        let mut json = Value::Object(entries).to_string().into_bytes();
        // The header is padded with spaces, so that the data begins at a multiple of 64.
        json.resize((8 + json.len()).next_multiple_of(ALIGNMENT) - 8, b' ');
        Ok(json)
    }

    /// What the file begins with: the header's length and the header.
    pub(super) fn beginning(&self) -> Result<Vec<u8>> {
        let header = self.header()?;
        Ok([&(header.len() as u64).to_le_bytes()[..], &header].concat())
    }

    /// Length of the file.
    pub(super) fn bytes(&self) -> Result<u64> {
        let tensors: u64 = self.tensors.iter().map(Tensor::padded).sum();
        Ok(self.beginning()?.len() as u64 + tensors)
    }

    /// The last place in the file's first `len` bytes at which a tensor ends, so that writing can go on there; 0 if not even the header is
    /// complete.
    pub(super) fn last_boundary(&self, len: u64) -> Result<u64> {
        let mut boundary = self.beginning()?.len() as u64;
        if boundary > len {
            return Ok(0);
        }
        for tensor in &self.tensors {
            if boundary + tensor.padded() > len {
                break;
            }
            boundary += tensor.padded();
        }
        Ok(boundary)
    }

    /// Writes everything after the file's first `from` bytes to `out`, which appends. `from` is 0 or a place that [`Self::last_boundary`]
    /// gave; others are refused. `progress` is called with the bytes that the file has so far, the first `from` included, and with its
    /// length. Returns the length.
    pub(super) fn write(
        &self,
        team: &Team,
        path: &Path,
        out: &mut dyn Write,
        from: u64,
        progress: &dyn Fn(u64, u64),
    ) -> Result<u64> {
        let io = |e| Error::io(path, e);
        let boundary = self.last_boundary(from)?;
        if boundary != from {
            let what = format!("found {from}, expected a place at which a part of the file ends, as {boundary}");
            return Err(Error::Option { option: "from", what });
        }
        let (beginning, total) = (self.beginning()?, self.bytes()?);
        if from == 0 {
            out.write_all(&beginning).map_err(io)?;
        }
        let mut written = beginning.len() as u64;
        let mut left = &self.tensors[..];
        while let Some((first, others)) = left.split_first().filter(|_| written < from) {
            written += first.padded();
            left = others;
        }
        progress(written, total);
        // Computes a few tensors at a time, so that memory need not hold all of them.
        for tensors in left.chunks(2 * team.threads()) {
            for (bytes, tensor) in team.map(tensors, |tensor| (tensor.fill)()).into_iter().zip(tensors) {
                let mut bytes = bytes?;
                debug_assert_eq!(bytes.len(), tensor.bytes, "{}", tensor.name);
                bytes.resize(tensor.bytes.next_multiple_of(ALIGNMENT), 0);
                out.write_all(&bytes).map_err(io)?;
                written += bytes.len() as u64;
            }
            progress(written, total);
        }
        out.flush().map_err(io)?;
        Ok(written)
    }
}
