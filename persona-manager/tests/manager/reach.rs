//! How much of a fleet changes by people and programs may reach within an hour, and who may go over it.

use crate::support::*;
use persona_core::wire::agent::Role;
use serde_json::{Value, json};

const OVERRIDE: &str = "persona-override-reach";

/// A persona that needs no edge.
fn rate(name: &str, rate: &str) -> Value {
    json!({ "apiVersion": "persona/v1", "kind": "Persona", "metadata": { "name": name },
        "spec": { "qos": { "egressRate": rate } } })
}

fn everybody_wears(persona: &str) -> Value {
    json!({ "apiVersion": "persona/v1", "kind": "Binding", "metadata": { "name": "all" },
        "spec": { "selector": { "kind": "workload" }, "personas": ["a", "b"], "default": persona } })
}

struct Fleet {
    app: TestApp,
    operator: reqwest::Client,
    author: reqwest::Client,
}

impl Fleet {
    /// A node with ten workloads, all of which wear `a`.
    async fn new() -> Self {
        let app = TestApp::new().await;
        app.apply(vec![rate("a", "10mbit"), rate("b", "20mbit"), everybody_wears("a")]).await;
        let mut node = app.join(Role::Node, "n1", 1, None).await;
        node.watch().await;
        let names: Vec<String> = (0..10).map(|number| format!("w{number}")).collect();
        node.report(workloads(&names)).await;
        let (operator, author) = (app.access("op", "operator").await, app.access("au", "author").await);
        let (operator, author) = (app.with_bearer(&operator), app.with_bearer(&author));
        let fleet = Self { app, operator, author };
        eventually("all wear it", async || fleet.wearers("a").await == 10).await;
        fleet
    }

    async fn wearers(&self, persona: &str) -> u64 {
        self.app.get(&format!("/v1/personas/{persona}")).await["wearers"].as_u64().unwrap()
    }

    async fn set_limit(&self, limit: Value) -> Value {
        let (status, view) = self.app.call("PUT", "/v1/settings/reach", Some(json!({ "limit": limit }))).await;
        assert_eq!(status, 200, "{view}");
        view
    }

    async fn apply(
        &self,
        http: &reqwest::Client,
        query: &str,
        document: Value,
        reason: Option<&str>,
    ) -> reqwest::Response {
        let url = format!("{}/v1/apply?forceConflicts=true{query}", self.app.base);
        let request = http.post(url).json(&json!({ "documents": [document] }));
        let request = reason.into_iter().fold(request, |request, reason| request.header(OVERRIDE, reason));
        request.send().await.unwrap()
    }

    async fn switch(&self, subject: &str, persona: &str) -> reqwest::Response {
        let body = json!({ "subject": subject, "persona": persona });
        self.operator.post(format!("{}/v1/switch", self.app.base)).json(&body).send().await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_reaches_too_much_is_refused_and_an_admin_goes_over_it_with_a_reason() {
    let fleet = Fleet::new().await;
    let view = fleet.set_limit(json!({ "percentPerHour": 30 })).await;
    assert_eq!((&view["fleet"], &view["allowed"], &view["used"]), (&json!(11), &json!(3), &json!(0)));

    for query in ["", "&dryRun=true"] {
        let refused = fleet.apply(&fleet.author, query, everybody_wears("b"), None).await;
        assert_eq!((refused.status().as_u16(), refused.headers().get("retry-after")), (429, None), "never");
        let refused: Value = refused.json().await.unwrap();
        assert_eq!(refused["type"], "/problems/reach-exceeded");
        let parts = refused["errors"].as_array().unwrap();
        assert!(parts.iter().any(|part| part["path"] == "left" && part["detail"] == "3"), "{refused}");
        assert!(refused["detail"].as_str().unwrap().contains("reaches 10 subjects"), "{refused}");
    }
    assert_eq!(fleet.wearers("b").await, 0, "nothing of it was done");
    let by_author = fleet.apply(&fleet.author, "", everybody_wears("b"), Some("I want to")).await;
    assert_eq!(by_author.status(), 403);
    assert_eq!(fleet.apply(&fleet.app.http, "", everybody_wears("b"), Some(" ")).await.status(), 400, "no reason");
    let by_admin = fleet.apply(&fleet.app.http, "", everybody_wears("b"), Some("Köln is on fire")).await;
    assert_eq!(by_admin.status(), 200);
    eventually("all wear the other", async || fleet.wearers("b").await == 10).await;
    let events = fleet.app.events().await;
    let told = events.iter().find(|event| event.name == "reach.overridden").unwrap();
    assert!(told.message.contains("10 subjects") && told.message.contains("Köln is on fire"), "{}", told.message);

    let refused = fleet.switch("workload/n1/w0", "a").await;
    let wait: u64 = refused.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert_eq!(refused.status(), 429);
    assert!((3_000..=3_660).contains(&wait), "{wait}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_repairs_is_not_bound_and_what_was_reached_outlives_a_restart() {
    let fleet = Fleet::new().await;
    fleet.app.apply(vec![rate("a", "11mbit")]).await;
    fleet.set_limit(json!({ "percentPerHour": 1, "subjectsAtLeast": 2 })).await;
    for (subject, status) in [("w0", 200), ("w1", 200), ("w2", 429)] {
        let answer = fleet.switch(&format!("workload/n1/{subject}"), "b").await;
        assert_eq!(answer.status().as_u16(), status, "{subject}");
    }
    let again = fleet.switch("workload/n1/w0", "b").await;
    assert_eq!(again.status(), 200, "what changes nothing reaches nobody");
    assert_eq!(fleet.apply(&fleet.author, "", rate("a", "12mbit"), None).await.status(), 429, "eight wear it");
    let (status, body) = fleet.app.post("/v1/personas/a/rollback", json!({})).await;
    assert_eq!(status, 200, "a rollback repairs: {body}");
    let (status, body) = fleet.app.post("/v1/nodes/n1/revoke", json!({ "reason": "stolen" })).await;
    assert_eq!(status, 204, "a revocation too: {body}");

    let Fleet { app, .. } = fleet;
    let app = app.restart().await;
    let view = app.get("/v1/settings/reach").await;
    assert_eq!((&view["used"], &view["allowed"]), (&json!(2), &json!(2)));
    let (status, view) = app.call("PUT", "/v1/settings/reach", Some(json!({ "limit": null }))).await;
    assert_eq!((status, &view["allowed"]), (200, &Value::Null));
    for wrong in [json!({ "percentPerHour": 0 }), json!({ "percentPerHour": 101 }), json!({ "percent": 3 })] {
        assert_eq!(app.call("PUT", "/v1/settings/reach", Some(json!({ "limit": wrong }))).await.0, 400, "{wrong}");
    }
}
