//! `trivec embed`: turns a stream of texts into a stream of embeddings.

use std::io::IsTerminal;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::args::{EmbedArgs, InputArgs, ModelArgs, OutputFormat, TextArgs};
use super::cache::Kept;
use super::copies;
use super::exit::{Failure, Result};
use super::input::{self, Content, Reading, Record, Records};
use super::output::Writer;
use super::pending::{cache_files, refuse_input, refuse_model_file, resolve_output};
use super::prompt;
use super::style::{counted, grouped};
use trivec::{Embedding, EncodeOptions, Error, Model, Modes};
use trivec_cache::{Wanted, WhenBehind};

/// No more records are read into a chunk once it has this many bytes of text, whatever the batch size.
const CHUNK_BYTES: usize = 4 << 20;

impl InputArgs {
    /// How the input at `path` is read.
    pub(super) fn reading<'a>(&'a self, path: Option<&'a Path>) -> Reading<'a> {
        Reading { format: self.input_format, path, lossy: Some(self.lossy), column: self.column.as_deref() }
    }
}

impl TextArgs {
    /// The options of [`Model::encode`] that these arguments give; fails if they name a prompt that the model does not have.
    pub(super) fn options(&self, model: &Model) -> Result<EncodeOptions> {
        let prompt = self.prompt.as_ref().map(|given| prompt::parse(given, "--prompt", model)).transpose()?;
        Ok(EncodeOptions {
            max_length: self.max_length,
            special_tokens: self.special_tokens.into(),
            prompt: prompt.unwrap_or_default(),
            ..Default::default()
        })
    }
}

pub(super) fn run(args: &EmbedArgs, model_args: &ModelArgs) -> Result<()> {
    let input = input_path(args)?;
    let output = args.output.as_deref().filter(|path| path.as_os_str() != "-");
    if let Some(output) = output {
        let cache = args.cache.cache.as_deref().map(cache_files).unwrap_or_default();
        let cache = cache.iter().map(|file| (file.as_path(), "the cache"));
        refuse_input(output, "output", input.map(|input| (input, "the input file")).into_iter().chain(cache))?;
        resolve_output(output, "--output")?;
    }
    // The input is opened before the model is loaded, so that a wrong name is reported at once.
    let opened = input.map(input::open).transpose()?;
    let model = copies::load_as(args.packed.weights, model_args)?;
    if let Some(output) = output {
        refuse_model_file(output, "output", &model)?;
    }
    let normalize = args.no_normalize.then_some(false);
    let options =
        EncodeOptions { modes: args.modes, dimensions: args.dimensions, normalize, ..args.text.options(&model)? };
    // Options are checked before a file is made.
    model.encode::<&str>(&[], &options)?;
    let dense_dim = args.dimensions.unwrap_or(model.info().dense_dim);
    let format = args.format.unwrap_or_else(|| OutputFormat::of_path(args.output.as_deref()));
    let writer =
        Writer::new(args.output.as_deref(), format, args.modes, dense_dim, model.info().colbert_dim.unwrap_or(0))?;
    let kept = Kept::open(&args.cache, &model);
    let mut job = Job { model, options, kept, writer, progress: Progress::hidden() };
    match opened {
        None => {
            let text = |(line, text): (u64, &String)| Record { id: None, content: Content::Text(text.clone()), line };
            let records: Vec<Record> = (1..).zip(&args.texts).map(text).collect();
            records.chunks(args.batch_size as usize).try_for_each(|chunk| job.embed(chunk, None))?;
        }
        Some(opened) => {
            job.progress = Progress::new(&opened, model_args.quiet);
            let mut records = Records::new(opened.reader, opened.name, args.form.reading(input))?;
            loop {
                let chunk = read_chunk(&mut records, args.batch_size as usize)?;
                if chunk.is_empty() {
                    break;
                }
                job.embed(&chunk, Some(records.name()))?;
            }
        }
    }
    job.progress.bar.finish_and_clear();
    if let Some(kept) = &job.kept {
        let Modes { dense, sparse, colbert } = args.modes;
        kept.close([dense, sparse, colbert].into_iter().filter(|&wanted| wanted).count() as u64);
    }
    job.writer.finish()
}

/// Returns the path to read texts from, with `-` for standard input, or `None` if the texts are on the command line. Fails if both are given,
/// or if neither is and standard input is a terminal.
fn input_path(args: &EmbedArgs) -> Result<Option<&Path>> {
    match (&args.input, args.texts.is_empty()) {
        (Some(_), false) => Err(Failure::usage("give texts or --input, not both")),
        (Some(path), true) => Ok(Some(path)),
        (None, false) => Ok(None),
        (None, true) if std::io::stdin().is_terminal() => Err(Failure::usage(
            "nothing to embed: give texts, --input FILE, or pipe lines in (see trivec embed --help)",
        )),
        (None, true) => Ok(Some(Path::new("-"))),
    }
}

/// Reads the next records: at most `most`, and none after [`CHUNK_BYTES`] of text. Returns none at the end of the input.
pub(super) fn read_chunk<R: std::io::BufRead>(records: &mut Records<R>, most: usize) -> Result<Vec<Record>> {
    let mut chunk = Vec::new();
    let mut bytes = 0;
    while chunk.len() < most && bytes < CHUNK_BYTES {
        let Some(record) = records.next()? else { break };
        bytes += match &record.content {
            Content::Text(text) => text.len(),
            Content::Ids(ids) => ids.len() * 4,
        };
        chunk.push(record);
    }
    Ok(chunk)
}

/// A run of `embed`: the model, its options, and where the embeddings go.
struct Job {
    model: Model,
    options: EncodeOptions,
    kept: Option<Kept>,
    writer: Writer,
    progress: Progress,
}

impl Job {
    /// Embeds some records of `input` (`None`: the command line's texts) and writes them in order.
    fn embed(&mut self, records: &[Record], input: Option<&str>) -> Result<()> {
        let embeddings = match &self.kept {
            None => self.compute(records, input)?,
            Some(kept) => self.look_up_or_compute(kept, records, input)?,
        };
        for (record, embedding) in records.iter().zip(embeddings) {
            self.progress.add(embedding.tokens);
            self.writer.push(record.id.as_deref(), &embedding)?;
        }
        self.progress.tick();
        self.writer.flush()
    }

    /// Computes the embeddings of texts and of token ids, and returns them in the order of the records.
    fn compute(&self, records: &[Record], input: Option<&str>) -> Result<Vec<Embedding>> {
        let with_ids: Vec<&Record> = records.iter().filter(|r| matches!(r.content, Content::Ids(_))).collect();
        let ids: Vec<&[u32]> = with_ids
            .iter()
            .filter_map(|r| if let Content::Ids(ids) = &r.content { Some(ids.as_slice()) } else { None })
            .collect();
        let of_texts = self.model.encode(&texts(records), &self.options).map_err(|e| {
            let with_text: Vec<&Record> = records.iter().filter(|r| matches!(r.content, Content::Text(_))).collect();
            at_line(e, &with_text, input)
        })?;
        let mut of_texts = of_texts.into_iter();
        let of_ids = self.model.encode_ids(&ids, &self.options).map_err(|e| at_line(e, &with_ids, input))?;
        let mut of_ids = of_ids.into_iter();
        let next = |record: &Record| match record.content {
            Content::Text(_) => of_texts.next(),
            Content::Ids(_) => of_ids.next(),
        };
        Ok(records.iter().filter_map(next).collect())
    }

    /// As [`Job::compute`], but only for embeddings that the cache does not have; these are stored in it.
    fn look_up_or_compute(&self, kept: &Kept, records: &[Record], input: Option<&str>) -> Result<Vec<Embedding>> {
        let mut of_texts = self.model.token_ids_of(&texts(records), &self.options)?.into_iter();
        let tokens = |record: &Record| match &record.content {
            Content::Text(_) => of_texts.next(),
            Content::Ids(ids) => Some((ids.clone(), false)),
        };
        let tokens: Vec<(Vec<u32>, bool)> = records.iter().filter_map(tokens).collect();
        let ids: Vec<&[u32]> = tokens.iter().map(|(ids, _)| ids.as_slice()).collect();
        let EncodeOptions { modes, dimensions, normalize, .. } = self.options;
        let has_texts = records.iter().any(|record| matches!(record.content, Content::Text(_)));
        let prompt_tokens = if has_texts { self.model.prompt_tokens(&self.options)? } else { 0 };
        if prompt_tokens > 0 && records.iter().any(|record| matches!(record.content, Content::Ids(_))) {
            // Token ids have no prompt, and `prompt_tokens` is one number for all inputs of a call: such a chunk does not use the cache.
            return self.compute(records, input);
        }
        let wanted = Wanted { modes, dimensions, normalize, prompt_tokens };
        let plan = kept.cache.plan(&kept.identity, &wanted, &ids);
        let to_compute = plan.missing_of(&ids);
        let options = EncodeOptions { prompt_tokens, ..self.options.clone() };
        let computed =
            self.model.encode_ids(&to_compute, &options).map_err(|e| at_line(e, &plan.missing_of(records), input))?;
        // Wait for the cache's writer: the output goes to disk too, and a text that is not stored would be computed again next time.
        kept.cache.insert(&kept.identity, &wanted, to_compute.iter().zip(&computed), WhenBehind::Wait);
        let truncated = tokens.iter().map(|(_, truncated)| *truncated);
        Ok(plan
            .complete(computed)
            .into_iter()
            .zip(truncated)
            .map(|(e, truncated)| Embedding { truncated, ..e })
            .collect())
    }
}

/// The texts among the records.
fn texts(records: &[Record]) -> Vec<&str> {
    records
        .iter()
        .filter_map(|r| if let Content::Text(text) = &r.content { Some(text.as_str()) } else { None })
        .collect()
}

/// Makes the error of a call whose inputs were `records` name the line of the record that it is about.
fn at_line(error: Error, records: &[&Record], input: Option<&str>) -> Failure {
    Failure::of_input(error, |index| {
        let line = records.get(index).map_or(0, |record| record.line);
        input.map_or_else(|| format!("text {line}"), |input| format!("{input}: line {line}"))
    })
}

/// A progress bar on stderr, if that is a terminal. It appears once the work has lasted a second.
pub(super) struct Progress {
    pub bar: ProgressBar,
    /// Bytes of the input that were read.
    read: Arc<AtomicU64>,
    records: u64,
    tokens: u64,
    /// Whether the bar may be shown but is not shown yet.
    waiting: bool,
}

impl Progress {
    pub(super) fn hidden() -> Progress {
        Progress { bar: ProgressBar::hidden(), read: Arc::default(), records: 0, tokens: 0, waiting: false }
    }

    pub(super) fn new(input: &input::Opened, quiet: bool) -> Progress {
        if quiet || !std::io::stderr().is_terminal() {
            return Progress::hidden();
        }
        let (bar, template) = match input.length {
            Some(length) => (ProgressBar::new(length), "{bar:30} {bytes}/{total_bytes} · {msg} · {eta} left"),
            None => (ProgressBar::new_spinner(), "{spinner} {bytes} · {msg}"),
        };
        bar.set_draw_target(ProgressDrawTarget::hidden());
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Progress { bar, read: Arc::clone(&input.count), records: 0, tokens: 0, waiting: true }
    }

    /// Counts a record that took `tokens` tokens.
    pub(super) fn add(&mut self, tokens: usize) {
        self.records += 1;
        self.tokens += tokens as u64;
    }

    /// Updates the bar, and shows it once a second has passed.
    pub(super) fn tick(&mut self) {
        let seconds = self.bar.elapsed().as_secs_f64();
        if self.waiting && seconds > 1.0 {
            self.waiting = false;
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
            self.bar.enable_steady_tick(Duration::from_millis(200));
        }
        self.bar.set_position(self.read.load(Ordering::Relaxed));
        let rate = |count: u64| grouped((count as f64 / seconds.max(1e-3)).round() as u64);
        self.bar.set_message(format!(
            "{}, {}/s, {} tokens/s",
            counted(self.records, "record"),
            rate(self.records),
            rate(self.tokens)
        ));
    }
}
