//! What callers choose: how a model is loaded, and what is computed of a text.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::tuning::Tune;
use crate::embedding::Modes;
use crate::text::SpecialTokens;

/// How to load a model.
///
/// ```
/// # #[cfg(feature = "starter")]
/// # fn main() -> trivec::Result<()> {
/// let options = trivec::LoadOptions { threads: Some(1), isa: Some("scalar".into()), ..Default::default() };
/// let model = trivec::Model::starter_with(&options)?;
/// assert_eq!((model.info().threads, model.info().isa), (1, "scalar"));
/// # Ok(())
/// # }
/// # #[cfg(not(feature = "starter"))]
/// # fn main() {}
/// ```
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// Worker threads, 1 to 1024; `None`: as many as CPUs this process may use.
    pub threads: Option<usize>,
    /// Instruction set by name, see [`instruction_sets`](super::instruction_sets); `None`: the best this CPU has.
    pub isa: Option<String>,
    /// Whether to scan every weight (of int8 and int4 weights the scales) for NaN and infinities and refuse the model if there is one (default:
    /// yes). In any case, a result that is not finite is an error about its text ([`Error::NotFinite`](crate::Error::NotFinite)).
    pub check_finite: bool,
    /// Whether to bring a packed file's pages into memory while it is loaded, instead of as they are touched (default: no).
    pub preload: bool,
    /// Whether a packed file's own 4-bit blocks (the starter's) are widened to f32 and multiplied as such, which is what PyTorch computes
    /// with the checkpoint, instead of with activations in bytes (default: no). It takes many times the time and the memory; packing and
    /// verifying need it. A file whose weights were rounded when it was packed is refused. Checkpoints are always computed this way.
    pub exact: bool,
    /// Whether to measure how this CPU reads large weights fastest (default: once). The measurement takes about as long as three passes
    /// over a short text, is done only if the weights do not fit into a cache, and changes no result.
    pub tune: Tune,
    /// The directory in which the measurement is kept, so that the next process need not do it; `None` (default): nothing is written.
    pub tuning: Option<PathBuf>,
}

impl Default for LoadOptions {
    fn default() -> Self {
        LoadOptions {
            threads: None,
            isa: None,
            check_finite: true,
            preload: false,
            exact: false,
            tune: Tune::Auto,
            tuning: None,
        }
    }
}

/// What to compute of each text.
#[derive(Debug, Clone, Default)]
pub struct EncodeOptions {
    /// Which representations; dense alone by default.
    pub modes: Modes,
    /// Tokens kept of each text, `<s>` and `</s>` included: 2 to [`ModelInfo::max_length`](super::ModelInfo::max_length); `None`: the model's.
    pub max_length: Option<usize>,
    /// Leading values of the dense vector to keep before it is normalised: 1 to [`ModelInfo::dense_dim`](super::ModelInfo::dense_dim); `None`: all.
    pub dimensions: Option<usize>,
    /// Whether the dense vector is given the length 1 (FlagEmbedding's `normalize_embeddings`); `None`: as the model's own files say.
    pub normalize: Option<bool>,
    /// Leading values of each ColBERT vector to keep before it is normalised: 1 to [`ModelInfo::colbert_dim`](super::ModelInfo::colbert_dim);
    /// `None`: all. (FlagEmbedding's `truncate_dim` cuts dense and ColBERT vectors alike.)
    pub colbert_dimensions: Option<usize>,
    /// Whether ColBERT vectors are left as their head gives them, instead of being given the length 1 (default: no). FlagEmbedding's
    /// `normalize_embeddings=False` leaves dense and ColBERT vectors so.
    pub colbert_raw: bool,
    /// How special tokens that are written out in a text are read.
    pub special_tokens: SpecialTokens,
    /// What is put before each text: the model's default prompt, unless another is named or given. Token ids get none.
    pub prompt: Prompt,
    /// For calls with token ids, as [`Model::encode_ids`](super::Model::encode_ids): how many ids at the start of each sequence are a prompt's,
    /// `<s>` among them. A model whose pooling leaves prompts out does not pool them; see
    /// [`Model::prompt_tokens`](super::Model::prompt_tokens).
    pub prompt_tokens: usize,
    /// A flag by which another thread can end the call early.
    pub cancel: Option<Cancel>,
    /// A function to which the call reports its progress.
    pub progress: Option<Progress>,
}

/// A function to which a call reports its progress: it gets the number of texts (or pairs) that are done, and the number of all. It runs on
/// the calling thread after every batch and delays the call by as long as it takes. Texts are not finished in their order.
///
/// ```
/// # #[cfg(feature = "starter")]
/// # fn main() -> trivec::Result<()> {
/// use std::sync::atomic::{AtomicUsize, Ordering};
/// use std::sync::Arc;
///
/// let (model, seen) = (trivec::Model::starter()?, Arc::new(AtomicUsize::new(0)));
/// let progress = trivec::Progress::new({
///     let seen = Arc::clone(&seen);
///     move |done, total| {
///         assert!(done <= total);
///         seen.store(done, Ordering::Relaxed);
///     }
/// });
/// model.encode(&["a text", "another"], &trivec::EncodeOptions { progress: Some(progress), ..Default::default() })?;
/// assert_eq!(seen.load(Ordering::Relaxed), 2);
/// # Ok(())
/// # }
/// # #[cfg(not(feature = "starter"))]
/// # fn main() {}
/// ```
#[derive(Clone)]
pub struct Progress(Arc<dyn Fn(usize, usize) + Send + Sync>);

impl Progress {
    /// Makes calls report their progress to `told(done, total)`.
    pub fn new(told: impl Fn(usize, usize) + Send + Sync + 'static) -> Progress {
        Progress(Arc::new(told))
    }

    pub(super) fn tell(&self, done: usize, total: usize) {
        (self.0)(done, total);
    }
}

impl std::fmt::Debug for Progress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Progress")
    }
}

/// A flag that ends calls from another thread. A call that carries it in [`EncodeOptions::cancel`]
/// (or [`RerankOptions::cancel`](super::RerankOptions::cancel)) looks at it before every layer of every
/// batch, and returns [`Error::Cancelled`](crate::Error::Cancelled) once it is set. Clones are the same flag.
///
/// ```
/// # #[cfg(feature = "starter")]
/// # fn main() -> trivec::Result<()> {
/// let (model, cancel) = (trivec::Model::starter()?, trivec::Cancel::new());
/// let options = trivec::EncodeOptions { cancel: Some(cancel.clone()), ..Default::default() };
/// cancel.cancel(); // as another thread would
/// assert!(matches!(model.encode(&["a text"], &options), Err(trivec::Error::Cancelled)));
/// # Ok(())
/// # }
/// # #[cfg(not(feature = "starter"))]
/// # fn main() {}
/// ```
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<Flag>);

#[derive(Default)]
struct Flag {
    set: AtomicBool,
    asked: Option<Box<dyn Fn() -> bool + Send + Sync>>,
}

impl std::fmt::Debug for Flag {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Flag").field("set", &self.set).finish_non_exhaustive()
    }
}

impl Cancel {
    /// Creates a flag that is not set.
    pub fn new() -> Cancel {
        Cancel::default()
    }

    /// Creates a flag that sets itself when `ask` returns true. [`is_cancelled`](Self::is_cancelled) calls `ask` on its own thread until `ask`
    /// has once returned true; [`is_set`](Self::is_set) never calls it. A call of the engine that carries the flag looks at it between layers,
    /// only on the thread that made the call, and waits for `ask` to return, so `ask` must be quick. This serves sources of cancellation that
    /// only that thread can see, such as an interpreter's signals.
    pub fn asking(ask: impl Fn() -> bool + Send + Sync + 'static) -> Cancel {
        Cancel(Arc::new(Flag { set: AtomicBool::new(false), asked: Some(Box::new(ask)) }))
    }

    /// Sets the flag. It cannot be unset.
    pub fn cancel(&self) {
        self.0.set.store(true, Ordering::Relaxed);
    }

    /// Returns whether the flag is set already. Unlike [`is_cancelled`](Self::is_cancelled) this never calls the function that
    /// [`asking`](Self::asking) was given, so any thread may use it; what that function would say shows only after `is_cancelled` was called.
    pub fn is_set(&self) -> bool {
        self.0.set.load(Ordering::Relaxed)
    }

    /// Returns whether the flag is set. A flag that [`asking`](Self::asking) made first calls its function, on this thread, and sets itself if
    /// that returns true.
    pub fn is_cancelled(&self) -> bool {
        if !self.0.set.load(Ordering::Relaxed) && self.0.asked.as_ref().is_some_and(|ask| ask()) {
            self.cancel();
        }
        self.0.set.load(Ordering::Relaxed)
    }
}

/// Clones are equal: they are the same flag.
impl PartialEq for Cancel {
    fn eq(&self, other: &Cancel) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// What is put before a text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Prompt {
    /// The model's default prompt, if it has one ([`ModelInfo::default_prompt`](crate::ModelInfo::default_prompt)).
    #[default]
    Default,
    /// The prompt of this name in the model's files ([`ModelInfo::prompts`](crate::ModelInfo::prompts)).
    Name(String),
    /// This text, as it stands. An empty text is no prompt.
    Text(String),
}
