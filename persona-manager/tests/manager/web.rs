//! People at the page: links that are good once, sessions in cookies, and what other sites' pages cannot do with them.

use crate::support::*;
use reqwest::header::{CONTENT_TYPE, COOKIE, HeaderMap, SET_COOKIE};
use serde_json::{Value, json};

/// A browser in little: it keeps the cookie and, as a page does, what goes beside it in changes.
struct Browser {
    http: reqwest::Client,
    base: String,
    cookie: String,
    csrf: String,
}

impl Browser {
    /// Logs in; Err: the refusal.
    async fn log_in(app: &TestApp, with: Value) -> Result<Self, (u16, Value)> {
        let request = app.nobody.post(format!("{}/v1/web-sessions", app.base)).json(&with);
        let answer = request.send().await.unwrap();
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let body: Value = answer.json().await.unwrap();
        if status != 201 {
            return Err((status, body));
        }
        let cookie = headers[SET_COOKIE].to_str().unwrap();
        let (cookie, attributes) = cookie.split_once(';').unwrap();
        for attribute in ["Path=/", "Secure", "HttpOnly", "SameSite=Strict", "Max-Age="] {
            assert!(attributes.contains(attribute), "{attribute}: {attributes}");
        }
        assert!(cookie.starts_with("__Host-persona="), "{cookie}");
        let csrf = body["csrf"].as_str().unwrap().to_owned();
        Ok(Self { http: app.nobody.clone(), base: app.base.clone(), cookie: cookie.to_owned(), csrf })
    }

    async fn call(&self, method: &str, path: &str, csrf: Option<&str>) -> (u16, Value, HeaderMap) {
        let request = self.http.request(method.parse().unwrap(), format!("{}{path}", self.base));
        let request = request.header(COOKIE, format!("theme=dark; {}", self.cookie));
        let request = csrf.iter().fold(request, |request, csrf| request.header("persona-csrf", *csrf));
        let answer = request.header("if-match", "*").send().await.unwrap();
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let text = answer.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)), headers)
    }

    async fn status_of(&self, method: &str, path: &str) -> u16 {
        self.call(method, path, Some(&self.csrf)).await.0
    }
}

/// A link that `http` asks for, as a browser presents it.
async fn link(app: &TestApp, http: &reqwest::Client) -> Value {
    let answer = http.post(format!("{}/v1/web-links", app.base)).json(&json!({})).send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 201);
    let made: Value = answer.json().await.unwrap();
    let url = made["urls"][0].as_str().unwrap();
    let (page, secret) = url.split_once('#').unwrap();
    assert_eq!(page, format!("{}/ui/login", app.base));
    json!({ "link": secret })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_logs_in_once_with_the_role_of_who_made_it() {
    let app = TestApp::new().await;
    let bearer = app.access("alice", "operator").await;
    let alice = app.with_bearer(&bearer);
    let link = link(&app, &alice).await;
    let browser = Browser::log_in(&app, link.clone()).await.ok().unwrap();
    let (status, known, headers) = browser.call("GET", "/v1/whoami", None).await;
    assert_eq!(
        (status, &known["role"], &headers["cache-control"]),
        (200, &json!("operator"), &"no-store".parse().unwrap())
    );
    assert_eq!(known["csrf"], browser.csrf);
    let actor = known["actor"].as_str().unwrap();
    assert!(actor.starts_with("access/alice/web/"), "{actor}");
    let (status, problem) = Browser::log_in(&app, link).await.err().unwrap();
    assert_eq!((status, problem["detail"].as_str().unwrap().contains("used")), (401, true), "{problem}");

    app.join(persona_core::wire::agent::Role::Node, "n1", 1, None).await;
    assert_eq!(browser.status_of("POST", "/v1/nodes/n1/drain").await, 200);
    assert_eq!(browser.status_of("GET", "/v1/access-tokens").await, 403, "an operator");
    let again = browser.http.post(format!("{}/v1/web-links", app.base)).header(COOKIE, &browser.cookie);
    let again = again.header("persona-csrf", &browser.csrf).json(&json!({})).send().await.unwrap();
    assert_eq!(again.status().as_u16(), 403, "a session makes no other");
    let events = app.events().await;
    let actor_of = |name: &str| events.iter().rfind(|event| event.name == name).map(|event| event.actor.as_str());
    assert_eq!(actor_of("web-link.created"), Some("access/alice"));
    assert_eq!(actor_of("web-session.begun"), Some("access/alice"));
    assert_eq!(actor_of("node.drain"), Some(actor), "{events:?}");

    let id = bearer.split('.').next().unwrap();
    assert_eq!(app.call("DELETE", &format!("/v1/access-tokens/{id}"), None).await.0, 204);
    assert_eq!(browser.status_of("GET", "/v1/status").await, 401, "it ends with the token");
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_listed_and_end_when_they_are_told_to() {
    let app = TestApp::new().await;
    let bearer = app.access("bob", "viewer").await;
    let line = format!("{bearer}.{}@https://m:1", "0a".repeat(32));
    let one = Browser::log_in(&app, json!({ "token": bearer })).await.ok().unwrap();
    let two = Browser::log_in(&app, json!({ "token": line })).await.ok().unwrap();
    let listed = app.get("/v1/web-sessions").await;
    let sessions = listed["items"].as_array().unwrap();
    assert_eq!(sessions.len(), 2);
    assert!(sessions.iter().all(|it| it["owner"] == "access/bob" && it["role"] == "viewer"), "{listed}");
    for secret in [&one.cookie, &two.cookie].map(|cookie| cookie.split('.').nth(1).unwrap()) {
        assert!(!listed.to_string().contains(secret));
        for file in ["manager.sqlite", "manager.sqlite-wal"] {
            let bytes = std::fs::read(app.store().with_file_name(file)).unwrap_or_default();
            assert!(!bytes.windows(64).any(|window| window == secret.as_bytes()), "{file}");
        }
    }
    assert_eq!(one.status_of("GET", "/v1/web-sessions").await, 403, "a viewer");
    let (status, _, headers) = one.call("DELETE", "/v1/web-sessions/current", Some(&one.csrf)).await;
    assert!(status == 204 && headers[SET_COOKIE].to_str().unwrap().contains("Max-Age=0"));
    assert_eq!(one.status_of("GET", "/v1/status").await, 401);

    let id = two.cookie.split(['=', '.']).nth(1).unwrap();
    let mut stream = two.http.get(format!("{}/v1/events?follow=true", two.base));
    stream = stream.header(COOKIE, &two.cookie);
    let mut stream = stream.send().await.unwrap();
    assert_eq!(app.call("DELETE", &format!("/v1/web-sessions/{id}"), None).await.0, 204);
    let ended = async { while let Ok(Some(_)) = stream.chunk().await {} };
    tokio::time::timeout(std::time::Duration::from_secs(5), ended).await.expect("its streams end too");
    assert_eq!(two.status_of("GET", "/v1/status").await, 401);
    assert_eq!(two.status_of("GET", "/ui/").await, 200, "whoever is out can come in again");
    for (wrong, why) in [(json!({ "token": "0.0" }), 401), (json!({ "link": "" }), 401), (json!({ "pin": "1" }), 400)] {
        assert_eq!(Browser::log_in(&app, wrong.clone()).await.err().unwrap().0, why, "{wrong}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_sites_page_changes_nothing_and_logs_nobody_in() {
    let app = TestApp::new().await;
    let bearer = app.access("carol", "admin").await;
    let browser = Browser::log_in(&app, json!({ "token": bearer })).await.ok().unwrap();
    app.join(persona_core::wire::agent::Role::Node, "n1", 1, None).await;
    for csrf in [None, Some(""), Some("0"), Some(browser.cookie.as_str())] {
        for (method, path) in [("POST", "/v1/nodes/n1/drain"), ("DELETE", "/v1/nodes/n1"), ("POST", "/v1/apply")] {
            let (status, problem, _) = browser.call(method, path, csrf).await;
            let detail = problem["detail"].as_str().unwrap();
            assert!(status == 403 && detail.contains("persona-csrf"), "{method} {path} {csrf:?}: {status} {detail}");
        }
    }
    assert_eq!(app.get("/v1/nodes/n1").await["draining"], json!(false));
    // What a form of another site can send.
    let form = app.nobody.post(format!("{}/v1/web-sessions", app.base)).header(CONTENT_TYPE, "text/plain");
    let answer = form.body(json!({ "token": bearer }).to_string()).send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 400);
    assert!(!answer.headers().contains_key(SET_COOKIE));
}

#[tokio::test(flavor = "multi_thread")]
async fn browsers_are_told_to_keep_to_the_manager_alone() {
    let app = TestApp::new().await;
    for (path, expected) in [
        ("/ui/", "script-src 'self'"),
        ("/ui/edges/fra1", "frame-ancestors 'none'"),
        ("/v1/openapi.json", "default-src 'none'"),
        ("/v1/status", "default-src 'none'"),
        ("/nothing", "default-src 'none'"),
    ] {
        let answer = app.nobody.get(format!("{}{path}", app.base)).send().await.unwrap();
        let header = |name: &str| answer.headers()[name].to_str().unwrap().to_owned();
        let policy = header("content-security-policy");
        assert!(policy.contains(expected) && !policy.contains("unsafe"), "{path}: {policy}");
        assert_eq!(
            (header("x-content-type-options"), header("referrer-policy")),
            ("nosniff".into(), "no-referrer".into())
        );
    }
    let answer = app.nobody.get(format!("{}/ui/assets/none.js", app.base)).send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 404);
}
