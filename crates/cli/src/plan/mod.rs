//! `trivec plan`: estimates what embedding a corpus takes (tokens, hours, machines, cost, bytes) from a sample of it.

mod sample;
mod speed;

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use self::sample::{Part, Stratum};
use self::speed::{Machine, Measured};
use super::args::{InputArgs, ModelArgs, OutputFormat, TextArgs, WeightsArgs};
use super::bench;
use super::exit::{Failure, Result};
use super::input::{Content, Record};
use super::output::{check_format, json_line};
use super::style::{self, counted, grouped};
use trivec::corpus::{Counts, Estimate, Job, Layout, Plan};
use trivec::escape::Escaped;
use trivec::{Embedding, EncodeOptions, Model, Modes};

/// How many texts are embedded to see how large their output is, and how many tokens of each at most.
const PROBES: usize = 32;
const PROBE_TOKENS: usize = 128;
/// Texts that are cut into tokens at a time.
const CHUNK: usize = 1024;
/// Bytes of the header of an npy output, and roughly those of a safetensors output.
const NPY_HEADER: f64 = 128.0;
const SAFETENSORS_HEADER: f64 = 600.0;

const EXAMPLES: &str = "\
Examples:
  trivec plan corpus.jsonl --machines 64
  trivec plan docs-*.jsonl --model bge-m3 --bench bench.json --hours 12 --price 0.72
  trivec plan rows.csv --column body --modes dense,sparse --format safetensors --json
  trivec bench --model bge-m3 --shapes 8x128,1x512 --json > bench.json

Input is what `trivec embed` reads. Of lines and JSONL, blocks from all over the files are looked at; other forms and standard input are \
read to their end. The speed is that of --bench, measured on a machine of the job with this model, else of this machine, which then is measured. \
What is assumed is printed with the plan.";

#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct PlanArgs {
    /// Files of the corpus, - for standard input
    #[arg(value_name = "INPUT", required = true)]
    pub inputs: Vec<PathBuf>,
    #[command(flatten)]
    pub form: InputArgs,
    /// What the job computes: dense, sparse, colbert, comma-separated, or all
    #[arg(long, short, value_name = "LIST", env = "TRIVEC_MODES", default_value = "dense")]
    pub modes: Modes,
    /// Leading values of the dense vector that it keeps
    #[arg(long, value_name = "N", env = "TRIVEC_DIMENSIONS")]
    pub dimensions: Option<usize>,
    #[command(flatten)]
    pub text: TextArgs,
    /// Form of its output; npy holds dense vectors alone [default: jsonl]
    #[arg(long, short, value_name = "FORM", env = "TRIVEC_FORMAT")]
    pub format: Option<OutputFormat>,
    /// What `trivec bench --json` said on a machine of the job, with this model [default: this machine is measured]
    #[arg(long, value_name = "FILE", env = "TRIVEC_BENCH")]
    pub bench: Option<PathBuf>,
    /// Seconds to spend on each shape, at least, where this machine is measured
    #[arg(long, value_name = "S", env = "TRIVEC_SECONDS", default_value = "2", allow_hyphen_values = true)]
    pub seconds: f64,
    /// Machines of the job [default: as many as --hours takes, else 1]
    #[arg(long, value_name = "N", env = "TRIVEC_MACHINES")]
    pub machines: Option<u32>,
    /// Hours in which it must be done
    #[arg(long, value_name = "H", env = "TRIVEC_HOURS", allow_hyphen_values = true)]
    pub hours: Option<f64>,
    /// What a machine costs an hour
    #[arg(long, value_name = "P", env = "TRIVEC_PRICE", allow_hyphen_values = true)]
    pub price: Option<f64>,
    /// Share of the measured speed that a job keeps: the rest goes to reading, writing, and the last part that is waited for
    #[arg(long, value_name = "SHARE", env = "TRIVEC_EFFICIENCY", default_value = "0.9", allow_hyphen_values = true)]
    pub efficiency: f64,
    /// Megabytes (10^6 bytes) of the corpus to look at
    #[arg(long, value_name = "MB", env = "TRIVEC_SAMPLE_MB", default_value = "4", allow_hyphen_values = true)]
    pub sample_mb: f64,
    /// Print JSON
    #[arg(long, env = "TRIVEC_JSON")]
    pub json: bool,
    #[command(flatten)]
    pub packed: WeightsArgs,
}

impl PlanArgs {
    fn form(&self) -> OutputFormat {
        self.format.unwrap_or(OutputFormat::Jsonl)
    }
}

pub(super) fn run(args: &PlanArgs, model_args: &ModelArgs) -> Result<()> {
    let job = Job { machines: args.machines, hours: args.hours, efficiency: args.efficiency, price: args.price };
    // Options that make no sense are refused before anything is read.
    job.plan(&Estimate::default(), &trivec::corpus::Speed { per_token: 0.0, per_square: 0.0 })?;
    bench::check_seconds(args.seconds)?;
    check_format(args.form(), args.modes)?;
    if !(0.001..=100_000.0).contains(&args.sample_mb) {
        return Err(Failure::option("sample-mb", format!("found {}, expected 0.001 to 100,000", args.sample_mb)));
    }
    let strata = sample::take(&args.inputs, &args.form, (args.sample_mb * 1e6) as u64)?;
    let model = super::copies::load_as(args.packed.weights, model_args)?;
    let options = EncodeOptions { modes: args.modes, dimensions: args.dimensions, ..args.text.options(&model)? };
    model.encode::<&str>(&[], &options)?;

    let corpus = count(&strata, &model, &options)?;
    let measured = match &args.bench {
        Some(path) => speed::of_report(path, &model)?,
        None => {
            if !model_args.quiet {
                say!("trivec plan: measuring this machine");
            }
            speed::here(&model, &corpus, args.seconds)?
        }
    };
    let plan = job.plan(&corpus, &measured.speed)?;
    let parts = strata.iter().flat_map(|stratum| &stratum.parts);
    let records: Vec<(&Part, usize)> =
        parts.flat_map(|part| (0..part.records.len()).map(move |index| (part, index))).collect();
    let probes = Probes::of(&records, args, &model, &options)?;
    let bytes = probes.layout(args, &model, corpus.records)?.bytes(&corpus, probes.weighted);
    let report = Report::new(args, &model, &corpus, &measured, &plan, (records.len(), bytes));
    let text = match args.json {
        true => style::json(&report).map_err(Failure::usage)?,
        false => report.text(),
    };
    let mut out = anstream::stdout().lock();
    writeln!(out, "{text}").and_then(|()| out.flush()).map_err(|e| Failure::stdout(&e))
}

/// Counts the tokens of the sample, and estimates those of the whole corpus from them.
fn count(strata: &[Stratum], model: &Model, options: &EncodeOptions) -> Result<Estimate> {
    let most = options.max_length.unwrap_or(model.info().max_length);
    let mut all = Estimate::default();
    for stratum in strata {
        let mut counts = Vec::new();
        for part in &stratum.parts {
            let mut own = Counts { bytes: part.bytes, ..Counts::default() };
            for (chunk, records) in part.records.chunks(CHUNK).enumerate() {
                let ids = tokens(records, model, options)?;
                for (index, (record, ids)) in (chunk * CHUNK..).zip(records.iter().zip(ids)) {
                    if matches!(record.content, Content::Ids(_)) && !(1..=most).contains(&ids.0.len()) {
                        let found = format!("{} token ids, expected 1 to {}", grouped(ids.0.len()), grouped(most));
                        return Err(Failure::input(format!("{}: {found}", part.place(index))));
                    }
                    own.add(&ids.0, ids.1);
                }
            }
            counts.push(own);
        }
        if counts.iter().any(|part| part.records > 0) {
            all = all.and(Estimate::of(&counts, stratum.whole)?);
        }
    }
    Ok(all)
}

/// The token ids of each record, and whether its text was cut.
fn tokens<R: std::borrow::Borrow<Record>>(
    records: &[R],
    model: &Model,
    options: &EncodeOptions,
) -> Result<Vec<(Vec<u32>, bool)>> {
    let text = |record: &R| match &record.borrow().content {
        Content::Text(text) => Some(text.clone()),
        Content::Ids(_) => None,
    };
    let texts: Vec<String> = records.iter().filter_map(text).collect();
    let mut of_texts = model.token_ids_of(&texts, options)?.into_iter();
    let next = |record: &R| match &record.borrow().content {
        Content::Text(_) => of_texts.next(),
        Content::Ids(ids) => Some((ids.clone(), false)),
    };
    Ok(records.iter().filter_map(next).collect())
}

/// Some texts of the sample, which are embedded to see how large their output is.
struct Probes<'a> {
    embedded: Vec<(&'a Record, Embedding)>,
    /// Of the distinct token ids of these texts, the share that got a lexical weight.
    weighted: f64,
}

impl<'a> Probes<'a> {
    /// Embeds up to [`PROBES`] records from all over the sample, or none if the size of the output does not depend on them. Each of `records`
    /// is given by its part and its index there.
    fn of(
        records: &[(&'a Part, usize)],
        args: &PlanArgs,
        model: &Model,
        options: &EncodeOptions,
    ) -> Result<Probes<'a>> {
        // The size of npy and safetensors outputs follows from the counts, except for the number of lexical weights.
        let modes = match args.form() {
            OutputFormat::Jsonl => args.modes,
            _ if args.modes.sparse => Modes::SPARSE,
            _ => return Ok(Probes { embedded: Vec::new(), weighted: 0.0 }),
        };
        let count = records.len().min(PROBES);
        let places: Vec<(&Part, usize)> = (0..count).map(|i| records[i * records.len() / count]).collect();
        let chosen: Vec<&Record> = places.iter().map(|&(part, index)| &part.records[index]).collect();
        let most = options.max_length.unwrap_or(model.info().max_length).min(PROBE_TOKENS);
        let options = EncodeOptions { modes, max_length: Some(most), ..options.clone() };
        let mut ids: Vec<Vec<u32>> = tokens(&chosen, model, &options)?.into_iter().map(|(ids, _)| ids).collect();
        ids.iter_mut().for_each(|ids| ids.truncate(most));
        let embeddings = model.encode_ids(&ids, &options).map_err(|e| {
            Failure::of_input(e, |index| places.get(index).map_or_else(String::new, |(part, index)| part.place(*index)))
        })?;
        let mut counts = Counts::default();
        ids.iter().for_each(|ids| counts.add(ids, false));
        let weights: usize =
            embeddings.iter().filter_map(|e| e.lexical.as_ref()).map(trivec::LexicalWeights::len).sum();
        let weighted = weights as f64 / counts.ids.max(1) as f64;
        Ok(Probes { embedded: chosen.into_iter().zip(embeddings).collect(), weighted })
    }

    /// The bytes that the output takes for itself, a record, a lexical weight and a ColBERT vector.
    fn layout(&self, args: &PlanArgs, model: &Model, records: f64) -> Result<Layout> {
        let info = model.info();
        let dense = 4.0 * args.dimensions.unwrap_or(info.dense_dim) as f64;
        let colbert = 4.0 * info.colbert_dim.unwrap_or(0) as f64;
        let if_asked = |asked: bool, bytes: f64| if asked { bytes } else { 0.0 };
        let Modes { dense: has_dense, sparse, colbert: has_colbert } = args.modes;
        Ok(match args.form() {
            OutputFormat::Jsonl => self.of_lines((records / 2.0) as u64)?,
            OutputFormat::Npy => Layout { file: NPY_HEADER, record: dense, ..Layout::default() },
            // A record has a token count (i64), a byte that says whether it was cut, and offsets (i64); a lexical weight is an id and a value
            // of four bytes each.
            OutputFormat::Safetensors => Layout {
                file: SAFETENSORS_HEADER,
                record: 9.0 + if_asked(has_dense, dense) + if_asked(sparse, 8.0) + if_asked(has_colbert, 8.0),
                weight: if_asked(sparse, 8.0),
                row: if_asked(has_colbert, colbert),
            },
        })
    }

    /// The layout of JSONL, from the lines of the probes. `index` is a typical number of a record, whose digits count too.
    fn of_lines(&self, index: u64) -> Result<Layout> {
        let (mut record, mut weights, mut rows) = (0, 0, 0);
        let (mut of_weights, mut of_rows) = (0, 0);
        for (source, embedding) in &self.embedded {
            let bytes = |e: &Embedding| Ok::<_, Failure>(json_line(index, source.id.as_deref(), e)?.len());
            let bare = Embedding { lexical: None, colbert: None, ..embedding.clone() };
            let with_weights = Embedding { lexical: embedding.lexical.clone(), ..bare.clone() };
            let (own, lexical, whole) = (bytes(&bare)?, bytes(&with_weights)?, bytes(embedding)?);
            record += own;
            of_weights += lexical - own;
            of_rows += whole - lexical;
            weights += embedding.lexical.as_ref().map_or(0, trivec::LexicalWeights::len);
            rows += embedding.colbert.as_ref().map_or(0, trivec::TokenVectors::rows);
        }
        let mean = |bytes: usize, count: usize| bytes as f64 / count.max(1) as f64;
        Ok(Layout {
            file: 0.0,
            record: mean(record, self.embedded.len()),
            weight: mean(of_weights, weights),
            row: mean(of_rows, rows),
        })
    }
}

/// The estimate. `--json` prints it as it is, otherwise [`Report::text`] does.
#[derive(Serialize)]
struct Report<'a> {
    inputs: usize,
    /// Records that were looked at.
    sampled: usize,
    records: f64,
    tokens: f64,
    /// By how many tokens `tokens` may be too high or too low; null in JSON if only one part was seen.
    tokens_off: f64,
    tokens_a_record: f64,
    /// Tokens of the longest text that was seen.
    longest: u64,
    /// Records that are cut at the longest length that is allowed.
    truncated: f64,
    machine: &'a Machine,
    /// The measured shapes that the machine's speed follows from.
    shapes: &'a [String],
    seconds_per_token: f64,
    seconds_per_token_squared: f64,
    efficiency: f64,
    /// Tokens a second of one machine in the job, which is `efficiency` of what was measured.
    tokens_s: f64,
    machine_hours: f64,
    machines: u32,
    hours: f64,
    price: Option<f64>,
    cost: Option<f64>,
    output: Output,
    assumptions: Vec<String>,
    /// The format of the weights, and where the speed comes from, for people.
    #[serde(skip)]
    from: String,
}

#[derive(Serialize)]
struct Output {
    format: &'static str,
    modes: String,
    bytes: f64,
}

impl<'a> Report<'a> {
    fn new(
        args: &PlanArgs,
        model: &Model,
        corpus: &Estimate,
        measured: &'a Measured,
        plan: &Plan,
        (sampled, bytes): (usize, f64),
    ) -> Report<'a> {
        let info = model.info();
        let mut assumptions = vec![
            format!(
                "every machine is as fast as the measured one with {} ({}), and a job keeps {:.0} % of that",
                counted(measured.machine.threads, "thread"),
                measured.shapes.join(", "),
                args.efficiency * 100.0
            ),
            "loading the model, starting machines and moving files take no time".to_owned(),
        ];
        if measured.is_small {
            assumptions.push(
                "larger batches are as slow a token as the measured ones, which do not fill a machine".to_owned(),
            );
        }
        if corpus.tokens_off > 0.0 {
            assumptions.push("what was not looked at is as what was".to_owned());
        }
        if args.price.is_some() {
            assumptions.push("machines are paid for the time that they work".to_owned());
        }
        assumptions.push("outputs are not compressed, and a text that occurs twice is embedded twice".to_owned());
        Report {
            inputs: args.inputs.len(),
            sampled,
            records: corpus.records.round(),
            tokens: corpus.tokens.round(),
            tokens_off: corpus.tokens_off.ceil(),
            tokens_a_record: corpus.tokens / corpus.records,
            longest: corpus.longest,
            truncated: corpus.truncated.round(),
            machine: &measured.machine,
            shapes: &measured.shapes,
            seconds_per_token: measured.speed.per_token,
            seconds_per_token_squared: measured.speed.per_square,
            efficiency: args.efficiency,
            tokens_s: plan.tokens_s,
            machine_hours: plan.machine_hours,
            machines: plan.machines,
            hours: plan.hours,
            price: args.price,
            cost: plan.cost,
            output: Output { format: name(args.form()), modes: args.modes.to_string(), bytes: bytes.round() },
            assumptions,
            from: match &args.bench {
                Some(path) => format!("{} weights, from {}", info.weights, path.display()),
                None => format!("{} weights, measured now", info.weights),
            },
        }
    }

    /// The estimate as lines for a terminal.
    fn text(&self) -> String {
        let off = match self.tokens_off {
            0.0 => "all counted".to_owned(),
            off if off.is_finite() => format!("±{:.1} %", off / self.tokens * 100.0),
            _ => "from one part alone".to_owned(),
        };
        let m = self.machine;
        let mut lines = vec![
            format!(
                "corpus    {}, {} ({} looked at)",
                counted(self.inputs, "input"),
                plural(self.records, "record"),
                grouped(self.sampled)
            ),
            format!(
                "tokens    {} ({off}); {:.1} a record, the longest seen {}, {} cut",
                short(self.tokens),
                self.tokens_a_record,
                grouped(self.longest),
                short(self.truncated)
            ),
            format!("speed     {} tokens/s a machine in the job ({})", short(self.tokens_s), self.from),
            format!("machine   {}, {}, {}", m.cpu, m.isa, counted(m.threads, "thread")),
            format!(
                "time      {} on {}: {} of one machine",
                span(self.hours),
                counted(self.machines as usize, "machine"),
                span(self.machine_hours)
            ),
        ];
        if let (Some(cost), Some(price)) = (self.cost, self.price) {
            lines.push(format!("cost      {cost:.2} at {price} a machine and hour"));
        }
        lines.push(format!("output    {}, {} as {}", bytes(self.output.bytes), self.output.modes, self.output.format));
        lines.extend(
            self.assumptions
                .iter()
                .enumerate()
                .map(|(index, what)| format!("{:<10}{what}", if index == 0 { "assumed" } else { "" })),
        );
        // The names of CPUs and files may hold characters that act on a terminal.
        lines.iter().map(|line| Escaped(line).to_string()).collect::<Vec<_>>().join("\n")
    }
}

/// The name of an output format, as `--format` takes it.
fn name(format: OutputFormat) -> &'static str {
    match format {
        OutputFormat::Jsonl => "jsonl",
        OutputFormat::Npy => "npy",
        OutputFormat::Safetensors => "safetensors",
    }
}

/// A count with its noun: `1 record`, `25.6 billion records`.
fn plural(x: f64, what: &str) -> String {
    format!("{} {what}{}", short(x), if x == 1.0 { "" } else { "s" })
}

/// A count in about three digits and a word: `25.6 billion`.
fn short(x: f64) -> String {
    scaled(x, &["", " thousand", " million", " billion", " trillion"])
}

fn bytes(x: f64) -> String {
    scaled(x, &[" bytes", " kB", " MB", " GB", " TB", " PB"])
}

/// The number in the unit that leaves about three digits. Each of `units` is 1,000 times the one before.
fn scaled(mut x: f64, units: &[&str]) -> String {
    let mut unit = 0;
    while x >= 999.5 && unit + 1 < units.len() {
        x /= 1000.0;
        unit += 1;
    }
    let digits = match x {
        _ if unit == 0 => 0,
        ..9.995 => 2,
        ..99.95 => 1,
        _ => 0,
    };
    format!("{x:.digits$}{}", units[unit])
}

/// A time that is given in hours, in seconds, minutes or hours, whichever suits it.
fn span(hours: f64) -> String {
    let seconds = hours * 3600.0;
    match seconds {
        ..120.0 => format!("{seconds:.1} seconds"),
        ..7200.0 => format!("{:.1} minutes", seconds / 60.0),
        _ => format!("{hours:.1} hours"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        for (x, text) in [
            (0.0, "0"),
            (7.4, "7"),
            (999.0, "999"),
            (1000.0, "1.00 thousand"),
            (25.64e9, "25.6 billion"),
            (999_600.0, "1.00 million"),
        ] {
            assert_eq!(short(x), text);
        }
        assert_eq!((bytes(410e9), bytes(12.0), bytes(5.2e18)), ("410 GB".into(), "12 bytes".into(), "5200 PB".into()));
        assert_eq!(
            (span(0.001), span(0.5), span(100.0)),
            ("3.6 seconds".into(), "30.0 minutes".into(), "100.0 hours".into())
        );
    }
}
