//! A manager on a loopback port with a store of its own, and agents that speak to it over real HTTP.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use persona_core::wire::agent::{Registered, Report, Role, proof_text};
use persona_core::wire::api::{EventView, LeaseView, Page};
use persona_core::wire::desired::{DesiredState, Frame, Item};
use persona_manager::{Config, Handle, start};
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Whatever is waited for must come within this time.
const PATIENCE: Duration = Duration::from_secs(10);

/// A running manager.
pub(crate) struct TestApp {
    pub(crate) http: reqwest::Client,
    pub(crate) base: String,
    stop: CancellationToken,
    handle: Handle,
    directory: tempfile::TempDir,
}

impl TestApp {
    pub(crate) async fn new() -> Self {
        Self::on(tempfile::tempdir().unwrap()).await
    }

    async fn on(directory: tempfile::TempDir) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let store = directory.path().join("manager.sqlite");
        let config = Config { store, report_interval_ms: 500, silent_after_ms: 1_000, ..Config::default() };
        let stop = CancellationToken::new();
        let handle = start(config, listener, stop.clone()).await.unwrap();
        let base = format!("http://{}", handle.address());
        Self { http: reqwest::Client::new(), base, stop, handle, directory }
    }

    /// Where the store is.
    pub(crate) fn store(&self) -> PathBuf {
        self.directory.path().join("manager.sqlite")
    }

    /// Stops the manager and starts another on the same file.
    pub(crate) async fn restart(self) -> Self {
        let directory = self.halt().await;
        Self::on(directory).await
    }

    /// Stops the manager and keeps its directory.
    pub(crate) async fn halt(self) -> tempfile::TempDir {
        let Self { http, stop, handle, directory, .. } = self;
        stop.cancel();
        drop(http);
        handle.stopped().await;
        directory
    }

    /// Sends a request; returns status and JSON body.
    pub(crate) async fn call(&self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        let request = self.http.request(method.parse().unwrap(), format!("{}{path}", self.base));
        let request = match body {
            Some(body) => request.json(&body),
            None => request,
        };
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        let text = response.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        let (status, body) = self.call("GET", path, None).await;
        assert_eq!(status, 200, "GET {path}: {body}");
        body
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        self.call("POST", path, Some(body)).await
    }

    pub(crate) async fn apply(&self, documents: Vec<Value>) -> Value {
        let (status, body) = self.post("/v1/apply", json!({ "documents": documents })).await;
        assert_eq!(status, 200, "{body}");
        body
    }

    pub(crate) async fn token(&self, role: Role) -> String {
        let body = json!({ "role": role, "uses": 100, "ttlMs": 600_000 });
        let (status, body) = self.post("/v1/join-tokens", body).await;
        assert_eq!(status, 201, "{body}");
        body["token"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn join(&self, role: Role, name: &str, last_byte: u8, group: Option<&str>) -> FakeAgent {
        let token = self.token(role).await;
        let mut agent = FakeAgent::new(self, role, name, last_byte, group);
        let (status, body) = agent.register(&token).await;
        assert_eq!(status, 200, "{body}");
        agent.bearer = serde_json::from_value::<Registered>(body).unwrap().bearer;
        agent
    }

    pub(crate) async fn leases(&self) -> Vec<LeaseView> {
        serde_json::from_value::<Page<LeaseView>>(self.get("/v1/leases?limit=1000").await).unwrap().items
    }

    pub(crate) async fn events(&self) -> Vec<EventView> {
        serde_json::from_value::<Page<EventView>>(self.get("/v1/events?limit=1000").await).unwrap().items
    }
}

/// A node or an edge that does what it is told and nothing by itself.
pub(crate) struct FakeAgent {
    pub(crate) http: reqwest::Client,
    pub(crate) base: String,
    pub(crate) role: Role,
    pub(crate) name: String,
    pub(crate) address: Ipv4Addr,
    pub(crate) group: Option<String>,
    pub(crate) key: Ed25519KeyPair,
    pub(crate) bearer: String,
    pub(crate) state: DesiredState,
    stream: Option<reqwest::Response>,
    buffer: Vec<u8>,
}

impl FakeAgent {
    pub(crate) fn new(app: &TestApp, role: Role, name: &str, last_byte: u8, group: Option<&str>) -> Self {
        let key = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Self {
            http: reqwest::Client::new(),
            base: app.base.clone(),
            role,
            name: name.to_owned(),
            address: Ipv4Addr::new(10, 9, 0, last_byte),
            group: group.map(str::to_owned),
            key: Ed25519KeyPair::from_pkcs8(key.as_ref()).unwrap(),
            bearer: String::new(),
            state: DesiredState::default(),
            stream: None,
            buffer: Vec::new(),
        }
    }

    pub(crate) async fn register(&self, token: &str) -> (u16, Value) {
        let body = json!({
            "token": token, "role": self.role, "name": self.name, "address": self.address, "group": self.group,
            "publicKey": STANDARD.encode(self.key.public_key().as_ref()), "version": "test",
        });
        let response = self.http.post(format!("{}/v1/register", self.base)).json(&body).send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    pub(crate) fn request(&self, method: &str, path: &str, body: Vec<u8>, time_ms: u64) -> reqwest::RequestBuilder {
        let hash = ring::digest::digest(&ring::digest::SHA256, &body);
        let hash: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        let signature = self.key.sign(proof_text(method, path, time_ms, &hash).as_bytes());
        self.http
            .request(method.parse().unwrap(), format!("{}{path}", self.base))
            .bearer_auth(&self.bearer)
            .header("persona-proof", format!("t={time_ms},s={}", STANDARD.encode(signature)))
            .body(body)
    }

    /// Reports with the generation in force filled in.
    pub(crate) async fn report(&self, report: Report) {
        let report = Report { applied: self.state.generation, ..report };
        let body = serde_json::to_vec(&report).unwrap();
        let response = self.request("POST", "/v1/agent/report", body, now_ms()).send().await.unwrap();
        assert_eq!(response.status().as_u16(), 204, "{}", response.text().await.unwrap());
    }

    pub(crate) async fn watch(&mut self) {
        let response = self.request("GET", "/v1/agent/watch", Vec::new(), now_ms()).send().await.unwrap();
        assert_eq!(response.status().as_u16(), 200);
        (self.stream, self.buffer) = (Some(response), Vec::new());
        self.next().await;
    }

    /// Takes the next frame in; it must continue what is there.
    pub(crate) async fn next(&mut self) {
        let stream = self.stream.as_mut().unwrap();
        let line = loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                break self.buffer.drain(..=end).collect::<Vec<u8>>();
            }
            let chunk = tokio::time::timeout(PATIENCE, stream.chunk()).await.expect("a frame comes in time");
            self.buffer.extend(chunk.unwrap().expect("the stream goes on"));
        };
        let frame: Frame = serde_json::from_slice(&line).unwrap();
        self.state = self.state.after(frame).unwrap();
    }

    /// Follows the stream until the state is as wanted.
    pub(crate) async fn until(&mut self, what: &str, is_wanted: impl Fn(&DesiredState) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is_wanted(&self.state) {
            assert!(Instant::now() < deadline, "{} waits for {what}: {:#?}", self.name, self.state);
            self.next().await;
        }
    }
}

pub(crate) fn now_ms() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as u64
}

/// Waits until `ready` says so.
pub(crate) async fn eventually<F: Future<Output = bool>>(what: &str, ready: impl Fn() -> F) {
    let deadline = Instant::now() + PATIENCE;
    while !ready().await {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub(crate) fn pool(name: &str, range: &str) -> Value {
    json!({ "apiVersion": "persona/v1", "kind": "EgressPool", "metadata": { "name": name },
        "spec": { "addresses": [range], "group": name, "quarantine": "1s" } })
}

pub(crate) fn persona(name: &str, pool: &str, capabilities: &[&str]) -> Value {
    json!({ "apiVersion": "persona/v1", "kind": "Persona", "metadata": { "name": name },
        "spec": { "capabilities": capabilities, "network": { "egress": { "pools": [pool] } },
            "qos": { "egressRate": "20mbit" } } })
}

pub(crate) fn binding(name: &str, personas: &[&str]) -> Value {
    json!({ "apiVersion": "persona/v1", "kind": "Binding", "metadata": { "name": name },
        "spec": { "selector": { "kind": "workload" }, "personas": personas } })
}

pub(crate) fn workloads(names: &[String]) -> Report {
    let workload = |(index, name): (usize, &String)| {
        json!({ "name": name, "device": format!("veth{index}"), "attached": true,
            "address": Ipv4Addr::new(172, 30, (index / 250) as u8, (index % 250) as u8 + 1) })
    };
    let found: Vec<Value> = names.iter().enumerate().map(workload).collect();
    Report { workloads: Some(serde_json::from_value(json!(found)).unwrap()), ..Report::default() }
}

pub(crate) fn has_lease(state: &DesiredState, id: u64) -> bool {
    state.items.contains_key(&format!("lease/{id}"))
}

pub(crate) fn lease_of(state: &DesiredState, subject: &str) -> Option<u64> {
    match state.items.get(&format!("subject/{subject}")) {
        Some(Item::Subject(item)) => item.network.as_ref().and_then(|network| Some(network.lease?.0)),
        _ => None,
    }
}
