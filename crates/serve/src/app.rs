//! The state that all routes share: the model in use, the queue, the limits, the keys, the counters.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use subtle::ConstantTimeEq;
use tokio::sync::Semaphore;

use super::error::{ApiError, Result};
use super::inputs::Input;
use super::kept::{Kept, Open};
use super::memory::{self, Budget, HELD, Held, Part};
use super::metrics::Metrics;
use super::names::Names;
use super::options::{Limits, Timeouts};
use super::scheduler::{Room, Scheduler, Timing, cost};
use super::work::{Observer, note};
use trivec::numbers::grouped;
use trivec::{Embedding, Modes};
use trivec::{EncodeOptions, Model, Prompt};
use trivec_cache::{Wanted, WhenBehind};

/// Loads the model for a reload.
pub type Reload = Box<dyn Fn() -> std::result::Result<Model, String> + Send + Sync>;

/// The state that all routes share.
pub(super) struct App {
    model: RwLock<Arc<Model>>,
    pub names: Names,
    reload: Option<Reload>,
    /// Held during a reload, so that of two reloads the later one wins.
    reloading: Mutex<()>,
    pub scheduler: Scheduler,
    pub limits: Limits,
    pub budget: Arc<Budget>,
    /// Limits the number of blocking jobs at a time.
    pub jobs: Arc<Semaphore>,
    keys: Vec<String>,
    pub metrics: Metrics,
    pub kept: Option<Kept>,
    #[cfg(feature = "search")]
    pub search: super::search::Indexes,
    pub started: Instant,
    /// How long a client may pause in sending a body or in reading an answer.
    pub body_idle: Duration,
    pub log_texts: bool,
    pub observer: Option<Arc<dyn Observer>>,
    /// Set when the service ends: `/ready` says so.
    pub ending: std::sync::atomic::AtomicBool,
}

/// How many blocking jobs (parsing, tokenising, writing answers) run at a time: as many as the runtime has threads. More jobs would take CPUs
/// from the engine.
const JOBS: usize = 2;

/// Bytes of text that one job tokenises before other jobs get their turn.
const TOKENIZED_IN_A_JOB: usize = 256 << 10;

/// Up to this many bytes of text are tokenised on the runtime's own thread: it takes tens of microseconds, less than handing them to
/// another thread.
const TOKENIZED_AT_ONCE: usize = 2048;

/// The bytes of all texts together.
fn bytes_of(texts: &[String]) -> usize {
    texts.iter().map(String::len).sum()
}

/// A text as token ids.
pub(super) struct Tokenized {
    pub ids: Vec<u32>,
    pub truncated: bool,
    /// How many of the ids belong to a prompt that the dense vector leaves out.
    pub prompt_tokens: usize,
}

impl App {
    pub(super) fn new(
        model: Model,
        names: Names,
        reload: Option<Reload>,
        limits: Limits,
        keys: Vec<String>,
        kept: Option<Kept>,
    ) -> std::io::Result<App> {
        Ok(App {
            model: RwLock::new(Arc::new(model)),
            names,
            reload,
            reloading: Mutex::new(()),
            scheduler: Scheduler::new(limits.queue_cost)?,
            limits,
            budget: Budget::new(limits.memory),
            jobs: Arc::new(Semaphore::new(JOBS)),
            keys,
            metrics: Metrics::new(),
            kept,
            #[cfg(feature = "search")]
            search: super::search::Indexes::default(),
            started: Instant::now(),
            body_idle: Timeouts::default().idle,
            log_texts: false,
            observer: None,
            ending: false.into(),
        })
    }

    /// The model in use. A request keeps the one it began with.
    pub(super) fn model(&self) -> Arc<Model> {
        Arc::clone(&self.model.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Loads the model again and puts it into use; running requests keep the old one. It blocks, so it must not run on the runtime's
    /// threads.
    pub(super) fn reload(&self) -> std::result::Result<(), String> {
        let reload = self.reload.as_ref().ok_or("this service has no model to load again")?;
        let _one = self.reloading.lock().unwrap_or_else(PoisonError::into_inner);
        let model = Arc::new(reload()?);
        #[cfg(feature = "search")]
        self.search.check_model(&model).map_err(|e| e.to_string())?;
        *self.model.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&model);
        self.names.follow(&model);
        if let Some(kept) = &self.kept {
            kept.follow(&model);
        }
        Ok(())
    }

    /// Opens the cache in a thread of its own; until it is open, everything is computed.
    pub(super) fn open_cache(self: &Arc<Self>) -> std::io::Result<()> {
        if self.kept.is_none() {
            return Ok(());
        }
        let app = Arc::clone(self);
        let run = move || {
            let Some(kept) = &app.kept else { return };
            kept.open();
            loop {
                let model = app.model();
                kept.follow(&model);
                // A later reload may have replaced the model meanwhile.
                if Arc::ptr_eq(&model, &app.model()) {
                    return;
                }
            }
        };
        std::thread::Builder::new().name("trivec-identify".to_owned()).spawn(run).map(drop)
    }

    pub(super) fn needs_key(&self) -> bool {
        !self.keys.is_empty()
    }

    /// Whether `key` is one of the keys. All keys are compared, each in constant time.
    pub(super) fn knows_key(&self, key: &[u8]) -> bool {
        let known = self.keys.iter().fold(subtle::Choice::from(0), |known, own| known | own.as_bytes().ct_eq(key));
        known.into()
    }

    /// Refuses a request with more texts than the limit; `param` is the field that has them.
    pub(super) fn check_count(&self, texts: usize, param: &'static str) -> Result<()> {
        if texts <= self.limits.texts {
            return Ok(());
        }
        let what = format!("{} texts, expected at most {}", grouped(texts), grouped(self.limits.texts));
        Err(ApiError {
            param: Some(param.to_owned()),
            ..ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "too_many_inputs", what)
        })
    }

    /// Refuses a request that costs more than the whole queue may.
    pub(super) fn check_cost(&self, total: u64) -> Result<()> {
        if total <= self.limits.queue_cost {
            return Ok(());
        }
        let what = format!(
            "the texts cost {} (tokens, and for long texts their squares), expected at most {}: send fewer at a time",
            grouped(total),
            grouped(self.limits.queue_cost)
        );
        Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "request_too_large", what))
    }

    /// The memory account of this task's request. Outside a request (in a test) it is a new one.
    pub(super) fn held(&self) -> Arc<Held> {
        HELD.try_with(Arc::clone).unwrap_or_else(|_| Held::new(&self.budget))
    }

    /// Runs a job on a blocking thread, when one of the [`JOBS`] is free. The request's memory counts until the job ends, even if the client has
    /// disconnected.
    pub(super) async fn beside<R: Send + 'static>(&self, job: impl FnOnce() -> R + Send + 'static) -> Result<R> {
        let failed = || ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "engine_error", "the request failed");
        let turn = Arc::clone(&self.jobs).acquire_owned().await.map_err(|_| failed())?;
        let held = self.held();
        let run = move || {
            let result = job();
            drop((turn, held));
            result
        };
        tokio::task::spawn_blocking(run).await.map_err(|_| failed())
    }

    /// Tokenises texts, each after `prompt`; then drops the texts, and frees the memory of the body.
    pub(super) async fn tokenize(
        &self,
        model: &Arc<Model>,
        texts: Vec<String>,
        max_length: Option<usize>,
        prompt: Prompt,
    ) -> Result<Vec<Tokenized>> {
        let tokenized = self.tokenize_beside(model, &Arc::new(texts), max_length, prompt, 0).await?;
        self.held().free(Part::Body);
        Ok(tokenized)
    }

    /// Tokenises texts, each after `prompt`. More than a few lines are tokenised on a blocking thread. `counted` are the bytes of token ids
    /// that the request holds already.
    pub(super) async fn tokenize_beside(
        &self,
        model: &Arc<Model>,
        texts: &Arc<Vec<String>>,
        max_length: Option<usize>,
        prompt: Prompt,
        counted: u64,
    ) -> Result<Vec<Tokenized>> {
        let options = EncodeOptions { modes: Modes::DENSE, max_length, prompt, ..EncodeOptions::default() };
        self.tokenize_as(model, texts, options, counted).await
    }

    /// As [`App::tokenize_beside`], with all options of tokenising.
    pub(super) async fn tokenize_as(
        &self,
        model: &Arc<Model>,
        texts: &Arc<Vec<String>>,
        options: EncodeOptions,
        mut counted: u64,
    ) -> Result<Vec<Tokenized>> {
        let begin = Instant::now();
        self.note_texts(texts)?;
        let held = self.held();
        held.set(Part::Tokens, counted)?;
        let prompt_bytes = model.prompt_text(&options.prompt)?.len();
        let prompt_tokens = model.prompt_tokens(&options)?;
        let mut tokenized = Vec::with_capacity(texts.len());
        let mut at = 0;
        while at < texts.len() {
            // A part has as many texts as fit into a job, or a single longer one.
            let mut bytes = texts[at].len();
            let more = texts[at + 1..].iter().take_while(|text| {
                bytes += text.len();
                bytes <= TOKENIZED_IN_A_JOB
            });
            let part = at..at + 1 + more.count();
            // A text has at most as many tokens as bytes, and `<s>` and `</s>`.
            let most = |text: &String| memory::token_ids((prompt_bytes + text.len() + 2).min(model.info().max_length));
            let ids: u64 = texts[part.clone()].iter().map(most).sum();
            held.set(Part::Tokens, counted + ids + memory::normalized(bytes_of(&texts[part.clone()])))?;
            at = part.end;
            let (texts, model, options) = (Arc::clone(texts), Arc::clone(model), options.clone());
            let run = move || -> trivec::Result<Vec<Tokenized>> {
                let tokens = |text: &String| {
                    let (ids, truncated) = model.token_ids(text, &options)?;
                    Ok(Tokenized { ids, truncated, prompt_tokens })
                };
                texts[part].iter().map(tokens).collect()
            };
            let own = if bytes <= TOKENIZED_AT_ONCE { run()? } else { self.beside(run).await?? };
            counted += own.iter().map(|text| memory::token_ids(text.ids.len())).sum::<u64>();
            held.set(Part::Tokens, counted)?;
            tokenized.extend(own);
        }
        self.metrics.tokenize.observe(begin.elapsed().as_secs_f64());
        note(|work| work.tokenize += begin.elapsed());
        Ok(tokenized)
    }

    /// Tokenises the inputs that are texts and checks those that are token ids; returns both in the order of the inputs. Errors name them by the
    /// field `name`.
    pub(super) async fn tokenize_inputs(
        &self,
        model: &Arc<Model>,
        inputs: Vec<Input>,
        name: &'static str,
        max_length: Option<usize>,
        prompt: Prompt,
    ) -> Result<Vec<Tokenized>> {
        // An unknown prompt name is refused even if all inputs are ids, which get no prompt.
        model.prompt_text(&prompt)?;
        self.check_count(inputs.len(), name)?;
        let info = model.info();
        let most = max_length.unwrap_or(info.max_length);
        let (mut texts, mut ids) = (Vec::new(), Vec::new());
        for (at, input) in inputs.into_iter().enumerate() {
            ids.push(match input {
                Input::Text(text) => {
                    texts.push(text);
                    None
                }
                Input::Ids(ids) => Some(check_ids(ids, info.vocabulary, most, &format!("{name}[{at}]"))?),
            });
        }
        let given = ids.iter().flatten().map(|given| memory::token_ids(given.ids.len())).sum();
        let texts = self.tokenize_beside(model, &Arc::new(texts), max_length, prompt, given).await?;
        let mut texts = texts.into_iter();
        self.held().free(Part::Body);
        Ok(ids.into_iter().filter_map(|given| given.or_else(|| texts.next())).collect())
    }

    /// Counts the texts of a request and their characters for its statistics, and keeps the texts if the log is to have them.
    pub(super) fn note_texts(&self, texts: &[String]) -> Result<()> {
        if self.log_texts {
            // Memory of the copy, and of the log's line.
            self.held().add(Part::Log, 4 * bytes_of(texts) as u64)?;
        }
        note(|work| {
            work.texts += texts.len();
            work.characters += texts.iter().map(|text| text.chars().count()).sum::<usize>();
            if self.log_texts {
                work.contents.extend_from_slice(texts);
            }
        });
        Ok(())
    }

    /// Records that the engine has computed `tokens` tokens for this request, and how long it took.
    pub(super) fn computed(&self, tokens: usize, timing: Timing) {
        note(|work| {
            work.tokens += tokens;
            work.took(timing);
        });
        self.metrics.encoded(tokens, timing);
    }

    /// Records that the cache had all texts of this request, or of a part of it, and how long looking them up took.
    fn looked_up(&self, timing: Timing) {
        note(|work| work.took(timing));
        self.metrics.answered(0, timing);
    }

    /// The embeddings of tokenised texts, from the cache or through the queue.
    pub(super) async fn encode(
        &self,
        model: &Arc<Model>,
        texts: &[Tokenized],
        wanted: Wanted,
    ) -> Result<(Vec<Embedding>, Timing)> {
        self.check_cost(texts.iter().map(|text| cost(text.ids.len())).sum())?;
        let results = |text: &Tokenized| memory::embedding(model.info(), wanted.modes, text.ids.len());
        self.held().set(Part::Results, texts.iter().map(results).sum())?;
        self.encode_part(model, &texts.iter().collect::<Vec<_>>(), wanted, None).await
    }

    /// Computes the embeddings of texts whose cost was checked and whose results were counted: those of a whole request, or of a part of a
    /// request that has reserved `room` for all of it.
    pub(super) async fn encode_part(
        &self,
        model: &Arc<Model>,
        texts: &[&Tokenized],
        wanted: Wanted,
        room: Option<&Room<'_>>,
    ) -> Result<(Vec<Embedding>, Timing)> {
        let prompts: BTreeSet<usize> = texts.iter().map(|text| text.prompt_tokens).collect();
        let mut embeddings: Vec<Option<Embedding>> = texts.iter().map(|_| None).collect();
        let mut timing = Timing::default();
        // Texts with the same number of prompt tokens that the dense vector leaves out are computed in one round.
        for prompt_tokens in prompts {
            let places: Vec<usize> =
                (0..texts.len()).filter(|&text| texts[text].prompt_tokens == prompt_tokens).collect();
            let ids = places.iter().map(|&text| texts[text].ids.clone()).collect();
            let wanted = Wanted { prompt_tokens, ..wanted };
            let round = match self.kept.as_ref().and_then(|kept| kept.of(model)) {
                None => self.compute(model, ids, &wanted, room).await,
                Some(open) => self.look_up_or_compute(model, open, ids, wanted, room).await,
            };
            let (computed, took) = round.map_err(|e| e.at_text(|index| places[index]))?;
            places.into_iter().zip(computed).for_each(|(text, embedding)| embeddings[text] = Some(embedding));
            timing.then(took);
        }
        Ok((embeddings.into_iter().flatten().collect(), timing))
    }

    /// The embeddings of texts given as token ids, through the queue.
    async fn compute(
        &self,
        model: &Arc<Model>,
        ids: Vec<Vec<u32>>,
        wanted: &Wanted,
        room: Option<&Room<'_>>,
    ) -> Result<(Vec<Embedding>, Timing)> {
        let tokens: usize = ids.iter().map(Vec::len).sum();
        let (embeddings, timing) = self.scheduler.encode(Arc::clone(model), ids, *wanted, self.held(), room).await?;
        self.computed(tokens, timing);
        Ok((embeddings, timing))
    }

    /// Looks texts up in the cache, and computes and stores those that it does not have; only these enter the queue.
    async fn look_up_or_compute(
        &self,
        model: &Arc<Model>,
        (cache, identity): Open,
        ids: Vec<Vec<u32>>,
        wanted: Wanted,
        room: Option<&Room<'_>>,
    ) -> Result<(Vec<Embedding>, Timing)> {
        let begin = Instant::now();
        let failed = |_| ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "engine_error", "the cache failed");
        let look_up = {
            let (cache, identity) = (Arc::clone(&cache), Arc::clone(&identity));
            move || (cache.plan(&identity, &wanted, &ids), ids)
        };
        let (plan, ids) = tokio::task::spawn_blocking(look_up).await.map_err(failed)?;
        if plan.missing().is_empty() {
            let timing = Timing { computed: begin.elapsed(), ..Timing::default() };
            self.looked_up(timing);
            return Ok((plan.complete(Vec::new()), timing));
        }
        let to_compute: Vec<Vec<u32>> = plan.missing_of(&ids).into_iter().cloned().collect();
        let computed = self.compute(model, to_compute.clone(), &wanted, room).await;
        let (computed, timing) = computed.map_err(|e| e.at_text(|index| plan.missing()[index]))?;
        let keep = move || {
            cache.insert(&identity, &wanted, to_compute.iter().zip(&computed), WhenBehind::Drop);
            computed
        };
        // Dense vectors are few bytes and are handed to the cache here; ColBERT vectors may be megabytes, so this is done on a blocking thread.
        let computed =
            if wanted.modes.colbert { tokio::task::spawn_blocking(keep).await.map_err(failed)? } else { keep() };
        Ok((plan.complete(computed), timing))
    }
}

/// Checks ids from a request: they must be in the vocabulary and not too many. `place` names them in errors.
fn check_ids(ids: Vec<u32>, vocabulary: usize, most: usize, place: &str) -> Result<Tokenized> {
    if ids.is_empty() || ids.len() > most {
        return Err(ApiError::invalid(
            place,
            format!("{} token ids, expected 1 to {}", grouped(ids.len()), grouped(most)),
        ));
    }
    match ids.iter().find(|&&id| id as usize >= vocabulary) {
        Some(id) => Err(ApiError::invalid(place, format!("token id {id}, expected one below {vocabulary}"))),
        None => Ok(Tokenized { ids, truncated: false, prompt_tokens: 0 }),
    }
}

/// A duration in milliseconds, rounded to microseconds.
pub(super) fn ms(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}
