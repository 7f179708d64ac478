//! The settings of an index: written when it is created, and checked whenever it is opened.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use trivec::{EncodeOptions, Model, Modes, Prompt};

use crate::analyze::{ANALYZER_VERSION, UNKNOWN, is_detected, is_language, normalize_code};
use crate::disk::{Disk, write_whole};
use crate::error::{Error, Result};

/// The version of the files' format: an index of another version is refused.
pub(crate) const FORMAT: u32 = 2;
/// The name of the file of the settings.
pub(crate) const SETTINGS_FILE: &str = "trivec-index.json";

/// How many bits the values of stored ColBERT vectors have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ColbertBits {
    /// ColBERT vectors are not stored: the index does not rerank by them, and explanations have no alignment.
    Off,
    /// 132 bytes a token at 1,024 dimensions.
    One,
    /// 260 bytes a token.
    Two,
    /// 548 bytes a token.
    #[default]
    Four,
    /// 1,028 bytes a token.
    Eight,
}

impl ColbertBits {
    /// The number of bits: 0, 1, 2, 4 or 8.
    pub fn number(self) -> u32 {
        match self {
            ColbertBits::Off => 0,
            ColbertBits::One => 1,
            ColbertBits::Two => 2,
            ColbertBits::Four => 4,
            ColbertBits::Eight => 8,
        }
    }
}

impl std::str::FromStr for ColbertBits {
    type Err = Error;

    fn from_str(text: &str) -> Result<ColbertBits> {
        Ok(match text {
            "off" | "0" => ColbertBits::Off,
            "1" => ColbertBits::One,
            "2" => ColbertBits::Two,
            "4" => ColbertBits::Four,
            "8" => ColbertBits::Eight,
            _ => {
                return Err(Error::option(
                    "colbert",
                    format!("found `{}`, expected 8, 4, 2, 1 or off", text.escape_debug()),
                ));
            }
        })
    }
}

/// Identifies the model that made an index's vectors, by a digest of its outputs for fixed texts and tokens, and of its vocabulary. Two
/// models with the same digest are held to be the same model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelId {
    /// Where the model came from, for messages; not compared.
    pub name: String,
    /// SHA-256, in hexadecimal digits.
    pub digest: String,
    /// Length of the dense vector.
    pub dense_dim: usize,
    /// Length of the ColBERT vectors, if the model has them.
    pub colbert_dim: Option<usize>,
    /// Whether the model has lexical weights.
    pub lexical: bool,
}

/// Texts in several scripts: the digest of a model is made of its outputs for them.
const PROBES: [&str; 4] = [
    "The quick brown fox jumps over the lazy dog.",
    "苹果公司发布新手机",
    "Съешь же ещё этих мягких французских булок",
    "ตัวอย่าง مثال 예시 उदाहरण",
];

impl ModelId {
    /// Computes the identity of a model, for which the model encodes up to about two hundred tokens.
    ///
    /// # Errors
    /// [`Error::Engine`] if the model is a reranker or fails.
    pub fn of(model: &Model) -> Result<ModelId> {
        let info = model.info();
        let mut hash = Sha256::new();
        // Each field is preceded by its length, so that different lists of fields never have the same bytes.
        let mut field = |bytes: &[u8]| {
            hash.update((bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        };
        field(b"trivec index model 1");
        field(format!("{} {:?} {}", info.dense_dim, info.colbert_dim, info.vocabulary).as_bytes());
        for id in 0..info.vocabulary as u32 {
            field(model.piece(id).unwrap_or_default().as_bytes());
        }
        let options =
            EncodeOptions { modes: info.modes, prompt: Prompt::Text(String::new()), ..EncodeOptions::default() };
        let count = info.max_length.min(128);
        let spread: Vec<u32> = (0..count).map(|i| (i * info.vocabulary / count) as u32).collect();
        // These texts are the program's own, so an error about an input is the model's fault.
        let of_model = |e: trivec::Error| match e.of_input() {
            Some((_, what)) => trivec::Error::Format {
                path: PathBuf::from(&info.name),
                what: format!("its identity cannot be computed: {what}"),
            },
            None => e,
        };
        let mut embeddings = model.encode_ids(&[spread], &options).map_err(of_model)?;
        embeddings.extend(model.encode(&PROBES, &options).map_err(of_model)?);
        for embedding in embeddings {
            let floats = |values: &[f32]| values.iter().flat_map(|x| x.to_bits().to_le_bytes()).collect::<Vec<u8>>();
            field(&embedding.dense.as_deref().map(floats).unwrap_or_default());
            let lexical: Vec<u8> = embedding
                .lexical
                .iter()
                .flat_map(trivec::LexicalWeights::iter)
                .flat_map(|(id, weight)| [id, weight.to_bits()])
                .flat_map(u32::to_le_bytes)
                .collect();
            field(&lexical);
            field(&embedding.colbert.as_ref().map(|vectors| floats(vectors.as_slice())).unwrap_or_default());
        }
        let digest = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        let (dense_dim, colbert_dim) = (info.dense_dim, info.colbert_dim.filter(|_| info.modes.colbert));
        Ok(ModelId { name: info.name.clone(), digest, dense_dim, colbert_dim, lexical: info.modes.sparse })
    }
}

/// Options of a new index.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IndexOptions {
    /// How ColBERT vectors are stored, if the model has them.
    pub colbert: ColbertBits,
    /// The language of documents without one; `None`: it is detected from each text.
    pub language: Option<String>,
    /// The languages from which detection chooses; empty: from all that it knows.
    pub languages: Vec<String>,
    /// The largest number of tokens that are read of each text; `None`: as many as the model can read.
    pub max_length: Option<usize>,
    /// What is put before documents when they are embedded; `None`: the model's default prompt.
    pub document_prompt: Option<String>,
    /// What is put before queries when they are embedded; `None`: the model's default prompt.
    pub query_prompt: Option<String>,
}

impl IndexOptions {
    /// Checks that a model can do what the options ask for.
    ///
    /// # Errors
    /// [`Error::Option`] for a code that names no language or, in `languages`, one that names a language which is never detected;
    /// [`Error::Engine`] for a length or a prompt that the model does not accept.
    pub fn check(&self, model: &Model) -> Result<()> {
        self.check_languages()?;
        for prompt in [&self.document_prompt, &self.query_prompt] {
            let prompt = prompt.clone().map_or(Prompt::Default, Prompt::Text);
            model.token_ids("", &EncodeOptions { max_length: self.max_length, prompt, ..EncodeOptions::default() })?;
        }
        Ok(())
    }

    /// Checks that `language` and `languages` are codes that [`check`](Self::check) allows.
    fn check_languages(&self) -> Result<()> {
        let unknown = |option, code: &str| {
            let what = format!("found `{}`, expected the code of a language, as de, en or zh", code.escape_debug());
            Err(Error::option(option, what))
        };
        if let Some(code) = self.language.as_deref().filter(|code| !is_language(&normalize_code(code))) {
            // `und` is allowed: the words of such texts are not stemmed.
            if code != UNKNOWN {
                return unknown("language", code);
            }
        }
        for code in &self.languages {
            let kept = normalize_code(code);
            if !is_language(&kept) {
                return unknown("languages", code);
            }
            if !is_detected(&kept) {
                let what = format!(
                    "found `{kept}`, a language that no text is found to be in: documents say it themselves, or the option `language`"
                );
                return Err(Error::option("languages", what));
            }
        }
        Ok(())
    }
}

/// The settings of an index: the content of [`SETTINGS_FILE`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    pub format: u32,
    /// Tells two indices of the same model apart.
    pub uuid: String,
    pub model: ModelId,
    pub dense_dim: usize,
    pub lexical: bool,
    pub colbert_dim: Option<usize>,
    pub colbert_bits: ColbertBits,
    pub max_length: Option<usize>,
    pub analyzer: String,
    pub language: Option<String>,
    pub languages: Vec<String>,
    pub document_prompt: Option<String>,
    pub query_prompt: Option<String>,
    /// CRC-32 of the settings with an empty checksum, as eight hexadecimal digits.
    checksum: String,
}

impl Settings {
    /// The settings of a new index, with a `uuid` of its own.
    pub fn new(model: &ModelId, options: &IndexOptions) -> Result<Settings> {
        if model.dense_dim == 0 || model.dense_dim > trivec_kernels::MAX_INT_DEPTH {
            return Err(Error::option(
                "model",
                format!("dense vectors of {} values cannot be indexed", model.dense_dim),
            ));
        }
        options.check_languages()?;
        let mut settings = Settings {
            format: FORMAT,
            uuid: unique(),
            dense_dim: model.dense_dim,
            lexical: model.lexical,
            colbert_dim: model.colbert_dim,
            colbert_bits: if model.colbert_dim.is_some() { options.colbert } else { ColbertBits::Off },
            max_length: options.max_length,
            analyzer: ANALYZER_VERSION.to_owned(),
            language: options.language.as_deref().map(normalize_code),
            languages: options.languages.iter().map(|code| normalize_code(code)).collect(),
            document_prompt: options.document_prompt.clone(),
            query_prompt: options.query_prompt.clone(),
            model: model.clone(),
            checksum: String::new(),
        };
        settings.checksum = settings.sum()?;
        Ok(settings)
    }

    /// What [`checksum`](Self::checksum) must be.
    fn sum(&self) -> Result<String> {
        let bare = Settings { checksum: String::new(), ..self.clone() };
        let bytes = serde_json::to_vec(&bare).map_err(|e| Error::option("settings", e.to_string()))?;
        Ok(format!("{:08x}", crc32fast::hash(&bytes)))
    }

    /// Writes the settings of the index in `directory`.
    pub fn write(&self, disk: &Arc<dyn Disk>, directory: &Path) -> Result<()> {
        let path = directory.join(SETTINGS_FILE);
        let text = serde_json::to_vec_pretty(self).map_err(|e| Error::io(&path, e.into()))?;
        write_whole(disk, &path, &text)
    }

    /// Reads and checks the settings of the index in `directory`.
    ///
    /// # Errors
    /// [`Error::NotAnIndex`] without a file of settings; [`Error::Mismatch`] for another format or analyzer; [`Error::Damaged`];
    /// [`Error::Io`].
    pub fn read(directory: &Path) -> Result<Settings> {
        let path = directory.join(SETTINGS_FILE);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound || e.kind() == std::io::ErrorKind::NotADirectory => {
                let what = match std::fs::metadata(directory) {
                    Ok(metadata) if metadata.is_dir() => format!("it has no `{SETTINGS_FILE}`"),
                    Ok(_) => "it is a file, expected a directory".to_owned(),
                    Err(_) => "nothing is there".to_owned(),
                };
                return Err(Error::NotAnIndex { path: directory.to_path_buf(), what });
            }
            Err(e) => return Err(Error::io(&path, e)),
        };
        // The format is read first and alone, because another format may have other fields.
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let mismatch =
            |what, index: String, found: String| Error::Mismatch { path: directory.to_path_buf(), what, index, found };
        let format: Format = serde_json::from_slice(&text).map_err(|e| Error::damaged(&path, e.to_string()))?;
        if format.format != FORMAT {
            return Err(mismatch("format", format.format.to_string(), format!("a program that knows {FORMAT}")));
        }
        let settings: Settings = serde_json::from_slice(&text).map_err(|e| Error::damaged(&path, e.to_string()))?;
        if settings.analyzer != ANALYZER_VERSION {
            return Err(mismatch("analyzer", settings.analyzer, format!("a program that has {ANALYZER_VERSION}")));
        }
        let written = serde_json::to_vec_pretty(&settings).map_err(|e| Error::damaged(&path, e.to_string()))?;
        if settings.sum()? != settings.checksum || written != text {
            return Err(Error::damaged(&path, "its checksum is wrong"));
        }
        let bytes_fit = |dim: usize| (1..=trivec_kernels::MAX_INT_DEPTH).contains(&dim);
        if !bytes_fit(settings.dense_dim) || settings.colbert_dim.is_some_and(|dim| !bytes_fit(dim)) {
            return Err(Error::damaged(&path, "its vectors have no length, or too large a one"));
        }
        Ok(settings)
    }

    /// Refuses a model that did not make the index's vectors.
    pub fn check_model(&self, directory: &Path, model: &ModelId) -> Result<()> {
        if self.model.digest == model.digest {
            return Ok(());
        }
        let name = |model: &ModelId| {
            let digest: String = model.digest.chars().take(12).collect();
            format!("`{}` ({digest}, {} dimensions)", model.name.escape_debug(), model.dense_dim)
        };
        let (index, found) = (name(&self.model), name(model));
        Err(Error::Mismatch { path: directory.to_path_buf(), what: "model", index, found })
    }

    /// Refuses options that differ from those that the index was created with.
    pub fn check_options(&self, directory: &Path, asked: &IndexOptions) -> Result<()> {
        // The options as a new index would store them, so that two spellings of one language are equal.
        let asked = Settings::new(&self.model, asked)?;
        let bits = |own: &Settings| match own.colbert_bits {
            ColbertBits::Off => "off".to_owned(),
            bits => bits.number().to_string(),
        };
        let length = |own: &Settings| own.max_length.map_or("the model's own".to_owned(), |length| length.to_string());
        let language = |own: &Settings| own.language.clone().unwrap_or_else(|| "none".to_owned());
        let languages = |own: &Settings| {
            let sorted: BTreeSet<&str> = own.languages.iter().map(String::as_str).collect();
            if sorted.is_empty() { "any".to_owned() } else { Vec::from_iter(sorted).join(",") }
        };
        let prompt = |prompt: &Option<String>| match prompt {
            None => "the model's default".to_owned(),
            Some(prompt) => format!("`{}`", prompt.escape_debug()),
        };
        let compared = [
            ("colbert", bits(&asked), bits(self)),
            ("max_length", length(&asked), length(self)),
            ("language", language(&asked), language(self)),
            ("languages", languages(&asked), languages(self)),
            ("document_prompt", prompt(&asked.document_prompt), prompt(&self.document_prompt)),
            ("query_prompt", prompt(&asked.query_prompt), prompt(&self.query_prompt)),
        ];
        match compared.into_iter().find(|(_, found, kept)| found != kept) {
            None => Ok(()),
            Some((option, found, kept)) => {
                let place = directory.display();
                let what = format!("found {found}, but the index {place} was made with {kept}, and stays so");
                Err(Error::option(option, what))
            }
        }
    }

    /// The options that the index was created with.
    pub fn options(&self) -> IndexOptions {
        IndexOptions {
            colbert: self.colbert_bits,
            language: self.language.clone(),
            languages: self.languages.clone(),
            max_length: self.max_length,
            document_prompt: self.document_prompt.clone(),
            query_prompt: self.query_prompt.clone(),
        }
    }

    /// The representations that the index stores.
    pub fn modes(&self) -> Modes {
        Modes { dense: true, sparse: self.lexical, colbert: self.colbert_bits != ColbertBits::Off }
    }

    /// The options with which texts are embedded after `prompt`; `None`: the model's default prompt.
    pub fn encode_options(&self, prompt: &Option<String>) -> EncodeOptions {
        EncodeOptions {
            modes: self.modes(),
            max_length: self.max_length,
            prompt: prompt.clone().map_or(Prompt::Default, Prompt::Text),
            // Text in documents that looks like a special token is ordinary text.
            special_tokens: trivec::SpecialTokens::Literal,
            // With vectors of length 1 dot products are cosines, also for models that do not normalise by themselves.
            normalize: Some(true),
            ..EncodeOptions::default()
        }
    }
}

/// Sixteen random bytes, which no other index has, in hexadecimal digits.
fn unique() -> String {
    use std::hash::{BuildHasher, Hasher, RandomState};
    let mut hash = Sha256::new();
    // The keys of the standard library's hash maps are random.
    (0..2).for_each(|_| hash.update(RandomState::new().build_hasher().finish().to_le_bytes()));
    hash.update(std::process::id().to_le_bytes());
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    hash.update(now.as_nanos().to_le_bytes());
    hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}
