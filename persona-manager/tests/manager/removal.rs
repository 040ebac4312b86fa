//! Draining, weighing and deleting nodes and edges, and how edges are probed.

use crate::support::*;
use persona_core::ids::LeaseId;
use persona_core::wire::agent::{Report, Role};
use persona_core::wire::desired::{DesiredState, EdgeItem, Item};
use serde_json::json;

const WEB: &str = "workload/n1/web";

/// A manager with node `n1`, whose workload `web` holds lease 1, and serving edges `f1` and `f2`.
async fn world() -> (TestApp, FakeAgent, Vec<FakeAgent>) {
    let app = TestApp::new().await;
    app.apply(vec![pool("fra", "198.51.100.0/30"), persona("frankfurt", "fra", &[]), binding("all", &["frankfurt"])])
        .await;
    let mut node = app.join(Role::Node, "n1", 1, None).await;
    let mut edges = Vec::new();
    for (name, byte) in [("f1", 11), ("f2", 12)] {
        let mut edge = app.join(Role::Edge, name, byte, Some("fra")).await;
        edge.watch().await;
        while !edge_item(&edge.state, name).is_some_and(|item| item.in_service) {
            edge.report(alive()).await;
            edge.next().await;
        }
        edges.push(edge);
    }
    node.watch().await;
    node.report(workloads(&["web".to_owned()])).await;
    for edge in &mut edges {
        edge.until("lease 1", |state| has_lease(state, 1)).await;
        edge.report(alive()).await;
    }
    node.until("lease 1", |state| lease_of(state, WEB) == Some(1)).await;
    node.report(Report::default()).await;
    (app, node, edges)
}

fn alive() -> Report {
    Report { outside_alive: Some(true), ..Report::default() }
}

fn edge_item<'a>(state: &'a DesiredState, name: &str) -> Option<&'a EdgeItem> {
    match state.items.get(&format!("edge/{name}")) {
        Some(Item::Edge(item)) => Some(item),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_is_weighed_drained_and_deleted_once_it_is_quiet() {
    let (app, mut node, mut edges) = world().await;
    let (status, body) = app.call("PUT", "/v1/edges/f2/weight", Some(json!({ "weight": 50 }))).await;
    assert_eq!((status, &body["weight"]), (200, &json!(50)), "{body}");
    node.until("weight", |state| edge_item(state, "f2").unwrap().weight == 50).await;
    let (status, _) = app.call("PUT", "/v1/edges/f2/weight", Some(json!({ "weight": 0 }))).await;
    assert_eq!(status, 400);

    let (status, body) = app.call("DELETE", "/v1/edges/f1", None).await;
    assert_eq!(status, 409, "{body}");
    assert!(body["detail"].as_str().unwrap().contains("carries 1 leases of group fra: drain it"), "{body}");
    let (status, body) = app.call("POST", "/v1/edges/f1/drain", Some(json!(null))).await;
    assert_eq!((status, &body["draining"], &body["state"]), (200, &json!(true), &json!("up")), "{body}");
    node.until("drained", |state| edge_item(state, "f1").unwrap().draining).await;
    assert!(edge_item(&node.state, "f1").unwrap().in_service, "old flows stay");
    node.report(Report::default()).await;

    // It forgets everything first, and only then it is gone.
    assert_eq!(app.call("DELETE", "/v1/edges/f1", None).await.0, 204);
    edges[0].until("nothing left", |state| !has_lease(state, 1) && !state.items.contains_key("pool/fra")).await;
    assert_eq!(app.get("/v1/edges/f1").await["leaving"], true);
    edges[0].report(alive()).await;
    eventually("f1 is gone", async || app.call("GET", "/v1/edges/f1", None).await.0 == 404).await;
    node.until("one edge", |state| edge_item(state, "f1").is_none()).await;
    edges[1].until("no peer", |state| edge_item(state, "f1").is_none()).await;
    assert!(has_lease(&edges[1].state, 1), "the other edge carries on");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_node_takes_nobody_new_and_a_deleted_one_gives_its_leases_back() {
    let (app, node, mut edges) = world().await;
    let (status, body) = app.call("POST", "/v1/nodes/n1/drain", Some(json!(null))).await;
    assert_eq!((status, &body["draining"], &body["leaseCount"]), (200, &json!(true), &json!(1)), "{body}");
    node.report(workloads(&["web".to_owned(), "late".to_owned()])).await;
    let status = app.get("/v1/status").await;
    let reason = status["unassigned"]["workload/n1/late"].as_str().unwrap();
    assert!(reason.contains("node n1 is being drained and takes nobody new"), "{status}");
    assert_eq!(app.leases().await.len(), 1, "who wears something goes on");

    let (status, body) = app.call("DELETE", "/v1/nodes/n1", None).await;
    assert_eq!(status, 409, "{body}");
    assert!(body["detail"].as_str().unwrap().contains("node/n1 holds 1 leases"), "{body}");
    assert_eq!(app.call("DELETE", "/v1/nodes/n1?force=%20", None).await.0, 400, "a reason says something");
    assert_eq!(app.call("DELETE", "/v1/nodes/n1?force=burnt%20down", None).await.0, 204);
    assert_eq!(app.leases().await[0].state, "revoking", "not free before its edges forgot it");
    for edge in &mut edges {
        edge.until("no lease 1", |state| !has_lease(state, 1)).await;
        edge.report(alive()).await;
    }
    eventually("free", async || app.leases().await.is_empty()).await;
    let events = app.events().await;
    let deleted = events.iter().find(|event| event.name == "agent.deleted").unwrap();
    assert!(deleted.message.contains("burnt down"), "{}", deleted.message);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_that_was_cut_off_keeps_leases_from_being_free_until_it_is_fenced() {
    let (app, mut node, mut edges) = world().await;
    let f1 = edges.remove(0);
    let says = |alive: bool| Report {
        edges: Some(
            serde_json::from_value(json!([
                { "edge": "f1", "alive": alive, "rttUs": 300, "loss": 0.0, "generation": 1 },
                { "edge": "f2", "alive": true, "rttUs": 300, "loss": 0.0, "generation": 1 },
            ]))
            .unwrap(),
        ),
        ..Report::default()
    };
    // f1 falls silent, the node still hears it; then web leaves and its lease comes back.
    drop(f1);
    node.report(says(true)).await;
    node.report(Report { workloads: Some(Vec::new()), ..says(true) }).await;
    node.until("retiring", |state| matches!(&state.items["lease/1"], Item::Lease(lease) if lease.retiring)).await;
    node.report(Report { drained: vec![LeaseId(1)], ..says(true) }).await;
    node.until("no lease", |state| !has_lease(state, 1)).await;
    node.report(says(true)).await;
    edges[0].until("no lease", |state| !has_lease(state, 1)).await;
    let keep = async |alive_of_f1: bool| {
        edges[0].report(Report { edges: says(alive_of_f1).edges.map(|it| it[..1].to_vec()), ..alive() }).await;
        node.report(says(alive_of_f1)).await;
    };
    eventually("f1 is down", async || {
        keep(true).await;
        app.get("/v1/edges/f1").await["state"] == "down"
    })
    .await;
    assert_eq!(app.leases().await[0].state, "revoking", "f1 still answers for it");
    let unfenced = app.get("/v1/edges/f1").await["unfenced"].as_str().unwrap().to_owned();
    assert!(unfenced.contains("hears it"), "{unfenced}");
    // Nobody hears it any more: fenced, and the lease comes back.
    eventually("free", async || {
        keep(false).await;
        app.leases().await.is_empty()
    })
    .await;
    assert_eq!(app.get("/v1/edges/f1").await["unfenced"], json!(null));
}

#[tokio::test(flavor = "multi_thread")]
async fn how_edges_are_probed_is_set_and_outlives_a_restart() {
    let (app, mut node, _edges) = world().await;
    assert_eq!(app.get("/v1/settings/probe").await, json!({ "intervalMs": 50, "multiplier": 3 }));
    for (interval, multiplier) in [(9, 3), (10_001, 3), (50, 1), (50, 21)] {
        let body = json!({ "intervalMs": interval, "multiplier": multiplier });
        assert_eq!(app.call("PUT", "/v1/settings/probe", Some(body)).await.0, 400);
    }
    let wanted = json!({ "intervalMs": 20, "multiplier": 5 });
    assert_eq!(app.call("PUT", "/v1/settings/probe", Some(wanted.clone())).await.0, 200);
    node.until("probe", |state| matches!(state.items["probe"], Item::Probe(probe) if probe.interval_ms == 20)).await;
    let app = app.restart().await;
    assert_eq!(app.get("/v1/settings/probe").await, wanted);
}
