//! Every endpoint, and what it says to bad input.

use crate::support::*;
use persona_core::wire::agent::{Report, Role};
use persona_manager::{Config, start};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

fn detail(body: &Value) -> &str {
    body["detail"].as_str().unwrap_or_else(|| panic!("{body}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_are_versioned_and_kept_from_harm() {
    let app = TestApp::new().await;
    let applied = app.apply(vec![pool("fra", "198.51.100.0/30"), persona("a", "fra", &[]), binding("b", &["a"])]).await;
    assert_eq!(applied["results"][1]["outcome"], "created");
    let again = app.apply(vec![persona("a", "fra", &[])]).await;
    assert_eq!((&again["results"][0]["outcome"], &again["results"][0]["version"]), (&json!("unchanged"), &json!(1)));
    let changed = app.apply(vec![persona("a", "fra", &["fast"])]).await;
    assert_eq!(changed["results"][0]["version"], 2);
    assert_eq!(app.get("/v1/personas/a").await["vni"], app.get("/v1/personas/a?version=1").await["vni"]);
    assert_eq!(app.get("/v1/personas/a/versions").await["items"].as_array().unwrap().len(), 2);
    let (status, back) = app.post("/v1/personas/a/rollback", json!({})).await;
    assert_eq!((status, &back["version"]), (200, &json!(3)), "{back}");
    assert_eq!(back["digest"], app.get("/v1/personas/a?version=1").await["digest"]);

    let (status, body) = app.call("DELETE", "/v1/personas/a", None).await;
    assert_eq!((status, detail(&body).contains("binding b names it")), (409, true), "{body}");
    let (status, body) = app.call("DELETE", "/v1/egress-pools/fra", None).await;
    assert_eq!((status, detail(&body).contains("persona a names it")), (409, true), "{body}");
    assert_eq!(app.call("DELETE", "/v1/bindings/b", None).await.0, 204);
    assert_eq!(app.call("DELETE", "/v1/personas/a", None).await.0, 204);
    assert_eq!(app.call("GET", "/v1/personas/a", None).await.0, 404);
    let dry = app.post("/v1/apply?dryRun=true", json!({ "documents": [persona("a", "fra", &[])] })).await;
    assert_eq!((dry.0, &dry.1["results"][0]["version"]), (200, &json!(4)));
    assert_eq!(app.call("GET", "/v1/personas/a", None).await.0, 404, "a dry run stores nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_is_told_what_would_be_valid() {
    let app = TestApp::new().await;
    let mut typo = persona("a", "fra", &[]);
    typo["spec"]["netwrok"] = json!({});
    app.apply(vec![pool("fra", "198.51.100.0/30")]).await;
    let cases = [
        ("POST", "/v1/apply", Some(json!({ "documents": [typo] })), 400, "netwrok"),
        ("POST", "/v1/apply", Some(json!({ "documents": [] })), 400, "1 to 1000"),
        ("POST", "/v1/apply", Some(json!({ "docs": [] })), 400, "expected `documents`"),
        ("POST", "/v1/apply", Some(json!({ "documents": [pool("x", "198.51.100.2/32")] })), 409, "overlap"),
        ("POST", "/v1/switch", Some(json!({ "subject": "web", "persona": "a" })), 400, "workload/NODE/NAME"),
        ("POST", "/v1/switch", Some(json!({ "subject": "node/x", "persona": "a" })), 404, "there is no node/x"),
        ("POST", "/v1/request", Some(json!({ "subject": "node/x", "capabilities": [] })), 400, "at least one"),
        ("POST", "/v1/join-tokens", Some(json!({ "role": "node", "ttlMs": 0 })), 400, "ttlMs"),
        ("GET", "/v1/personas?limit=0", None, 400, "use 1 to 1000"),
        ("GET", "/v1/personas?limt=1", None, 400, "limt"),
        ("GET", "/v1/leases/x", None, 400, "not a number"),
        ("GET", "/v1/nodes/none", None, 404, "GET /v1/nodes"),
        ("GET", "/v1/nowhere", None, 404, "openapi.json"),
        ("PUT", "/v1/personas", None, 405, "openapi.json"),
        ("GET", "/v1/agent/watch", None, 403, "client certificate"),
    ];
    for (method, path, body, status, text) in cases {
        let (found, answer) = app.call(method, path, body).await;
        assert_eq!(found, status, "{method} {path}: {answer}");
        assert!(detail(&answer).contains(text), "{method} {path}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_can_be_read() {
    let app = TestApp::new().await;
    app.apply(vec![pool("fra", "198.51.100.0/30"), persona("a", "fra", &[]), binding("b", &["a"])]).await;
    let node = app.join(Role::Node, "n1", 1, None).await;
    app.join(Role::Edge, "f1", 11, Some("fra")).await;
    node.report(workloads(&["web".to_owned()])).await;
    for path in [
        "/healthz",
        "/readyz",
        "/v1/schema",
        "/v1/status",
        "/v1/events",
        "/v1/personas",
        "/v1/personas/a",
        "/v1/bindings",
        "/v1/bindings/b",
        "/v1/egress-pools",
        "/v1/egress-pools/fra",
        "/v1/nodes",
        "/v1/nodes/n1",
        "/v1/edges",
        "/v1/edges/f1",
        "/v1/workloads",
        "/v1/workloads/n1/web",
        "/v1/leases",
        "/v1/join-tokens",
        "/v1/explain/workload/n1/web",
        "/v1/explain/workload%2Fn1%2Fweb",
        "/v1/workloads/workload%2Fn1%2Fweb",
        "/v1/explain/node/n1",
    ] {
        app.get(path).await;
    }
    let document = app.get("/v1/openapi.json").await;
    assert!(document["paths"]["/v1/explain/{subject}"]["get"].is_object(), "{document}");
    assert!(app.get("/v1/status").await["unassigned"]["workload/n1/web"].as_str().unwrap().contains("serving edges"));
    let events = app.events().await;
    assert!(events.iter().enumerate().all(|(index, event)| event.number == index as u64 + 1), "no gaps");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_geofeed_is_there_for_everybody_where_it_is_published() {
    let mut frankfurt = pool("fra", "198.51.100.0/30");
    frankfurt["spec"]["location"] = json!({ "country": "DE", "region": "DE-HE", "city": "Frankfurt" });
    for publish_geofeed in [false, true] {
        let app = TestApp::with(|config| config.publish_geofeed = publish_geofeed).await;
        app.apply(vec![frankfurt.clone(), pool("nowhere", "192.0.2.0/30")]).await;
        let response = app.nobody.get(format!("{}/v1/geofeed", app.base)).send().await.unwrap();
        let (status, kind) = (response.status().as_u16(), response.headers()["content-type"].clone());
        let text = response.text().await.unwrap();
        if publish_geofeed {
            assert_eq!((status, kind.to_str().unwrap()), (200, "text/csv; charset=utf-8"));
            assert_eq!(text, "198.51.100.0/30,DE,DE-HE,Frankfurt,\n");
        } else {
            assert!(status == 404 && text.contains("publish_geofeed"), "{status} {text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn joining_is_guarded() {
    let app = TestApp::new().await;
    let node = app.join(Role::Node, "n1", 1, None).await;
    let token = app.token(Role::Node).await;
    let stranger = FakeAgent::new(&app, Role::Node, "n1", 2, None);
    let (status, body) = stranger.register(&token).await;
    assert_eq!((status, detail(&body).contains("another key")), (409, true), "{body}");
    let neighbour = FakeAgent::new(&app, Role::Node, "n2", 1, None);
    let (status, body) = neighbour.register(&token).await;
    assert_eq!((status, detail(&body).contains("belongs to node/n1")), (409, true), "{body}");
    assert_eq!(node.register(&token).await.0, 200, "the same key may register again");
    let edge = FakeAgent::new(&app, Role::Edge, "f1", 11, Some("fra"));
    let (status, body) = edge.register(&token).await;
    assert_eq!((status, detail(&body).contains("other role")), (403, true), "{body}");
    assert_eq!(edge.register("nonsense").await.0, 403);

    let once = json!({ "role": "edge", "name": "f1", "ttlMs": 300 });
    let (_, body) = app.post("/v1/join-tokens", once).await;
    let once = &bearer_of(&body);
    let other = FakeAgent::new(&app, Role::Edge, "f2", 12, Some("fra"));
    assert!(detail(&other.register(once).await.1).contains("for the name"));
    assert_eq!(edge.register(once).await.0, 200);
    assert_eq!(edge.register(once).await.0, 200, "the same key may redeem it again");
    let thief = FakeAgent::new(&app, Role::Edge, "f1", 11, Some("fra"));
    assert!(detail(&thief.register(once).await.1).contains("as often as it may"));
    tokio::time::sleep(std::time::Duration::from_millis(350)).await;
    assert!(detail(&edge.register(once).await.1).contains("expired"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_public_bind_and_a_damaged_store_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let store = directory.path().join("manager.sqlite");
    let config = Config { store: store.clone().into(), insecure_http: true, ..Config::default() };
    let listener = tokio::net::TcpListener::bind("0.0.0.0:0").await.unwrap();
    let error = start(config.clone(), listener, CancellationToken::new()).await.err().unwrap();
    assert!(format!("{:#}", anyhow::Error::new(error)).contains("allow_public"));
    std::fs::write(&store, vec![7; 8_192]).unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let error = start(config, listener, CancellationToken::new()).await.err().unwrap();
    let text = format!("{:#}", anyhow::Error::new(error));
    assert!(text.contains("damaged") && text.contains("backup"), "{text}");
}

/// Bits of a page that flip on a disk, one page after the other: what is not seen at start changes nothing that is read.
#[tokio::test(flavor = "multi_thread")]
async fn a_page_whose_bits_flip_is_refused_with_the_way_back() {
    const PAGE_BYTES: usize = 4_096;
    let app = TestApp::new().await;
    app.apply(vec![pool("fra", "198.51.100.0/28"), persona("frankfurt", "fra", &[])]).await;
    let store = app.store();
    let folder = app.halt().await;
    let whole = folder.path().join("whole.sqlite");
    persona_manager::backup(&store.clone().into(), &whole).unwrap();
    let good = std::fs::read(&whole).unwrap();
    let mut refused = 0;
    let broken = folder.path().join("broken.sqlite");
    for page in 0..good.len() / PAGE_BYTES {
        let mut bytes = good.clone();
        // Its head: how many cells it has, and where they are.
        bytes[page * PAGE_BYTES..][..64].iter_mut().for_each(|byte| *byte = !*byte);
        std::fs::write(&broken, bytes).unwrap();
        let config = Config { store: broken.clone().into(), ..Config::default() };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let error = start(config, listener, CancellationToken::new()).await.err();
        let error = error.unwrap_or_else(|| panic!("page {page} is broken, and nobody says so"));
        let text = format!("{:#}", anyhow::Error::new(error));
        assert!(text.contains("damaged") && text.contains("manager restore --from"), "page {page}: {text}");
        refused += 1;
    }
    assert!(refused > 20, "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_managers_do_not_share_a_store() {
    let app = TestApp::new().await;
    let config = Config { store: app.store().into(), ..Config::default() };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let error = start(config, listener, CancellationToken::new()).await.err().unwrap();
    assert!(format!("{:#}", anyhow::Error::new(error)).contains("in use by another manager"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_loses_nothing_and_generations_go_on() {
    let app = TestApp::new().await;
    app.apply(vec![pool("fra", "198.51.100.0/30"), persona("a", "fra", &[]), binding("b", &["a"])]).await;
    let mut edge = app.join(Role::Edge, "f1", 11, Some("fra")).await;
    let mut node = app.join(Role::Node, "n1", 1, None).await;
    edge.watch().await;
    edge.report(Report::default()).await;
    node.report(workloads(&["web".to_owned()])).await;
    edge.until("a lease", |state| has_lease(state, 1)).await;
    edge.report(Report::default()).await;
    node.watch().await;
    node.until("its lease", |state| lease_of(state, "workload/n1/web") == Some(1)).await;
    let (before, personas) = (node.state.clone(), app.get("/v1/personas").await);
    let revision = app.get("/v1/status").await["revision"].as_u64().unwrap();
    let app = app.restart().await;
    (node.base, edge.base) = (app.base.clone(), app.base.clone());
    node.state = Default::default();
    node.watch().await;
    assert_eq!(node.state, before, "the same state under the same generation");
    assert_eq!(app.get("/v1/personas").await, personas);
    assert!(app.get("/v1/status").await["revision"].as_u64().unwrap() >= revision);
    assert_eq!(app.leases().await[0].state, "active");
    app.apply(vec![persona("a", "fra", &["new"])]).await;
    edge.report(Report::default()).await;
    node.report(Report::default()).await;
    node.until("the new version", |state| state.generation > before.generation).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_met_refused_or_already_met() {
    let app = TestApp::new().await;
    app.apply(vec![
        pool("fra", "198.51.100.1/32"),
        pool("tyo", "203.0.113.1/32"),
        persona("frankfurt", "fra", &[]),
        persona("tokyo", "tyo", &["low-latency"]),
        binding("all", &["frankfurt", "tokyo"]),
    ])
    .await;
    let node = app.join(Role::Node, "n1", 1, None).await;
    for (name, byte, group) in [("f1", 11, "fra"), ("t1", 13, "tyo")] {
        let mut edge = app.join(Role::Edge, name, byte, Some(group)).await;
        edge.watch().await;
        edge.report(Report::default()).await;
    }
    let names: Vec<String> = (0..64).map(|index| format!("w{index:02}")).collect();
    node.report(workloads(&names[..1])).await;
    let ask = |name: &str, capability: &str| json!({ "subject": format!("workload/n1/{name}"), "capabilities": [capability] });
    let (status, body) = app.post("/v1/request", ask("w00", "low-latency")).await;
    assert_eq!((status, &body["changed"]), (200, &json!(true)), "{body}");
    assert_eq!(body["sections"]["network"]["persona"], "tokyo");
    assert_eq!(body["sections"]["network"]["layer"], "request");
    let (status, body) = app.post("/v1/request", ask("w00", "low-latency")).await;
    assert_eq!((status, &body["changed"]), (200, &json!(false)), "{body}");
    let (status, body) = app.post("/v1/request", ask("w00", "privacy")).await;
    assert_eq!((status, body["errors"].as_array().unwrap().len()), (409, 2), "{body}");
    assert!(body["errors"][0]["detail"].as_str().unwrap().contains("lacks the capabilities privacy"), "{body}");
    assert_eq!(app.call("DELETE", "/v1/request/workload/n1/w00", None).await.1["changed"], true);

    // One address has 63 blocks; w00 still holds one of each pool, so the 64th subject of frankfurt finds it full.
    node.report(workloads(&names)).await;
    let worn = app.get("/v1/explain/workload/n1/w63").await;
    assert_eq!(worn["assignment"]["sections"]["network"]["persona"], "tokyo", "{worn}");
    let switch = json!({ "subject": "workload/n1/w63", "persona": "frankfurt" });
    let (status, body) = app.post("/v1/switch", switch).await;
    assert_eq!(status, 409, "{body}");
    assert!(body["errors"].to_string().contains("pool fra is full: 1 blocks of one address are needed"), "{body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_that_joins_late_is_new_and_not_down() {
    let app = TestApp::new().await;
    tokio::time::sleep(std::time::Duration::from_millis(1_200)).await;
    app.join(Role::Edge, "f1", 11, Some("fra")).await;
    tokio::time::sleep(std::time::Duration::from_millis(400)).await;
    assert_eq!(app.get("/v1/edges/f1").await["state"], "new");
    tokio::time::sleep(std::time::Duration::from_millis(1_000)).await;
    let edge = app.get("/v1/edges/f1").await;
    assert_eq!((&edge["state"], &edge["reason"]), (&json!("down"), &json!("it did not report for 1000 ms")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_asks_for_more_than_there_is_takes_nothing_away() {
    let app = TestApp::new().await;
    app.apply(vec![pool("fra", "198.51.100.1/32"), persona("a", "fra", &[]), binding("b", &["a"])]).await;
    let mut edge = app.join(Role::Edge, "f1", 11, Some("fra")).await;
    let mut node = app.join(Role::Node, "n1", 1, None).await;
    edge.watch().await;
    edge.report(Report::default()).await;
    node.watch().await;
    node.report(workloads(&["web".to_owned()])).await;
    edge.until("a lease", |state| has_lease(state, 1)).await;
    edge.report(Report::default()).await;
    node.until("its lease", |state| lease_of(state, "workload/n1/web") == Some(1)).await;
    let mut greedy = persona("a", "fra", &[]);
    greedy["spec"]["network"]["egress"]["portsPerSubject"] = json!(64_512);
    app.apply(vec![greedy]).await;
    let worn = app.get("/v1/explain/workload/n1/web").await;
    assert_eq!(worn["assignment"]["lease"], 1, "{worn}");
    let reason = worn["assignment"]["sections"]["network"]["reason"].as_str().unwrap();
    assert!(reason.contains("63 blocks of one address are needed, at most 62 are free"), "{reason}");
    assert_eq!(app.leases().await.len(), 1);
    assert_eq!(app.leases().await[0].state, "active");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_pool_is_told_with_what_would_help() {
    let app = TestApp::new().await;
    let mut half = persona("a", "fra", &[]);
    half["spec"]["network"]["egress"]["portsPerSubject"] = json!(32_768);
    app.apply(vec![pool("fra", "198.51.100.1/32"), half, binding("b", &["a"])]).await;
    let mut edge = app.join(Role::Edge, "f1", 11, Some("fra")).await;
    let node = app.join(Role::Node, "n1", 1, None).await;
    edge.watch().await;
    edge.report(Report::default()).await;
    node.report(workloads(&["first".to_owned(), "second".to_owned()])).await;
    edge.until("a lease", |state| has_lease(state, 1)).await;
    eventually("one of two goes without", async || {
        let status = app.get("/v1/status").await;
        let unassigned = status["unassigned"].as_object().unwrap();
        unassigned.len() == 1 && unassigned.values().all(|why| why.as_str().unwrap().contains("pool fra is full"))
    })
    .await;
    let status = app.get("/v1/status").await;
    let (subject, _) = status["unassigned"].as_object().unwrap().iter().next().unwrap();
    let explanation = app.get(&format!("/v1/explain/{subject}")).await.to_string();
    assert!(explanation.contains("add addresses to pool fra, lower network.egress.portsPerSubject"), "{explanation}");
    assert_eq!(app.leases().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_that_no_event_can_have_is_refused() {
    let app = TestApp::new().await;
    for path in ["/v1/events", "/v1/audit/entries"] {
        assert_eq!(app.call("GET", &format!("{path}?since={}", i64::MAX), None).await.0, 200, "{path}");
        assert_eq!(app.call("GET", &format!("{path}?since={}", i64::MAX as u64 + 1), None).await.0, 400, "{path}");
    }
}
