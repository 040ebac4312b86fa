//! Who may do what: every route of the OpenAPI document, asked by every role, by a node and by nobody.

use crate::support::*;
use persona_core::wire::agent::Role;
use persona_core::wire::credential::Credential;
use reqwest::StatusCode;
use serde_json::{Value, json};

/// Who may use each route: `e`verybody, `k`nown ones, nodes and edges by `c`ertificate, or `v`iewer, `o`perator,
/// a`u`thor, `a`utomation, a`d`min. Written a second time on purpose: a change of the table has to be meant.
const EXPECTED: &[(&str, &str)] = &[
    ("GET /healthz", "e"),
    ("GET /readyz", "e"),
    ("GET /", "e"),
    ("GET /ui", "e"),
    ("GET /ui/", "e"),
    ("GET /ui/{path}", "e"),
    ("GET /metrics", "vouad"),
    ("GET /v1/openapi.json", "e"),
    ("GET /v1/schema", "e"),
    ("GET /v1/roots", "e"),
    ("POST /v1/register", "e"),
    ("POST /v1/agent/renew", "c"),
    ("GET /v1/agent/watch", "c"),
    ("POST /v1/agent/report", "c"),
    ("GET /v1/agent/contents", "c"),
    ("POST /v1/agent/ask", "c"),
    ("GET /v1/whoami", "k"),
    ("POST /v1/join-tokens", "d"),
    ("GET /v1/join-tokens", "d"),
    ("DELETE /v1/join-tokens/{id}", "d"),
    ("POST /v1/webhooks", "d"),
    ("GET /v1/webhooks", "d"),
    ("GET /v1/webhooks/{name}", "d"),
    ("DELETE /v1/webhooks/{name}", "d"),
    ("GET /v1/webhooks/{name}/dead-letters", "d"),
    ("POST /v1/webhooks/{name}/retry", "d"),
    ("POST /v1/access-tokens", "d"),
    ("GET /v1/access-tokens", "d"),
    ("DELETE /v1/access-tokens/{id}", "d"),
    ("POST /v1/web-links", "vouad"),
    ("POST /v1/web-sessions", "e"),
    ("DELETE /v1/web-sessions/current", "vouad"),
    ("GET /v1/web-sessions", "d"),
    ("DELETE /v1/web-sessions/{id}", "d"),
    ("GET /v1/authority", "vouad"),
    ("POST /v1/authority/rotate", "d"),
    ("POST /v1/authority/roots/{id}/retire", "d"),
    ("POST /v1/apply", "ud"),
    ("GET /v1/personas", "vouad"),
    ("GET /v1/personas/{name}", "vouad"),
    ("DELETE /v1/personas/{name}", "ud"),
    ("GET /v1/personas/{name}/versions", "vouad"),
    ("POST /v1/personas/{name}/rollback", "ud"),
    ("GET /v1/bindings", "vouad"),
    ("GET /v1/bindings/{name}", "vouad"),
    ("DELETE /v1/bindings/{name}", "ud"),
    ("GET /v1/egress-pools", "vouad"),
    ("GET /v1/egress-pools/{name}", "vouad"),
    ("DELETE /v1/egress-pools/{name}", "ud"),
    ("GET /v1/geofeed", "e"),
    ("GET /v1/nodes", "vouad"),
    ("GET /v1/nodes/{name}", "vouad"),
    ("DELETE /v1/nodes/{name}", "od"),
    ("POST /v1/nodes/{name}/drain", "od"),
    ("POST /v1/nodes/{name}/undrain", "od"),
    ("POST /v1/nodes/{name}/revoke", "od"),
    ("GET /v1/edges", "vouad"),
    ("GET /v1/edges/{name}", "vouad"),
    ("DELETE /v1/edges/{name}", "od"),
    ("POST /v1/edges/{name}/drain", "od"),
    ("POST /v1/edges/{name}/undrain", "od"),
    ("POST /v1/edges/{name}/revoke", "od"),
    ("PUT /v1/edges/{name}/weight", "od"),
    ("PUT /v1/edges/{name}/maintenance", "od"),
    ("DELETE /v1/edges/{name}/maintenance", "od"),
    ("GET /v1/settings/probe", "vouad"),
    ("PUT /v1/settings/probe", "od"),
    ("GET /v1/settings/planning", "vouad"),
    ("PUT /v1/settings/planning", "od"),
    ("GET /v1/settings/reach", "vouad"),
    ("PUT /v1/settings/reach", "d"),
    ("GET /v1/fleet", "vouad"),
    ("GET /v1/plan", "vouad"),
    ("GET /v1/plan/history", "vouad"),
    ("POST /v1/simulate", "oud"),
    ("POST /v1/rollouts", "oud"),
    ("GET /v1/rollouts", "vouad"),
    ("GET /v1/rollouts/{name}", "vouad"),
    ("POST /v1/rollouts/{name}/pause", "oud"),
    ("POST /v1/rollouts/{name}/resume", "oud"),
    ("POST /v1/rollouts/{name}/abort", "oud"),
    ("POST /v1/rollouts/{name}/rollback", "oud"),
    ("GET /v1/labels/{subject}", "vouad"),
    ("PUT /v1/labels/{subject}", "ud"),
    ("GET /v1/workloads", "vouad"),
    ("GET /v1/workloads/{subject}", "vouad"),
    ("GET /v1/leases", "vouad"),
    ("GET /v1/leases/{id}", "vouad"),
    ("POST /v1/switch", "od"),
    ("DELETE /v1/switch/{subject}", "od"),
    ("POST /v1/request", "oad"),
    ("DELETE /v1/request/{subject}", "oad"),
    ("POST /v1/signals", "oad"),
    ("GET /v1/signals/{subject}", "vouad"),
    ("DELETE /v1/signals/{subject}", "oad"),
    ("GET /v1/forecasts", "vouad"),
    ("GET /v1/alerts", "vouad"),
    ("POST /v1/activation", "oad"),
    ("GET /v1/activation/{subject}", "vouad"),
    ("DELETE /v1/activation/{subject}", "oad"),
    ("POST /v1/schedules", "oad"),
    ("GET /v1/schedules", "vouad"),
    ("DELETE /v1/schedules/{subject}", "oad"),
    ("GET /v1/explain/{subject}", "vouad"),
    ("GET /v1/status", "vouad"),
    ("GET /v1/events", "vouad"),
    ("GET /v1/audit/entries", "vouad"),
    ("GET /v1/audit/checkpoint", "vouad"),
];

/// Somebody who asks: the letters of what includes them, and their client.
struct Asker {
    name: &'static str,
    letters: &'static str,
    http: reqwest::Client,
}

async fn askers(app: &TestApp) -> Vec<Asker> {
    let node = app.join(Role::Node, "other", 9, None).await;
    let mut askers = vec![
        Asker { name: "nobody", letters: "e", http: app.nobody.clone() },
        Asker { name: "another node", letters: "ekc", http: node.http.clone() },
    ];
    let roles = [("viewer", "ekv"), ("operator", "eko"), ("author", "eku"), ("automation", "eka"), ("admin", "ekd")];
    for (role, letters) in roles {
        let bearer = app.access(role, role).await;
        askers.push(Asker { name: role, letters, http: app.with_bearer(&bearer) });
    }
    askers
}

/// Asks for something that is not there, with nothing in the body.
async fn status_of(app: &TestApp, http: &reqwest::Client, route: &str) -> StatusCode {
    let (method, path) = route.split_once(' ').unwrap();
    let path = path.replace("{subject}", "node/none").replace("{id}", "0").replace("{name}", "none");
    http.request(method.parse().unwrap(), format!("{}{path}", app.base)).send().await.unwrap().status()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_answers_every_role_as_the_table_says() {
    let app = TestApp::new().await;
    app.join(Role::Node, "n1", 1, None).await;
    let askers = askers(&app).await;
    for (route, letters) in EXPECTED {
        for asker in &askers {
            let is_in = asker.letters.chars().any(|letter| letters.contains(letter));
            let status = status_of(&app, &asker.http, route).await;
            let refused = if asker.name == "nobody" { StatusCode::UNAUTHORIZED } else { StatusCode::FORBIDDEN };
            match is_in {
                true => assert!(
                    status != StatusCode::UNAUTHORIZED && status != StatusCode::FORBIDDEN,
                    "{route} by {}: {status}",
                    asker.name
                ),
                false => assert_eq!(status, refused, "{route} by {}", asker.name),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_of_the_document_is_known_here() {
    let app = TestApp::new().await;
    let document = app.get("/v1/openapi.json").await;
    let mut known: Vec<String> = EXPECTED.iter().map(|(route, _)| (*route).to_owned()).collect();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys() {
            let route = format!("{} {path}", method.to_uppercase());
            assert!(known.contains(&route), "{route} is not in this test's table");
            known.retain(|it| *it != route);
        }
    }
    assert_eq!(known, Vec::<String>::new(), "every route is in the document");
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_that_are_wrong_expired_or_revoked_are_refused() {
    let app = TestApp::new().await;
    let ask = async |bearer: &str| {
        let answer = app.with_bearer(bearer).get(format!("{}/v1/whoami", app.base)).send().await.unwrap();
        (answer.status().as_u16(), answer.json::<Value>().await.unwrap())
    };
    let bearer = app.access("alice", "viewer").await;
    let (status, body) = ask(&bearer).await;
    assert_eq!((status, &body["actor"], &body["role"]), (200, &json!("access/alice"), &json!("viewer")));
    let (id, secret) = bearer.split_once('.').unwrap();
    for wrong in [format!("{id}.{}", "0".repeat(64)), format!("0.{secret}"), id.to_owned(), String::new()] {
        let (status, body) = ask(&wrong).await;
        assert_eq!((status, &body["type"]), (401, &json!("/problems/unauthenticated")), "{body}");
    }
    let answer = app.nobody.get(format!("{}/v1/status", app.base)).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.headers()["www-authenticate"].to_str().unwrap()), (401, "Bearer"));

    let short = json!({ "name": "bob", "role": "viewer", "ttlMs": 300 });
    let (_, body) = app.post("/v1/access-tokens", short).await;
    tokio::time::sleep(std::time::Duration::from_millis(350)).await;
    let (status, body) = ask(&bearer_of(&body)).await;
    assert_eq!((status, body["detail"].as_str().unwrap().contains("expired")), (401, true), "{body}");

    assert_eq!(app.call("DELETE", &format!("/v1/access-tokens/{id}"), None).await.0, 204);
    assert_eq!(ask(&bearer).await.0, 401, "at once");
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_of_tokens_are_shown_once_and_stored_nowhere() {
    let app = TestApp::new().await;
    let (_, body) = app.post("/v1/access-tokens", json!({ "name": "alice", "role": "author", "ttlMs": 60_000 })).await;
    let credential: Credential = body["token"].as_str().unwrap().parse().unwrap();
    assert_eq!((credential.secret.len(), credential.pin.is_some()), (64, true));
    for path in ["/v1/access-tokens", "/v1/events?limit=1000"] {
        let told = app.get(path).await.to_string();
        assert!(told.contains(&credential.id) && !told.contains(&credential.secret), "{path}");
    }
    for file in ["manager.sqlite", "manager.sqlite-wal"] {
        let bytes = std::fs::read(app.store().with_file_name(file)).unwrap_or_default();
        assert!(!bytes.windows(64).any(|window| window == credential.secret.as_bytes()), "{file}");
    }
    let cases = [
        (json!({ "name": "Al ice", "role": "viewer", "ttlMs": 1 }), "lower-case"),
        (json!({ "name": "", "role": "viewer", "ttlMs": 1 }), "lower-case"),
        (json!({ "name": "a", "role": "king", "ttlMs": 1 }), "king"),
        (json!({ "name": "a", "role": "viewer", "ttlMs": 0 }), "ttlMs"),
    ];
    for (body, expected) in cases {
        let (status, answer) = app.post("/v1/access-tokens", body).await;
        assert_eq!((status, answer.to_string().contains(expected)), (400, true), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_name_who_did_it() {
    let app = TestApp::new().await;
    let alice = app.with_bearer(&app.access("alice", "author").await);
    let body = json!({ "documents": [pool("fra", "198.51.100.0/30")] });
    let answer = alice.post(format!("{}/v1/apply", app.base)).json(&body).send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 200);
    app.join(Role::Node, "n1", 1, None).await;
    let events = app.events().await;
    let actor = |name: &str| events.iter().rfind(|event| event.name == name).map(|event| event.actor.clone());
    assert_eq!(actor("document.created").as_deref(), Some("access/alice"));
    assert_eq!(actor("agent.registered").as_deref(), Some("node/n1"));
    assert_eq!(actor("root.made").as_deref(), Some("manager"));
    assert!(actor("access-token.created").is_some_and(|actor| actor == "access/test"));
    let first = events.iter().find(|event| event.name == "access-token.created").unwrap();
    assert!(first.actor.starts_with("uid/"), "the first administrator came over the socket: {}", first.actor);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_too_often_is_told_to_wait_and_others_are_not() {
    let app = TestApp::with(|config| config.rate_limit_per_sec = std::num::NonZeroU32::new(5).unwrap()).await;
    let (alice, bob) = (app.access("alice", "viewer").await, app.access("bob", "viewer").await);
    let (alice, bob) = (app.with_bearer(&alice), app.with_bearer(&bob));
    let ask = async |http: &reqwest::Client| http.get(format!("{}/v1/whoami", app.base)).send().await.unwrap();
    let mut refused = None;
    for _ in 0..200 {
        let answer = ask(&alice).await;
        if answer.status().as_u16() == 429 {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.expect("200 requests are too many");
    assert!(refused.headers()["retry-after"].to_str().unwrap().parse::<u32>().unwrap() >= 1);
    assert_eq!(refused.json::<Value>().await.unwrap()["type"], "/problems/too-many");
    assert_eq!(ask(&bob).await.status().as_u16(), 200);
    let mut statuses = Vec::new();
    for number in 0..40 {
        let guess = app.with_bearer(&format!("{number}.{}", "0".repeat(64)));
        statuses.push(ask(&guess).await.status().as_u16());
    }
    assert!(statuses.contains(&401) && statuses.contains(&429), "guessing is slowed down: {statuses:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_asked_for_twice_under_one_key_is_made_once() {
    let app = TestApp::new().await;
    let ask = async |http: &reqwest::Client, path: &str, key: &str, body: Value| {
        let request = http.post(format!("{}{path}", app.base)).header("idempotency-key", key).json(&body);
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.json::<Value>().await.unwrap())
    };
    let (access, join) = ("/v1/access-tokens", "/v1/join-tokens");
    let (alice, bob) =
        (app.with_bearer(&app.access("alice", "admin").await), app.with_bearer(&app.access("bob", "admin").await));
    let new = json!({ "name": "carol", "role": "viewer", "ttlMs": 60_000 });
    let key = "7d444840-9dc0-11d1-b245-5ffdce74fad2";
    let first = ask(&alice, access, key, new.clone()).await;
    assert_eq!((first.0, &ask(&alice, access, key, new.clone()).await), (201, &first));
    let other = json!({ "name": "dave", "role": "viewer", "ttlMs": 60_000 });
    let reused = ask(&alice, access, key, other).await;
    assert_eq!((reused.0, &reused.1["type"]), (422, &json!("/problems/idempotency-key-reused")), "{reused:?}");
    assert_eq!(ask(&alice, join, key, json!({ "role": "node", "ttlMs": 60_000 })).await.0, 422, "another path");
    let bobs = ask(&bob, access, key, new.clone()).await;
    assert!(bobs.0 == 201 && bobs.1["id"] != first.1["id"], "another's key is another");
    assert_eq!(ask(&alice, access, "short", new.clone()).await.0, 400);
    let (one, two) = tokio::join!(
        ask(&alice, join, "550e8400-e29b-41d4-a716", json!({ "role": "node", "ttlMs": 60_000 })),
        ask(&alice, join, "550e8400-e29b-41d4-a716", json!({ "role": "node", "ttlMs": 60_000 })),
    );
    assert!(one.0 == 201 && one == two, "also at the same moment");
    assert_eq!(app.get(join).await["items"].as_array().unwrap().len(), 1);
    let named = |tokens: &Value| tokens["items"].as_array().unwrap().iter().filter(|it| it["name"] == "carol").count();
    assert_eq!(named(&app.get(access).await), 2);
    let bearer = bearer_of(&first.1);
    let secret = bearer.split_once('.').unwrap().1.to_owned();
    for file in ["manager.sqlite", "manager.sqlite-wal"] {
        let bytes = std::fs::read(app.store().with_file_name(file)).unwrap_or_default();
        assert!(!bytes.windows(64).any(|window| window == secret.as_bytes()), "{file}");
    }
}
