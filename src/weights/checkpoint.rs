//! The tensors of a checkpoint by name, over one file or several.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::Deserialize;

use super::format::WeightFormat;
use super::mmap::{AlignedBytes, Bytes, InPlace, Plain};
use super::prefix;
use super::safetensors::{Header, TensorEntry, read_header};
use super::source::Source;
use super::torch::{self, Strided};
use crate::config::parse_json;
use crate::error::{Error, Result};

/// The main file, or the index of its shards, in order of preference: safetensors, then PyTorch's own format.
const MAIN: [(&str, &str); 2] =
    [("model.safetensors", "model.safetensors.index.json"), ("pytorch_model.bin", "pytorch_model.bin.index.json")];

/// Metadata key of a file whose `U8` tensors `[rows, cols/32, 18]` are 4-bit blocks.
pub(crate) const Q4_0_KEY: &str = "trivec.q4_0";

/// One file, with its checked header.
#[derive(Debug)]
struct TensorFile {
    name: String,
    bytes: Arc<Bytes>,
    header: Header,
    /// Tensors that have to be gathered; their ranges in the header count in what is gathered.
    strided: BTreeMap<String, Strided>,
}

/// A tensor as a file holds it.
#[derive(Debug, Clone)]
pub(crate) struct StoredTensor {
    /// The file, for errors.
    pub file: std::path::PathBuf,
    /// The name in the file.
    pub name: String,
    pub entry: TensorEntry,
    /// Whether the file's `U8` tensors are 4-bit blocks.
    pub q4_0: bool,
    /// Whether every value is to be checked for NaN and infinities.
    pub check_finite: bool,
    bytes: Arc<Bytes>,
}

impl StoredTensor {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[self.entry.range.clone()]
    }

    /// The tensor's numbers, read in place; `None` if they are not aligned or not a whole number of them.
    pub(super) fn in_place<T: Plain>(&self) -> Option<InPlace<T>> {
        InPlace::new(Arc::clone(&self.bytes), self.entry.range.clone())
    }

    /// Copies bytes of the tensor, from `from` on, into `out`; see [`Bytes::copy_to`].
    pub(crate) fn copy_to(&self, from: usize, out: &mut [u8]) {
        debug_assert!(from + out.len() <= self.entry.range.len());
        self.bytes.copy_to(self.entry.range.start + from, out);
    }

    /// Reshapes a tensor that is a single row or column of numbers.
    pub(crate) fn reshape_line(&mut self, shape: &[usize]) {
        let found = &self.entry.shape;
        let is_line = !self.q4_0 && found.iter().filter(|&&size| size != 1).count() <= 1;
        if is_line && found.iter().product::<usize>() == shape.iter().product::<usize>() {
            self.entry.shape = shape.to_vec();
        }
    }

    pub(crate) fn refuse(&self, what: impl Into<String>) -> Error {
        Error::tensor(&self.file, &self.name, what)
    }
}

/// A tensor whose bytes have not been gathered yet, if they have to be.
#[derive(Debug, Clone)]
pub(crate) struct UnreadTensor {
    /// All but the bytes, if there is something to gather.
    pub stored: StoredTensor,
    strided: Option<Strided>,
}

impl UnreadTensor {
    /// The tensor with its bytes.
    pub(crate) fn read(&self) -> StoredTensor {
        let mut stored = self.stored.clone();
        if let Some(strided) = &self.strided {
            stored.bytes = Arc::new(Bytes::Owned(strided.gather(&stored.bytes)));
        }
        stored
    }

    /// Whether its type is one of those that weights have.
    pub(crate) fn holds_weights(&self) -> bool {
        let dtype = self.stored.entry.dtype.as_str();
        matches!(dtype, "F64" | "F32" | "F16" | "BF16") || (dtype == "U8" && self.stored.q4_0)
    }
}

impl StoredTensor {
    /// A tensor of 4-bit blocks, `bytes` in `shape`, which were made of this one's.
    pub(crate) fn as_blocks(&self, shape: Vec<usize>, bytes: &[u8]) -> StoredTensor {
        let entry = TensorEntry { dtype: "U8".to_owned(), shape, range: 0..bytes.len() };
        StoredTensor { entry, q4_0: true, bytes: Arc::new(Bytes::Owned(AlignedBytes::new(bytes))), ..self.clone() }
    }
}

impl From<StoredTensor> for UnreadTensor {
    fn from(stored: StoredTensor) -> Self {
        UnreadTensor { stored, strided: None }
    }
}

/// A tensor's numbers, in place.
#[derive(Debug)]
pub(crate) struct Mapped<T>(InPlace<T>);

impl<T: Plain> Mapped<T> {
    /// The numbers of a tensor of type `dtype`.
    pub(crate) fn new(stored: StoredTensor, dtype: &str) -> Result<Mapped<T>> {
        if stored.entry.dtype != dtype {
            return Err(stored.refuse(format!("its type is {}, expected {dtype}", stored.entry.dtype)));
        }
        let numbers = stored.in_place();
        numbers.map(Mapped).ok_or_else(|| stored.refuse("its data is not aligned, as a packed file's is"))
    }
}

impl<T: Plain> AsRef<[T]> for Mapped<T> {
    fn as_ref(&self) -> &[T] {
        self.0.as_slice()
    }
}

/// All tensors of a model's main files.
#[derive(Debug)]
pub(crate) struct Checkpoint {
    source: Source,
    files: Vec<TensorFile>,
    /// The prefix of the encoder's tensor names.
    prefix: String,
    check_finite: bool,
    /// How a packed file's layers are stored; `None` for checkpoints of floats.
    packed: Option<PackedScheme>,
}

/// How the layers of a packed file are stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PackedScheme {
    /// How the weights of each layer are stored.
    pub layers: Vec<WeightFormat>,
    /// Whether integer weights carry the rotation.
    pub rotated: bool,
    /// Whether int4 layers are 4-bit blocks with a scale each, and their activations too.
    pub q4_0: bool,
    /// Whether those blocks are widened to f32 and multiplied as such: the source's own arithmetic.
    pub exact: bool,
}

#[derive(Deserialize)]
struct ShardIndex {
    weight_map: BTreeMap<String, String>,
}

impl Checkpoint {
    /// Opens the main file, or every file that its index names.
    pub(crate) fn open(source: Source, check_finite: bool) -> Result<Checkpoint> {
        let mut checkpoint = Checkpoint::empty(source, check_finite);
        for (main, index) in MAIN {
            if checkpoint.add(main)? || checkpoint.add_shards(index)? {
                let names = checkpoint.files.iter().flat_map(|file| file.header.tensors.keys());
                let prefix = prefix::of_encoder(names.map(String::as_str));
                checkpoint.prefix = prefix.map_err(|what| Error::format(&checkpoint.path(), what))?;
                return Ok(checkpoint);
            }
        }
        let [(main, index), (torch, torch_index)] = MAIN;
        let mut what = format!("there is neither {main} nor {torch} (nor {index}, nor {torch_index})");
        if let Some(other) = checkpoint.source.other_weights() {
            let usual = if other.ends_with(".safetensors") { main } else { torch };
            let other = other.escape_debug();
            what.push_str(&format!("; if the model's weights are in `{other}`, call that file {usual}"));
        }
        Err(Error::format(&checkpoint.source.path(""), what))
    }

    fn empty(source: Source, check_finite: bool) -> Checkpoint {
        Checkpoint { source, files: Vec::new(), prefix: String::new(), check_finite, packed: None }
    }

    /// The file that the tensors are in, or the directory of several.
    fn path(&self) -> std::path::PathBuf {
        match &self.files[..] {
            [only] => self.source.path(&only.name),
            _ => self.source.path(""),
        }
    }

    /// A tensor's name without the prefixes that models around the encoder add.
    pub(crate) fn without_prefix(&self, name: &str) -> String {
        prefix::without(name, &self.prefix)
    }

    /// Adds the files that `index` names; `false` if there is no such index.
    fn add_shards(&mut self, index: &str) -> Result<bool> {
        let Some(bytes) = self.source.open(index)? else { return Ok(false) };
        let index_path = self.source.path(index);
        let parsed: ShardIndex = parse_json(&bytes, &index_path)?;
        let shards: BTreeSet<&String> = parsed.weight_map.values().collect();
        for &shard in &shards {
            if !crate::config::is_plain_relative(shard) || shard.contains('/') {
                return Err(Error::format(&index_path, format!("shard `{shard}` is not a file name")));
            }
            if !self.add(shard)? {
                return Err(Error::format(&self.source.path(shard), "the shard is missing"));
            }
        }
        for (tensor, shard) in &parsed.weight_map {
            let file = self.files.iter().find(|file| file.name == *shard);
            if !file.is_some_and(|file| file.header.tensors.contains_key(tensor)) {
                return Err(Error::tensor(
                    &self.source.path(shard),
                    tensor,
                    format!("{index} puts it here, but it is missing"),
                ));
            }
        }
        Ok(true)
    }

    /// The tensors of a packed file, whose header has been read.
    pub(crate) fn of_packed(
        source: Source,
        bytes: Arc<Bytes>,
        header: Header,
        scheme: PackedScheme,
        check_finite: bool,
    ) -> Checkpoint {
        let file = TensorFile { name: String::new(), bytes, header, strided: BTreeMap::new() };
        Checkpoint { files: vec![file], packed: Some(scheme), ..Checkpoint::empty(source, check_finite) }
    }

    /// Brings all pages of the files into memory.
    pub(crate) fn preload(&self) {
        for file in &self.files {
            // A failure does no harm: pages are loaded when they are touched.
            let _ = file.bytes.preload();
        }
    }

    /// How a packed file's layers are stored.
    pub(crate) fn packed(&self) -> Option<&PackedScheme> {
        self.packed.as_ref()
    }

    /// The tensors of another file of the same model, if there is one.
    pub(crate) fn sibling(&self, name: &str) -> Result<Option<Checkpoint>> {
        let mut own = Checkpoint::empty(self.source.clone(), self.check_finite);
        Ok(own.add(name)?.then_some(own))
    }

    /// Adds a file's tensors; `false` if there is no such file.
    fn add(&mut self, name: &str) -> Result<bool> {
        let Some(bytes) = self.source.open(name)? else { return Ok(false) };
        let path = self.source.path(name);
        let (header, strided) = if name.ends_with(".bin") || name.ends_with(".pt") {
            let torch = torch::read(&bytes, &path)?;
            if self.check_finite {
                torch::check_checksums(&bytes, &torch, &path)?;
            }
            (torch.header, torch.strided)
        } else {
            (read_header(&bytes, &path)?, BTreeMap::new())
        };
        self.files.push(TensorFile { name: name.to_owned(), bytes, header, strided });
        Ok(true)
    }

    pub(crate) fn source(&self) -> &Source {
        &self.source
    }

    /// The tensor called one of `names`, in that order of preference.
    pub(crate) fn find(&self, names: &[&str]) -> Option<StoredTensor> {
        names.iter().find_map(|&name| {
            self.files.iter().find_map(|file| Some(self.unread(file, name, file.header.tensors.get(name)?).read()))
        })
    }

    /// The tensor called one of `names` in a head's own file, ignoring prefixes that training scripts add.
    pub(crate) fn find_unwrapped(&self, names: &[&str]) -> Option<StoredTensor> {
        self.find(names).or_else(|| {
            let tensors = || self.files.iter().flat_map(|file| file.header.tensors.keys());
            names.iter().find_map(|&name| self.find(&[tensors().find(|full| prefix::without_wrappers(full) == name)?]))
        })
    }

    /// All tensors, file by file, in the order of their names.
    pub(crate) fn tensors(&self) -> impl Iterator<Item = UnreadTensor> {
        self.files
            .iter()
            .flat_map(move |file| file.header.tensors.iter().map(move |(name, entry)| self.unread(file, name, entry)))
    }

    fn unread(&self, file: &TensorFile, name: &str, entry: &TensorEntry) -> UnreadTensor {
        let stored = StoredTensor {
            file: self.source.path(&file.name),
            name: name.to_owned(),
            entry: entry.clone(),
            q4_0: file.header.metadata.get(Q4_0_KEY).is_some_and(|version| version == "1"),
            check_finite: self.check_finite,
            bytes: Arc::clone(&file.bytes),
        };
        UnreadTensor { stored, strided: file.strided.get(name).cloned() }
    }

    /// The tensor `name` of the encoder, or of a model around it.
    pub(crate) fn within(&self, name: &str) -> Option<StoredTensor> {
        let found = prefix::around(&self.prefix).find_map(|prefix| self.find(&[&format!("{prefix}{name}")]));
        found.or_else(|| self.find(&[&format!("{}{}", self.prefix, prefix::of_tensorflow(name)?)]))
    }

    /// As [`Checkpoint::within`]; a missing tensor is an error.
    pub(crate) fn require(&self, name: &str) -> Result<StoredTensor> {
        self.within(name).ok_or_else(|| Error::tensor(&self.path(), name, "it is missing"))
    }

    /// The types of all tensors that carry weights, in the words users know, without repeats.
    pub(crate) fn dtypes(&self) -> Vec<String> {
        let mut names = BTreeSet::new();
        for file in &self.files {
            let q4_0 = file.header.metadata.contains_key(Q4_0_KEY);
            // A packed file's tokenizer and padding are no weights.
            let is_weight = |name: &&String| !name.starts_with("tokenizer.") && !name.starts_with("pad.");
            for (_, entry) in file.header.tensors.iter().filter(|(name, _)| is_weight(name)) {
                names.insert(if q4_0 && entry.dtype == "U8" { "Q4_0" } else { entry.dtype.as_str() });
            }
        }
        names.into_iter().filter(|name| *name != "I64").map(str::to_owned).collect()
    }
}
