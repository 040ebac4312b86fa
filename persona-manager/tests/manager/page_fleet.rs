//! A fleet as somebody may have one: edges in eleven cities with what they can carry and carry, nodes there and elsewhere,
//! workloads of three regions; one edge is dead, and one workload has nothing to wear.

use std::time::Instant;

use crate::support::*;
use persona_core::wire::agent::{Report, Role};
use persona_core::wire::desired::Item;
use serde_json::{Value, json};

/// A city: its country, its position, its region, the group of its edges, and how many edges and nodes stand there.
struct City {
    name: &'static str,
    country: &'static str,
    latitude: f64,
    longitude: f64,
    region: &'static str,
    group: &'static str,
    edge_count: usize,
    node_count: usize,
}

const fn city(
    (name, country, region): (&'static str, &'static str, &'static str),
    (latitude, longitude): (f64, f64),
    group: &'static str,
    (edge_count, node_count): (usize, usize),
) -> City {
    City { name, country, latitude, longitude, region, group, edge_count, node_count }
}

const CITIES: [City; 12] = [
    city(("Frankfurt", "DE", "europe"), (50.11, 8.68), "fra", (4, 3)),
    city(("Amsterdam", "NL", "europe"), (52.37, 4.90), "ams", (2, 1)),
    city(("Madrid", "ES", "europe"), (40.42, -3.70), "mad", (2, 1)),
    city(("New York", "US", "america"), (40.71, -74.01), "nyc", (3, 2)),
    city(("San Francisco", "US", "america"), (37.77, -122.42), "sfo", (2, 1)),
    city(("São Paulo", "BR", "america"), (-23.55, -46.63), "gru", (2, 1)),
    city(("Tokyo", "JP", "asia"), (35.68, 139.69), "tok", (3, 2)),
    city(("Singapore", "SG", "asia"), (1.35, 103.82), "sin", (2, 1)),
    city(("Mumbai", "IN", "asia"), (19.08, 72.88), "bom", (1, 1)),
    city(("Sydney", "AU", "asia"), (-33.87, 151.21), "syd", (1, 1)),
    city(("Johannesburg", "ZA", "europe"), (-26.20, 28.05), "jnb", (1, 0)),
    city(("Warsaw", "PL", "europe"), (52.23, 21.01), "", (0, 1)),
];

/// What runs on each node.
const WORKLOADS: [&str; 4] = ["web", "api", "batch", "video"];

/// The edge that is dead, and the workload that no binding's persona fits.
const DEAD_EDGE: &str = "nyc2";
const NAKED: (&str, &str) = ("node-war1", "legacy");

/// The rollout that has halted, and who has an alert.
const ROLLOUT: &str = "asia-faster";
const ALERTED: &str = "workload/node-ams1/video";

/// What an edge can carry, bits per second.
const EDGE_BITS: u64 = 10_000_000_000;

/// An agent and where it stands.
struct Standing {
    agent: FakeAgent,
    city: &'static City,
    is_dead: bool,
}

/// All of it. It lives as long as somebody calls [`WorldFleet::turn`].
pub(crate) struct WorldFleet {
    agents: Vec<Standing>,
    start: Instant,
}

impl WorldFleet {
    /// Documents, edges, nodes and workloads, until the leases are told.
    pub(crate) async fn begin(app: &TestApp) -> Self {
        app.apply(documents()).await;
        let mut standard = app.get("/v1/personas/europe-standard").await["document"].take();
        standard["spec"]["network"]["mtu"] = json!(1_400);
        app.apply(vec![standard]).await;
        let tokens = (app.token(Role::Edge).await, app.token(Role::Node).await);
        let mut fleet = Self { agents: Vec::new(), start: Instant::now() };
        for city in &CITIES {
            for number in 1..=city.edge_count {
                fleet.join(app, Role::Edge, format!("{}{number}", city.group), city, &tokens.0).await;
            }
            let short = if city.group.is_empty() { "war" } else { city.group };
            for number in 1..=city.node_count {
                fleet.join(app, Role::Node, format!("node-{short}{number}"), city, &tokens.1).await;
            }
        }
        let found = fleet.agents.iter().filter(|it| it.agent.role == Role::Node).map(|it| it.agent.name.clone());
        for node in found.collect::<Vec<_>>() {
            fleet.report_workloads(&node).await;
        }
        let deadline = Instant::now() + std::time::Duration::from_secs(60);
        let is_settled = async || {
            let active = app.leases().await.iter().filter(|lease| lease.state == "active").count();
            active >= 50 && app.get(&format!("/v1/edges/{DEAD_EDGE}")).await["state"] == "down"
        };
        while !is_settled().await {
            assert!(Instant::now() < deadline, "leases are granted, and the dead edge is found out");
            fleet.turn().await;
        }
        fleet.begin_rollout(app).await;
        let surge = json!({ "subject": ALERTED, "name": "external.surge", "value": 0.8, "forMs": 3_600_000 });
        assert_eq!(app.post("/v1/signals", surge).await.0, 200);
        fleet
    }

    /// A rollout that has halted in its first wave, since a node there rejected what it was told.
    async fn begin_rollout(&mut self, app: &TestApp) {
        let mut changed = app.get("/v1/personas/asia-standard").await["document"].take();
        changed["spec"]["qos"]["egressRate"] = json!("150mbit");
        let spec = json!({ "waves": ["10%", "50%", "100%"], "soak": "10s" });
        let begun = json!({ "name": ROLLOUT, "documents": [changed], "spec": spec });
        let (status, body) = app.post("/v1/rollouts?forceConflicts=true", begun).await;
        assert_eq!(status, 200, "{body}");
        let deadline = Instant::now() + std::time::Duration::from_secs(60);
        loop {
            self.turn().await;
            let view = app.get(&format!("/v1/rollouts/{ROLLOUT}")).await;
            if view["phase"] == "halted" {
                return;
            }
            assert!(Instant::now() < deadline, "a rejection halts it: {view}");
            let Some(subject) = view["movedSubjects"][0].as_str() else { continue };
            let node = subject.split('/').nth(1);
            let Some(it) = self.agents.iter().find(|it| Some(it.agent.name.as_str()) == node) else { continue };
            let generation = it.agent.state.generation;
            let rejected = json!({ "generation": generation, "reason": "no such qdisc" });
            let said = json!({ "applied": generation.0 - 1, "rejected": rejected });
            it.agent.request("POST", "/v1/agent/report", said.to_string().into_bytes()).send().await.unwrap();
            tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        }
    }

    async fn join(&mut self, app: &TestApp, role: Role, name: String, city: &'static City, token: &str) {
        let last_byte = self.agents.len() as u8 + 1;
        let group = (role == Role::Edge).then_some(city.group);
        let mut agent = FakeAgent::new(app, role, &name, last_byte, group);
        let labels = json!({ "country": city.country, "city": city.name, "region": city.region,
            "latitude": city.latitude.to_string(), "longitude": city.longitude.to_string() });
        let capacity = json!({ "bitsPerSec": EDGE_BITS, "packetsPerSec": 4_000_000, "leaseCount": 64 });
        let mut said = json!({ "token": token, "labels": labels, "version": "0.1.0" });
        if role == Role::Edge {
            said["capacity"] = capacity;
            said["capabilities"] = json!(["low-latency"]);
        }
        let (status, body) = agent.register_with(said).await;
        assert_eq!(status, 200, "{body}");
        agent.take(body);
        agent.watch().await;
        let is_dead = name == DEAD_EDGE;
        // It has lived: dead is only what was up before.
        agent.report(Report { outside_alive: (role == Role::Edge).then_some(true), ..Report::default() }).await;
        self.agents.push(Standing { agent, city, is_dead });
    }

    async fn report_workloads(&mut self, node: &str) {
        let Some(it) = self.agents.iter().find(|it| it.agent.name == node) else { return };
        let workload = |(index, name): (usize, &&str)| {
            let region = if (node, *name) == NAKED { "nowhere" } else { it.city.region };
            json!({ "name": name, "device": format!("veth{index}"), "attached": true, "address": format!("172.30.0.{}", index + 2),
                "labels": { "region": region, "tier": if *name == "video" { "gold" } else { "standard" } } })
        };
        let names = WORKLOADS.iter().chain((node == NAKED.0).then_some(&NAKED.1));
        let found: Vec<Value> = names.enumerate().map(workload).collect();
        let report = json!({ "applied": it.agent.state.generation, "workloads": found });
        it.agent.report(serde_json::from_value(report).unwrap()).await;
    }

    /// Everybody alive takes in what came, and says how it is.
    pub(crate) async fn turn(&mut self) {
        let seconds = self.start.elapsed().as_secs_f64();
        let stands: Vec<(String, &'static City, bool)> = self
            .agents
            .iter()
            .filter(|it| it.agent.role == Role::Edge)
            .map(|it| (it.agent.name.clone(), it.city, it.is_dead))
            .collect();
        for (index, it) in self.agents.iter_mut().enumerate().filter(|(_, it)| !it.is_dead) {
            it.agent.take_what_is_there().await;
            let report = match it.agent.role {
                Role::Edge => edge_report(index, seconds),
                Role::Node => node_report(it, &stands, seconds),
            };
            it.agent.report(serde_json::from_value(report).unwrap()).await;
        }
    }
}

/// An edge that carries a steady share of what it can.
fn edge_report(index: usize, seconds: f64) -> Value {
    let share = 0.1 + 0.06 * (index % 10) as f64;
    let bytes = (seconds * share * EDGE_BITS as f64 / 8.0) as u64;
    let carried = json!({ "egressPackets": bytes / 2_400, "egressBytes": bytes / 3,
        "ingressPackets": bytes / 1_600, "ingressBytes": bytes / 3 * 2 });
    json!({ "applied": 0, "outsideAlive": true, "counters": { "subjects": [], "personas": { "1": carried },
        "drops": { "noLease": (seconds * (index % 3) as f64) as u64 }, "cpuMillionths": (share * 700_000.0) as u32 } })
}

/// A node whose workloads send, and which hears edges as far as they are.
fn node_report(it: &Standing, edges: &[(String, &'static City, bool)], seconds: f64) -> Value {
    let heard = edges.iter().map(|(name, city, is_dead)| {
        let rtt_us = 300.0 + distance_km(it.city, city) * 15.0;
        json!({ "edge": name, "alive": !is_dead, "rttUs": rtt_us as u32, "jitterUs": (rtt_us / 40.0) as u32,
            "loss": if *is_dead { 1.0 } else { 0.0 }, "generation": 0 })
    });
    let names = WORKLOADS.iter().enumerate();
    let traffic = names.map(|(index, name)| {
        let bytes = (seconds * 4e6 * (index + 1) as f64) as u64;
        json!({ "subject": format!("workload/{}/{name}", it.agent.name), "traffic": { "egressPackets": bytes / 1_200,
            "egressBytes": bytes, "ingressPackets": bytes / 700, "ingressBytes": bytes * 2 } })
    });
    let leases = it.agent.state.items.values().filter_map(|item| match item {
        Item::Lease(lease) => Some(json!({ "lease": lease.id, "liveSlotCount": 40 + lease.id.0 * 37 % 400,
            "slotCount": 2_048, "sharedPortCount": 0 })),
        _ => None,
    });
    json!({ "applied": 0, "edges": heard.collect::<Vec<_>>(), "leases": leases.collect::<Vec<_>>(), "underlayMtu": 1_500,
        "counters": { "subjects": traffic.collect::<Vec<_>>(), "personas": {}, "drops": {} } })
}

/// The way around the globe, haversine.
fn distance_km(one: &City, other: &City) -> f64 {
    let (a, b) = (one.latitude.to_radians(), other.latitude.to_radians());
    let half = |from: f64, to: f64| ((to - from) / 2.0).sin().powi(2);
    let (longitude, other_longitude) = (one.longitude.to_radians(), other.longitude.to_radians());
    let square = half(a, b) + a.cos() * b.cos() * half(longitude, other_longitude);
    2.0 * 6_371.0 * square.sqrt().asin()
}

fn documents() -> Vec<Value> {
    let with_edges = CITIES.iter().filter(|city| city.edge_count > 0).enumerate();
    let mut all: Vec<Value> = with_edges
        .map(|(index, city)| {
            let location = json!({ "country": city.country, "city": city.name,
                "latitude": city.latitude, "longitude": city.longitude });
            json!({ "apiVersion": "persona/v1", "kind": "EgressPool", "metadata": { "name": city.group },
                "spec": { "addresses": [format!("203.0.113.{}/32", 16 + index)], "group": city.group, "location": location } })
        })
        .collect();
    let persona = |name: &str, pools: &[&str], city: &str, more: Value| {
        let mut spec = json!({ "network": { "egress": { "pools": pools, "portsPerSubject": 2048 },
            "location": { "country": city } }, "qos": { "egressRate": "200mbit", "ingressRate": "400mbit" } });
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({ "apiVersion": "persona/v1", "kind": "Persona", "metadata": { "name": name }, "spec": spec })
    };
    let watched = json!([{ "when": "external.surge > 0.5", "raise": "surge" }, { "when": "memory.usage > 0.9", "raise": "memory-high" }]);
    let fast = json!({ "capabilities": ["low-latency"], "qos": { "class": "low-latency", "egressRate": "500mbit" },
        "monitoring": watched });
    all.extend([
        persona("europe-standard", &["fra", "ams"], "DE", json!({})),
        persona("europe-low-latency", &["fra"], "DE", fast.clone()),
        persona("iberia", &["mad"], "ES", json!({})),
        persona("america-standard", &["nyc", "gru"], "US", json!({})),
        persona("america-west", &["sfo"], "US", fast),
        persona("asia-standard", &["tok", "sin"], "JP", json!({})),
        persona("nowhere-yet", &["jnb"], "ZA", json!({ "capabilities": ["quantum-link"] })),
    ]);
    let binding = |name: &str, region: &str, tier: &str, personas: &[&str]| {
        json!({ "apiVersion": "persona/v1", "kind": "Binding", "metadata": { "name": name }, "spec": { "personas": personas,
            "selector": { "kind": "workload", "claimedLabels": { "region": region, "tier": tier } } } })
    };
    all.extend([
        binding("europe", "europe", "standard", &["europe-standard", "iberia", "europe-low-latency"]),
        binding("europe-gold", "europe", "gold", &["europe-low-latency", "europe-standard"]),
        binding("america", "america", "standard", &["america-standard", "america-west"]),
        binding("america-gold", "america", "gold", &["america-west", "america-standard"]),
        binding("asia", "asia", "standard", &["asia-standard"]),
        binding("asia-gold", "asia", "gold", &["asia-standard"]),
    ]);
    all
}
