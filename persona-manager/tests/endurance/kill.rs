//! Managers that are killed at any moment under clients that write, agents that report and watchers that follow: what was
//! acknowledged is there, nothing is held twice, no watcher misses or repeats a change. `PERSONA_KILL_COUNT` says how often;
//! what was counted is printed as a line of JSON.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::fleet::{copy_key, first_access};
use crate::postgres_server::PostgresServer;
use crate::support::*;
use persona_core::ids::LeaseId;
use persona_core::wire::agent::{Report, Role};
use persona_core::wire::api::{LeaseView, Page};
use persona_core::wire::desired::{Frame, Item};
use persona_manager::{Config, SealKeys, StoreConfig, StoreLocation, start, verify_audit};
use ring::rand::{SecureRandom as _, SystemRandom};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// How often a manager is killed where nobody says.
const KILL_COUNT_DEFAULT: usize = 10;

/// A manager that was started must answer within this time.
const START_TIME_MAX: Duration = Duration::from_secs(30);

pub(crate) const WRITER_COUNT: usize = 4;

/// Writers send as much as they can.
const RATE_LIMIT: NonZeroU32 = NonZeroU32::new(100_000).unwrap();

/// A manager in a process of its own.
pub(crate) struct Process {
    child: Child,
    pub(crate) base: String,
}

impl Process {
    fn start(store: &StoreConfig, port: u16, state: &Path) -> Self {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--ignored", "kill::a_manager_to_be_killed"])
            .env("PERSONA_TEST_STORE", store.location.to_string())
            .env("PERSONA_TEST_SYNC", store.require_sync.to_string())
            .env("PERSONA_TEST_PORT", port.to_string())
            .env("PERSONA_TEST_STATE", state)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, base: format!("https://127.0.0.1:{port}") }
    }

    /// Sends it a signal, by its name.
    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status().unwrap();
        assert!(status.success(), "it has ended");
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may be dead already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// No test: what the others start and kill.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "the manager that other tests start in a process of its own"]
async fn a_manager_to_be_killed() {
    let (Ok(store), Ok(port)) = (std::env::var("PERSONA_TEST_STORE"), std::env::var("PERSONA_TEST_PORT")) else {
        return;
    };
    let state_dir = Some(PathBuf::from(std::env::var("PERSONA_TEST_STATE").unwrap()));
    let require_sync = std::env::var("PERSONA_TEST_SYNC").is_ok_and(|value| value == "true");
    let listener = TcpListener::bind(format!("127.0.0.1:{port}")).await.unwrap();
    let config = Config {
        store: StoreConfig { require_sync, ..at(&store) },
        state_dir,
        rate_limit_per_sec: RATE_LIMIT,
        report_interval_ms: 500,
        silent_after_ms: 5_000,
        ..Config::default()
    };
    start(config, listener, CancellationToken::new()).await.unwrap().stopped().await;
}

/// A store as it is configured by its place alone.
pub(crate) fn at(store: &str) -> StoreConfig {
    let Ok(location) = store.parse::<StoreLocation>();
    location.into()
}

pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn random_below(bound: u32) -> u32 {
    let mut bytes = [0; 4];
    SystemRandom::new().fill(&mut bytes).unwrap();
    u32::from_le_bytes(bytes) % bound
}

/// What clients were told.
#[derive(Default)]
pub(crate) struct Told {
    /// Persona → the versions that were acknowledged, and the rate in each.
    pub(crate) acknowledged: BTreeMap<String, Vec<(u64, u64)>>,
    /// The newest event that the follower saw.
    last_event: u64,
    /// Events that came again, or instead of another.
    misplaced_events: u64,
    /// States that agents watch which were behind the one before, or another one under its generation.
    misplaced_states: u64,
}

/// What was found to be wrong; kept with what went well.
#[derive(Debug, Default)]
struct Findings {
    /// Versions that were looked at, and those of them that were acknowledged and are not there.
    checked_writes: u64,
    lost_writes: u64,
    /// Ranges of ports that two leases have.
    held_twice: u64,
}

/// Managers, and what everybody knows who talks to them.
pub(crate) struct Scene {
    pub(crate) http: reqwest::Client,
    pub(crate) managers: Vec<Process>,
    states: Vec<tempfile::TempDir>,
    pub(crate) told: Arc<Mutex<Told>>,
    pub(crate) node: FakeAgent,
    pub(crate) edge: FakeAgent,
    rate: u64,
    findings: Mutex<Findings>,
}

impl Scene {
    pub(crate) async fn new(store: &StoreConfig, ports: &[u16]) -> Self {
        let states: Vec<_> = ports.iter().map(|_| tempfile::tempdir().unwrap()).collect();
        let mut managers = vec![Process::start(store, ports[0], states[0].path())];
        let (roots, bearer) = first_access(states[0].path()).await;
        for (port, state) in ports.iter().zip(&states).skip(1) {
            copy_key(states[0].path(), state.path());
            managers.push(Process::start(store, *port, state.path()));
        }
        let http = with_bearer(&roots, &bearer);
        let base = managers.last().unwrap().base.clone();
        let nobody = client(&roots, None);
        let agent = |role, name, byte, group| FakeAgent::at(&nobody, &base, &roots, role, name, byte, group);
        let (node, edge) = (agent(Role::Node, "n1", 1, None), agent(Role::Edge, "f1", 11, Some("fra")));
        let mut scene =
            Self { http, managers, states, told: Arc::default(), node, edge, rate: 1, findings: Mutex::default() };
        scene.wait_until_it_writes().await;
        let documents =
            json!([pool("fra", "198.51.100.0/30"), persona("frankfurt", "fra", &[]), binding("all", &["frankfurt"])]);
        let (status, body) = scene.post("/v1/apply", &json!({ "documents": documents })).await.unwrap();
        assert_eq!(status, 200, "{body}");
        for role in [Role::Node, Role::Edge] {
            let request = json!({ "role": role, "uses": 9, "ttlMs": 600_000 });
            let (_, body) = scene.post("/v1/join-tokens", &request).await.unwrap();
            let agent = if role == Role::Node { &mut scene.node } else { &mut scene.edge };
            let (status, answer) = agent.register(&bearer_of(&body)).await;
            assert_eq!(status, 200, "{answer}");
            agent.take(answer);
        }
        scene
    }

    /// Asks the last manager; it passes on what it cannot do itself.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> Option<(u16, Value)> {
        let url = format!("{}{path}", self.managers.last().unwrap().base);
        let answer = self.http.post(url).json(body).send().await.ok()?;
        Some((answer.status().as_u16(), answer.json().await.ok()?))
    }

    pub(crate) async fn wait_until_it_writes(&self) {
        let deadline = Instant::now() + START_TIME_MAX;
        let url = format!("{}/v1/settings/probe", self.managers.last().unwrap().base);
        // What is so already: it goes the way of a change, and changes nothing.
        let probe = json!({ "intervalMs": 50, "multiplier": 3 });
        let is_taken = async || {
            self.http
                .put(&url)
                .header("if-match", "*")
                .json(&probe)
                .send()
                .await
                .is_ok_and(|answer| answer.status() == 200)
        };
        while !is_taken().await {
            assert!(Instant::now() < deadline, "no manager takes changes");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Everybody works for a while, then one manager is killed.
    async fn work_and_kill(&mut self, victim: usize) {
        let pause = Duration::from_millis(random_below(900).into());
        let base = self.managers.last().unwrap().base.clone();
        let mut tasks = tokio::task::JoinSet::new();
        for writer in 0..WRITER_COUNT {
            tasks.spawn(write(self.http.clone(), base.clone(), self.told.clone(), writer, self.rate));
        }
        tasks.spawn(follow_events(self.http.clone(), base.clone(), self.told.clone()));
        (self.node.base, self.edge.base) = (base.clone(), base);
        let managers = &mut self.managers;
        let told = self.told.clone();
        let acknowledged = || told.lock().unwrap().acknowledged.values().map(Vec::len).sum::<usize>();
        let before = acknowledged();
        let moment = async {
            while acknowledged() == before {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            tokio::time::sleep(pause).await;
        };
        let moment = async { tokio::time::timeout(START_TIME_MAX, moment).await.expect("changes are taken") };
        tokio::select! {
            () = live(&mut self.node, &self.told) => {}
            () = live(&mut self.edge, &self.told) => {}
            () = moment => {}
        }
        managers[victim].kill();
        // What is under way when it dies may or may not be there; nobody was told.
        tokio::time::sleep(Duration::from_millis(30)).await;
        tasks.abort_all();
        while let Some(outcome) = tasks.join_next().await {
            assert!(!outcome.is_err_and(|error| error.is_panic()), "a client was told something wrong");
        }
        self.rate += 1;
    }

    /// Compares what is there with the newest of what was told.
    pub(crate) async fn check(&self) {
        self.look(5).await;
        let findings = self.findings.lock().unwrap();
        assert_eq!((findings.lost_writes, findings.held_twice), (0, 0), "what is wrong stands above");
    }

    /// Looks at so many of the newest writes of each writer, and at all leases.
    async fn look(&self, newest: usize) {
        let get = async |path: &str| -> Value {
            let url = format!("{}{path}", self.managers.last().unwrap().base);
            let answer = self.http.get(url).send().await.unwrap();
            match answer.status().as_u16() {
                404 => Value::Null,
                status => {
                    assert_eq!(status, 200, "{path}");
                    answer.json().await.unwrap()
                }
            }
        };
        let acknowledged = self.told.lock().unwrap().acknowledged.clone();
        for (name, versions) in acknowledged {
            for (version, rate) in versions.iter().rev().take(newest) {
                let text = get(&format!("/v1/personas/{name}?version={version}")).await.to_string();
                let is_there = text.contains(&format!("\"{rate}kbit\""));
                let mut findings = self.findings.lock().unwrap();
                findings.checked_writes += 1;
                if !is_there {
                    println!("{name}@{version} should say {rate}kbit: {text}");
                    findings.lost_writes += 1;
                }
            }
        }
        let leases: Page<LeaseView> = serde_json::from_value(get("/v1/leases?limit=1000").await).unwrap();
        let spaces = leases.items.iter().map(|lease| (lease.id, lease.space.clone()));
        let held = [&self.node, &self.edge].into_iter().flat_map(|agent| agent.state.items.values());
        let held =
            held.filter_map(
                |item| if let Item::Lease(lease) = item { Some((lease.id, lease.space.clone())) } else { None },
            );
        let mut seen: BTreeMap<_, LeaseId> = BTreeMap::new();
        for (id, space) in spaces.chain(held) {
            for range in space.port_ranges() {
                let other = *seen.entry((space.address(), range)).or_insert(id);
                if other != id {
                    println!("{range:?} of {space} is held by leases {other} and {id}");
                    self.findings.lock().unwrap().held_twice += 1;
                }
            }
        }
    }
}

impl Scene {
    /// What was killed at any moment left a chain of events that is whole.
    pub(crate) fn check_chain(&self, store: &StoreConfig) -> bool {
        let roots = std::fs::read_to_string(self.states[0].path().join("roots.pem")).unwrap();
        let store = store.clone();
        // In a thread of its own: a store waits for its database.
        let verified = std::thread::spawn(move || verify_audit(&store, &SealKeys::read(&roots).unwrap(), &[]));
        let report = verified.join().unwrap().unwrap();
        assert!(report.is_whole() && report.process_count > 1, "{report:?}");
        report.is_whole()
    }
}

/// Applies a persona of its own with ever other rates, and notes what was acknowledged.
pub(crate) async fn write(http: reqwest::Client, base: String, told: Arc<Mutex<Told>>, writer: usize, round: u64) {
    let name = format!("w{writer}");
    for number in 1.. {
        let rate = round * 1_000_000 + number * 2 + 1; // odd: it is shown in the unit in which it is written
        let mut document = persona(&name, "fra", &[]);
        document["spec"]["qos"]["egressRate"] = json!(format!("{rate}kbit"));
        let request = http.post(format!("{base}{APPLY}")).json(&json!({ "documents": [document] }));
        let Ok(answer) = request.send().await else { return };
        if answer.status() != 200 {
            return;
        }
        let Ok(body) = answer.json::<Value>().await else { return };
        let version = body["results"][0]["version"].as_u64().unwrap();
        told.lock().unwrap().acknowledged.entry(name.clone()).or_default().push((version, rate));
    }
}

/// Follows what happens from where it was: each event once, none left out.
async fn follow_events(http: reqwest::Client, base: String, told: Arc<Mutex<Told>>) {
    let since = told.lock().unwrap().last_event;
    let Ok(mut answer) = http.get(format!("{base}/v1/events?follow=true&since={since}")).send().await else { return };
    let mut buffer = Vec::new();
    while let Ok(Some(chunk)) = answer.chunk().await {
        buffer.extend(chunk);
        while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
            let line: Value = serde_json::from_slice(&buffer.drain(..=end).collect::<Vec<u8>>()).unwrap();
            let (mut told, number) = (told.lock().unwrap(), line["number"].as_u64().unwrap());
            if number != told.last_event + 1 {
                println!("event {number} came after {}", told.last_event);
                told.misplaced_events += 1;
            }
            told.last_event = number;
        }
    }
}

/// Does what an agent does until its manager is gone: watches, applies at once, reports, lets workloads come and go.
async fn live(agent: &mut FakeAgent, told: &Mutex<Told>) {
    let request = agent.request("GET", "/v1/agent/watch", Vec::new());
    let Ok(mut stream) = request.send().await else { return std::future::pending().await };
    let (mut buffer, mut whole) = (Vec::new(), false);
    for turn in 0_u32.. {
        let body = serde_json::to_vec(&report(agent, turn)).unwrap();
        let sent = agent.request("POST", "/v1/agent/report", body).send().await;
        if !sent.is_ok_and(|answer| answer.status() == 204) {
            return std::future::pending().await;
        }
        match tokio::time::timeout(Duration::from_millis(10), stream.chunk()).await {
            Ok(Ok(Some(chunk))) => buffer.extend(chunk),
            Ok(_) => return std::future::pending().await,
            Err(_) => {}
        }
        while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
            let frame: Frame = serde_json::from_slice(&buffer.drain(..=end).collect::<Vec<u8>>()).unwrap();
            if let Frame::Snapshot { state, .. } = &frame {
                let is_same = state.generation != agent.state.generation || *state == agent.state;
                let is_in_place = is_same || !whole && agent.state.items.is_empty();
                if state.generation < agent.state.generation || !is_in_place {
                    println!("after {:?} came {state:?}", agent.state);
                    told.lock().unwrap().misplaced_states += 1;
                }
                whole = true;
            }
            agent.state = agent.state.after(frame).unwrap();
        }
    }
}

fn report(agent: &FakeAgent, turn: u32) -> Report {
    let (applied, proof) = (agent.state.generation, agent.state.proof.clone());
    if agent.role == Role::Edge {
        return Report { applied, proof, outside_alive: Some(true), ..Report::default() };
    }
    let names: Vec<String> =
        (0..5).filter(|number| !(turn / 7 + number).is_multiple_of(3)).map(|number| format!("a{number}")).collect();
    let leases =
        agent.state.items.values().filter_map(|item| if let Item::Lease(lease) = item { Some(lease) } else { None });
    let drained = leases.filter(|lease| lease.retiring).map(|lease| lease.id).collect();
    Report { applied, proof, drained, ..workloads(&names) }
}

fn kill_count() -> usize {
    std::env::var("PERSONA_KILL_COUNT").map_or(KILL_COUNT_DEFAULT, |count| count.parse().expect("a number"))
}

/// One at a time: each alone keeps the machine busy.
pub(crate) static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// Kills one of the managers after another, and looks each time; at the end at all that was ever acknowledged.
async fn endure(name: &str, store: &str, manager_count: usize) {
    let _turn = TURN.lock().await;
    let (store, begun) = (&at(store), Instant::now());
    let ports: Vec<u16> = (0..manager_count).map(|_| free_port()).collect();
    let mut scene = Scene::new(store, &ports).await;
    for round in 0..kill_count() {
        let victim = round % manager_count;
        scene.work_and_kill(victim).await;
        scene.managers[victim] = Process::start(store, ports[victim], scene.states[victim].path());
        scene.wait_until_it_writes().await;
        scene.check().await;
    }
    scene.look(usize::MAX).await;
    let chain_is_whole = scene.check_chain(store);
    let (told, findings) = (scene.told.lock().unwrap(), scene.findings.lock().unwrap());
    let count: usize = told.acknowledged.values().map(Vec::len).sum();
    let newest = scene.node.state.items.values().chain(scene.edge.state.items.values());
    let newest = newest.filter_map(|item| if let Item::Lease(lease) = item { Some(lease.id.0) } else { None }).max();
    let counts = json!({ "scene": name, "managers": manager_count, "kills": kill_count(), "acknowledgedWrites": count,
        "lostWrites": findings.lost_writes, "leasesGranted": newest, "portsHeldTwice": findings.held_twice,
        "eventsFollowed": told.last_event, "eventsMissedOrRepeated": told.misplaced_events,
        "statesMissedOrRepeated": told.misplaced_states, "chainIsWhole": chain_is_whole, "seconds": begun.elapsed().as_secs() });
    println!("kills: {counts}");
    let wrong = (findings.lost_writes, findings.held_twice, told.misplaced_events, told.misplaced_states);
    assert_eq!(wrong, (0, 0, 0, 0), "what is wrong stands above");
    assert!(findings.checked_writes >= count as u64);
    assert!(count >= kill_count() && told.last_event > 0 && newest.is_some(), "too little happened to prove anything");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_manager_on_sqlite_loses_nothing_that_it_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    endure("sqlite", folder.path().join("store.sqlite").to_str().unwrap(), 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_manager_on_postgres_loses_nothing_that_it_acknowledged() {
    let Some(server) = tokio::task::spawn_blocking(PostgresServer::start).await.unwrap() else { return };
    endure("postgres", &server.url(), 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_managers_on_postgres_are_killed_in_turn_and_lose_nothing() {
    let Some(server) = tokio::task::spawn_blocking(PostgresServer::start).await.unwrap() else { return };
    endure("postgres, two managers", &server.url(), 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_crashes_is_waited_for() {
    let Some(mut server) = tokio::task::spawn_blocking(PostgresServer::start).await.unwrap() else { return };
    let _turn = TURN.lock().await;
    let mut scene = Scene::new(&at(&server.url()), &[free_port(), free_port()]).await;
    for _ in 0..2 {
        let base = scene.managers.last().unwrap().base.clone();
        let (http, told, rate) = (scene.http.clone(), scene.told.clone(), scene.rate);
        let writing = tokio::spawn(write(http, base, told, 0, rate));
        tokio::time::sleep(Duration::from_millis(300)).await;
        server = tokio::task::spawn_blocking(move || {
            server.crash_and_restart();
            server
        })
        .await
        .unwrap();
        // A crash between two changes leaves the writer none the wiser.
        writing.abort();
        assert!(!writing.await.is_err_and(|error| error.is_panic()), "the writer was told something wrong");
        scene.rate += 1;
        scene.wait_until_it_writes().await;
        scene.check().await;
    }
    assert!(!scene.told.lock().unwrap().acknowledged.is_empty());
}
