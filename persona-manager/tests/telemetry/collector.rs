//! A receiver of OTLP over HTTP: it decodes what comes by the protocol's own definitions and keeps the spans.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::Span;
use persona_core::hex;
use prost::Message;
use tokio::net::TcpListener;

/// A span that came.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) trace: String,
    pub(crate) id: String,
    pub(crate) parent: String,
    pub(crate) name: String,
    /// Nanoseconds since 1970.
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) attributes: BTreeMap<String, String>,
    resource: BTreeMap<String, String>,
}

impl Seen {
    pub(crate) fn attribute(&self, key: &str) -> &str {
        self.attributes.get(key).map_or("", String::as_str)
    }

    pub(crate) fn resource(&self, key: &str) -> &str {
        self.resource.get(key).map_or("", String::as_str)
    }
}

type Spans = Arc<Mutex<Vec<Seen>>>;

/// A running receiver; it ends with the test's runtime.
pub(crate) struct Collector {
    address: SocketAddr,
    spans: Spans,
}

impl Collector {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, spans) = (listener.local_addr().unwrap(), Spans::default());
        let router = Router::new().route("/v1/traces", post(take)).with_state(spans.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, spans }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn spans(&self) -> Vec<Seen> {
        self.spans.lock().unwrap().clone()
    }
}

async fn take(State(spans): State<Spans>, headers: HeaderMap, body: Bytes) -> StatusCode {
    assert_eq!(headers["content-type"], "application/x-protobuf");
    let request = ExportTraceServiceRequest::decode(body).unwrap();
    for of_resource in request.resource_spans {
        let resource = texts(&of_resource.resource.unwrap().attributes);
        let all = of_resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
        spans.lock().unwrap().extend(all.map(|span| seen(span, &resource)));
    }
    StatusCode::OK
}

fn seen(span: Span, resource: &BTreeMap<String, String>) -> Seen {
    Seen {
        trace: hex::encode(&span.trace_id),
        id: hex::encode(&span.span_id),
        parent: hex::encode(&span.parent_span_id),
        name: span.name,
        start: span.start_time_unix_nano,
        end: span.end_time_unix_nano,
        attributes: texts(&span.attributes),
        resource: resource.clone(),
    }
}

fn texts(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |value: &Option<AnyValue>| match value.as_ref().and_then(|value| value.value.clone()) {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    };
    attributes.iter().map(|pair| (pair.key.clone(), text(&pair.value))).collect()
}
