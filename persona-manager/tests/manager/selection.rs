//! Label selectors: lists of what has labels, page by page, and what `apply` deletes beside what it stores.

use crate::support::*;
use persona_core::wire::agent::Role;
use serde_json::{Value, json};

fn labelled(mut document: Value, labels: Value) -> Value {
    document["metadata"]["labels"] = labels;
    document
}

fn names(page: &Value) -> Vec<&str> {
    page["items"].as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_are_selected_by_labels_and_pages_go_on_where_they_ended() {
    let app = TestApp::new().await;
    let tier = |number: u32| if number.is_multiple_of(2) { json!({ "tier": "gold" }) } else { json!({ "team": "a" }) };
    let personas = (0..6).map(|number| labelled(persona(&format!("p{number}"), "fra", &[]), tier(number)));
    let documents = personas.chain([
        labelled(pool("fra", "198.51.100.0/30"), json!({ "tier": "gold" })),
        labelled(binding("b", &["p1"]), json!({ "team": "a" })),
    ]);
    app.apply(documents.collect()).await;
    app.join(Role::Edge, "f1", 11, Some("fra")).await;
    for (name, byte) in [("n1", 1), ("n2", 2)] {
        let node = app.join(Role::Node, name, byte, None).await;
        node.report(workloads(&["web".to_owned()])).await;
    }
    for of in ["node/n2", "edge/f1"] {
        assert_eq!(
            app.call("PUT", &format!("/v1/labels/{of}"), Some(json!({ "labels": { "tier": "gold" } }))).await.0,
            200
        );
    }
    for (path, expected) in [
        ("/v1/personas?labelSelector=tier%3Dgold", vec!["p0", "p2", "p4"]),
        ("/v1/personas?labelSelector=!tier", vec!["p1", "p3", "p5"]),
        ("/v1/bindings?labelSelector=team%3Da", vec!["b"]),
        ("/v1/bindings?labelSelector=team!%3Da", vec![]),
        ("/v1/egress-pools?labelSelector=tier", vec!["fra"]),
        ("/v1/nodes?labelSelector=tier%3Dgold", vec!["n2"]),
        ("/v1/edges?labelSelector=tier%3Dgold", vec!["f1"]),
        ("/v1/workloads?labelSelector=tier%3Dgold", vec!["web"]),
    ] {
        assert_eq!(names(&app.get(path).await), expected, "{path}");
    }
    let first = app.get("/v1/personas?labelSelector=tier%3Dgold&limit=2").await;
    assert_eq!((names(&first), &first["nextPageToken"]), (vec!["p0", "p2"], &json!("p2")));
    let second = app.get("/v1/personas?labelSelector=tier%3Dgold&limit=2&pageToken=p2").await;
    assert_eq!((names(&second), &second["nextPageToken"]), (vec!["p4"], &Value::Null));
    for path in
        ["/v1/personas?labelSelector=a%3Db%3Dc", "/v1/leases?labelSelector=tier%3Dgold", "/v1/nodes?labelSelector="]
    {
        assert_eq!(app.call("GET", path, None).await.0, 400, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn prune_deletes_what_is_labelled_and_not_applied_and_nothing_else() {
    let app = TestApp::new().await;
    let shop = json!({ "app": "shop" });
    let mine = |document: Value| labelled(document, shop.clone());
    let all = vec![
        mine(pool("fra", "198.51.100.0/30")),
        mine(pool("old", "203.0.113.0/30")),
        mine(persona("new", "fra", &[])),
        mine(persona("gone", "old", &[])),
        mine(binding("b", &["gone"])),
        persona("others", "fra", &[]),
    ];
    app.apply(all).await;
    let node = app.join(Role::Node, "n1", 1, None).await;
    node.report(workloads(&["web".to_owned()])).await;
    let kept = json!({ "documents": [mine(pool("fra", "198.51.100.0/30")), mine(persona("new", "fra", &[]))] });
    let prune = async |query: &str| app.post(&format!("/v1/apply?forceConflicts=true&{query}"), kept.clone()).await;
    for query in ["prune=app%3Dshop", "prune=!app&dryRun=true", "prune=app&dryRun=true", "pruneCount=3"] {
        assert_eq!(prune(query).await.0, 400, "{query}");
    }
    let (status, tried) = prune("prune=app%3Dshop&dryRun=true").await;
    let gone = |applied: &Value| -> Vec<String> {
        let results = applied["results"].as_array().unwrap().iter().filter(|result| result["outcome"] == "deleted");
        results
            .map(|result| format!("{}/{}", result["kind"].as_str().unwrap(), result["name"].as_str().unwrap()))
            .collect()
    };
    assert_eq!(
        (status, gone(&tried)),
        (200, ["Binding/b", "Persona/gone", "EgressPool/old"].map(str::to_owned).to_vec())
    );
    assert_eq!(names(&app.get("/v1/personas").await), ["gone", "new", "others"], "a dry run deletes nothing");
    let (status, body) = prune("prune=app%3Dshop&pruneCount=2").await;
    assert_eq!((status, body["detail"].as_str().unwrap().contains("Persona gone")), (409, true), "{body}");
    assert_eq!(prune("prune=app%3Dshop&pruneCount=3").await.0, 200);
    assert_eq!(names(&app.get("/v1/personas").await), ["new", "others"]);
    assert_eq!(
        (names(&app.get("/v1/bindings").await), names(&app.get("/v1/egress-pools").await)),
        (vec![], vec!["fra"])
    );

    // What is in use refuses the whole call.
    app.apply(vec![binding("everybody", &["new"])]).await;
    let kept = json!({ "documents": [mine(pool("fra", "198.51.100.0/30")), persona("late", "fra", &[])] });
    let (status, body) = app.post("/v1/apply?forceConflicts=true&prune=app%3Dshop&pruneCount=1", kept).await;
    assert_eq!((status, &body["type"]), (409, &json!("/problems/in-use")), "{body}");
    assert_eq!(names(&app.get("/v1/personas").await), ["new", "others"]);
}
