//! Traces of what people and programs ask for, sent to a collector over OTLP (HTTP, protobuf) where one is configured.
//!
//! ```text
//!  POST /v1/switch ─► store.change ─► pass, store.commit ─► agent.apply (until that node or edge acknowledged it)
//! ```
//!
//! The rest of the crate makes spans of `tracing` with the target [`TARGET`], which cost nothing while nobody collects them.
//! What cannot be sent is dropped: nobody waits for a collector.

use std::time::Duration;

use async_trait::async_trait;
use axum::http::HeaderMap;
use opentelemetry::KeyValue;
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_http::{Bytes, HeaderExtractor, HeaderInjector, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use tracing::{Span, Subscriber};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::registry::LookupSpan;

/// The target of every span that belongs to a trace. Logs leave it out.
pub const TARGET: &str = "persona::trace";

/// A collector takes what it is sent within this time.
const SEND_TIME_MAX: Duration = Duration::from_secs(5);

/// The section `[telemetry]` of the configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TelemetryConfig {
    /// Where a collector takes OTLP over HTTP, such as `http://127.0.0.1:4318`. None: nothing is traced.
    pub otlp: Option<String>,
}

/// Traces cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The client.
    #[error("a client for the collector cannot be made")]
    Client(#[source] reqwest::Error),
    /// The exporter.
    #[error("the collector {url} cannot be used")]
    Exporter {
        /// Where it is.
        url: String,
        /// Why.
        source: opentelemetry_otlp::ExporterBuildError,
    },
}

/// Sends traces until it is finished.
#[derive(Debug)]
pub struct Traces(SdkTracerProvider);

impl Traces {
    /// Starts sending to the collector at `otlp`, on the current runtime. `instance` tells managers apart.
    pub fn start(otlp: &str, instance: &str) -> Result<Self, TelemetryError> {
        let http = plain_client().map_err(TelemetryError::Client)?;
        let url = format!("{}/v1/traces", otlp.trim_end_matches('/'));
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(Sender { http, runtime: Handle::current() })
            .with_endpoint(&url)
            .with_timeout(SEND_TIME_MAX)
            .build()
            .map_err(|source| TelemetryError::Exporter { url, source })?;
        let about = [
            KeyValue::new("service.name", "persona-manager"),
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            KeyValue::new("service.instance.id", instance.to_owned()),
        ];
        let resource = Resource::builder_empty().with_attributes(about).build();
        Ok(Self(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build()))
    }

    /// What takes the spans from `tracing`.
    pub fn layer<S: Subscriber + for<'a> LookupSpan<'a>>(&self) -> impl Layer<S> + use<S> {
        let spans = tracing_opentelemetry::layer().with_tracer(self.0.tracer("persona"));
        let spans = spans.with_location(false).with_threads(false).with_target(false).with_tracked_inactivity(false);
        spans.with_filter(Targets::new().with_target(TARGET, LevelFilter::TRACE))
    }

    /// Sends what is left. It waits for that, so not on a thread of the runtime.
    pub fn finish(&self) {
        if let Err(error) = self.0.shutdown() {
            tracing::warn!(error.cause = %error, "the last traces were not sent");
        }
    }
}

/// Goes on with the trace that a request belongs to, if it says so (W3C Trace Context).
pub(crate) fn continue_trace(span: &Span, headers: &HeaderMap) {
    if !span.is_disabled() {
        let parent = TraceContextPropagator::new().extract(&HeaderExtractor(headers));
        // It fails where no layer takes spans; then there is nothing to go on with.
        _ = span.set_parent(parent);
    }
}

/// Says in a request which trace it belongs to.
pub(crate) fn pass_trace_on(headers: &mut HeaderMap) {
    let span = Span::current();
    if !span.is_disabled() {
        TraceContextPropagator::new().inject_context(&span.context(), &mut HeaderInjector(headers));
    }
}

/// A client for plain HTTP, as collectors on the same host speak it.
fn plain_client() -> Result<reqwest::Client, reqwest::Error> {
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let nobody = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("the provider has TLS 1.3")
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let builder = reqwest::Client::builder().tls_backend_preconfigured(nobody).no_proxy();
    builder.redirect(reqwest::redirect::Policy::none()).timeout(SEND_TIME_MAX).build()
}

/// Sends on the manager's runtime what a thread of the exporter hands it.
#[derive(Debug)]
struct Sender {
    http: reqwest::Client,
    runtime: Handle,
}

#[async_trait]
impl HttpClient for Sender {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let http = self.http.clone();
        let sent = self.runtime.spawn(async move {
            let answer = http.execute(request.try_into()?).await?;
            let status = answer.status();
            Ok::<_, reqwest::Error>((status, answer.bytes().await?))
        });
        let (status, body) = sent.await??;
        let mut response = Response::new(body);
        *response.status_mut() = status;
        Ok(response)
    }
}
