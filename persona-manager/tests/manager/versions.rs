//! Nobody overwrites unseen what another has changed: versions of documents in ETags, If-Match and metadata.

use crate::support::*;
use persona_core::wire::agent::{Report, Role};
use serde_json::{Value, json};

/// Applies one document as it is.
async fn apply(app: &TestApp, query: &str, document: &Value) -> (u16, Value) {
    app.post(&format!("/v1/apply{query}"), json!({ "documents": [document] })).await
}

async fn change(app: &TestApp, method: &str, path: &str, if_match: Option<&str>) -> (u16, Option<String>, Value) {
    let request = app.http.request(method.parse().unwrap(), format!("{}{path}", app.base)).json(&json!({}));
    let request = if_match.into_iter().fold(request, |request, tag| request.header("if-match", tag));
    let answer = request.send().await.unwrap();
    let tag = answer.headers().get("etag").map(|tag| tag.to_str().unwrap().to_owned());
    (answer.status().as_u16(), tag, answer.json().await.unwrap_or_default())
}

fn with_mtu(mut document: Value, mtu: u32) -> Value {
    document["spec"]["network"]["mtu"] = mtu.into();
    document
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_that_was_read_is_stored_and_one_that_was_overtaken_is_not() {
    let app = TestApp::new().await;
    let fresh = persona("a", "fra", &[]);
    assert_eq!(apply(&app, "", &fresh).await.0, 200, "absent means create");
    let first = app.get("/v1/personas/a").await["document"].clone();
    let version = first["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    assert!(version.starts_with("1-"), "{version}");

    let (status, again) = apply(&app, "", &first).await;
    assert_eq!(
        (status, &again["results"][0]["outcome"]),
        (200, &json!("unchanged")),
        "what was got is applied for nothing"
    );
    assert_eq!(apply(&app, "", &fresh).await.1["results"][0]["outcome"], "unchanged", "and so is what says the same");

    let (status, refused) = apply(&app, "", &with_mtu(fresh.clone(), 1_300)).await;
    assert_eq!((status, &refused["type"]), (428, &json!("/problems/version-missing")), "{refused}");
    let (status, stored) = apply(&app, "", &with_mtu(first.clone(), 1_300)).await;
    assert_eq!((status, &stored["results"][0]["outcome"]), (200, &json!("updated")), "{stored}");
    let newest = stored["results"][0]["resourceVersion"].as_str().unwrap().to_owned();

    let (status, lost) = apply(&app, "", &with_mtu(first.clone(), 1_300)).await;
    assert_eq!(
        (status, &lost["results"][0]["outcome"]),
        (200, &json!("unchanged")),
        "again, as if the answer was lost"
    );

    for query in ["", "?dryRun=true"] {
        let (status, refused) = apply(&app, query, &with_mtu(first.clone(), 1_310)).await;
        assert_eq!((status, &refused["type"]), (412, &json!("/problems/version-conflict")), "{refused}");
        assert!(refused["errors"][0]["detail"].as_str().unwrap().contains(&newest), "{refused}");
    }
    let both = json!({ "documents": [persona("new", "fra", &[]), with_mtu(first.clone(), 1_310)] });
    assert_eq!(app.post("/v1/apply", both).await.0, 412);
    assert_eq!(app.call("GET", "/v1/personas/new", None).await.0, 404, "all or none");
    let (status, forced) = apply(&app, "?forceConflicts=true", &with_mtu(first.clone(), 1_310)).await;
    assert_eq!((status, &forced["results"][0]["version"]), (200, &json!(3)), "{forced}");

    assert_eq!(
        app.get("/v1/personas/a?version=1").await["document"]["metadata"].get("resourceVersion"),
        None,
        "an old one"
    );
    assert_eq!(app.get("/v1/personas/a").await["digest"], app.get("/v1/personas/a?version=3").await["digest"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_who_change_what_they_read_one_is_refused() {
    let app = TestApp::new().await;
    app.apply(vec![persona("a", "fra", &[])]).await;
    let read = app.get("/v1/personas/a").await["document"].clone();
    let both = [1_300, 1_310].map(|mtu| with_mtu(read.clone(), mtu));
    let (one, other) = tokio::join!(apply(&app, "", &both[0]), apply(&app, "", &both[1]));
    let mut statuses = [one.0, other.0];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 412]);
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_one_document_need_the_tag_that_was_read() {
    let app = TestApp::new().await;
    let documents = vec![pool("fra", "198.51.100.0/30"), persona("a", "fra", &[]), binding("b", &["a"])];
    app.apply(documents).await;
    app.apply(vec![persona("a", "fra", &["fast"])]).await;
    for path in ["/v1/bindings/b", "/v1/personas/a", "/v1/egress-pools/fra"] {
        let (status, tag, view) = change(&app, "GET", path, None).await;
        let tag = tag.unwrap();
        assert_eq!(
            (status, tag.trim_matches('"')),
            (200, view["document"]["metadata"]["resourceVersion"].as_str().unwrap())
        );
        let (status, _, body) = change(&app, "DELETE", path, None).await;
        assert_eq!((status, &body["type"]), (428, &json!("/problems/version-missing")), "{path} {body}");
        let (status, current, body) = change(&app, "DELETE", path, Some("\"1-000000000000\"")).await;
        assert_eq!(
            (status, &body["type"], current.as_deref()),
            (412, &json!("/problems/version-conflict"), Some(&*tag)),
            "{body}"
        );
        assert_eq!(change(&app, "DELETE", path, Some("nonsense")).await.0, 400);
        if path == "/v1/personas/a" {
            assert_eq!(change(&app, "POST", "/v1/personas/a/rollback", None).await.0, 428);
            let (status, now, _) = change(&app, "POST", "/v1/personas/a/rollback", Some(&tag)).await;
            assert_eq!(status, 200);
            assert_eq!(change(&app, "DELETE", path, Some(&tag)).await.0, 412, "the rollback came between");
            assert_eq!(change(&app, "DELETE", path, now.as_deref()).await.0, 204);
        } else {
            assert_eq!(change(&app, "DELETE", path, Some(&tag)).await.0, 204, "{path}");
        }
    }
    let (status, refused) = apply(&app, "", &{
        let mut gone = persona("a", "fra", &[]);
        gone["metadata"]["resourceVersion"] = "1-000000000000".into();
        gone
    })
    .await;
    assert_eq!((status, refused["detail"].as_str().unwrap().contains("was deleted")), (412, true), "{refused}");
}

/// Sends a body under a tag; returns the status, and the tag and the type of the answer.
async fn send(app: &TestApp, method: &str, path: &str, tag: Option<&str>, body: Value) -> (u16, Option<String>, Value) {
    let request = app.http.request(method.parse().unwrap(), format!("{}{path}", app.base)).json(&body);
    let request = tag.into_iter().fold(request, |request, tag| request.header("if-match", tag));
    let answer = request.send().await.unwrap();
    let tag = answer.headers().get("etag").map(|tag| tag.to_str().unwrap().to_owned());
    let status = answer.status().as_u16();
    (status, tag, answer.json::<Value>().await.unwrap_or_default()["type"].take())
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_are_changed_by_who_has_read_them() {
    let app = TestApp::new().await;
    let settings = [
        ("probe", json!({ "intervalMs": 60, "multiplier": 3 }), json!({ "intervalMs": 70, "multiplier": 3 })),
        ("planning", json!({ "mode": "steer" }), json!({ "mode": "advise" })),
        ("reach", json!({ "limit": { "percentPerHour": 9 } }), json!({ "limit": null })),
    ];
    for (name, first, second) in settings {
        let path = format!("/v1/settings/{name}");
        let (_, read, _) = change(&app, "GET", &path, None).await;
        let read = read.unwrap();
        let (status, _, problem) = send(&app, "PUT", &path, None, first.clone()).await;
        assert_eq!((status, problem), (428, json!("/problems/version-missing")), "{name}");
        let (status, newest, _) = send(&app, "PUT", &path, Some(&read), first).await;
        assert_eq!(status, 200, "{name}");
        let (status, current, problem) = send(&app, "PUT", &path, Some(&read), second.clone()).await;
        assert_eq!((status, problem), (412, json!("/problems/version-conflict")), "{name}");
        assert_eq!(current, newest, "the refusal has the tag that counts");
        assert_eq!(send(&app, "PUT", &path, newest.as_deref(), second).await.0, 200, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_and_edges_are_changed_by_who_has_seen_what_people_said_of_them() {
    let app = TestApp::new().await;
    let mut edge = app.join(Role::Edge, "f1", 11, Some("fra")).await;
    edge.watch().await;
    app.join(Role::Node, "n1", 1, None).await;
    let (_, seen, _) = change(&app, "GET", "/v1/edges/f1", None).await;
    edge.report(Report { outside_alive: Some(true), ..Report::default() }).await;
    let (_, again, _) = change(&app, "GET", "/v1/edges/f1", None).await;
    assert_eq!(seen, again, "what it reports is no change by people");
    let weight = json!({ "weight": 50 });
    assert_eq!(send(&app, "PUT", "/v1/edges/f1/weight", None, weight.clone()).await.0, 428);
    let (status, newest, _) = send(&app, "PUT", "/v1/edges/f1/weight", seen.as_deref(), weight.clone()).await;
    assert_eq!(status, 200);
    assert_eq!(send(&app, "PUT", "/v1/edges/f1/weight", seen.as_deref(), weight).await.0, 412);
    assert_eq!(app.post("/v1/edges/f1/drain", json!({})).await.0, 200);
    assert_eq!(change(&app, "DELETE", "/v1/edges/f1", newest.as_deref()).await.0, 412, "it was drained meanwhile");
    for path in ["/v1/edges/f1", "/v1/nodes/n1"] {
        let (_, tag, _) = change(&app, "GET", path, None).await;
        assert_eq!(change(&app, "DELETE", path, None).await.0, 428, "{path}");
        assert_eq!(change(&app, "DELETE", path, tag.as_deref()).await.0, 204, "{path}");
    }
}
