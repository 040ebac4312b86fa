//! A manager on a loopback port with a store of its own, and agents that speak to it over real mutual TLS.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use persona_core::wire::agent::{Holdings, Registered, Report, Role};
use persona_core::wire::api::{EventView, LeaseView, Page};
use persona_core::wire::credential::Credential;
use persona_core::wire::desired::{DesiredState, Frame, Item};
use persona_manager::{Config, Handle, listen, start};
use rcgen::{CertificateParams, KeyPair, PKCS_ED25519};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

/// Whatever is waited for must come within this time.
const PATIENCE: Duration = Duration::from_secs(10);

/// Applies documents whatever version is there.
pub(crate) const APPLY: &str = "/v1/apply?forceConflicts=true";

/// A running manager.
pub(crate) struct TestApp {
    /// An administrator's.
    pub(crate) http: reqwest::Client,
    /// That of somebody who does not say who it is.
    pub(crate) nobody: reqwest::Client,
    pub(crate) base: String,
    stop: CancellationToken,
    handle: Handle,
    directory: tempfile::TempDir,
}

impl TestApp {
    pub(crate) async fn new() -> Self {
        Self::on(tempfile::tempdir().unwrap()).await
    }

    /// One whose configuration is changed first.
    pub(crate) async fn with(change: impl FnOnce(&mut Config)) -> Self {
        Self::on_with(tempfile::tempdir().unwrap(), change).await
    }

    /// A manager on the store in a directory.
    pub(crate) async fn on(directory: tempfile::TempDir) -> Self {
        Self::on_with(directory, |_| ()).await
    }

    pub(crate) async fn on_with(directory: tempfile::TempDir, change: impl FnOnce(&mut Config)) -> Self {
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let store = directory.path().join("manager.sqlite");
        let mut config =
            Config { store: store.into(), report_interval_ms: 500, silent_after_ms: 1_000, ..Config::default() };
        change(&mut config);
        let scheme = if config.insecure_http { "http" } else { "https" };
        let stop = CancellationToken::new();
        let handle = start(config, listener, stop.clone()).await.unwrap();
        let base = format!("{scheme}://{}", handle.address());
        let nobody = client(&roots_of(directory.path()), None);
        let socket =
            client_builder(&roots_of(directory.path())).unix_socket(directory.path().join("manager.state/admin.sock"));
        let mut app = Self { http: socket.build().unwrap(), nobody, base, stop, handle, directory };
        let own = std::mem::replace(&mut app.base, "http://localhost".into());
        let admin = app.access("test", "admin").await;
        (app.base, app.http) = (own, app.with_bearer(&admin));
        app
    }

    /// Makes an access token; returns the bearer.
    pub(crate) async fn access(&self, name: &str, role: &str) -> String {
        let body = json!({ "name": name, "role": role, "ttlMs": 600_000 });
        let (status, body) = self.post("/v1/access-tokens", body).await;
        assert_eq!(status, 201, "{body}");
        bearer_of(&body)
    }

    /// A client that sends this bearer.
    pub(crate) fn with_bearer(&self, bearer: &str) -> reqwest::Client {
        with_bearer(&self.roots(), bearer)
    }

    /// The roots that the manager wrote down for people, in PEM.
    pub(crate) fn roots(&self) -> String {
        roots_of(self.directory.path())
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
        let Self { http, nobody, stop, handle, directory, .. } = self;
        stop.cancel();
        drop((http, nobody));
        handle.stopped().await;
        directory
    }

    /// Sends a request, whatever version of a document is there; returns status and JSON body.
    pub(crate) async fn call(&self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        let request = self.http.request(method.parse().unwrap(), format!("{}{path}", self.base));
        let request = request.header("if-match", "*");
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
        let (status, body) = self.post(APPLY, json!({ "documents": documents })).await;
        assert_eq!(status, 200, "{body}");
        body
    }

    pub(crate) async fn token(&self, role: Role) -> String {
        let body = json!({ "role": role, "uses": 100, "ttlMs": 600_000 });
        let (status, body) = self.post("/v1/join-tokens", body).await;
        assert_eq!(status, 201, "{body}");
        bearer_of(&body)
    }

    pub(crate) async fn join(&self, role: Role, name: &str, last_byte: u8, group: Option<&str>) -> FakeAgent {
        let token = self.token(role).await;
        let mut agent = FakeAgent::new(self, role, name, last_byte, group);
        let (status, body) = agent.register(&token).await;
        assert_eq!(status, 200, "{body}");
        agent.take(body);
        agent
    }

    /// An edge that states this beside or over what every edge says of itself, and that listens.
    pub(crate) async fn join_edge(&self, name: &str, last_byte: u8, group: &str, more: Value) -> FakeAgent {
        let mut edge = FakeAgent::new(self, Role::Edge, name, last_byte, Some(group));
        let mut said = json!({ "token": self.token(Role::Edge).await });
        said.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let (status, body) = edge.register_with(said).await;
        assert_eq!(status, 200, "{body}");
        edge.take(body);
        edge.watch().await;
        edge
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
    pub(crate) key: KeyPair,
    pub(crate) certificate: String,
    pub(crate) roots: String,
    pub(crate) state: DesiredState,
    /// The store incarnation that asked last what is in force here.
    pub(crate) recalled: Option<u32>,
    stream: Option<reqwest::Response>,
    buffer: Vec<u8>,
}

impl FakeAgent {
    pub(crate) fn new(app: &TestApp, role: Role, name: &str, last_byte: u8, group: Option<&str>) -> Self {
        Self::at(&app.nobody, &app.base, &app.roots(), role, name, last_byte, group)
    }

    /// One that speaks to the manager at a URL.
    pub(crate) fn at(
        http: &reqwest::Client,
        base: &str,
        roots: &str,
        role: Role,
        name: &str,
        last_byte: u8,
        group: Option<&str>,
    ) -> Self {
        Self {
            http: http.clone(),
            base: base.to_owned(),
            role,
            name: name.to_owned(),
            address: Ipv4Addr::new(10, 9, 0, last_byte),
            group: group.map(str::to_owned),
            key: KeyPair::generate_for(&PKCS_ED25519).unwrap(),
            certificate: String::new(),
            roots: roots.to_owned(),
            state: DesiredState::default(),
            recalled: None,
            stream: None,
            buffer: Vec::new(),
        }
    }

    /// A request for a certificate, by its key.
    pub(crate) fn csr(&self) -> String {
        CertificateParams::default().serialize_request(&self.key).unwrap().pem().unwrap()
    }

    /// Takes what registration or renewal answered, and speaks with that certificate from now on.
    pub(crate) fn take(&mut self, body: Value) {
        let registered: Registered = serde_json::from_value(body).unwrap();
        self.certificate = registered.certificate;
        self.roots = registered.roots.concat();
        self.http = client(&self.roots, Some((&self.certificate, &self.key)));
    }

    pub(crate) async fn register(&self, token: &str) -> (u16, Value) {
        self.register_with(json!({ "token": token })).await
    }

    /// Registers with this beside or over what it says of itself.
    pub(crate) async fn register_with(&self, more: Value) -> (u16, Value) {
        let mut body = json!({
            "role": self.role, "name": self.name, "address": self.address, "group": self.group,
            "csr": self.csr(), "version": "test",
        });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let response = self.http.post(format!("{}/v1/register", self.base)).json(&body).send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    pub(crate) fn request(&self, method: &str, path: &str, body: Vec<u8>) -> reqwest::RequestBuilder {
        self.http.request(method.parse().unwrap(), format!("{}{path}", self.base)).body(body)
    }

    /// Reports with the generation in force filled in.
    pub(crate) async fn report(&self, report: Report) {
        let report = Report { applied: self.state.generation, proof: self.state.proof.clone(), ..report };
        let body = serde_json::to_vec(&report).unwrap();
        let response = self.request("POST", "/v1/agent/report", body).send().await.unwrap();
        assert_eq!(response.status().as_u16(), 204, "{}", response.text().await.unwrap());
    }

    /// Answers what the manager asked, together with a report.
    pub(crate) async fn tell_holdings(&self, report: Report) {
        let incarnation = self.recalled.expect("it was asked");
        let items = self.state.items.values().cloned().collect();
        let proof = self.state.proof.clone();
        let holdings = Some(Holdings { incarnation, part: 0, is_last: true, items, proof });
        self.report(Report { holdings, ..report }).await;
    }

    pub(crate) async fn watch(&mut self) {
        let response = self.request("GET", "/v1/agent/watch", Vec::new()).send().await.unwrap();
        assert_eq!(response.status().as_u16(), 200);
        (self.stream, self.buffer) = (Some(response), Vec::new());
        self.next().await;
    }

    /// Whether the stream ends by itself.
    pub(crate) async fn stream_ends(&mut self) -> bool {
        let stream = self.stream.as_mut().unwrap();
        let ended = async { while let Ok(Some(_)) = stream.chunk().await {} };
        tokio::time::timeout(PATIENCE, ended).await.is_ok()
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
        if let Frame::Recall { incarnation } = frame {
            self.recalled = Some(incarnation);
            return;
        }
        self.state = self.state.after(frame).unwrap();
    }

    /// Takes in the frames that have come already.
    pub(crate) async fn take_what_is_there(&mut self) {
        while tokio::time::timeout(Duration::from_millis(5), self.next()).await.is_ok() {}
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

/// What a credential that the manager printed sends.
pub(crate) fn bearer_of(answer: &Value) -> String {
    answer["token"].as_str().unwrap().parse::<Credential>().unwrap().bearer()
}

/// A client that trusts these roots and shows this certificate.
pub(crate) fn client(roots: &str, identity: Option<(&str, &KeyPair)>) -> reqwest::Client {
    let mut builder = client_builder(roots);
    if let Some((certificate, key)) = identity {
        let pem = format!("{certificate}{}", key.serialize_pem());
        builder = builder.identity(reqwest::Identity::from_pem(pem.as_bytes()).unwrap());
    }
    builder.build().unwrap()
}

/// A client that trusts these roots and sends this bearer.
pub(crate) fn with_bearer(roots: &str, bearer: &str) -> reqwest::Client {
    let value = format!("Bearer {bearer}").parse().unwrap();
    let headers = [(reqwest::header::AUTHORIZATION, value)].into_iter().collect();
    client_builder(roots).default_headers(headers).build().unwrap()
}

pub(crate) fn client_builder(roots: &str) -> reqwest::ClientBuilder {
    // Another test of this process may have installed it already.
    _ = rustls::crypto::ring::default_provider().install_default();
    let roots = reqwest::Certificate::from_pem_bundle(roots.as_bytes()).unwrap();
    reqwest::Client::builder().no_proxy().tls_certs_only(roots)
}

fn roots_of(directory: &std::path::Path) -> String {
    std::fs::read_to_string(directory.join("manager.state/roots.pem")).unwrap()
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

/// What people's clocks say, milliseconds since 1970.
pub(crate) fn now_ms() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as u64
}
