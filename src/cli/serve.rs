//! `trivec serve`: the HTTP service and the page.

use std::io::{IsTerminal, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::fmt::format::{Writer, debug_fn};

use super::args::ModelArgs;
use super::cache::ByteSize;
use super::exit::{Failure, Result};
use crate::escape::Escaped;
use crate::server::{AllowedHosts, AllowedOrigins, Limits, Options, Server, Signal, Timeouts, runtime};

const EXAMPLES: &str = "\
Examples:
  trivec serve        # API and page at http://127.0.0.1:8737
  trivec serve --model m3.safetensors --host 0.0.0.0 --api-key-file keys.txt
  trivec serve --unix-socket /run/trivec.sock
  trivec serve --cache /var/lib/trivec/embeddings.cache --cache-size 2GiB
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
    #[arg(long, value_name = "PATH", env = "TRIVEC_UNIX_SOCKET", conflicts_with_all = ["host", "port"])]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unix_socket: Option<PathBuf>,
    /// Certificate chain (PEM): speak TLS
    #[arg(long, value_name = "FILE", env = "TRIVEC_TLS_CERT", requires = "tls_key")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_cert: Option<PathBuf>,
    /// Private key of the certificate (PEM)
    #[arg(long, value_name = "FILE", env = "TRIVEC_TLS_KEY", requires = "tls_cert")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_key: Option<PathBuf>,
    /// Key that requests have to show (others see it in the process list: prefer the environment or --api-key-file)
    #[arg(long, value_name = "KEY", env = "TRIVEC_API_KEY", hide_env_values = true)]
    #[serde(skip_serializing)]
    pub api_key: Vec<String>,
    /// File of keys, one a line; `#` begins a comment
    #[arg(long, value_name = "FILE", env = "TRIVEC_API_KEY_FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_key_file: Option<PathBuf>,
    /// Origin of another site whose pages may use the service, as `https://example.org` (can be repeated), or * for all [default: none]
    #[arg(long, value_name = "ORIGIN", env = "TRIVEC_CORS_ORIGIN")]
    pub cors_origin: Vec<String>,
    /// Name that requests may call the service by, without a port (can be repeated), or * for any [default: localhost and loopback
    /// addresses on a loopback address without a key, else any]
    #[arg(long, value_name = "NAME", env = "TRIVEC_ALLOWED_HOST")]
    pub allowed_host: Vec<String>,
    /// Name of the model in answers and /v1/models; can be repeated, the first stands in answers [default: made of where it came from]
    #[arg(long, value_name = "NAME", env = "TRIVEC_SERVED_MODEL_NAME", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub served_model_name: Vec<String>,
    /// Refuse requests that name another model, instead of answering them with this one
    #[arg(long, env = "TRIVEC_STRICT_MODEL")]
    pub strict_model: bool,
    /// Largest body in bytes [default: 8388608]
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
    /// Most connections at a time [default: 1024]
    #[arg(long, value_name = "N", env = "TRIVEC_MAX_CONNECTIONS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_connections: Option<usize>,
    /// Seconds to send a request's head, and between requests of a connection [default: 10]
    #[arg(long, value_name = "S", env = "TRIVEC_HEAD_TIMEOUT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub head_timeout: Option<f64>,
    /// Seconds that a body or an answer may stand still [default: 30]
    #[arg(long, value_name = "S", env = "TRIVEC_IDLE_TIMEOUT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_timeout: Option<f64>,
    /// Seconds to finish what is on its way when the service is told to end [default: 30]
    #[arg(long, value_name = "S", env = "TRIVEC_DRAIN_TIMEOUT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drain_timeout: Option<f64>,
    /// File to keep embeddings in, so that a text is computed once [default: none]
    #[arg(long, value_name = "PATH", env = "TRIVEC_CACHE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Option<PathBuf>,
    /// Most bytes of the cache's file, as 512MB, 2GiB or bytes; what was not used for longest makes room [default: 1GiB]
    #[arg(long, value_name = "SIZE", env = "TRIVEC_CACHE_SIZE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_size: Option<ByteSize>,
    /// Form of the log on stderr
    #[arg(long, value_name = "FORM", env = "TRIVEC_LOG_FORMAT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_format: Option<LogFormat>,
    /// Least weight of what is logged; probes are `debug`
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
    pub no_check: bool,
    #[arg(skip)]
    pub preload: bool,
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
            max_connections: self.max_connections.or(file.max_connections),
            head_timeout: self.head_timeout.or(file.head_timeout),
            idle_timeout: self.idle_timeout.or(file.idle_timeout),
            drain_timeout: self.drain_timeout.or(file.drain_timeout),
            cache: self.cache.clone().or(file.cache),
            cache_size: self.cache_size.or(file.cache_size),
            log_format: self.log_format.or(file.log_format),
            log_level: self.log_level.or(file.log_level),
            log_texts: self.log_texts || file.log_texts,
            otlp_endpoint: self.otlp_endpoint.clone().or(file.otlp_endpoint),
            otlp_service_name: self.otlp_service_name.clone().or(file.otlp_service_name),
            model: file.model,
            threads: file.threads,
            isa: file.isa,
            no_check: file.no_check,
            preload: file.preload,
            healthcheck: self.healthcheck,
            config: None,
            print_config: self.print_config,
        }
    }

    /// With the file's options and the defaults filled in.
    fn complete(&self) -> Result<ServeArgs> {
        let file = match &self.config {
            None => ServeArgs::default(),
            Some(path) => {
                let text = std::fs::read_to_string(path).map_err(|e| Failure::io_path(path, &e))?;
                toml::from_str(&text).map_err(|e| Failure::usage(format!("{}: {e}", path.display())))?
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
        all.max_connections.get_or_insert(1024);
        all.head_timeout.get_or_insert(timeouts.head.as_secs_f64());
        all.idle_timeout.get_or_insert(timeouts.idle.as_secs_f64());
        all.drain_timeout.get_or_insert(timeouts.drain.as_secs_f64());
        if all.cache.is_some() {
            all.cache_size.get_or_insert_default();
        }
        all.log_format.get_or_insert(LogFormat::Text);
        Ok(all)
    }

    /// What the command line and the environment say of the model, over what the file says.
    fn model_args(&mut self, own: &ModelArgs) -> ModelArgs {
        self.model = own.model.clone().or(self.model.take());
        self.threads = own.threads.or(self.threads);
        self.isa = own.isa.clone().or(self.isa.take());
        self.no_check |= own.no_check;
        self.preload |= own.preload;
        let (model, threads, isa) = (self.model.clone(), self.threads, self.isa.clone());
        ModelArgs { model, threads, isa, no_check: self.no_check, preload: self.preload, ..own.clone() }
    }

    fn into_options(self) -> Result<Options> {
        let (limits, timeouts) = (Limits::default(), Timeouts::default());
        let mut api_keys = self.api_key;
        if let Some(path) = &self.api_key_file {
            api_keys.extend(keys(path)?);
        }
        if api_keys.iter().any(|key| key.trim().is_empty()) {
            return Err(Failure::usage("--api-key: an empty key would let everybody in"));
        }
        if self.served_model_name.iter().any(|name| name.trim().is_empty()) {
            return Err(Failure::usage("--served-model-name: a name is empty"));
        }
        let seconds = |option: &str, value: Option<f64>, default: Duration| match value {
            None => Ok(default),
            Some(s) if s.is_finite() && (0.001..=86_400.0).contains(&s) => Ok(Duration::from_secs_f64(s)),
            Some(s) => Err(Failure::usage(format!("--{option}: found {s}, expected seconds from 0.001 to 86400"))),
        };
        Ok(Options {
            address: SocketAddr::new(self.host.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)), self.port.unwrap_or(8737)),
            unix_socket: self.unix_socket,
            tls: self.tls_cert.zip(self.tls_key),
            api_keys,
            cors_origins: AllowedOrigins::parse(&self.cors_origin)
                .map_err(|e| Failure::usage(format!("--cors-origin: {e}")))?,
            allowed_hosts: AllowedHosts::parse(&self.allowed_host)
                .map_err(|e| Failure::usage(format!("--allowed-host: {e}")))?,
            model_names: self.served_model_name,
            strict_model: self.strict_model,
            limits: Limits {
                body_bytes: self.max_body.unwrap_or(limits.body_bytes),
                texts: self.max_texts.unwrap_or(limits.texts),
                queue_cost: self.max_queue.unwrap_or(limits.queue_cost),
            },
            timeouts: Timeouts {
                head: seconds("head-timeout", self.head_timeout, timeouts.head)?,
                idle: seconds("idle-timeout", self.idle_timeout, timeouts.idle)?,
                drain: seconds("drain-timeout", self.drain_timeout, timeouts.drain)?,
            },
            connections: self.max_connections.unwrap_or(1024).max(1),
            cache: self.cache.map(|path| (path, self.cache_size.unwrap_or_default().0)),
            reload: None,
            log_texts: self.log_texts,
            observer: None,
        })
    }
}

/// The keys of a file.
fn keys(path: &Path) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(path).map_err(|e| Failure::io_path(path, &e))?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let keys: Vec<String> = lines.map(str::to_owned).collect();
    if keys.is_empty() {
        return Err(Failure::usage(format!("--api-key-file: no key in {}", path.display())));
    }
    Ok(keys)
}

pub(super) fn run(args: &ServeArgs, model_args: &ModelArgs) -> Result<()> {
    let mut all = args.complete()?;
    let model_args = &all.model_args(model_args);
    if args.print_config {
        let text = toml::to_string(&all).map_err(|e| Failure::usage(e.to_string()))?;
        let mut out = anstream::stdout().lock();
        return write!(out, "{text}").and_then(|()| out.flush()).map_err(|e| Failure::stdout(&e));
    }
    // `--quiet` leaves warnings.
    let default_level = if model_args.quiet { LogLevel::Warn } else { LogLevel::Info };
    let (format, level) = (all.log_format.unwrap_or(LogFormat::Text), all.log_level.unwrap_or(default_level));
    let otlp_endpoint = all.otlp_endpoint.clone();
    #[cfg(feature = "otel")]
    let otlp_service = all.otlp_service_name.clone();
    let mut options = all.into_options()?;
    if args.healthcheck {
        return super::health::check(&options);
    }
    log(format, level.into());
    raise_descriptor_limit();
    #[cfg(not(feature = "otel"))]
    if let Some(endpoint) = otlp_endpoint {
        let what =
            format!("--otlp-endpoint {endpoint}: this trivec was built without OpenTelemetry (cargo feature `otel`)");
        return Err(Failure::usage(what));
    }
    #[cfg(feature = "otel")]
    let spans = super::otel::start(otlp_endpoint, otlp_service)?;
    #[cfg(feature = "otel")]
    {
        options.observer = spans.clone().map(|spans| spans as std::sync::Arc<dyn crate::server::Observer>);
    }
    let own = model_args.clone();
    options.reload = Some(Box::new(move || super::load(&own).map_err(|failure| failure.to_string())));
    let model = super::load(model_args)?;
    let runtime = runtime().map_err(|e| Failure::io("threads", &e))?;
    let finished = runtime.block_on(async {
        let server = Server::bind(model, options).await.map_err(|what| Failure::io_text(&what))?;
        let signals = signals().map_err(|e| Failure::io("signals", &e))?;
        if !model_args.quiet {
            say!("trivec serve: listening on {}", server.address());
        }
        Ok::<bool, Failure>(server.run(signals).await)
    })?;
    // Whatever a client still holds open does not keep the process.
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

/// Turns the process's signals into what the service is told. The second one that ends it does so at once.
fn signals() -> std::io::Result<tokio::sync::mpsc::Receiver<Signal>> {
    let (told, signals) = tokio::sync::mpsc::channel(4);
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hang_up = signal(SignalKind::hangup())?;
        tokio::spawn(async move {
            let mut ending = false;
            loop {
                let code = tokio::select! {
                    _ = terminate.recv() => 143,
                    _ = interrupt.recv() => 130,
                    _ = hang_up.recv() => {
                        let _ = told.send(Signal::Reload).await;
                        continue;
                    }
                };
                if ending {
                    std::process::exit(code);
                }
                ending = true;
                let _ = told.send(Signal::End).await;
            }
        });
    }
    #[cfg(not(unix))]
    tokio::spawn(async move {
        let _ = tokio::signal::ctrl_c().await;
        let _ = told.send(Signal::End).await;
        let _ = tokio::signal::ctrl_c().await;
        std::process::exit(130);
    });
    Ok(signals)
}

/// A connection is a descriptor, and the customary limit of 1,024 is below what `--max-connections` allows with the model's own files:
/// the process may raise it to what its administrator set as the highest.
fn raise_descriptor_limit() {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let limit = getrlimit(Resource::Nofile);
        // Refused, it stays as it is, and the accept loop waits where it does not suffice.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    }
}

/// The log on stderr.
fn log(format: LogFormat, level: tracing::Level) {
    let builder = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(std::io::stderr)
        .with_target(false)
        // It would say on stderr that stderr takes nothing, and end the program over that.
        .log_internal_errors(false);
    // Set once a process; a second call (in a test) keeps the first.
    let _ = match format {
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
        LogFormat::Text => {
            let fields = debug_fn(write_field).delimited(" ");
            builder.with_ansi(std::io::stderr().is_terminal()).fmt_fields(fields).try_init()
        }
    };
}

/// A field of a line of text: what requests, files and hubs send is escaped for the terminal.
fn write_field(
    writer: &mut Writer<'_>,
    field: &tracing::field::Field,
    value: &dyn std::fmt::Debug,
) -> std::fmt::Result {
    let value = Escaped(format_args!("{value:?}"));
    match field.name() {
        "message" => write!(writer, "{value}"),
        name => write!(writer, "{name}={value}"),
    }
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
        let all = args.complete().unwrap();
        assert_eq!((all.port, all.max_texts, all.cors_origin.len()), (Some(9001), Some(7), 1));
        let text = toml::to_string(&all).unwrap();
        let again: ServeArgs = toml::from_str(&text).unwrap();
        assert_eq!((again.port, again.max_texts), (Some(9001), Some(7)), "what is printed can be read: {text}");
        assert_eq!((again.cache, again.cache_size), (Some("c".into()), Some(ByteSize(64 << 20))), "{text}");
        std::fs::write(&path, "cache_size = \"much\"\n").unwrap();
        assert!(args.complete().is_err(), "a size that is none");
        std::fs::write(&path, "model = \"starter\"\nthreads = 2\npreload = true\n").unwrap();
        let own = ModelArgs {
            model: None,
            threads: Some(1),
            isa: None,
            no_check: false,
            preload: false,
            color: super::super::args::Color::Auto,
            quiet: false,
        };
        let model = args.complete().unwrap().model_args(&own);
        assert_eq!((model.model, model.threads, model.preload), (Some("starter".into()), Some(1), true));
        std::fs::write(&path, "porto = 9000\n").unwrap();
        assert!(args.complete().is_err(), "an unknown name is refused");
    }

    #[test]
    fn keys_are_not_printed_and_not_empty() {
        let all = ServeArgs { api_key: vec!["secret".to_owned()], ..ServeArgs::default() }.complete().unwrap();
        assert!(!toml::to_string(&all).unwrap().contains("secret"));
        let empty = ServeArgs { api_key: vec![" ".to_owned()], ..ServeArgs::default() };
        assert!(empty.complete().unwrap().into_options().is_err());
        let never = ServeArgs { drain_timeout: Some(f64::NAN), ..ServeArgs::default() };
        assert!(never.complete().unwrap().into_options().is_err());
    }
}
