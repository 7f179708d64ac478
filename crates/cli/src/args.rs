//! Options of the command line that several files read, each with its environment variable.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use super::cache::CacheArgs;
use super::choices::{Color, Tune};
use super::prompt::SideArgs;
use trivec::{Modes, SpecialTokens, WeightFormat};

/// What all subcommands share.
#[derive(Args, Debug, Clone)]
#[command(next_help_heading = "Options of every command")]
pub(super) struct ModelArgs {
    /// Model: a directory in Hugging Face layout, a packed file, the name of an installed model, or `starter` [default: the model in use]
    #[arg(long, value_name = "PATH|NAME", env = "TRIVEC_MODEL", global = true)]
    pub model: Option<PathBuf>,
    /// Worker threads [default: the CPUs this process may use]
    #[arg(long, value_name = "N", env = "TRIVEC_THREADS", global = true)]
    pub threads: Option<usize>,
    /// Instruction set by name, `trivec info` lists them [default: the best this CPU has]
    #[arg(long, value_name = "NAME", env = "TRIVEC_ISA", global = true)]
    pub isa: Option<String>,
    /// Whether to measure once how this CPU reads large weights fastest (`trivec info` shows the result): off, auto or force; embeddings do
    /// not depend on it [default: auto]
    #[arg(long, value_name = "WHEN", env = "TRIVEC_TUNE", hide_possible_values = true, global = true)]
    pub tune: Option<Tune>,
    /// Load without scanning the weights for NaN and infinities
    #[arg(long, env = "TRIVEC_NO_CHECK", global = true)]
    pub no_check: bool,
    /// Bring all of a packed model into memory at start instead of as it is touched
    #[arg(long, env = "TRIVEC_PRELOAD", global = true)]
    pub preload: bool,
    /// When to use colours
    #[arg(long, value_name = "WHEN", env = "TRIVEC_COLOR", default_value = "auto", global = true)]
    pub color: Color,
    /// No progress bar and no notes on stderr
    #[arg(long, short, env = "TRIVEC_QUIET", global = true)]
    pub quiet: bool,
}

/// The format a checkpoint is packed to before it is used.
#[derive(Args, Debug, Default, Clone, Copy)]
pub(super) struct WeightsArgs {
    /// Pack a checkpoint that is not packed, once, and use the copy (`trivec models` lists it): int8, int4, f16, bf16 or f32
    #[arg(long, value_name = "FORMAT", env = "TRIVEC_MODEL_WEIGHTS", value_parser = parse_weights)]
    pub weights: Option<WeightFormat>,
}

/// How texts become tokens.
#[derive(Args, Debug)]
pub(super) struct TextArgs {
    /// Tokens kept of each text, `<s>` and `</s>` included [default: the model's maximum]
    #[arg(long, value_name = "N", env = "TRIVEC_MAX_LENGTH")]
    pub max_length: Option<usize>,
    /// Whether `<s>`, `</s>`, `<mask>` … in a text are special tokens (as the reference does) or plain text
    #[arg(long, value_name = "HOW", env = "TRIVEC_SPECIAL_TOKENS", default_value = "parse")]
    pub special_tokens: Special,
    /// Prompt before each text: the name of one of the model's prompts (`trivec info` lists them), or a text such as "query: "; "" for none
    /// [default: the model's default prompt, if it has one]
    #[arg(long, value_name = "NAME|TEXT", env = "TRIVEC_PROMPT")]
    pub prompt: Option<String>,
}

#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Special {
    Parse,
    Literal,
}

impl From<Special> for SpecialTokens {
    fn from(special: Special) -> Self {
        match special {
            Special::Parse => SpecialTokens::Parse,
            Special::Literal => SpecialTokens::Literal,
        }
    }
}

const EMBED_EXAMPLES: &str = "\
Examples:
  trivec embed \"a text\" \"another\"
  cat texts.txt | trivec embed --modes dense,sparse,colbert > vectors.jsonl
  trivec embed --input texts.jsonl --format npy --output dense.npy
  trivec embed --input rows.csv --column body
  trivec embed --input texts.txt --cache embeddings.cache --cache-size 2GiB
  trivec embed --input texts.txt --model path/to/bge-m3 --weights int8
  trivec embed --prompt \"query: \" \"how do I reset my password?\"

Input is lines (each a text, empty ones too), JSONL or JSON ({\"id\": …, \"text\": …} or {\"id\": …, \"input_ids\": […]}), CSV or TSV with \
a header; UTF-8, or UTF-16 and UTF-32 with a byte order mark.
Output records are in input order. Files are written whole or not at all.";

#[derive(Args, Debug)]
#[command(after_help = EMBED_EXAMPLES)]
pub(super) struct EmbedArgs {
    /// Texts to embed, instead of --input
    #[arg(value_name = "TEXT")]
    pub texts: Vec<String>,
    /// File to read, - for standard input [default: standard input]
    #[arg(long, short, value_name = "FILE", env = "TRIVEC_INPUT")]
    pub input: Option<PathBuf>,
    #[command(flatten)]
    pub form: InputArgs,
    /// What to compute: dense, sparse, colbert, comma-separated, or all
    #[arg(long, short, value_name = "LIST", env = "TRIVEC_MODES", default_value = "dense")]
    pub modes: Modes,
    /// Leading values of the dense vector to keep, before it is normalised
    #[arg(long, value_name = "N", env = "TRIVEC_DIMENSIONS")]
    pub dimensions: Option<usize>,
    /// Do not normalise the dense vector, even if the model does
    #[arg(long, env = "TRIVEC_NO_NORMALIZE")]
    pub no_normalize: bool,
    #[command(flatten)]
    pub text: TextArgs,
    /// Form of the output; npy holds dense vectors alone [default: npy or safetensors for a name that ends so, else jsonl]
    #[arg(long, short, value_name = "FORM", env = "TRIVEC_FORMAT")]
    pub format: Option<OutputFormat>,
    /// File to write, - for standard output [default: standard output]
    #[arg(long, short, value_name = "PATH", env = "TRIVEC_OUTPUT")]
    pub output: Option<PathBuf>,
    /// Records read and embedded at a time
    #[arg(long, value_name = "N", env = "TRIVEC_BATCH_SIZE", default_value = "64", value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub batch_size: u32,
    #[command(flatten)]
    pub cache: CacheArgs,
    #[command(flatten)]
    pub packed: WeightsArgs,
}

/// How an input of records is read.
#[derive(Args, Debug)]
pub(super) struct InputArgs {
    /// How the input is written; auto goes by the file's name and first line
    #[arg(long, value_name = "FORM", env = "TRIVEC_INPUT_FORMAT", default_value = "auto")]
    pub input_format: InputFormat,
    /// Field (JSON) or column (CSV, TSV) that holds the text [default: text]
    #[arg(long, value_name = "NAME", env = "TRIVEC_COLUMN")]
    pub column: Option<String>,
    /// Replace what is no text (invalid UTF-8 or UTF-16, halves of characters in JSON, NUL) by U+FFFD instead of refusing it
    #[arg(long, env = "TRIVEC_LOSSY")]
    pub lossy: bool,
}

#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum InputFormat {
    /// By the file's name and first line
    Auto,
    /// A text a line
    Lines,
    /// A JSON value a line
    Jsonl,
    /// A list, or values one after another over any number of lines
    Json,
    /// Comma-separated, with a header
    Csv,
    /// Tab-separated, with a header
    Tsv,
}

#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OutputFormat {
    Jsonl,
    Npy,
    Safetensors,
}

impl OutputFormat {
    /// The format that the ending of a file's name asks for: JSONL for any other ending, and for standard output.
    pub(super) fn of_path(path: Option<&Path>) -> OutputFormat {
        let ending = path.and_then(Path::extension).map(|ending| ending.to_string_lossy().to_ascii_lowercase());
        match ending.as_deref() {
            Some("npy") => OutputFormat::Npy,
            Some("safetensors") => OutputFormat::Safetensors,
            _ => OutputFormat::Jsonl,
        }
    }
}

const SCORE_EXAMPLES: &str = "\
Examples:
  trivec score \"我喜欢阅读书籍\" \"I enjoy reading books\"
  trivec score --weights 0.4,0.2,0.4 --json \"a query\" \"a document\"
  trivec score --pairs pairs.tsv --json > scores.jsonl
  trivec score --pairs faq.csv --columns question,answer
  trivec score --query-prompt query --document-prompt \"passage: \" \"a query\" \"a document\"

A file of pairs has lines A<TAB>B, JSONL or JSON ({\"a\": …, \"b\": …, \"id\": …} or [\"a\", \"b\"]), or is CSV or TSV with a header.
The verdict is that of the dense cosine. Cosines differ between models: set the thresholds from your own data.";

#[derive(Args, Debug)]
#[command(after_help = SCORE_EXAMPLES)]
pub(super) struct ScoreArgs {
    /// The first text (the query)
    #[arg(value_name = "A", requires = "b")]
    pub a: Option<String>,
    /// The second text (the document)
    #[arg(value_name = "B")]
    pub b: Option<String>,
    /// File of pairs, - for standard input
    #[arg(long, short, value_name = "FILE", env = "TRIVEC_PAIRS")]
    pub pairs: Option<PathBuf>,
    /// How --pairs is written; auto goes by the file's name and first line
    #[arg(long, value_name = "FORM", env = "TRIVEC_INPUT_FORMAT", default_value = "auto")]
    pub input_format: InputFormat,
    /// Fields (JSON) or columns (CSV, TSV) that hold the two texts of a pair [default: a,b]
    #[arg(long, value_name = "A,B", env = "TRIVEC_COLUMNS", value_delimiter = ',')]
    pub columns: Option<Vec<String>>,
    /// Replace what is no text (invalid UTF-8 or UTF-16, halves of characters in JSON, NUL) by U+FFFD instead of refusing it
    #[arg(long, env = "TRIVEC_LOSSY")]
    pub lossy: bool,
    #[command(flatten)]
    pub judge: JudgeArgs,
    /// Print JSON
    #[arg(long, env = "TRIVEC_JSON")]
    pub json: bool,
    #[command(flatten)]
    pub sides: SideArgs,
    #[command(flatten)]
    pub text: TextArgs,
}

/// How scores are mixed and judged.
#[derive(Args, Debug)]
pub(super) struct JudgeArgs {
    /// Weights of dense, sparse and colbert in the mixed scores
    #[arg(
        long,
        value_name = "D,S,C",
        env = "TRIVEC_WEIGHTS",
        default_value = "1,1,1",
        value_delimiter = ',',
        allow_hyphen_values = true
    )]
    pub weights: Vec<f32>,
    /// Cosines above which texts are near-identical, above which related, below which unrelated
    #[arg(
        long,
        value_name = "N,R,U",
        env = "TRIVEC_THRESHOLDS",
        default_value = "0.85,0.60,0.30",
        value_delimiter = ',',
        allow_hyphen_values = true
    )]
    pub thresholds: Vec<f32>,
}

const EXPLAIN_EXAMPLES: &str = "\
Examples:
  trivec explain \"苹果公司发布新手机\" \"Apple launched a new iPhone\"
  trivec explain --json \"a query\" \"a document\" | jq .shared
  trivec explain --thresholds 0.9,0.7,0.4 \"a query\" \"a document\"

The percentage and the verdict are those of the dense cosine; of lexical weights and ColBERT rows a model may have none.";

#[derive(Args, Debug)]
#[command(after_help = EXPLAIN_EXAMPLES)]
pub(super) struct ExplainArgs {
    /// The first text (the query)
    #[arg(value_name = "A")]
    pub a: String,
    /// The second text (the document)
    #[arg(value_name = "B")]
    pub b: String,
    #[command(flatten)]
    pub judge: JudgeArgs,
    /// Print JSON
    #[arg(long, env = "TRIVEC_JSON")]
    pub json: bool,
    #[command(flatten)]
    pub sides: SideArgs,
    #[command(flatten)]
    pub text: TextArgs,
}

const TOKENS_EXAMPLES: &str = "\
Examples:
  trivec tokens \"Hello, 世界\"
  trivec tokens --json < text.txt
  trivec tokens --special-tokens literal \"what does <s> mean?\"

One text: of standard input, all lines are one.";

#[derive(Args, Debug)]
#[command(after_help = TOKENS_EXAMPLES)]
pub(super) struct TokensArgs {
    /// The text [default: all of standard input]
    #[arg(value_name = "TEXT")]
    pub text: Option<String>,
    /// Print JSON
    #[arg(long, env = "TRIVEC_JSON")]
    pub json: bool,
    #[command(flatten)]
    pub options: TextArgs,
}

#[derive(Args, Debug)]
pub(super) struct InfoArgs {
    /// Print JSON
    #[arg(long, env = "TRIVEC_JSON")]
    pub json: bool,
}

const PACK_EXAMPLES: &str = "\
Examples:
  trivec pack path/to/bge-m3 --weights int8 -o bge-m3-int8.safetensors
  trivec pack --weights int4 -o starter-int4.safetensors
  trivec pack path/to/bge-m3 --weights int4 --mixed --budget-mb 520 -o mixed.st
  trivec score --model starter-int4.safetensors \"a text\" \"another\"

The same model, weights and calibration give the same bytes. int8, int4 and bf16 are calibrated on 128 texts that come with the \
program, unless --calibration names a file of your own (lines, JSONL, JSON, CSV or TSV, as for embed) or is none. Interrupted, the same command does not measure again \
what was measured to the end, nor pack what was packed (it is in .NAME.packing beside the output).";

#[derive(Args, Debug)]
#[command(after_help = PACK_EXAMPLES)]
pub(super) struct PackArgs {
    /// Model directory in Hugging Face layout [default: --model, else the built-in starter]
    #[arg(value_name = "MODEL")]
    pub source: Option<PathBuf>,
    /// How to store the layers' weights: int8, int4, f16, bf16 or f32
    #[arg(long, short, value_name = "FORMAT", env = "TRIVEC_PACK_WEIGHTS", default_value = "int8", value_parser = parse_weights)]
    pub weights: WeightFormat,
    /// File to write
    #[arg(long, short, value_name = "FILE", env = "TRIVEC_PACK_OUTPUT")]
    pub output: PathBuf,
    /// Replace a file that is no packed model; packed models are replaced without it
    #[arg(long, env = "TRIVEC_PACK_FORCE")]
    pub force: bool,
    /// Texts to calibrate on: bundled, none, or a file of texts
    #[arg(long, value_name = "TEXTS", env = "TRIVEC_CALIBRATION", default_value = "bundled")]
    pub calibration: String,
    /// Measure which layers rounding hurts most, and store these in the next better format, as far as --budget-mb allows
    #[arg(long, env = "TRIVEC_MIXED", requires = "budget_mb")]
    pub mixed: bool,
    /// Megabytes (10^6 bytes) that a --mixed file may have
    #[arg(long, value_name = "MB", env = "TRIVEC_BUDGET_MB")]
    pub budget_mb: Option<f64>,
}

/// The shapes that `bench` measures by default.
pub(super) const DEFAULT_SHAPES: &str = "1x8,1x32,1x128,1x512,8x128,1x2048,mixed";

const BENCH_EXAMPLES: &str = "\
Examples:
  trivec bench --synthetic bge-m3 --weights int8 --shapes 1x8,1x128,8x128
  trivec bench --synthetic bge-m3 --weights int4 --json
  trivec bench --model bge-m3-int8.safetensors --shapes 1x16,mixed
  trivec bench --shapes 1x9                    # the model in use, or the built-in starter

A shape is BxL, B texts of L tokens, or `mixed`: 256 texts of 8 to 1,024 tokens (`--lengths` lists them). The limit of a shape is the \
larger of the time to read the layers' weights once and the time of its multiply-adds at the peak of the arithmetic used, both \
measured in the same run on as many threads.";

#[derive(Args, Debug)]
#[command(after_help = BENCH_EXAMPLES)]
pub(super) struct BenchArgs {
    /// A model of this shape with deterministic random weights, made in a file: bge-m3 (24 layers, hidden 1024)
    #[arg(long, value_name = "SHAPE", env = "TRIVEC_SYNTHETIC", value_parser = ["bge-m3"])]
    pub synthetic: Option<String>,
    /// Weights of a synthetic model, or of --model or the starter, packed for the run: int8, int4, f16, bf16 or f32
    #[arg(long, short, value_name = "FORMAT", env = "TRIVEC_BENCH_WEIGHTS", value_parser = parse_weights)]
    pub weights: Option<WeightFormat>,
    /// Shapes to measure; none only makes the model. Of the default ones, those that the model takes
    #[arg(
        long,
        value_name = "LIST",
        env = "TRIVEC_SHAPES",
        default_value = DEFAULT_SHAPES,
        value_delimiter = ','
    )]
    pub shapes: Vec<String>,
    /// Where to keep the synthetic model's packed file; it is reused if it is there [default: a temporary file]
    #[arg(long, value_name = "FILE", env = "TRIVEC_PATH")]
    pub path: Option<PathBuf>,
    /// Write the synthetic model as a checkpoint of f32 weights in Hugging Face layout, and do nothing else
    #[arg(long, value_name = "DIR", env = "TRIVEC_EXPORT")]
    pub export: Option<PathBuf>,
    /// Seconds to spend on each shape, at least
    #[arg(long, value_name = "S", env = "TRIVEC_SECONDS", default_value = "2", allow_hyphen_values = true)]
    pub seconds: f64,
    /// Print the token counts of the shape `mixed` as JSON, and do nothing else
    #[arg(long, env = "TRIVEC_LENGTHS")]
    pub lengths: bool,
    /// Measure this machine's limits, print them as JSON, and do nothing else
    #[arg(long, env = "TRIVEC_PROBE")]
    pub probe: bool,
    /// Answer requests on standard input, a line of JSON each: {"shape": [B, L], "runs": N}, {"lengths": […], "runs": N}, {"ids": [[…]]}
    #[arg(long, env = "TRIVEC_WORKER")]
    pub worker: bool,
    /// Print JSON
    #[arg(long, env = "TRIVEC_JSON")]
    pub json: bool,
}

pub(super) fn parse_weights(name: &str) -> Result<WeightFormat, String> {
    WeightFormat::by_name(name).ok_or_else(|| {
        let known: Vec<_> = WeightFormat::ALL.iter().map(|format| format.name()).collect();
        format!("expected one of {}", known.join(", "))
    })
}
