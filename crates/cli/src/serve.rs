//! `trivec serve`: the HTTP service and the page.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

use super::args::{ModelArgs, parse_weights};
use super::cache::ByteSize;
use super::choices::Tune;
use super::config_file::{self, strings};
use super::effects;
use super::exit::{Failure, Result};
use super::process;
use super::sources::Sources;
use trivec::WeightFormat;
use trivec_serve::{AllowedHosts, AllowedOrigins, Limits, Options, Server, Timeouts, memory, runtime};

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

/// Every option is `None` where it is not given, so that the file can say.
#[derive(Args, Debug, Default, Serialize, Deserialize)]
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
    // What every command takes, for the file; on the command line they are `ModelArgs`.
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

impl ServeArgs {
    /// These options over those of a file.
    fn over(&self, file: ServeArgs) -> ServeArgs {
        let list = |own: &[String], other: Vec<String>| if own.is_empty() { other } else { own.to_vec() };
        ServeArgs {
            host: self.host.or(file.host),
            port: self.port.or(file.port),
            unix_socket: self.unix_socket.clone().or(file.unix_socket),
            tls_cert: self.tls_cert.clone().or(file.tls_cert),
            tls_key: self.tls_key.clone().or(file.tls_key),
            api_key: list(&self.api_key, file.api_key),
            api_key_file: self.api_key_file.clone().or(file.api_key_file),
            cors_origin: list(&self.cors_origin, file.cors_origin),
            allowed_host: list(&self.allowed_host, file.allowed_host),
            served_model_name: list(&self.served_model_name, file.served_model_name),
            strict_model: self.strict_model || file.strict_model,
            max_body: self.max_body.or(file.max_body),
            max_texts: self.max_texts.or(file.max_texts),
            max_queue: self.max_queue.or(file.max_queue),
            max_memory: self.max_memory.or(file.max_memory),
            max_connections: self.max_connections.or(file.max_connections),
            head_timeout: self.head_timeout.or(file.head_timeout),
            idle_timeout: self.idle_timeout.or(file.idle_timeout),
            drain_timeout: self.drain_timeout.or(file.drain_timeout),
            cache: self.cache.clone().or(file.cache),
            cache_size: self.cache_size.or(file.cache_size),
            #[cfg(feature = "search")]
            index: list(&self.index, file.index),
            #[cfg(feature = "search")]
            index_write: self.index_write || file.index_write,
            #[cfg(feature = "search")]
            index_snapshots: self.index_snapshots.clone().or(file.index_snapshots),
            log_format: self.log_format.or(file.log_format),
            log_level: self.log_level.or(file.log_level),
            log_texts: self.log_texts || file.log_texts,
            otlp_endpoint: self.otlp_endpoint.clone().or(file.otlp_endpoint),
            otlp_service_name: self.otlp_service_name.clone().or(file.otlp_service_name),
            model: file.model,
            threads: file.threads,
            isa: file.isa,
            tune: file.tune,
            no_check: file.no_check,
            preload: file.preload,
            weights: self.weights.or(file.weights),
            healthcheck: self.healthcheck,
            config: None,
            print_config: self.print_config,
        }
    }

    /// With the file's options and the defaults filled in.
    fn complete(&self, sources: &mut Sources) -> Result<ServeArgs> {
        let file = match &self.config {
            None => ServeArgs::default(),
            Some(path) => {
                let (file, names) = config_file::read(path)?;
                sources.add_file(path, names.iter().map(String::as_str));
                file
            }
        };
        let mut all = self.over(file);
        let (limits, timeouts) = (Limits::default(), Timeouts::default());
        if all.unix_socket.is_none() {
            all.host.get_or_insert(IpAddr::V4(Ipv4Addr::LOCALHOST));
            all.port.get_or_insert(8737);
        }
        all.max_body.get_or_insert(limits.body_bytes);
        all.max_texts.get_or_insert(limits.texts);
        all.max_queue.get_or_insert(limits.queue_cost);
        let body = all.max_body.unwrap_or(limits.body_bytes);
        all.max_memory.get_or_insert(ByteSize(memory::default_budget(body)));
        all.max_connections.get_or_insert(1024);
        all.head_timeout.get_or_insert(timeouts.head.as_secs_f64());
        all.idle_timeout.get_or_insert(timeouts.idle.as_secs_f64());
        all.drain_timeout.get_or_insert(timeouts.drain.as_secs_f64());
        if all.cache.is_some() {
            all.cache_size.get_or_insert_default();
        }
        all.log_format.get_or_insert(LogFormat::Text);
        all.check()?;
        Ok(all)
    }

    /// Checks all values, wherever they come from.
    fn check(&self) -> Result<()> {
        let limits = [
            ("max-body", self.max_body.map(|bytes| bytes as u64), 1 << 30),
            ("max-texts", self.max_texts.map(|texts| texts as u64), 1_000_000),
            ("max-queue", self.max_queue, 1 << 40),
            ("max-connections", self.max_connections.map(|connections| connections as u64), 1_000_000),
        ];
        for (option, value, most) in limits {
            if let Some(value) = value.filter(|value| !(1..=most).contains(value)) {
                return Err(Failure::option(option, format!("found {value}, expected 1 to {most}")));
            }
        }
        if let (Some(ByteSize(memory)), Some(body)) = (self.max_memory, self.max_body)
            && memory < memory::least(body)
        {
            let least = memory::least(body);
            let what =
                format!("found {memory} bytes, expected {least} or more, which a body of --max-body {body} takes");
            return Err(Failure::option("max-memory", what));
        }
        let timeouts = [
            ("head-timeout", self.head_timeout),
            ("idle-timeout", self.idle_timeout),
            ("drain-timeout", self.drain_timeout),
        ];
        for (option, seconds) in timeouts {
            // NaN is in no range.
            if let Some(seconds) = seconds.filter(|seconds| !(0.001..=86_400.0).contains(seconds)) {
                return Err(Failure::option(option, format!("found {seconds}, expected seconds from 0.001 to 86400")));
            }
        }
        let paths = [
            ("unix-socket", &self.unix_socket),
            ("tls-cert", &self.tls_cert),
            ("tls-key", &self.tls_key),
            ("api-key-file", &self.api_key_file),
            ("cache", &self.cache),
            ("model", &self.model),
        ];
        for (option, path) in paths {
            if path.as_ref().is_some_and(|path| path.as_os_str().is_empty()) {
                return Err(Failure::option(option, "found an empty path, expected one of a file"));
            }
        }
        #[cfg(feature = "search")]
        super::search::check_served(
            &self.index,
            self.index_write,
            !self.api_key.is_empty() || self.api_key_file.is_some(),
        )?;
        if self.served_model_name.iter().any(|name| name.trim().is_empty()) {
            return Err(Failure::option("served-model-name", "found an empty name"));
        }
        match (&self.tls_cert, &self.tls_key) {
            (Some(_), None) => Err(Failure::option("tls-cert", "found no --tls-key beside it, expected both or none")),
            (None, Some(_)) => Err(Failure::option("tls-key", "found no --tls-cert beside it, expected both or none")),
            _ => {
                self.api_key.iter().try_for_each(|key| check_key(key).map_err(|what| Failure::option("api-key", what)))
            }
        }
    }

    /// What the command line and the environment say of the model, over what the file says.
    fn model_args(&mut self, own: &ModelArgs) -> ModelArgs {
        self.model = own.model.clone().or(self.model.take());
        self.threads = own.threads.or(self.threads);
        self.isa = own.isa.clone().or(self.isa.take());
        self.tune = own.tune.or(self.tune);
        self.no_check |= own.no_check;
        self.preload |= own.preload;
        let (model, threads, isa, tune) = (self.model.clone(), self.threads, self.isa.clone(), self.tune);
        ModelArgs { model, threads, isa, tune, no_check: self.no_check, preload: self.preload, ..own.clone() }
    }

    fn into_options(self) -> Result<Options> {
        let (limits, timeouts) = (Limits::default(), Timeouts::default());
        let mut api_keys = self.api_key;
        if let Some(path) = &self.api_key_file {
            api_keys.extend(keys(path)?);
        }
        let seconds = |value: Option<f64>, default: Duration| value.map_or(default, Duration::from_secs_f64);
        let body_bytes = self.max_body.unwrap_or(limits.body_bytes);
        let memory = self.max_memory.map_or(memory::default_budget(body_bytes), |ByteSize(bytes)| bytes);
        Ok(Options {
            address: SocketAddr::new(self.host.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)), self.port.unwrap_or(8737)),
            unix_socket: self.unix_socket,
            tls: self.tls_cert.zip(self.tls_key),
            api_keys,
            cors_origins: AllowedOrigins::parse(&self.cors_origin).map_err(|e| Failure::option("cors-origin", e))?,
            allowed_hosts: AllowedHosts::parse(&self.allowed_host).map_err(|e| Failure::option("allowed-host", e))?,
            model_names: self.served_model_name,
            strict_model: self.strict_model,
            limits: Limits {
                body_bytes,
                texts: self.max_texts.unwrap_or(limits.texts),
                queue_cost: self.max_queue.unwrap_or(limits.queue_cost),
                memory,
            },
            timeouts: Timeouts {
                head: seconds(self.head_timeout, timeouts.head),
                idle: seconds(self.idle_timeout, timeouts.idle),
                drain: seconds(self.drain_timeout, timeouts.drain),
            },
            connections: self.max_connections.unwrap_or(1024),
            cache: self.cache.map(|path| (path, self.cache_size.unwrap_or_default().0)),
            // The indexes are opened after the model is loaded.
            #[cfg(feature = "search")]
            search: trivec_serve::Indexes::default(),
            reload: None,
            log_texts: self.log_texts,
            observer: None,
        })
    }
}

/// A key must not be empty, which would let everybody in, and must be one that a header field can hold.
fn check_key(key: &str) -> std::result::Result<(), &'static str> {
    if key.trim().is_empty() {
        return Err("an empty key would let everybody in");
    }
    match key.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Ok(()),
        false => Err("a key that no request can show, expected visible ASCII characters without spaces"),
    }
}

/// A format of weights by its name.
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

/// The keys of a file.
fn keys(path: &Path) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(path).map_err(|e| Failure::io_path(path, &e))?;
    let lines = text.lines().map(str::trim).enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    let mut keys = Vec::new();
    for (number, line) in lines {
        check_key(line).map_err(|what| {
            Failure::option("api-key-file", format!("{}: line {}: {what}", path.display(), number + 1))
        })?;
        keys.push(line.to_owned());
    }
    if keys.is_empty() {
        return Err(Failure::option("api-key-file", format!("no key in {}", path.display())));
    }
    Ok(keys)
}

pub(super) fn run(args: &ServeArgs, model_args: &ModelArgs, sources: &mut Sources) -> Result<()> {
    let mut all = args.complete(sources)?;
    let model_args = &all.model_args(model_args);
    // `--quiet` leaves warnings.
    let default_level = if model_args.quiet { LogLevel::Warn } else { LogLevel::Info };
    let (format, level) = (all.log_format.unwrap_or(LogFormat::Text), all.log_level.unwrap_or(default_level));
    effects::check_serve(sources, matches!(level, LogLevel::Error | LogLevel::Warn))?;
    if args.print_config {
        let text = config_file::print(&all, &super::args::command())?;
        // Invalid options are refused here too.
        all.into_options()?;
        let mut out = anstream::stdout().lock();
        return write!(out, "{text}").and_then(|()| out.flush()).map_err(|e| Failure::stdout(&e));
    }
    let otlp_endpoint = all.otlp_endpoint.clone();
    #[cfg(feature = "otel")]
    let otlp_service = all.otlp_service_name.clone();
    let weights = all.weights;
    #[cfg(feature = "search")]
    let (places, may_write, snapshots) =
        (super::search::places(&all.index)?, all.index_write, all.index_snapshots.clone());
    let mut options = all.into_options()?;
    if args.healthcheck {
        return super::health::check(&options);
    }
    process::log(format, level.into());
    process::raise_descriptor_limit();
    #[cfg(not(feature = "otel"))]
    if otlp_endpoint.is_some() {
        let what = "this trivec was built without OpenTelemetry (cargo feature `otel`)";
        return Err(Failure::option("otlp-endpoint", what));
    }
    #[cfg(feature = "otel")]
    let spans = super::otel::start(otlp_endpoint, otlp_service)?;
    #[cfg(feature = "otel")]
    {
        options.observer = spans.clone().map(|spans| spans as std::sync::Arc<dyn trivec_serve::Observer>);
    }
    let own = ModelArgs { quiet: true, ..model_args.clone() };
    options.reload = Some(Box::new(move || super::load_as(weights, &own).map_err(|failure| failure.to_string())));
    let takes_a_free_port = options.unix_socket.is_none() && options.address.port() == 0;
    let model = super::load_as(weights, model_args)?;
    #[cfg(feature = "search")]
    {
        options.search = trivec_serve::Indexes::open(&model, &places, may_write, snapshots)?;
    }
    let runtime = runtime().map_err(|e| Failure::io("threads", &e))?;
    let finished = runtime.block_on(async {
        let server = Server::bind(model, options).await.map_err(|what| Failure::io_text(&what))?;
        let signals = process::signals().map_err(|e| Failure::io("signals", &e))?;
        // A port that the system chose is only shown here.
        if !model_args.quiet || takes_a_free_port {
            say!("trivec serve: listening on {}", server.address());
        }
        Ok::<bool, Failure>(server.run(signals).await)
    })?;
    // Connections that clients keep open must not keep the process alive.
    runtime.shutdown_background();
    #[cfg(feature = "otel")]
    if let Some(spans) = spans {
        spans.end();
    }
    if !finished {
        tracing::warn!("not all requests were finished in time");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_goes_before_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("trivec.toml");
        let file = "port = 9000\nmax_texts = 7\ncors_origin = [\"https://a.example\"]\ncache = \"c\"\ncache_size = \"64MiB\"\n";
        std::fs::write(&path, file).unwrap();
        let args = ServeArgs { port: Some(9001), config: Some(path.clone()), ..ServeArgs::default() };
        let all = args.complete(&mut Sources::default()).unwrap();
        assert_eq!((all.port, all.max_texts, all.cors_origin.len()), (Some(9001), Some(7), 1));
        let text = toml::to_string(&all).unwrap();
        let again: ServeArgs = toml::from_str(&text).unwrap();
        assert_eq!((again.port, again.max_texts), (Some(9001), Some(7)), "what is printed can be read: {text}");
        assert_eq!((again.cache, again.cache_size), (Some("c".into()), Some(ByteSize(64 << 20))), "{text}");
        std::fs::write(&path, "cache_size = \"much\"\n").unwrap();
        assert!(args.complete(&mut Sources::default()).is_err(), "a size that is none");
        std::fs::write(&path, "model = \"starter\"\nthreads = 2\npreload = true\n").unwrap();
        let own = ModelArgs {
            model: None,
            threads: Some(1),
            isa: None,
            tune: None,
            no_check: false,
            preload: false,
            color: super::super::choices::Color::Auto,
            quiet: false,
        };
        let model = args.complete(&mut Sources::default()).unwrap().model_args(&own);
        assert_eq!((model.model, model.threads, model.preload), (Some("starter".into()), Some(1), true));
        std::fs::write(&path, "porto = 9000\n").unwrap();
        assert!(args.complete(&mut Sources::default()).is_err(), "an unknown name is refused");
    }

    #[test]
    fn keys_are_not_printed_and_values_are_checked() {
        let complete = |args: ServeArgs| args.complete(&mut Sources::default());
        let all = complete(ServeArgs { api_key: vec!["secret".to_owned()], ..ServeArgs::default() }).unwrap();
        assert!(!toml::to_string(&all).unwrap().contains("secret"));
        for key in [" ", "", "a b", "a\nb", "schlüssel", "a\u{7f}"] {
            let refused = complete(ServeArgs { api_key: vec![key.to_owned()], ..ServeArgs::default() }).unwrap_err();
            assert!(key.trim().is_empty() || !refused.to_string().contains(key), "{refused}");
        }
        for seconds in [f64::NAN, f64::INFINITY, -1.0, 0.0, 1e300, 86_401.0] {
            let refused = complete(ServeArgs { drain_timeout: Some(seconds), ..ServeArgs::default() }).unwrap_err();
            assert!(refused.to_string().starts_with("--drain-timeout: found"), "{refused}");
        }
    }

    #[test]
    fn what_is_not_set_is_printed_as_a_comment() {
        let args = ServeArgs { api_key: vec!["secret".to_owned()], port: Some(1), ..ServeArgs::default() };
        let all = args.complete(&mut Sources::default()).unwrap();
        let text = config_file::print(&all, &super::super::args::command()).unwrap();
        for line in
            ["port = 1", "# cache: not set [default: none]", "# unix_socket: not set", "# api_key: 1 given, not shown"]
        {
            assert!(text.lines().any(|own| own.starts_with(line)), "{line}: {text}");
        }
        assert!(text.contains("# threads: not set [default: the CPUs this process may use]"), "{text}");
        assert!(!text.contains("secret") && !text.contains("# port"), "{text}");
        assert_eq!(toml::from_str::<ServeArgs>(&text).unwrap().port, Some(1));
    }
}
