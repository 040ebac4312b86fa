//! Activations that come by themselves, over real HTTP and across restarts.

use crate::support::*;
use persona_core::wire::agent::Role;
use serde_json::{Value, json};

const WEB: &str = "workload/n1/web";
const DAY_MS: u64 = 86_400_000;

/// One workload that may wear two personas; a third is for nobody.
async fn scene() -> (TestApp, FakeAgent) {
    let app = TestApp::new().await;
    let sized = |name: &str, pids: u32| {
        json!({ "apiVersion": "persona/v1", "kind": "Persona", "metadata": { "name": name },
            "spec": { "resources": { "pids": pids } } })
    };
    let bound = binding("all", &["plain", "night"]);
    app.apply(vec![sized("plain", 9), sized("night", 5), sized("other", 1), bound]).await;
    let mut node = app.join(Role::Node, "n1", 1, None).await;
    node.watch().await;
    node.report(workloads(&["web".to_owned()])).await;
    eventually("the workload is there", async || app.call("GET", "/v1/workloads/workload/n1/web", None).await.0 == 200)
        .await;
    (app, node)
}

/// A persona whose windows are always open: each day's lasts two.
fn always(name: &str) -> Value {
    json!({ "subject": WEB, "persona": "night", "name": name, "every": "0 0 * * *", "timeZone": "Europe/Berlin", "forMs": 2 * DAY_MS })
}

async fn make(app: &TestApp, body: Value) -> Value {
    let (status, answer) = app.post("/v1/schedules", body).await;
    assert_eq!(status, 201, "{answer}");
    answer
}

async fn section(app: &TestApp) -> Value {
    app.get(&format!("/v1/explain/{WEB}")).await["assignment"]["sections"]["resources"].clone()
}

async fn until_worn(app: &TestApp, expected: Option<&str>) {
    eventually(&format!("{expected:?} is worn"), async || {
        let section = section(app).await;
        section["persona"].as_str().filter(|_| section["layer"] == "activation") == expected
    })
    .await;
}

async fn listed(app: &TestApp) -> Vec<Value> {
    app.get("/v1/schedules").await["items"].as_array().unwrap().clone()
}

async fn told(app: &TestApp) -> Vec<String> {
    let events = app.events().await.into_iter().filter(|event| event.name.starts_with("activation."));
    events.map(|event| event.name).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_that_is_open_is_worn_across_restarts_until_it_is_released() {
    let (app, _node) = scene().await;
    let made = make(&app, always("nightly")).await;
    assert!(made["openUntilMs"].as_u64().unwrap() > made["nextMs"].as_u64().unwrap(), "{made}");
    until_worn(&app, Some("night")).await;
    let worn = section(&app).await;
    let reason = worn["reason"].as_str().unwrap();
    assert!(reason.contains("schedule nightly puts it on: every '0 0 * * *' Europe/Berlin for 2d"), "{reason}");
    assert_eq!(worn["untilMs"], made["openUntilMs"]);
    let app = app.restart().await;
    until_worn(&app, Some("night")).await;
    assert_eq!(told(&app).await, ["activation.scheduled", "activation.triggered"]);

    let (status, _) = app.call("DELETE", &format!("/v1/activation/{WEB}"), None).await;
    assert_eq!(status, 200);
    until_worn(&app, None).await;
    let app = app.restart().await;
    app.post("/v1/signals", json!({ "subject": WEB, "name": "external.a", "value": 1, "forMs": 60_000 })).await;
    until_worn(&app, None).await;
    assert_eq!(listed(&app).await[0]["openUntilMs"], Value::Null, "what was released is not open");
    assert_eq!(told(&app).await.last().unwrap(), "activation.taken-back");

    make(&app, always("again")).await;
    until_worn(&app, Some("night")).await;
    let path = format!("/v1/schedules/{WEB}?name=again");
    assert_eq!(app.call("DELETE", &path, None).await.0, 204);
    until_worn(&app, None).await;
    assert_eq!((app.call("DELETE", &path, None).await.0, listed(&app).await.len()), (404, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_time_comes_and_goes_and_what_is_triggered_by_hand_stands_above_it() {
    let (app, _node) = scene().await;
    let now_ms = std::time::UNIX_EPOCH.elapsed().unwrap().as_millis() as u64;
    make(&app, json!({ "subject": WEB, "persona": "night", "atMs": now_ms + 1_200, "forMs": 3_000 })).await;
    assert_eq!((section(&app).await, listed(&app).await[0]["name"].clone()), (Value::Null, json!("night")));
    until_worn(&app, Some("night")).await;
    let by_hand = json!({ "subject": WEB, "persona": "plain", "forMs": 1_000 });
    assert_eq!(app.post("/v1/activation", by_hand).await.0, 200);
    until_worn(&app, Some("plain")).await;
    until_worn(&app, Some("night")).await;
    until_worn(&app, None).await;
    eventually("it is forgotten", async || listed(&app).await.is_empty()).await;
    let expected = ["scheduled", "triggered", "triggered", "ended", "triggered", "ended", "unscheduled"];
    assert_eq!(told(&app).await, expected.map(|name| format!("activation.{name}")));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_scheduled_is_refused_with_what_would_be_valid() {
    let (app, _node) = scene().await;
    let with = |key: &str, value: Value| {
        let mut body = always("nightly");
        body[key] = value;
        body
    };
    let cases = [
        (with("every", json!("0 22 * *")), 400, "write MINUTE HOUR DAY MONTH WEEKDAY"),
        (with("timeZone", json!("Europe/Berlni")), 400, "did you mean 'Europe/Berlin'?"),
        (with("forMs", json!(10)), 400, "write 1s to 31d"),
        (with("atMs", json!(1)), 400, "either atMs, or every"),
        (json!({ "subject": WEB, "persona": "night", "atMs": 1_000, "forMs": 1_000 }), 400, "is over by now"),
        (with("name", json!("No Name")), 400, "schedule name"),
        (with("persona", json!("nobody")), 404, "there is no persona nobody"),
        (with("persona", json!("other")), 409, "add it to spec.personas of binding all"),
        (with("subject", json!("workload/n1/gone")), 404, "there is no workload/n1/gone"),
    ];
    for (body, status, expected) in cases {
        let (got, answer) = app.post("/v1/schedules", body.clone()).await;
        assert!(got == status && answer["detail"].as_str().unwrap().contains(expected), "{body}: {got} {answer}");
    }
    make(&app, always("nightly")).await;
    let (status, answer) = app.post("/v1/schedules", always("nightly")).await;
    assert!(status == 409 && answer["detail"].as_str().unwrap().contains("another name"), "{answer}");
    for number in 1..16 {
        make(&app, always(&format!("n{number}"))).await;
    }
    let (status, answer) = app.post("/v1/schedules", always("more")).await;
    assert!(status == 400 && answer["detail"].as_str().unwrap().contains("16 schedules"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_persona_that_is_scheduled_stays_and_schedules_go_with_their_node() {
    let (app, node) = scene().await;
    let far = json!({ "subject": WEB, "persona": "night", "every": "0 0 29 feb *", "forMs": 1_000 });
    make(&app, far).await;
    app.apply(vec![binding("all", &["plain"])]).await;
    let (_, answer) = app.call("DELETE", "/v1/personas/night", None).await;
    assert!(answer["detail"].to_string().contains("schedule night of workload/n1/web puts it on"), "{answer}");
    let trouble = listed(&app).await[0]["trouble"].to_string();
    assert!(trouble.contains("workload/n1/web may not wear night"), "{trouble}");
    drop(node);
    let (status, answer) = app.call("DELETE", "/v1/nodes/n1?force=gone", None).await;
    assert_eq!((status, listed(&app).await.len()), (204, 0), "{answer}");
}
