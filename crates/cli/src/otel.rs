//! `trivec serve --otlp-endpoint`: sends a span for each request, except probes, to an OpenTelemetry collector, by OTLP over HTTP.
//!
//! Without the option, `OTEL_EXPORTER_OTLP_ENDPOINT` or `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` names the collector, as OpenTelemetry specifies.
//! If neither is set, or `OTEL_SDK_DISABLED` is `true`, nothing is sent.

use std::sync::Arc;
use std::time::Duration;

use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::{Span, SpanKind, Status, Tracer, TracerProvider};
use opentelemetry::{Context, KeyValue};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};

use super::exit::{Failure, Result};
use trivec_hub::system_tls;
use trivec_serve::{Answered, Observer};

/// How long a collector may take for a batch of spans.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How long the service waits at its end for the last spans to be sent.
const LAST: Duration = Duration::from_secs(5);

/// Sends a span for each answered request.
pub(super) struct Spans {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
    parents: TraceContextPropagator,
}

/// Starts to send spans, if an option or the environment names a collector.
pub(super) fn start(endpoint: Option<String>, service: Option<String>) -> Result<Option<Arc<Spans>>> {
    let is_set = |name: &str| std::env::var(name).is_ok_and(|value| !value.is_empty());
    let from_environment = is_set("OTEL_EXPORTER_OTLP_ENDPOINT") || is_set("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT");
    let disabled = std::env::var("OTEL_SDK_DISABLED").is_ok_and(|value| value.eq_ignore_ascii_case("true"));
    if disabled || (endpoint.is_none() && !from_environment) {
        return Ok(None);
    }
    let failed = |e: &dyn std::fmt::Display| Failure::option("otlp-endpoint", e);
    let mut builder = SpanExporter::builder().with_http().with_http_client(Client::new()).with_timeout(TIMEOUT);
    if let Some(endpoint) = &endpoint {
        if !endpoint.starts_with("http://") && !endpoint.starts_with("https://") {
            return Err(failed(&format!("found `{endpoint}`, expected a URL such as http://127.0.0.1:4318")));
        }
        let base = endpoint.trim_end_matches('/');
        let traces = if base.ends_with("/v1/traces") { base.to_owned() } else { format!("{base}/v1/traces") };
        builder = builder.with_endpoint(traces);
    }
    let exporter = builder.build().map_err(|e| failed(&e))?;
    let mut resource = Resource::builder();
    match service {
        Some(name) => resource = resource.with_service_name(name),
        None if is_set("OTEL_SERVICE_NAME") => {}
        None => resource = resource.with_service_name("trivec"),
    }
    let resource = resource.with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION"))).build();
    let provider = SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build();
    let tracer = provider.tracer("trivec");
    Ok(Some(Arc::new(Spans { provider, tracer, parents: TraceContextPropagator::new() })))
}

impl Spans {
    /// Sends the spans that are left, and stops.
    pub(super) fn end(&self) {
        if let Err(e) = self.provider.shutdown_with_timeout(LAST) {
            tracing::warn!(error = %e, "the last spans could not be sent");
        }
    }
}

impl Observer for Spans {
    fn answered(&self, request: &Answered<'_>) {
        // Probes and metrics would only be noise among the spans.
        if matches!(request.route, "/health" | "/ready" | "/metrics") {
            return;
        }
        let parent = request.traceparent.map_or_else(Context::new, |header| {
            let carrier = std::collections::HashMap::from([("traceparent".to_owned(), header.to_owned())]);
            self.parents.extract_with_context(&Context::new(), &carrier)
        });
        let ms = |duration: Duration| duration.as_secs_f64() * 1e3;
        let work = request.work;
        let mut attributes = vec![
            KeyValue::new("http.request.method", request.method.to_owned()),
            KeyValue::new("http.route", request.route.to_owned()),
            KeyValue::new("http.response.status_code", i64::from(request.status)),
            KeyValue::new("trivec.request_id", request.id.to_owned()),
        ];
        if work.texts > 0 {
            attributes.extend([
                KeyValue::new("trivec.texts", work.texts as i64),
                KeyValue::new("trivec.tokens", work.tokens as i64),
                KeyValue::new("trivec.tokenize_ms", ms(work.tokenize)),
                KeyValue::new("trivec.queue_ms", ms(work.queue)),
                KeyValue::new("trivec.encode_ms", ms(work.encode)),
            ]);
        }
        let builder = self.tracer.span_builder(format!("{} {}", request.method, request.route));
        let builder = builder.with_kind(SpanKind::Server).with_start_time(request.begin).with_attributes(attributes);
        let mut span = self.tracer.build_with_context(builder, &parent);
        if request.status >= 500 {
            span.set_status(Status::error(""));
        }
        span.end_with_timestamp(request.begin + request.took);
    }
}

/// An HTTP client with the TLS settings of the hub, in the form that the exporter wants. It blocks; the exporter has a thread of its own.
#[derive(Debug)]
struct Client(ureq::Agent);

impl Client {
    fn new() -> Client {
        let config = ureq::Agent::config_builder()
            .tls_config(system_tls().0)
            .user_agent(concat!("trivec/", env!("CARGO_PKG_VERSION")))
            .http_status_as_error(false)
            .timeout_global(Some(TIMEOUT));
        Client(config.build().into())
    }

    fn send(&self, request: Request<Bytes>) -> std::result::Result<Response<Bytes>, ureq::Error> {
        let mut response = self.0.run(request.map(|body| body.to_vec()))?;
        let body = response.body_mut().with_config().limit(4 << 20).read_to_vec()?;
        Ok(response.map(|_| Bytes::from(body)))
    }
}

#[async_trait::async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> std::result::Result<Response<Bytes>, HttpError> {
        let url = request.uri().to_string();
        let outcome = self.send(request);
        match &outcome {
            Ok(response) if response.status().is_success() => {}
            Ok(response) => tracing::warn!(url, status = response.status().as_u16(), "spans were refused"),
            Err(e) => tracing::warn!(url, error = %e, "spans could not be sent"),
        }
        Ok(outcome?)
    }
}
