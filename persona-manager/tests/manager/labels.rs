//! Labels: what a node says of itself dresses nobody, what is bound does, and a selector may ask for the node's word.

use crate::support::*;
use persona_core::wire::agent::{Report, Role};
use serde_json::{Value, json};

const WEB: &str = "workload/n1/web";

/// A binding for workloads that are selected like this.
fn binding_for(name: &str, selector: Value) -> Value {
    let mut document = binding(name, &["frankfurt"]);
    document["spec"]["selector"].as_object_mut().unwrap().extend(selector.as_object().unwrap().clone());
    document
}

/// A manager, and a node whose workload claims to be of the gold tier.
async fn scene(selector: Value) -> (TestApp, FakeAgent) {
    let app = TestApp::new().await;
    let documents =
        vec![pool("fra", "198.51.100.0/28"), persona("frankfurt", "fra", &[]), binding_for("gold", selector)];
    app.apply(documents).await;
    let token = app.token(Role::Node).await;
    let mut node = FakeAgent::new(&app, Role::Node, "n1", 1, None);
    let (status, body) = node.register_with(json!({ "token": token, "labels": { "tier": "gold" } })).await;
    assert_eq!(status, 200, "{body}");
    node.take(body);
    let found = json!([{ "name": "web", "device": "veth0", "attached": true, "address": "172.30.0.1",
        "labels": { "tier": "gold" } }]);
    node.report(Report { workloads: Some(serde_json::from_value(found).unwrap()), ..Report::default() }).await;
    (app, node)
}

async fn selected_by(app: &TestApp, subject: &str) -> Value {
    app.get(&format!("/v1/explain/{subject}")).await["bindings"].clone()
}

async fn label(app: &TestApp, of: &str, labels: Value) -> Value {
    let (status, body) = app.call("PUT", &format!("/v1/labels/{of}"), Some(json!({ "labels": labels }))).await;
    assert_eq!(status, 200, "{body}");
    body
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nodes_own_word_selects_nothing_until_it_is_bound() {
    let (app, _node) = scene(json!({ "labels": { "tier": "gold" } })).await;
    assert_eq!(selected_by(&app, WEB).await, json!([]));
    let told = app.get(&format!("/v1/explain/{WEB}")).await.to_string();
    for part in ["binding gold would", "only its node's word", "persona-ctl workload label workload/n1/web tier=gold"] {
        assert!(told.contains(part), "{part} in {told}");
    }

    // Bound to the workload, and taken away.
    let view = label(&app, WEB, json!({ "tier": "gold" })).await;
    assert_eq!((&view["labels"], &view["claimed"]), (&json!({ "tier": "gold" }), &json!({ "tier": "gold" })));
    assert_eq!(selected_by(&app, WEB).await, json!(["gold"]));
    label(&app, WEB, json!({})).await;
    assert_eq!(selected_by(&app, WEB).await, json!([]));

    // Bound to the node it counts for all that live there, but for what is bound to them.
    label(&app, "node/n1", json!({ "tier": "gold" })).await;
    assert_eq!(selected_by(&app, WEB).await, json!(["gold"]));
    let view = app.get(&format!("/v1/labels/{WEB}")).await;
    assert_eq!((&view["labels"], &view["inherited"]), (&json!({}), &json!({ "tier": "gold" })));
    label(&app, WEB, json!({ "tier": "silver" })).await;
    assert_eq!(selected_by(&app, WEB).await, json!([]));
    let view = app.get("/v1/workloads/n1/web").await;
    assert_eq!((&view["labels"]["tier"], &view["boundLabels"]["tier"]), (&json!("silver"), &json!("silver")));

    let events = app.events().await;
    let bound: Vec<_> = events.iter().filter(|event| event.name == "labels.bound").collect();
    assert_eq!(bound.len(), 4);
    assert_eq!((bound[0].about.as_str(), bound[0].actor.as_str()), (WEB, "access/test"));
    let details = &bound[0].details;
    assert_eq!((&details["before"], &details["after"]), (&json!({}), &json!({ "tier": "gold" })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_selector_may_take_a_nodes_word_but_not_against_what_is_bound() {
    let (app, _node) = scene(json!({ "claimedLabels": { "tier": "gold" } })).await;
    assert_eq!(selected_by(&app, WEB).await, json!(["gold"]));
    label(&app, WEB, json!({ "tier": "silver" })).await;
    assert_eq!(selected_by(&app, WEB).await, json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn labels_are_bound_over_the_version_that_was_read_and_outlive_a_workload_and_a_restart() {
    let (app, node) = scene(json!({ "labels": { "tier": "gold" } })).await;
    let path = format!("{}/v1/labels/{WEB}", app.base);
    let put = async |tag: Option<&str>, labels: Value| {
        let request = app.http.put(&path).json(&json!({ "labels": labels }));
        let request = tag.iter().fold(request, |request, tag| request.header("if-match", *tag));
        request.send().await.unwrap()
    };
    let read = app.http.get(&path).send().await.unwrap();
    let tag = read.headers()["etag"].to_str().unwrap().to_owned();
    assert_eq!(put(None, json!({})).await.status().as_u16(), 428);
    assert_eq!(put(Some(&tag), json!({ "tier": "gold" })).await.status().as_u16(), 200);
    assert_eq!(put(Some(&tag), json!({ "tier": "lead" })).await.status().as_u16(), 412);
    for (of, labels, expected) in [
        ("node/nobody", json!({}), 404),
        ("workload/nobody/web", json!({}), 404),
        ("web", json!({}), 400),
        ("node/n1", json!({ "": "x" }), 400),
        ("node/n1", json!({ "a": "\u{1b}[2J" }), 400),
        ("node/n1", json!({ "a": "x".repeat(254) }), 400),
    ] {
        let (status, body) = app.call("PUT", &format!("/v1/labels/{of}"), Some(json!({ "labels": labels }))).await;
        assert_eq!(status, expected, "{of}: {body}");
    }
    // Gone and back again, it is who it was.
    node.report(Report { workloads: Some(Vec::new()), ..Report::default() }).await;
    let app = app.restart().await;
    assert_eq!(app.get(&format!("/v1/labels/{WEB}")).await["labels"], json!({ "tier": "gold" }));
}
