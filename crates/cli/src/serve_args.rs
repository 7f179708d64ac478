//! The options of `trivec serve`, which come from the command line, the environment or a file.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde::de::{self, Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::args::parse_weights;
use super::cache::ByteSize;
use super::choices::Tune;
use trivec::WeightFormat;

const EXAMPLES: &str = "\
Examples:
  trivec serve        # API and page at http://127.0.0.1:8737
  trivec serve --model m3.safetensors --host 0.0.0.0 --api-key-file keys.txt
  trivec serve --unix-socket /run/trivec.sock
  trivec serve --cache /var/lib/trivec/embeddings.cache --cache-size 2GiB
  trivec serve --index notes/ --index mail=/var/lib/mail-index --index-write --api-key-file keys.txt
  trivec serve --config trivec.toml --print-config
  curl localhost:8737/v1/embeddings --json '{\"input\": \"hello\"}'

Without a key, a service on a loopback address answers to localhost and loopback addresses alone (--allowed-host adds names), and other \
sites' pages are refused (--cors-origin allows an origin). Bodies have to say that they are JSON.

SIGTERM or SIGINT: no new connections, what is on its way is finished, exit 0; a second one ends at once. SIGHUP loads the model again.
Options are read from --config (TOML, the names of the options with _ for -, those of the model too), then the environment, then the command line.";

/// An option that is not given is `None`, empty or false, so that the file can give it.
#[derive(Args, Debug, Default, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[command(after_help = EXAMPLES)]
pub(super) struct ServeArgs {
    /// Address to listen on [default: 127.0.0.1]
    #[arg(long, value_name = "IP", env = "TRIVEC_HOST")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<IpAddr>,
    /// Port to listen on; 0 takes a free one [default: 8737]
    #[arg(long, short, value_name = "N", env = "TRIVEC_PORT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Unix socket to listen on instead of an address
    #[arg(long, value_name = "PATH", env = "TRIVEC_UNIX_SOCKET")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unix_socket: Option<PathBuf>,
    /// Certificate chain (PEM): speak TLS
    #[arg(long, value_name = "FILE", env = "TRIVEC_TLS_CERT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_cert: Option<PathBuf>,
    /// Private key of the certificate (PEM)
    #[arg(long, value_name = "FILE", env = "TRIVEC_TLS_KEY")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_key: Option<PathBuf>,
    /// Key that requests have to show (others see it in the process list: prefer the environment or --api-key-file)
    #[arg(long, value_name = "KEY", env = "TRIVEC_API_KEY", hide_env_values = true)]
    #[serde(skip_serializing, deserialize_with = "strings")]
    pub api_key: Vec<String>,
    /// File of keys, one a line; `#` begins a comment
    #[arg(long, value_name = "FILE", env = "TRIVEC_API_KEY_FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_key_file: Option<PathBuf>,
    /// Origin of another site whose pages may use the service, as `https://example.org` (can be repeated), or * for all [default: none]
    #[arg(long, value_name = "ORIGIN", env = "TRIVEC_CORS_ORIGIN")]
    #[serde(deserialize_with = "strings")]
    pub cors_origin: Vec<String>,
    /// Name that requests may call the service by, without a port (can be repeated), or * for any [default: localhost and loopback
    /// addresses on a loopback address without a key, else any]
    #[arg(long, value_name = "NAME", env = "TRIVEC_ALLOWED_HOST")]
    #[serde(deserialize_with = "strings")]
    pub allowed_host: Vec<String>,
    /// Name of the model in answers and /v1/models; can be repeated, answers have the first [default: derived from the model's path]
    #[arg(long, value_name = "NAME", env = "TRIVEC_SERVED_MODEL_NAME", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "strings")]
    pub served_model_name: Vec<String>,
    /// Refuse requests that name another model, instead of answering them with this one
    #[arg(long, env = "TRIVEC_STRICT_MODEL")]
    pub strict_model: bool,
    /// Largest body in bytes, 1 GiB at most [default: 8388608]
    #[arg(long, value_name = "BYTES", env = "TRIVEC_MAX_BODY")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_body: Option<usize>,
    /// Most texts of a request [default: 2048]
    #[arg(long, value_name = "N", env = "TRIVEC_MAX_TEXTS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_texts: Option<usize>,
    /// Most that may wait, in tokens (n tokens cost n + n²/4096); beyond it, requests get 429 [default: 1048576]
    #[arg(long, value_name = "COST", env = "TRIVEC_MAX_QUEUE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_queue: Option<u64>,
    /// Most memory that all requests together hold, from their bodies to the last of their answers, as 512MB, 2GiB or bytes; beyond it,
    /// requests get 429, and one that alone would need more than three quarters of it 413 [default: 384MiB, or eight times --max-body]
    #[arg(long, value_name = "SIZE", env = "TRIVEC_MAX_MEMORY")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_memory: Option<ByteSize>,
    /// Most connections at a time [default: 1024]
    #[arg(long, value_name = "N", env = "TRIVEC_MAX_CONNECTIONS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_connections: Option<usize>,
    /// Seconds to send a request's head, and between requests of a connection [default: 10]
    #[arg(long, value_name = "S", env = "TRIVEC_HEAD_TIMEOUT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub head_timeout: Option<f64>,
    /// Seconds without progress in a body or an answer before the connection is closed [default: 30]
    #[arg(long, value_name = "S", env = "TRIVEC_IDLE_TIMEOUT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_timeout: Option<f64>,
    /// Seconds to finish running requests when the service is told to end [default: 30]
    #[arg(long, value_name = "S", env = "TRIVEC_DRAIN_TIMEOUT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drain_timeout: Option<f64>,
    /// File to keep embeddings in, so that a text is computed once [default: none]
    #[arg(long, value_name = "PATH", env = "TRIVEC_CACHE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Option<PathBuf>,
    /// Most bytes of the cache's file, as 512MB, 2GiB or bytes; the least recently used entries are removed [default: 1GiB]
    #[arg(long, value_name = "SIZE", env = "TRIVEC_CACHE_SIZE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_size: Option<ByteSize>,
    /// Index to search, as DIR or NAME=DIR (can be repeated; requests that name none mean the first) [default: none]
    #[cfg(feature = "search")]
    #[arg(long, value_name = "DIR", env = "TRIVEC_INDEX")]
    #[serde(deserialize_with = "strings")]
    pub index: Vec<String>,
    /// Let requests with a key add and delete documents of the indexes; it takes an API key
    #[cfg(feature = "search")]
    #[arg(long, env = "TRIVEC_INDEX_WRITE")]
    pub index_write: bool,
    /// Directory that requests may copy the indexes into [default: none]
    #[cfg(feature = "search")]
    #[arg(long, value_name = "DIR", env = "TRIVEC_INDEX_SNAPSHOTS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index_snapshots: Option<PathBuf>,
    /// Cross-encoder that a search may have reorder its very best (`reranker_top`): a model as --model takes it [default: none]
    #[cfg(feature = "search")]
    #[arg(long, value_name = "MODEL", env = "TRIVEC_RERANKER")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reranker: Option<PathBuf>,
    /// Form of the log on stderr
    #[arg(long, value_name = "FORM", env = "TRIVEC_LOG_FORMAT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_format: Option<LogFormat>,
    /// Lowest severity to log; health checks are `debug` [default: info, with --quiet warn]
    #[arg(long, value_name = "LEVEL", env = "TRIVEC_LOG_LEVEL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_level: Option<LogLevel>,
    /// Log the texts of requests too
    #[arg(long, env = "TRIVEC_LOG_TEXTS")]
    pub log_texts: bool,
    /// OpenTelemetry collector that spans of requests are sent to (OTLP over HTTP), as http://127.0.0.1:4318 [default: what
    /// OTEL_EXPORTER_OTLP_ENDPOINT says, or none]
    #[arg(long, value_name = "URL", env = "TRIVEC_OTLP_ENDPOINT", hide = cfg!(not(feature = "otel")))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub otlp_endpoint: Option<String>,
    /// Name of this service in spans [default: what OTEL_SERVICE_NAME says, or trivec]
    #[arg(long, value_name = "NAME", env = "TRIVEC_OTLP_SERVICE_NAME", hide = cfg!(not(feature = "otel")))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub otlp_service_name: Option<String>,
    /// Ask the service that runs with the same options whether it is ready, and do nothing else: exit 0 if it is
    #[arg(long, env = "TRIVEC_HEALTHCHECK")]
    #[serde(skip)]
    pub healthcheck: bool,
    // Options of every command, which are here so that the file can give them; on the command line they are in `ModelArgs`.
    #[arg(skip)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<PathBuf>,
    #[arg(skip)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threads: Option<usize>,
    #[arg(skip)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub isa: Option<String>,
    #[arg(skip)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tune: Option<Tune>,
    #[arg(skip)]
    pub no_check: bool,
    #[arg(skip)]
    pub preload: bool,
    /// Pack a checkpoint that is not packed, once, and serve the copy (`trivec models` lists it): int8, int4, f16, bf16 or f32
    #[arg(long, value_name = "FORMAT", env = "TRIVEC_MODEL_WEIGHTS", value_parser = parse_weights)]
    #[serde(skip_serializing_if = "Option::is_none", with = "weights")]
    pub weights: Option<WeightFormat>,
    /// TOML file of options
    #[arg(long, value_name = "FILE", env = "TRIVEC_CONFIG")]
    #[serde(skip)]
    pub config: Option<PathBuf>,
    /// Print the options that would be used as TOML, without keys, and do nothing else
    #[arg(long, env = "TRIVEC_PRINT_CONFIG")]
    #[serde(skip)]
    pub print_config: bool,
}

#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum LogFormat {
    /// Lines for people
    Text,
    /// An object a line
    Json,
}

#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl From<LogLevel> for tracing::Level {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Error => Self::ERROR,
            LogLevel::Warn => Self::WARN,
            LogLevel::Info => Self::INFO,
            LogLevel::Debug => Self::DEBUG,
            LogLevel::Trace => Self::TRACE,
        }
    }
}

/// Reads and writes a format of weights by its name.
mod weights {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use super::{WeightFormat, parse_weights};

    pub(super) fn serialize<S: Serializer>(weights: &Option<WeightFormat>, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(weights.map_or("", WeightFormat::name))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<WeightFormat>, D::Error> {
        parse_weights(&String::deserialize(from)?).map(Some).map_err(D::Error::custom)
    }
}

/// Reads a string, or a list of strings, as a list.
fn strings<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    struct Strings;
    impl<'de> Visitor<'de> for Strings {
        type Value = Vec<String>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a string or a list of strings")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<Vec<String>, E> {
            Ok(vec![text.to_owned()])
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<String>, A::Error> {
            let mut all = Vec::new();
            while let Some(text) = seq.next_element()? {
                all.push(text);
            }
            Ok(all)
        }
    }
    deserializer.deserialize_any(Strings)
}
