//! The tensors of a checkpoint by name, whether they are in one file or several.

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

/// The metadata key that is "1" in files whose `U8` tensors `[rows, cols/32, 18]` are q4_0 blocks.
pub(crate) const Q4_0_KEY: &str = "trivec.q4_0";

/// One open file with its header, which has been checked.
#[derive(Debug)]
struct TensorFile {
    name: String,
    bytes: Arc<Bytes>,
    header: Header,
    /// The tensors of a PyTorch file whose elements have to be gathered, by name. Their ranges in `header` are ranges of the gathered
    /// bytes, not of the file.
    strided: BTreeMap<String, Strided>,
}

impl TensorFile {
    /// Whether the file's `U8` tensors are q4_0 blocks, in the one version of them that there is.
    fn has_q4_0_blocks(&self) -> bool {
        self.header.metadata.get(Q4_0_KEY).is_some_and(|version| version == "1")
    }
}

/// A tensor as a file holds it, with its type, its shape and its bytes.
#[derive(Debug, Clone)]
pub(crate) struct StoredTensor {
    /// The path of its file, for errors.
    pub file: std::path::PathBuf,
    /// The name in the file.
    pub name: String,
    pub entry: TensorEntry,
    /// Whether the `U8` tensors of its file are q4_0 blocks.
    pub q4_0: bool,
    /// Whether the values are to be checked for NaN and infinities when they are read.
    pub check_finite: bool,
    bytes: Arc<Bytes>,
}

impl StoredTensor {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[self.entry.range.clone()]
    }

    /// The tensor's bytes as numbers of type `T`, in place; `None` if they are not aligned for `T` or not a whole number of `T`.
    pub(super) fn in_place<T: Plain>(&self) -> Option<InPlace<T>> {
        InPlace::new(Arc::clone(&self.bytes), self.entry.range.clone())
    }

    /// Fills `out` with the tensor's bytes from byte `from` on; see [`Bytes::copy_to`].
    pub(crate) fn copy_to(&self, from: usize, out: &mut [u8]) {
        debug_assert!(from + out.len() <= self.entry.range.len());
        self.bytes.copy_to(self.entry.range.start + from, out);
    }

    /// Gives a tensor that is a single row, column or list of numbers the shape `shape`; leaves all others, and those of another length, as
    /// they are.
    pub(crate) fn reshape_line(&mut self, shape: &[usize]) {
        let found = &self.entry.shape;
        let is_line = !self.q4_0 && found.iter().filter(|&&size| size != 1).count() <= 1;
        if is_line && found.iter().product::<usize>() == shape.iter().product::<usize>() {
            self.entry.shape = shape.to_vec();
        }
    }

    /// The error that names this tensor and its file, and says `what` is wrong.
    pub(crate) fn refuse(&self, what: impl Into<String>) -> Error {
        Error::tensor(&self.file, &self.name, what)
    }
}

/// A tensor of a checkpoint that has not been read. If its elements have to be gathered, [`UnreadTensor::read`] does it.
#[derive(Debug, Clone)]
pub(crate) struct UnreadTensor {
    /// The tensor in its file. If `strided` is set, `entry.range` is a range of the gathered bytes, which `bytes` is not yet: call
    /// [`UnreadTensor::read`] before the values are read.
    pub stored: StoredTensor,
    strided: Option<Strided>,
}

impl UnreadTensor {
    /// The tensor, ready to be read. Strided elements are gathered into a buffer of their own; any other tensor stays a range of its file, and
    /// nothing is copied.
    pub(crate) fn read(&self) -> StoredTensor {
        let mut stored = self.stored.clone();
        if let Some(strided) = &self.strided {
            stored.bytes = Arc::new(Bytes::Owned(strided.gather(&stored.bytes)));
        }
        stored
    }

    /// Whether the tensor has one of the types in which a checkpoint stores weights.
    pub(crate) fn holds_weights(&self) -> bool {
        let dtype = self.stored.entry.dtype.as_str();
        matches!(dtype, "F64" | "F32" | "F16" | "BF16") || (dtype == "U8" && self.stored.q4_0)
    }
}

impl StoredTensor {
    /// The q4_0 blocks `bytes` as a tensor of shape `shape`, with this tensor's name and file. They were made from this tensor's bytes.
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

/// A tensor's numbers of type `T`, read in place.
#[derive(Debug)]
pub(crate) struct Mapped<T>(InPlace<T>);

impl<T: Plain> Mapped<T> {
    /// The numbers of a tensor, which must be of type `dtype`; an error if it is of another, or not aligned.
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

/// All tensors of a model's main files, or of one further file (see [`Checkpoint::sibling`]).
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

/// How the weights of a packed file's linear layers are stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PackedScheme {
    /// The format of each encoder layer.
    pub layers: Vec<WeightFormat>,
    /// Whether integer weights were rotated, so that their inputs must be rotated too.
    pub rotated: bool,
    /// Whether int4 layers are the checkpoint's own q4_0 blocks, so that activations get a scale for every 32 values.
    pub q4_0: bool,
    /// Whether q4_0 blocks are widened to f32 when they are read, so that the arithmetic is that of the model that was packed.
    pub exact: bool,
}

/// The index of a checkpoint in several files: which shard has which tensor.
#[derive(Deserialize)]
struct ShardIndex {
    weight_map: BTreeMap<String, String>,
}

impl Checkpoint {
    /// Opens the model's main file, or every shard that the index names.
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

    /// A checkpoint without any file yet.
    fn empty(source: Source, check_finite: bool) -> Checkpoint {
        Checkpoint { source, files: Vec::new(), prefix: String::new(), check_finite, packed: None }
    }

    /// The path for errors about the whole: the file if there is only one, else the directory.
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

    /// Adds the tensors of all shards that the file `index` names; `false` if there is no such file.
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

    /// The checkpoint of a packed file that has been opened and whose header has been read.
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

    /// How a packed file's layers are stored; `None` for checkpoints of floats.
    pub(crate) fn packed(&self) -> Option<&PackedScheme> {
        self.packed.as_ref()
    }

    /// The tensors of the file `name` of the same model, alone; `None` if there is no such file.
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

    /// The tensor with the first of `names` that a tensor has; names must match whole.
    pub(crate) fn find(&self, names: &[&str]) -> Option<StoredTensor> {
        names.iter().find_map(|&name| {
            self.files.iter().find_map(|file| Some(self.unread(file, name, file.header.tensors.get(name)?).read()))
        })
    }

    /// As [`Checkpoint::find`], for heads' own files: if no name matches whole, the prefixes of `DataParallel` and `torch.compile` are
    /// ignored.
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

    /// The tensor `name` of `file`, whose entry in the header is `entry`.
    fn unread(&self, file: &TensorFile, name: &str, entry: &TensorEntry) -> UnreadTensor {
        let stored = StoredTensor {
            file: self.source.path(&file.name),
            name: name.to_owned(),
            entry: entry.clone(),
            q4_0: file.has_q4_0_blocks(),
            check_finite: self.check_finite,
            bytes: Arc::clone(&file.bytes),
        };
        UnreadTensor { stored, strided: file.strided.get(name).cloned() }
    }

    /// The tensor `name` under the encoder's prefix or, failing that, under the prefix of a model around it; a layer norm's also under the
    /// name that TensorFlow gave it.
    pub(crate) fn within(&self, name: &str) -> Option<StoredTensor> {
        let found = prefix::around(&self.prefix).find_map(|prefix| self.find(&[&format!("{prefix}{name}")]));
        found.or_else(|| self.find(&[&format!("{}{}", self.prefix, prefix::of_tensorflow(name)?)]))
    }

    /// As [`Checkpoint::within`]; a missing tensor is an error.
    pub(crate) fn require(&self, name: &str) -> Result<StoredTensor> {
        self.within(name).ok_or_else(|| Error::tensor(&self.path(), name, "it is missing"))
    }

    /// The types of all tensors that hold weights, each once: the safetensors names, and `Q4_0` for 4-bit blocks.
    pub(crate) fn dtypes(&self) -> Vec<String> {
        let mut names = BTreeSet::new();
        for file in &self.files {
            // The tensors of a packed file's tokenizer and padding hold no weights. Those of type I64, left out below, are position ids.
            let is_weight = |name: &&String| !name.starts_with("tokenizer.") && !name.starts_with("pad.");
            for (_, entry) in file.header.tensors.iter().filter(|(name, _)| is_weight(name)) {
                names.insert(if file.has_q4_0_blocks() && entry.dtype == "U8" { "Q4_0" } else { entry.dtype.as_str() });
            }
        }
        names.into_iter().filter(|name| *name != "I64").map(str::to_owned).collect()
    }
}
