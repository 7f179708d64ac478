//! `trivec serve`: the HTTP service and the page.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use super::args::ModelArgs;
use super::cache::ByteSize;
use super::command::command;
use super::config_file;
use super::copies;
use super::effects;
use super::exit::{Failure, Result};
use super::input::whole_text;
#[cfg(feature = "search")]
use super::loading;
use super::process;
use super::serve_args::{LogFormat, LogLevel, ServeArgs};
use super::sources::Sources;
use super::style::grouped;
use trivec_serve::{AllowedHosts, AllowedOrigins, Options, Server, memory, runtime};

impl ServeArgs {
    /// These options, with those of every command that say which model is loaded and how.
    fn with_model(&self, of_model: &ModelArgs) -> ServeArgs {
        let ModelArgs { model, threads, isa, tune, no_check, preload, .. } = of_model.clone();
        ServeArgs { model, threads, isa, tune, no_check, preload, ..self.clone() }
    }

    /// Joins these options with those of a file: an option that is not given here comes from `file`.
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
            #[cfg(feature = "search")]
            reranker: self.reranker.clone().or(file.reranker),
            log_format: self.log_format.or(file.log_format),
            log_level: self.log_level.or(file.log_level),
            log_texts: self.log_texts || file.log_texts,
            otlp_endpoint: self.otlp_endpoint.clone().or(file.otlp_endpoint),
            otlp_service_name: self.otlp_service_name.clone().or(file.otlp_service_name),
            model: self.model.clone().or(file.model),
            threads: self.threads.or(file.threads),
            isa: self.isa.clone().or(file.isa),
            tune: self.tune.or(file.tune),
            no_check: self.no_check || file.no_check,
            preload: self.preload || file.preload,
            weights: self.weights.or(file.weights),
            healthcheck: self.healthcheck,
            config: None,
            print_config: self.print_config,
        }
    }

    /// These options, completed by those of the `--config` file and then by defaults. Fails if a value is invalid. Tells `sources` which
    /// options the file gives.
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
        let Options { address, limits, timeouts, connections, .. } = Options::default();
        if all.unix_socket.is_none() {
            all.host.get_or_insert(address.ip());
            all.port.get_or_insert(address.port());
        }
        all.max_body.get_or_insert(limits.body_bytes);
        all.max_texts.get_or_insert(limits.texts);
        all.max_queue.get_or_insert(limits.queue_cost);
        let body = all.max_body.unwrap_or(limits.body_bytes);
        all.max_memory.get_or_insert(ByteSize(memory::default_budget(body)));
        all.max_connections.get_or_insert(connections);
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
                return Err(Failure::option(
                    option,
                    format!("found {}, expected 1 to {}", grouped(value), grouped(most)),
                ));
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
            // NaN is in no range, so it is refused too.
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

    /// The options of every command: those about the model from here, the others from `own`.
    fn model_args(&self, own: &ModelArgs) -> ModelArgs {
        let ServeArgs { model, threads, isa, tune, no_check, preload, .. } = self.clone();
        ModelArgs { model, threads, isa, tune, no_check, preload, ..own.clone() }
    }

    /// The service's options. Those that are not given stay what they are by default.
    fn into_options(self) -> Result<Options> {
        let mut options = Options::default();
        let mut api_keys = self.api_key;
        if let Some(path) = &self.api_key_file {
            api_keys.extend(keys(path)?);
        }
        let Options { address, limits, timeouts, connections, .. } = &mut options;
        for (given, own) in [
            (self.head_timeout, &mut timeouts.head),
            (self.idle_timeout, &mut timeouts.idle),
            (self.drain_timeout, &mut timeouts.drain),
        ] {
            *own = given.map_or(*own, Duration::from_secs_f64);
        }
        address.set_ip(self.host.unwrap_or(address.ip()));
        address.set_port(self.port.unwrap_or(address.port()));
        limits.body_bytes = self.max_body.unwrap_or(limits.body_bytes);
        limits.texts = self.max_texts.unwrap_or(limits.texts);
        limits.queue_cost = self.max_queue.unwrap_or(limits.queue_cost);
        limits.memory = self.max_memory.map_or(memory::default_budget(limits.body_bytes), |ByteSize(bytes)| bytes);
        *connections = self.max_connections.unwrap_or(*connections);
        // `Options::search` is set later, because indexes are opened after the model is loaded.
        Ok(Options {
            unix_socket: self.unix_socket,
            tls: self.tls_cert.zip(self.tls_key),
            api_keys,
            cors_origins: AllowedOrigins::parse(&self.cors_origin).map_err(|e| Failure::option("cors-origin", e))?,
            allowed_hosts: AllowedHosts::parse(&self.allowed_host).map_err(|e| Failure::option("allowed-host", e))?,
            model_names: self.served_model_name,
            strict_model: self.strict_model,
            cache: self.cache.map(|path| (path, self.cache_size.unwrap_or_default().0)),
            log_texts: self.log_texts,
            ..options
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

/// Reads a file of API keys, one a line, in UTF-8, or in UTF-16 or UTF-32 with a byte order mark, as some editors write it. Blank lines and
/// lines that begin with `#` are left out.
fn keys(path: &Path) -> Result<Vec<String>> {
    let file = std::fs::File::open(path).map_err(|e| Failure::io_path(path, &e))?;
    let text = whole_text(std::io::BufReader::new(file), &path.display().to_string())?;
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
    let all = args.with_model(model_args).complete(sources)?;
    let model_args = &all.model_args(model_args);
    // With `--quiet`, warnings and errors are still logged.
    let default_level = if model_args.quiet { LogLevel::Warn } else { LogLevel::Info };
    let (format, level) = (all.log_format.unwrap_or(LogFormat::Text), all.log_level.unwrap_or(default_level));
    effects::check_serve(sources, matches!(level, LogLevel::Error | LogLevel::Warn))?;
    if args.print_config {
        let text = config_file::print(&all, &command())?;
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
    let (places, may_write, snapshots, reranker) =
        (super::search::places(&all.index)?, all.index_write, all.index_snapshots.clone(), all.reranker.clone());
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
    options.reload = Some(Box::new(move || copies::load_as(weights, &own).map_err(|failure| failure.to_string())));
    let takes_a_free_port = options.unix_socket.is_none() && options.address.port() == 0;
    let model = copies::load_as(weights, model_args)?;
    #[cfg(feature = "search")]
    {
        let indexes = trivec_serve::Indexes::open(&model, &places, may_write, snapshots)?;
        options.search = match reranker {
            Some(path) => {
                indexes.with_reranker(loading::load(&ModelArgs { model: Some(path), ..model_args.clone() })?)?
            }
            None => indexes,
        };
    }
    let runtime = runtime().map_err(|e| Failure::io("threads", &e))?;
    let finished = runtime.block_on(async {
        let server = Server::bind(model, options).await.map_err(|what| Failure::io_text(&what))?;
        let signals = process::signals().map_err(|e| Failure::io("signals", &e))?;
        // If the system chose the port, this line is the only place that shows it.
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
    fn options_of_the_command_line_override_those_of_the_file() {
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
        let model = args.with_model(&own).complete(&mut Sources::default()).unwrap().model_args(&own);
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
    fn a_file_of_keys_is_read_in_every_encoding_that_has_a_mark() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys");
        let read = |content: &[u8]| {
            std::fs::write(&path, content).unwrap();
            keys(&path).map_err(|failure| failure.to_string())
        };
        let text = "first\r\n# a comment: schlüssel\r\n\r\n  second  \n";
        let marked = format!("\u{feff}{text}");
        let wide = |big: bool| -> Vec<u8> {
            let bytes = |unit: u16| if big { unit.to_be_bytes() } else { unit.to_le_bytes() };
            marked.encode_utf16().flat_map(bytes).collect()
        };
        let wider: Vec<u8> = marked.chars().flat_map(|c| u32::from(c).to_le_bytes()).collect();
        for content in [text.as_bytes(), marked.as_bytes(), &wide(true), &wide(false), &wider] {
            assert_eq!(read(content).unwrap(), ["first", "second"]);
        }
        // What is no text is said to be so, and no key is shown.
        for (content, expected) in [
            (&wide(false)[2..], "UTF-16LE without a byte order mark"),
            (b"first\n\xff\n", "line 2"),
            (b"first\nsecond\0\n", "line 2"),
            (b"\xef\xbb\xbf\n", "no key in"),
            (b"", "no key in"),
            (b"a b\n", "line 1: a key that no request can show"),
        ] {
            let said = read(content).unwrap_err();
            assert!(said.contains(expected) && said.contains("keys") && !said.contains("first"), "{said}");
        }
    }

    #[test]
    fn what_is_not_set_is_printed_as_a_comment() {
        let args = ServeArgs { api_key: vec!["secret".to_owned()], port: Some(1), ..ServeArgs::default() };
        let all = args.complete(&mut Sources::default()).unwrap();
        let text = config_file::print(&all, &command()).unwrap();
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
