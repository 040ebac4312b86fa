//! A new root takes over: nobody is cut off while it does, and nobody comes in by the old one once that is retired.

use crate::support::*;
use persona_core::wire::agent::{Report, Role};
use persona_core::wire::api::{AuthorityView, RootState, RootView};
use persona_manager::{SealKeys, verify_audit};
use serde_json::{Value, json};

async fn roots(app: &TestApp) -> Vec<RootView> {
    serde_json::from_value::<AuthorityView>(app.get("/v1/authority").await).unwrap().roots
}

/// The status of a report, and the digest of roots that comes with it; None: TLS let it not in.
async fn report(http: &reqwest::Client, node: &FakeAgent) -> Option<(u16, String)> {
    let body = serde_json::to_vec(&Report::default()).unwrap();
    let answer = http.post(format!("{}/v1/agent/report", node.base)).body(body).send().await.ok()?;
    Some((answer.status().as_u16(), answer.headers().get("persona-roots")?.to_str().unwrap().to_owned()))
}

async fn renewed(http: &reqwest::Client, node: &FakeAgent) -> Value {
    let body = serde_json::to_vec(&json!({ "csr": node.csr() })).unwrap();
    http.post(format!("{}/v1/agent/renew", node.base)).body(body).send().await.unwrap().json().await.unwrap()
}

const WHY: &str = "a test";

#[tokio::test(flavor = "multi_thread")]
async fn a_root_takes_over_and_the_one_before_is_retired_once_nobody_needs_it() {
    let app = TestApp::new().await;
    let mut node = app.join(Role::Node, "n1", 1, None).await;
    let old_roots = app.roots();
    let (_, before) = report(&node.http, &node).await.unwrap();

    let (status, body) = app.post("/v1/authority/rotate", json!({ "reason": WHY })).await;
    assert_eq!(status, 200, "{body}");
    let (status, body) = app.post("/v1/authority/rotate", json!({ "reason": WHY })).await;
    assert!(status == 409 && body["detail"].as_str().unwrap().contains("retire"), "one at a time: {body}");
    let [new, old] = <[RootView; 2]>::try_from(roots(&app).await).unwrap();
    assert_eq!((new.state, old.state), (RootState::Signing, RootState::Trusted));
    assert_eq!(
        (old.agents.as_slice(), old.join_tokens.len()),
        (["node/n1".to_owned()].as_slice(), 1),
        "its token is good for others too"
    );

    // Who knows the old root only still finds the manager, and hears of the new one.
    let old_client = || client(&old_roots, Some((&node.certificate, &node.key)));
    let (status, digest) = report(&old_client(), &node).await.unwrap();
    assert!(status == 204 && digest != before);
    let retire = format!("/v1/authority/roots/{}/retire", old.id);
    let (status, body) = app.post(&retire, json!({ "reason": WHY })).await;
    assert!(status == 409 && body["detail"].as_str().unwrap().contains("node/n1, join-token/"), "{body}");

    let stale = old_client();
    let body = renewed(&stale, &node).await;
    node.take(body);
    assert_eq!(report(&node.http, &node).await.unwrap().0, 204);
    assert!(roots(&app).await[1].agents.is_empty(), "it came with a certificate under the new root");
    let token = old.join_tokens[0].trim_start_matches("join-token/");
    assert_eq!(app.call("DELETE", &format!("/v1/join-tokens/{token}"), None).await.0, 204);
    let (status, body) = app.post(&retire, json!({ "reason": WHY })).await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(roots(&app).await[1].state, RootState::Retired);

    let stale = client(&old_roots, None).get(format!("{}/healthz", app.base)).send().await;
    assert!(stale.is_err(), "the manager no longer shows the way from the old root");
    assert_eq!(report(&node.http, &node).await.unwrap().0, 204);
    let app = app.restart().await;
    assert_eq!(
        roots(&app).await.iter().map(|root| root.state).collect::<Vec<_>>(),
        [RootState::Signing, RootState::Retired]
    );
    assert_ne!(app.roots(), old_roots);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_under_a_retired_root_is_let_in_no_more_and_force_is_told() {
    let app = TestApp::new().await;
    let mut node = app.join(Role::Node, "n1", 1, None).await;
    node.watch().await;
    let old = roots(&app).await.remove(0);
    for path in ["/v1/authority/rotate".to_owned(), format!("/v1/authority/roots/{}/retire", old.id)] {
        let (status, body) = app.post(&path, json!({ "reason": " " })).await;
        assert!(status == 400 && body["detail"].as_str().unwrap().contains("reason"), "{body}");
    }
    let (status, _) = app.post(&format!("/v1/authority/roots/{}/retire", old.id), json!({ "reason": WHY })).await;
    assert_eq!(status, 409, "the one that signs is not retired");
    assert_eq!(app.post("/v1/authority/roots/abc/retire", json!({ "reason": WHY })).await.0, 404);
    assert_eq!(app.post("/v1/authority/rotate", json!({ "reason": WHY })).await.0, 200);
    let force = json!({ "reason": WHY, "force": true });
    assert_eq!(app.post(&format!("/v1/authority/roots/{}/retire", old.id), force).await.0, 200);
    assert!(node.stream_ends().await, "connections under it are cut");
    // It trusts the new root, but shows a certificate under the old one.
    assert_eq!(report(&client(&app.roots(), Some((&node.certificate, &node.key))), &node).await, None);
    let events = app.events().await;
    let retired = events.iter().find(|event| event.name == "root.retired").unwrap();
    assert_eq!(retired.details["cutOff"][0], "node/n1");
    assert_eq!(retired.actor, "access/test");

    let directory = app.halt().await;
    let store = directory.path().join("manager.sqlite");
    let pem = std::fs::read_to_string(directory.path().join("manager.state/roots.pem")).unwrap();
    let report = verify_audit(&store.into(), &SealKeys::read(&pem).unwrap(), &[]).unwrap();
    assert!(report.is_whole(), "{report:?}");
}
