//! Webhooks with a real receiver: signed, in order, tried again, given up, looked at, and retried.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use ring::hmac;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::support::*;

/// What a receiver got, and what it answers: the next of these, and 204 after them.
#[derive(Default)]
struct Received {
    deliveries: Vec<(HeaderMap, Bytes)>,
    answers: Vec<u16>,
}

#[derive(Clone, Default)]
struct Receiver(Arc<Mutex<Received>>);

impl Receiver {
    async fn start(answers: &[u16]) -> (Self, String) {
        let receiver = Self::default();
        receiver.answer(answers);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let router = Router::new().route("/hook", post(take)).with_state(receiver.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        (receiver, url)
    }

    fn answer(&self, answers: &[u16]) {
        self.0.lock().unwrap().answers = answers.to_vec();
    }

    fn numbers(&self) -> Vec<u64> {
        let received = self.0.lock().unwrap();
        let number = |(headers, _): &(HeaderMap, Bytes)| headers["persona-delivery"].to_str().unwrap().parse().unwrap();
        received.deliveries.iter().map(number).collect()
    }
}

async fn take(State(Receiver(received)): State<Receiver>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let mut received = received.lock().unwrap();
    received.deliveries.push((headers, body));
    let status = if received.answers.is_empty() { 204 } else { received.answers.remove(0) };
    StatusCode::from_u16(status).unwrap()
}

async fn app() -> TestApp {
    TestApp::with(|config| config.webhook_allow = vec!["127.0.0.0/8".parse().unwrap()]).await
}

/// Makes a webhook for what tokens do; returns its secret.
async fn create(app: &TestApp, name: &str, url: &str) -> String {
    let new = json!({ "name": name, "url": url, "events": ["access-token.*"] });
    let (status, made) = app.post("/v1/webhooks", new).await;
    assert_eq!(status, 201, "{made}");
    made["secret"].as_str().unwrap().to_owned()
}

async fn eventually(what: &str, is_so: impl AsyncFn() -> bool) {
    for _ in 0..400 {
        if is_so().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("{what}");
}

async fn dead_letters(app: &TestApp, name: &str) -> Vec<Value> {
    app.get(&format!("/v1/webhooks/{name}/dead-letters")).await["items"].as_array().unwrap().clone()
}

#[tokio::test]
async fn events_come_signed_and_in_order_although_the_receiver_fails_first() {
    let app = app().await;
    let (receiver, url) = Receiver::start(&[503, 429]).await;
    let secret = create(&app, "chat", &url).await;
    app.access("one", "viewer").await;
    app.access("two", "viewer").await;
    eventually("both events come", async || receiver.numbers().len() == 4).await;
    let numbers = receiver.numbers();
    assert!(numbers[0] == numbers[1] && numbers[1] == numbers[2] && numbers[2] < numbers[3], "{numbers:?}");
    let (headers, body) = receiver.0.lock().unwrap().deliveries[3].clone();
    let time = headers["persona-timestamp"].to_str().unwrap();
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let signed = [time.as_bytes(), b".", &body].concat();
    let tag: String = hmac::sign(&key, &signed).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(headers["persona-signature"], format!("v1={tag}"));
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((&body["webhook"], &body["event"]["name"]), (&json!("chat"), &json!("access-token.created")));
    assert!(body["event"]["message"].as_str().unwrap().contains("two"));
    let shown = app.get("/v1/webhooks").await.to_string();
    assert!(!shown.contains(&secret) && !format!("{:?}", app.events().await).contains(&secret), "{shown}");
    eventually("its trouble is over", async || app.get("/v1/webhooks/chat").await["trouble"].is_null()).await;
}

#[tokio::test]
async fn what_is_refused_is_a_dead_letter_that_is_looked_at_and_tried_again() {
    let app = app().await;
    let (receiver, url) = Receiver::start(&[410]).await;
    create(&app, "chat", &url).await;
    app.access("one", "viewer").await;
    app.access("two", "viewer").await;
    eventually("the next one comes all the same", async || receiver.numbers().len() == 2).await;
    eventually("the first is given up", async || dead_letters(&app, "chat").await.len() == 1).await;
    let letter = dead_letters(&app, "chat").await.remove(0);
    assert_eq!((&letter["event"], &letter["attemptCount"]), (&json!(receiver.numbers()[0]), &json!(1)));
    assert!(letter["reason"].as_str().unwrap().contains("410"), "{letter}");
    assert!(app.events().await.iter().any(|event| event.name == "webhook.failing"));
    let (status, retried) = app.post("/v1/webhooks/chat/retry", json!({})).await;
    assert_eq!((status, &retried["count"]), (200, &json!(1)));
    eventually("it is taken now", async || dead_letters(&app, "chat").await.is_empty()).await;
    assert_eq!(receiver.numbers()[2], receiver.numbers()[0]);
    let (status, _) = app.post("/v1/webhooks/chat/retry", json!({ "event": 1 })).await;
    assert_eq!(status, 404);
}

#[tokio::test]
async fn a_manager_that_starts_again_goes_on_where_it_was() {
    let app = app().await;
    let (receiver, url) = Receiver::start(&[500; 50]).await;
    create(&app, "chat", &url).await;
    app.access("one", "viewer").await;
    eventually("it is tried", async || !receiver.numbers().is_empty()).await;
    let tried = receiver.numbers()[0];
    let directory = app.halt().await;
    receiver.answer(&[]);
    let count = receiver.numbers().len();
    let app = TestApp::on_with(directory, |config| config.webhook_allow = vec!["127.0.0.0/8".parse().unwrap()]).await;
    eventually("it comes", async || receiver.numbers().len() > count).await;
    assert_eq!(receiver.numbers()[count], tried);
    app.halt().await;
}

#[tokio::test]
async fn nothing_is_sent_to_the_managers_own_host_unless_it_is_allowed() {
    let app = TestApp::new().await;
    for url in
        ["http://127.0.0.1:1/", "http://0x7f.1/", "http://169.254.169.254/", "http://[::1]/", "file:///etc/passwd"]
    {
        let new = json!({ "name": "chat", "url": url, "events": ["*"] });
        let (status, problem) = app.post("/v1/webhooks", new).await;
        assert_eq!(status, 400, "{url}: {problem}");
    }
    let (_, named) = Receiver::start(&[]).await;
    let named = named.replace("127.0.0.1", "localhost");
    create(&app, "chat", &named).await;
    app.access("one", "viewer").await;
    eventually("it is said why", async || {
        app.get("/v1/webhooks/chat").await["trouble"].as_str().is_some_and(|why| why.contains("webhook_allow"))
    })
    .await;
}

#[tokio::test]
async fn a_webhook_is_one_of_its_name_until_it_is_deleted_as_it_was_read() {
    let app = app().await;
    let (_, url) = Receiver::start(&[]).await;
    create(&app, "chat", &url).await;
    let again = json!({ "name": "chat", "url": url, "events": ["*"] });
    assert_eq!(app.post("/v1/webhooks", again).await.0, 409);
    for wrong in [
        json!({ "name": "Chat", "url": url, "events": ["*"] }),
        json!({ "name": "other", "url": url, "events": [] }),
        json!({ "name": "other", "url": url, "events": ["edge*"] }),
    ] {
        assert_eq!(app.post("/v1/webhooks", wrong).await.0, 400);
    }
    let path = format!("{}/v1/webhooks/chat", app.base);
    let delete = |tag: &str| app.http.delete(&path).header("if-match", tag.to_owned()).send();
    assert_eq!(app.http.delete(&path).send().await.unwrap().status(), 428);
    assert_eq!(delete("\"other\"").await.unwrap().status(), 412);
    let tag = app.http.get(&path).send().await.unwrap().headers()["etag"].to_str().unwrap().to_owned();
    assert_eq!(delete(&tag).await.unwrap().status(), 204);
    assert_eq!(app.call("GET", "/v1/webhooks/chat", None).await.0, 404);
}
