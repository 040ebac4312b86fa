//! The certificate authority, joining, and what becomes of certificates that are missing, foreign, old or replaced.

use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use crate::support::*;
use persona_core::wire::agent::{Report, Role, roots_digest};
use persona_core::wire::credential::Credential;
use persona_manager::{Config, start};
use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

fn detail(body: &Value) -> &str {
    body["detail"].as_str().unwrap_or_else(|| panic!("{body}"))
}

/// The status of a report with whatever certificate the agent shows; None: TLS let it not in.
async fn status_of_report(agent: &FakeAgent) -> Option<u16> {
    let body = serde_json::to_vec(&Report::default()).unwrap();
    agent.request("POST", "/v1/agent/report", body).send().await.ok().map(|answer| answer.status().as_u16())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_authority_is_made_once_and_its_key_is_private() {
    let app = TestApp::new().await;
    let state = app.store().with_extension("state");
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&state), 0o700);
    let files = std::fs::read_dir(&state).unwrap().map(|entry| entry.unwrap().path());
    let keys: Vec<_> = files.filter(|path| path.extension().is_some_and(|it| it == "key")).collect();
    assert_eq!((keys.len(), mode(&keys[0])), (1, 0o600));
    let roots = app.roots();
    let directory = app.restart().await.halt().await;
    assert_eq!(std::fs::read_to_string(state.join("roots.pem")).unwrap(), roots, "the same after a restart");

    std::fs::remove_file(&keys[0]).unwrap();
    let config = Config { store: directory.path().join("manager.sqlite").into(), ..Config::default() };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let error = start(config, listener, CancellationToken::new()).await.err().unwrap();
    let text = format!("{:#}", anyhow::Error::new(error));
    assert!(text.contains("backup") && text.contains("root-"), "no second root takes its place: {text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_carries_the_way_to_the_manager_and_the_pin_of_its_root() {
    let app = TestApp::with(|config| config.urls = vec!["https://m1:7600".into(), "https://m2:7600".into()]).await;
    let (_, body) = app.post("/v1/join-tokens", json!({ "role": "node", "ttlMs": 60_000 })).await;
    let credential: Credential = body["token"].as_str().unwrap().parse().unwrap();
    assert_eq!(credential.managers, ["https://m1:7600", "https://m2:7600"]);
    assert_eq!(credential.secret.len(), 64, "256 bits");
    let der = reqwest::Certificate::from_pem(app.roots().as_bytes()).is_ok();
    assert!(der && credential.pin.is_some());
    let listed = app.get("/v1/join-tokens").await.to_string();
    assert!(listed.contains(&credential.id) && !listed.contains(&credential.secret));
    let stored = std::fs::read(app.store()).unwrap();
    let wal = std::fs::read(app.store().with_extension("sqlite-wal")).unwrap_or_default();
    for bytes in [stored, wal] {
        let found = bytes.windows(64).any(|window| window == credential.secret.as_bytes());
        assert!(!found, "the secret is nowhere in the store");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_certificate_of_its_own_nobody_speaks_for_a_node() {
    let app = TestApp::new().await;
    let node = app.join(Role::Node, "n1", 1, None).await;
    assert_eq!(status_of_report(&node).await, Some(204));
    let anonymous = FakeAgent::new(&app, Role::Node, "n1", 1, None);
    assert_eq!(status_of_report(&anonymous).await, Some(401));

    let other = TestApp::new().await;
    let mut foreign = other.join(Role::Node, "n1", 1, None).await;
    foreign.http = client(&app.roots(), Some((&foreign.certificate, &foreign.key)));
    foreign.base = app.base.clone();
    assert_eq!(status_of_report(&foreign).await, None, "another fleet's certificate ends in the handshake");

    let mut own = FakeAgent::new(&app, Role::Node, "n1", 1, None);
    let certificate = CertificateParams::new(vec!["n1".into()]).unwrap().self_signed(&own.key).unwrap();
    own.http = client(&app.roots(), Some((&certificate.pem(), &own.key)));
    assert_eq!(status_of_report(&own).await, None, "one that it signed itself too");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_ended_is_refused_and_its_key_comes_back_without_a_token() {
    let app = TestApp::with(|config| config.certificate_lifetime_ms = 4_000).await;
    let mut node = app.join(Role::Node, "n1", 1, None).await;
    node.watch().await;
    assert_eq!(status_of_report(&node).await, Some(204));
    // A certificate is good through the second in which it ends.
    tokio::time::sleep(Duration::from_millis(5_100)).await;
    assert!(node.stream_ends().await, "the connection is cut");
    assert_eq!(status_of_report(&node).await, None, "a new one ends in the handshake");

    node.http = app.nobody.clone();
    let (status, body) = node.register_with(json!({})).await;
    assert_eq!(status, 200, "{body}");
    node.take(body);
    assert_eq!(status_of_report(&node).await, Some(204));
    let thief = FakeAgent::new(&app, Role::Node, "n1", 1, None);
    let (status, body) = thief.register_with(json!({})).await;
    assert_eq!((status, detail(&body).contains("another key")), (403, true), "{body}");
    let stranger = FakeAgent::new(&app, Role::Node, "n2", 2, None);
    let (status, body) = stranger.register_with(json!({})).await;
    assert_eq!((status, detail(&body).contains("join with a token")), (403, true), "{body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_was_away_for_too_long_needs_a_token() {
    let change = |config: &mut Config| (config.certificate_lifetime_ms, config.certificate_grace_ms) = (2_000, 0);
    let app = TestApp::with(change).await;
    let mut node = app.join(Role::Node, "n1", 1, None).await;
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    node.http = app.nobody.clone();
    let (status, body) = node.register_with(json!({})).await;
    assert_eq!((status, detail(&body).contains("too long ago")), (403, true), "{body}");
    assert_eq!(node.register(&app.token(Role::Node).await).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn renewal_is_for_the_same_key_and_leaves_the_stream_alone() {
    let app = TestApp::new().await;
    let mut node = app.join(Role::Node, "n1", 1, None).await;
    node.watch().await;
    let renew = async |node: &FakeAgent, csr: String| {
        let body = serde_json::to_vec(&json!({ "csr": csr })).unwrap();
        let answer = node.request("POST", "/v1/agent/renew", body).send().await.unwrap();
        (answer.status().as_u16(), answer.json::<Value>().await.unwrap())
    };
    let (status, body) = renew(&node, node.csr()).await;
    assert_eq!(status, 200, "{body}");
    let renewed = client(&node.roots, Some((body["certificate"].as_str().unwrap(), &node.key)));
    let before = std::mem::replace(&mut node.http, renewed);
    assert_eq!(status_of_report(&node).await, Some(204));
    drop(before);
    let generation = node.state.generation;
    app.call("PUT", "/v1/settings/probe", Some(json!({ "intervalMs": 60, "multiplier": 3 }))).await;
    node.until("the setting, on the stream of before", |state| state.generation > generation).await;

    let other = CertificateParams::default().serialize_request(&KeyPair::generate().unwrap()).unwrap().pem().unwrap();
    let (status, body) = renew(&node, other).await;
    assert_eq!((status, detail(&body).contains("another key")), (400, true), "{body}");
    let (status, body) = renew(&node, "nonsense".into()).await;
    assert_eq!((status, detail(&body).contains("PKCS#10")), (400, true), "{body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_node_is_out_and_its_stream_ends() {
    let app = TestApp::new().await;
    let mut node = app.join(Role::Node, "n1", 1, None).await;
    node.watch().await;
    assert_eq!(app.call("DELETE", "/v1/nodes/n1", None).await.0, 204);
    assert!(node.stream_ends().await, "the stream ends");
    assert_eq!(status_of_report(&node).await, Some(401));
}

#[tokio::test(flavor = "multi_thread")]
async fn labels_of_a_token_go_over_what_a_node_says_of_itself() {
    let app = TestApp::new().await;
    let token = json!({ "role": "node", "ttlMs": 60_000, "labels": { "tier": "gold" } });
    let (_, body) = app.post("/v1/join-tokens", token).await;
    let mut node = FakeAgent::new(&app, Role::Node, "n1", 1, None);
    let claims = json!({ "token": bearer_of(&body), "labels": { "tier": "platinum", "site": "fra" } });
    let (status, body) = node.register_with(claims).await;
    assert_eq!(status, 200, "{body}");
    node.take(body);
    let labels = |view: &Value| (view["labels"].clone(), view["boundLabels"].clone());
    let expected = (json!({ "tier": "gold", "site": "fra" }), json!({ "tier": "gold" }));
    assert_eq!(labels(&app.get("/v1/nodes/n1").await), expected);
    let again = node.register_with(json!({ "labels": { "tier": "platinum" } })).await;
    assert_eq!(again.0, 200, "{}", again.1);
    assert_eq!(app.get("/v1/nodes/n1").await["labels"], json!({ "tier": "gold" }), "it stays bound without the token");

    // What people bound stays when the same key comes with its token again; another token says anew.
    let (status, body) = app.call("PUT", "/v1/labels/node/n1", Some(json!({ "labels": { "tier": "silver" } }))).await;
    assert_eq!((status, &body["labels"]), (200, &json!({ "tier": "silver" })), "{body}");
    let token = json!({ "role": "node", "ttlMs": 60_000, "labels": { "tier": "bronze" } });
    let other = bearer_of(&app.post("/v1/join-tokens", token).await.1);
    for expected in ["bronze", "silver"] {
        assert_eq!(node.register(&other).await.0, 200);
        assert_eq!(app.get("/v1/nodes/n1").await["boundLabels"], json!({ "tier": expected }));
        app.call("PUT", "/v1/labels/node/n1", Some(json!({ "labels": { "tier": "silver" } }))).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_are_answered_with_the_digest_of_the_roots() {
    let app = TestApp::new().await;
    let node = app.join(Role::Node, "n1", 1, None).await;
    let body = serde_json::to_vec(&Report::default()).unwrap();
    let answer = node.request("POST", "/v1/agent/report", body).send().await.unwrap();
    assert_eq!(answer.headers()["persona-roots"].to_str().unwrap(), roots_digest([app.roots().as_str()]));
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_http_is_for_people_only() {
    let app = TestApp::with(|config| config.insecure_http = true).await;
    assert_eq!(app.call("GET", "/v1/status", None).await.0, 200);
    let (_, body) = app.post("/v1/join-tokens", json!({ "role": "node", "ttlMs": 60_000 })).await;
    let credential: Credential = body["token"].as_str().unwrap().parse().unwrap();
    assert_eq!((credential.pin, &credential.managers), (None, &vec![app.base.clone()]));
    let node = FakeAgent::new(&app, Role::Node, "n1", 1, None);
    assert_eq!(status_of_report(&node).await, Some(401));
}
