//! The same request twice under one idempotency key: done once, answered the same, whatever it makes.

use crate::support::*;
use persona_core::wire::agent::Role;
use serde_json::{Value, json};

const KEY: &str = "0f8fad5b-d9cb-469f-a165-70867728950e";

async fn post(app: &TestApp, http: &reqwest::Client, path: &str, key: &str, body: &Value) -> (u16, Value) {
    let request = http.post(format!("{}{path}", app.base)).header("idempotency-key", key).header("if-match", "*");
    let answer = request.json(body).send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap_or_default())
}

/// Events that say that something was done.
async fn count(app: &TestApp, name: &str) -> usize {
    app.events().await.iter().filter(|event| event.name == name).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_twice_is_done_once_and_a_key_is_for_one_request_of_one_identity() {
    let app = TestApp::new().await;
    let persona = |name: &str| {
        json!({ "apiVersion": "persona/v1", "kind": "Persona", "metadata": { "name": name },
            "spec": { "qos": { "egressRate": "10mbit" } } })
    };
    app.apply(vec![persona("a"), persona("b"), binding("all", &["a", "b"])]).await;
    let node = app.join(Role::Node, "n1", 1, None).await;
    node.report(workloads(&["w1".to_owned()])).await;
    eventually("the workload is there", async || app.call("GET", "/v1/workloads/workload/n1/w1", None).await.0 == 200)
        .await;

    let subject = "workload/n1/w1";
    let cases = [
        ("/v1/apply?forceConflicts=true", json!({ "documents": [persona("c")] }), "document.created"),
        ("/v1/switch", json!({ "subject": subject, "persona": "b", "forMs": 600_000 }), "switch.made"),
        ("/v1/activation", json!({ "subject": subject, "persona": "a", "forMs": 600_000 }), "activation.triggered"),
        ("/v1/authority/rotate", json!({ "reason": "a test" }), "root.rotated"),
        ("/v1/access-tokens", json!({ "name": "x", "role": "viewer", "ttlMs": 60_000 }), "access-token.created"),
    ];
    for (number, (path, body, event)) in cases.iter().enumerate() {
        let key = format!("{KEY}-{number}");
        let before = count(&app, event).await;
        let (status, first) = post(&app, &app.http, path, &key, body).await;
        assert!((200..300).contains(&status), "{path}: {status} {first}");
        let (again_status, again) = post(&app, &app.http, path, &key, body).await;
        assert_eq!(again_status, status, "{path}: {again}");
        assert_eq!(count(&app, event).await, before + 1, "{path}: {event}");
        let mut other = body.clone();
        other["more"] = json!(1);
        let (status, refused) = post(&app, &app.http, path, &key, &other).await;
        assert!(status == 422 || status == 400, "{path} with another body: {status} {refused}");
    }
    let token = app.access("other", "operator").await;
    let other = app.with_bearer(&token);
    let switch = json!({ "subject": subject, "persona": "a" });
    let (status, refused) = post(&app, &app.http, "/v1/switch", &format!("{KEY}-1"), &switch).await;
    assert_eq!((status, &refused["type"]), (422, &json!("/problems/idempotency-key-reused")));
    let (status, body) = post(&app, &other, "/v1/switch", &format!("{KEY}-1"), &switch).await;
    assert_eq!(status, 200, "another's key is another: {body}");

    app.apply(vec![{
        let mut changed = persona("c");
        changed["spec"]["qos"]["egressRate"] = json!("20mbit");
        changed
    }])
    .await;
    for _ in 0..2 {
        let (status, body) = post(&app, &app.http, "/v1/personas/c/rollback", KEY, &json!({})).await;
        assert_eq!((status, &body["version"]), (200, &json!(3)), "the second goes back no further");
    }
}
