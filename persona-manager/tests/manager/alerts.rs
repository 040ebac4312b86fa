//! What a persona watches for, over real HTTP: raised and cleared, told everywhere, and gone with the persona.

use persona_core::wire::agent::{Report, Role};
use persona_core::wire::signals::{SampleBatch, SampleRow};
use serde_json::{Value, json};

use crate::support::*;

const WEB: &str = "workload/n1/web";

/// A persona that watches, its binding, and one workload that wears it.
async fn scene(rules: Value) -> (TestApp, FakeAgent) {
    let app = TestApp::new().await;
    app.apply(vec![watching(rules), bound_to("watched")]).await;
    let mut node = app.join(Role::Node, "n1", 1, None).await;
    node.watch().await;
    node.report(workloads(&["web".to_owned()])).await;
    (app, node)
}

fn watching(rules: Value) -> Value {
    json!({ "apiVersion": "persona/v1", "kind": "Persona", "metadata": { "name": "watched" },
        "spec": { "monitoring": rules } })
}

fn bound_to(persona: &str) -> Value {
    let mut document = binding("all", &[]);
    document["spec"]["default"] = persona.into();
    document
}

/// Pushed for long: it is known until it is pushed again or withdrawn.
async fn push(app: &TestApp, value: f64) {
    let body = json!({ "subject": WEB, "name": "external.load", "value": value, "forMs": 600_000 });
    let (status, answer) = app.post("/v1/signals", body).await;
    assert_eq!(status, 200, "{answer}");
}

fn sample(value: f32) -> Report {
    let rows = vec![SampleRow { workload: Some("web".parse().unwrap()), values: vec![Some(value)] }];
    let samples = vec![SampleBatch { age_ms: 0, signals: vec!["memory.usage".to_owned()], rows }];
    Report { samples, ..Report::default() }
}

async fn raised(app: &TestApp) -> Vec<String> {
    let alerts = app.get("/v1/alerts").await;
    let name = |alert: &Value| format!("{} {}", alert["subject"].as_str().unwrap(), alert["alert"].as_str().unwrap());
    alerts["items"].as_array().unwrap().iter().map(name).collect()
}

async fn until_raised(app: &TestApp, expected: &[&str]) {
    let expected: Vec<String> = expected.iter().map(|alert| format!("{WEB} {alert}")).collect();
    eventually(&format!("raised: {expected:?}"), async || raised(app).await == expected).await;
}

async fn told(app: &TestApp) -> Vec<(String, String)> {
    let events = app.events().await.into_iter().filter(|event| event.name.starts_with("alert."));
    events.map(|event| (event.name, event.message)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alert_is_raised_told_everywhere_and_cleared() {
    let rules = json!([{ "when": "memory.usage > 90%", "clearFor": "0s", "raise": "memory-high" }]);
    let (app, node) = scene(rules).await;
    until_raised(&app, &[]).await;
    let explained = app.get(&format!("/v1/explain/{WEB}")).await;
    let story = &explained["monitoring"]["alerts"][0];
    assert_eq!((&explained["monitoring"]["persona"], &story["holds"]), (&json!("watched"), &json!("unknown")));

    node.report(sample(0.95)).await;
    until_raised(&app, &["memory-high"]).await;
    let explained = app.get(&format!("/v1/explain/{WEB}")).await;
    let story = &explained["monitoring"]["alerts"][0];
    assert!(story["verdict"].as_str().unwrap().starts_with("raised for"), "{story}");
    assert_eq!((&story["isRaised"], &story["seen"][0]["value"]), (&json!(true), &json!("0.95")), "{story}");
    assert_eq!(app.get("/v1/status").await["alerts"], 1);
    let series = format!(r#"persona_alert_raised{{subject="{WEB}",persona="watched",alert="memory-high"}} 1"#);
    let metrics = app.get("/metrics").await;
    assert!(metrics.as_str().unwrap().contains(&series), "{metrics}");

    node.report(sample(0.5)).await;
    until_raised(&app, &[]).await;
    assert!(!app.get("/metrics").await.as_str().unwrap().contains("persona_alert_raised{"));
    let told = told(&app).await;
    let expected = [
        ("alert.raised", format!("{WEB}: memory-high is raised: holds: memory.usage > 90% (0.95)")),
        ("alert.cleared", format!("{WEB}: memory-high is cleared: holds no longer: memory.usage > 90% (0.5)")),
    ];
    assert_eq!(told, expected.map(|(name, message)| (name.to_owned(), message)));
}

#[tokio::test(flavor = "multi_thread")]
async fn noise_around_a_threshold_raises_an_alert_once() {
    let (app, _node) = scene(json!([{ "when": "external.load > 0.9", "raise": "busy" }])).await;
    for _ in 0..10 {
        push(&app, 0.95).await;
        push(&app, 0.85).await;
    }
    assert_eq!(raised(&app).await, [format!("{WEB} busy")]);
    assert_eq!(told(&app).await.len(), 1, "half a minute of quiet clears it, no less");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_longer_known_neither_raises_nor_clears() {
    let rules = json!([
        { "when": "external.load > 0.9", "clearFor": "0s", "raise": "busy" },
        { "when": "external.load < 0.5", "raise": "idle" },
    ]);
    let (app, _node) = scene(rules).await;
    push(&app, 0.95).await;
    until_raised(&app, &["busy"]).await;
    let (status, answer) = app.call("DELETE", &format!("/v1/signals/{WEB}?name=external.load"), None).await;
    assert_eq!(status, 204, "{answer}");
    let (status, answer) =
        app.post("/v1/signals", json!({ "subject": WEB, "name": "external.other", "value": 1, "forMs": 60_000 })).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(raised(&app).await, [format!("{WEB} busy")]);
    let explained = app.get(&format!("/v1/explain/{WEB}")).await;
    let verdict = |index: usize| explained["monitoring"]["alerts"][index]["verdict"].as_str().unwrap().to_owned();
    assert!(verdict(0).contains("cannot be told, so it stays"), "{explained}");
    assert!(verdict(1).contains("nothing is known for external.load < 0.5"), "{explained}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_persona_that_goes_takes_its_alerts_along() {
    let rules = json!([{ "when": "external.load > 0.9", "raise": "busy" }]);
    let (app, _node) = scene(rules).await;
    push(&app, 0.95).await;
    until_raised(&app, &["busy"]).await;
    // Another threshold, the same alert: nothing is told.
    app.apply(vec![watching(json!([{ "when": "external.load > 0.8", "raise": "busy" }]))]).await;
    assert_eq!(raised(&app).await, [format!("{WEB} busy")]);
    app.apply(vec![
        json!({ "apiVersion": "persona/v1", "kind": "Persona", "metadata": { "name": "plain" },
            "spec": { "resources": { "pids": 100 } } }),
        bound_to("plain"),
    ])
    .await;
    until_raised(&app, &[]).await;
    push(&app, 0.99).await;
    push(&app, 0.1).await;
    let told = told(&app).await;
    assert_eq!(told.len(), 2, "silent from then on: {told:?}");
    assert!(told[1].1.contains("busy is cleared: watched is no longer worn"), "{told:?}");
    assert!(app.get(&format!("/v1/explain/{WEB}")).await["monitoring"].is_null());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_manager_goes_on_with_what_is_raised() {
    let rules = json!([{ "when": "external.load > 0.9", "clearFor": "0s", "raise": "busy" }]);
    let (app, _node) = scene(rules).await;
    push(&app, 0.95).await;
    until_raised(&app, &["busy"]).await;
    let app = app.restart().await;
    assert_eq!(raised(&app).await, [format!("{WEB} busy")]);
    push(&app, 0.1).await;
    until_raised(&app, &[]).await;
    assert_eq!(told(&app).await.len(), 2, "raised once, cleared once");
}
