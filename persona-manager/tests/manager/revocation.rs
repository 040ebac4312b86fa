//! Revoked keys and tokens: out at once, on open connections too, and for good.

use crate::support::*;
use persona_core::wire::agent::{Report, Role};
use serde_json::{Value, json};

async fn revoke(app: &TestApp, path: &str, reason: &str) -> u16 {
    app.post(&format!("{path}/revoke"), json!({ "reason": reason })).await.0
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_node_is_cut_off_and_its_key_never_comes_back() {
    let app = TestApp::new().await;
    let mut node = app.join(Role::Node, "n1", 1, None).await;
    let other = app.join(Role::Node, "n2", 2, None).await;
    node.watch().await;
    assert_eq!(revoke(&app, "/v1/nodes/none", "gone").await, 404);
    assert_eq!(revoke(&app, "/v1/nodes/n1", " ").await, 400);
    assert_eq!(revoke(&app, "/v1/nodes/n1", "its disk was stolen").await, 204);
    assert_eq!(revoke(&app, "/v1/nodes/n1", "once more").await, 204, "it is so already");
    assert!(node.stream_ends().await, "the open connection is cut");
    let report = serde_json::to_vec(&Report::default()).unwrap();
    let answer = node.request("POST", "/v1/agent/report", report).send().await.map(|it| it.status().as_u16());
    assert!(matches!(answer, Ok(401) | Err(_)), "{answer:?}");
    other.report(Report::default()).await;

    node.http = app.nobody.clone();
    for (status, body) in [node.register_with(json!({})).await, node.register(&app.token(Role::Node).await).await] {
        assert_eq!((status, body.to_string().contains("was revoked")), (403, true), "{body}");
    }
    let view = app.get("/v1/nodes/n1").await;
    assert_eq!((&view["revoked"], &view["draining"]), (&json!("its disk was stolen"), &json!(true)));
    let events = app.events().await;
    let event = events.iter().find(|event| event.name == "agent.revoked").unwrap();
    assert_eq!((event.actor.as_str(), event.about.as_str()), ("access/test", "node/n1"));
    assert!(event.message.contains("its disk was stolen"));

    let app = app.restart().await;
    node.base = app.base.clone();
    assert_eq!(node.register(&app.token(Role::Node).await).await.0, 403, "also after a restart");
    assert_eq!(app.call("DELETE", "/v1/nodes/n1", None).await.0, 204);
    assert_eq!(node.register(&app.token(Role::Node).await).await.0, 403, "also when the node is deleted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_key_takes_the_place_of_a_revoked_one_with_a_token_for_the_name() {
    let app = TestApp::new().await;
    app.join(Role::Edge, "f1", 11, Some("fra")).await;
    let new = FakeAgent::new(&app, Role::Edge, "f1", 11, Some("fra"));
    let named = async || {
        let body = json!({ "role": "edge", "name": "f1", "ttlMs": 60_000 });
        bearer_of(&app.post("/v1/join-tokens", body).await.1)
    };
    assert_eq!(new.register(&named().await).await.0, 409, "while the old key is good");
    assert_eq!(revoke(&app, "/v1/edges/f1", "reinstalled").await, 204);
    assert_eq!(new.register(&app.token(Role::Edge).await).await.0, 409, "a token for any name will not do");
    let (status, body) = new.register(&named().await).await;
    assert_eq!(status, 200, "{body}");
    let view = app.get("/v1/edges/f1").await;
    assert_eq!((&view["revoked"], &view["draining"]), (&Value::Null, &json!(true)), "somebody has to undrain it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_events_ends_with_its_token() {
    let app = TestApp::new().await;
    let bearer = app.access("alice", "viewer").await;
    let url = format!("{}/v1/events?follow=true", app.base);
    let mut stream = app.with_bearer(&bearer).get(url).send().await.unwrap();
    assert_eq!(stream.status().as_u16(), 200);
    let id = bearer.split('.').next().unwrap();
    assert_eq!(app.call("DELETE", &format!("/v1/access-tokens/{id}"), None).await.0, 204);
    let ended = async { while let Ok(Some(_)) = stream.chunk().await {} };
    tokio::time::timeout(std::time::Duration::from_secs(10), ended).await.expect("it ends");
}
