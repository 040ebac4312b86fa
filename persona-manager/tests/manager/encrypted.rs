//! Encrypted personas: worn only where all can encrypt, and who is told whose key.

use crate::support::*;
use persona_core::wire::agent::{Report, Role};
use persona_core::wire::desired::{DesiredState, Item, TunnelEnd};
use persona_core::wire::tunnel::TunnelReport;
use serde_json::json;

const WEB: &str = "workload/n1/web";

fn end(byte: u8) -> TunnelEnd {
    let letter = char::from(b'A' + byte);
    TunnelEnd { public_key: format!("{}=", letter.to_string().repeat(43)), port: 51_820, next_key: None }
}

fn with_end(end: Option<TunnelEnd>, report: Report) -> Report {
    Report { tunnel: Some(TunnelReport { end, ..TunnelReport::default() }), ..report }
}

fn alive() -> Report {
    Report { outside_alive: Some(true), ..Report::default() }
}

/// Ends that a state names.
fn ends(state: &DesiredState) -> Vec<(String, TunnelEnd)> {
    let named = state.items.iter().filter_map(|(key, item)| match item {
        Item::Tunnel(tunnel) => Some((key.to_owned(), tunnel.end.clone())),
        _ => None,
    });
    named.collect()
}

fn encrypts(state: &DesiredState) -> bool {
    state.items.values().any(|item| matches!(item, Item::Lease(lease) if lease.encrypted))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_encrypted_persona_waits_for_every_end_and_keys_reach_only_who_needs_them() {
    let app = TestApp::new().await;
    let secret = json!({ "apiVersion": "persona/v1", "kind": "Persona", "metadata": { "name": "secret" },
        "spec": { "network": { "egress": { "pools": ["fra"] }, "privacy": { "encrypt": true } } } });
    app.apply(vec![pool("fra", "198.51.100.0/30"), secret, binding("all", &["secret"])]).await;
    let mut node = app.join(Role::Node, "n1", 1, None).await;
    let mut other = app.join(Role::Node, "n2", 2, None).await;
    let mut edge = app.join(Role::Edge, "f1", 11, Some("fra")).await;
    edge.watch().await;
    edge.report(alive()).await;
    eventually("up", async || app.get("/v1/edges/f1").await["state"] == "up").await;
    node.watch().await;
    node.report(workloads(&["web".to_owned()])).await;
    let refusal = async || app.get("/v1/status").await["unassigned"][WEB].as_str().unwrap_or_default().to_owned();
    let text = "it is encrypted towards edge group fra, and there is no WireGuard at edge/f1, node/n1";
    eventually("a refusal that names both", async || refusal().await.contains(text)).await;

    other.watch().await;
    other.report(with_end(Some(end(2)), workloads(&[]))).await;
    edge.report(with_end(Some(end(11)), alive())).await;
    eventually("only the node lacks it", async || refusal().await.contains("no WireGuard at node/n1")).await;
    node.report(with_end(Some(end(1)), Report::default())).await;
    edge.until("an encrypted lease", encrypts).await;
    assert_eq!(ends(&edge.state), [("tunnel/node/n1".to_owned(), end(1))], "not of a node without such leases");
    edge.report(alive()).await;
    node.until("an encrypted lease", |state| lease_of(state, WEB) == Some(1)).await;
    assert!(encrypts(&node.state));
    assert_eq!(ends(&node.state), [("tunnel/edge/f1".to_owned(), end(11))]);
    assert_eq!(ends(&other.state), []);

    // One that is about to take another key says both; far ends are told of both, then of the one that stays.
    let both = TunnelEnd { next_key: Some(end(4).public_key), ..end(1) };
    node.report(with_end(Some(both.clone()), Report::default())).await;
    edge.until("both keys", |state| ends(state) == [("tunnel/node/n1".to_owned(), both.clone())]).await;
    node.report(with_end(Some(end(4)), Report::default())).await;
    edge.until("the key that stays", |state| ends(state) == [("tunnel/node/n1".to_owned(), end(4))]).await;
    let messages: Vec<String> = app.events().await.into_iter().map(|event| event.message).collect();
    for message in ["node/n1 is about to take another key", "node/n1 has taken its next key"] {
        assert!(messages.iter().any(|known| known.contains(message)), "{message}: {messages:?}");
    }

    // Another key is told to whom it concerns.
    node.report(with_end(Some(end(3)), Report::default())).await;
    edge.until("the node's new key", |state| ends(state) == [("tunnel/node/n1".to_owned(), end(3))]).await;
    let events = app.events().await;
    assert!(events.iter().any(|event| event.name == "agent.tunnel-changed" && event.message.contains("another key")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_none_is_refused() {
    let app = TestApp::new().await;
    let mut node = app.join(Role::Node, "n1", 1, None).await;
    node.watch().await;
    let wrong = TunnelEnd { public_key: "short".to_owned(), port: 51_820, next_key: None };
    let report = with_end(Some(wrong), Report::default());
    let body = serde_json::to_vec(&report).unwrap();
    let answer = node.request("POST", "/v1/agent/report", body).send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 400);
    assert!(answer.text().await.unwrap().contains("32 bytes in Base64"));
}
