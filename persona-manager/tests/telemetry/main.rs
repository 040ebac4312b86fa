//! Traces, as a collector gets them: a receiver of the test's own decodes what a manager sends over OTLP.
#![expect(clippy::unwrap_used, reason = "a test may panic, also in its support module")]

mod collector;
#[path = "../manager/support.rs"]
#[expect(dead_code, reason = "the tests of `manager` use the rest")]
mod support;

use std::collections::BTreeMap;

use persona_core::wire::agent::{Report, Role};
use persona_manager::telemetry::Traces;
use serde_json::json;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::collector::{Collector, Seen};
use crate::support::*;

/// The caller's own trace, and its span in it.
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN: &str = "00f067aa0ba902b7";

const WEB: &str = "workload/n1/web";

/// One test: who collects is one for the whole process.
#[tokio::test(flavor = "multi_thread")]
async fn a_switch_is_one_trace_from_the_callers_request_to_the_nodes_acknowledgement() {
    let collector = Collector::start().await;
    let traces = Traces::start(&collector.url(), "m1").unwrap();
    tracing_subscriber::registry().with(traces.layer()).init();
    let app = TestApp::new().await;
    let (mut node, mut edge) = fleet(&app).await;

    let request = app.http.post(format!("{}/v1/switch", app.base));
    let request = request.json(&json!({ "subject": WEB, "persona": "other" }));
    let answer = request.header("traceparent", format!("00-{TRACE}-{SPAN}-01")).send().await.unwrap();
    assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
    edge.until("the lease under the other persona", |state| has_lease(state, 2)).await;
    edge.report(alive()).await;
    node.until("the lease under the other persona", |state| lease_of(state, WEB) == Some(2)).await;
    node.report(Report::default()).await;
    let refused = app
        .http
        .post(format!("{}/v1/switch", app.base))
        .json(&json!({ "subject": "workload/n1/nobody", "persona": "x" }));
    assert!(refused.send().await.unwrap().status().is_client_error());
    tokio::task::spawn_blocking(move || traces.finish()).await.unwrap();

    let spans = collector.spans();
    let ours: Vec<&Seen> = spans.iter().filter(|span| span.trace == TRACE).collect();
    let one = |name: &str| {
        let found: Vec<&&Seen> = ours.iter().filter(|span| span.name == name).collect();
        assert_eq!(found.len(), 1, "{name}: {ours:#?}");
        *found[0]
    };
    let request = one("POST /v1/switch");
    assert_eq!(request.parent, SPAN, "it is part of the caller's");
    assert_eq!(request.attribute("http.response.status_code"), "200");
    assert_eq!(request.attribute("persona.actor"), "access/test");
    assert_eq!(request.resource("service.name"), "persona-manager");
    let change = one("store.change");
    assert_eq!(change.parent, request.id);
    let (pass, commit) = (one("pass"), one("store.commit"));
    assert_eq!((pass.parent.as_str(), commit.parent.as_str()), (change.id.as_str(), change.id.as_str()));
    assert!(pass.end <= commit.start, "in this order");
    assert!(commit.attribute("persona.revision").parse::<u64>().unwrap() > 0);

    // The edge is told of the lease first; once it has acknowledged that, the node is.
    let applied = |agent: &str| {
        let is_of = |span: &&&Seen| span.name == "agent.apply" && span.attribute("persona.agent") == agent;
        let found: Vec<&&Seen> = ours.iter().filter(is_of).collect();
        assert!(!found.is_empty(), "{agent}: {ours:#?}");
        assert!(found.iter().all(|span| span.attribute("persona.outcome") == "applied"), "{found:#?}");
        **found.last().unwrap()
    };
    let mut told: Vec<&BTreeMap<String, String>> =
        ours.iter().filter(|span| span.name == "agent.apply").map(|span| &span.attributes).collect();
    told.sort();
    assert!(told.windows(2).all(|pair| pair[0] != pair[1]), "each generation of each is followed once: {told:#?}");
    let (at_edge, at_node) = (applied("edge/f1"), applied("node/n1"));
    assert_eq!(at_edge.parent, change.id);
    assert_eq!(at_node.parent, at_edge.id);
    assert!(commit.end <= at_edge.start && at_edge.end <= at_node.start && at_node.start < at_node.end);

    let of_agents = spans.iter().filter(|span| span.name.contains("/v1/agent/"));
    assert_eq!(of_agents.count(), 0, "reports are no traces");
    let texts = spans.iter().flat_map(|span| span.attributes.values());
    assert!(!texts.clone().any(|text| text.contains("Bearer")), "nothing secret is told");
    assert!(
        spans
            .iter()
            .any(|span| span.name == "POST /v1/switch" && span.attribute("http.response.status_code").starts_with('4'))
    );
}

/// A node with a workload that wears one of two personas, and the edge that it goes through.
async fn fleet(app: &TestApp) -> (FakeAgent, FakeAgent) {
    let personas = [persona("one", "fra", &[]), persona("other", "fra", &[])];
    let documents = [vec![pool("fra", "198.51.100.0/30")], personas.to_vec(), vec![binding("all", &["one", "other"])]];
    app.apply(documents.concat()).await;
    let mut node = app.join(Role::Node, "n1", 1, None).await;
    let mut edge = app.join(Role::Edge, "f1", 11, Some("fra")).await;
    edge.watch().await;
    edge.report(alive()).await;
    eventually("up", async || app.get("/v1/edges/f1").await["state"] == "up").await;
    node.watch().await;
    node.report(workloads(&["web".to_owned()])).await;
    edge.until("lease 1", |state| has_lease(state, 1)).await;
    edge.report(alive()).await;
    node.until("lease 1", |state| lease_of(state, WEB) == Some(1)).await;
    node.report(Report::default()).await;
    (node, edge)
}

fn alive() -> Report {
    Report { outside_alive: Some(true), ..Report::default() }
}
