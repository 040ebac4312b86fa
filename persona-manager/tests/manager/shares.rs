//! A persona's total over all nodes: what nodes are told of it, in which order, and after a restart.

use std::time::{Duration, Instant};

use crate::support::*;
use persona_core::wire::agent::{Counters, Report, Role, SubjectCounters, Traffic};
use persona_core::wire::desired::{Item, ShareItem};
use serde_json::json;

const TOTAL_BPS: u64 = 64_000_000;

/// However slow the machine, what is waited for must come within this time.
const PATIENCE: Duration = Duration::from_secs(30);

struct World {
    nodes: Vec<FakeAgent>,
    edge: FakeAgent,
    /// Bytes that each node's workload has sent.
    sent: Vec<u64>,
    /// Whether each node's workload sends all that its node lets pass.
    is_busy: Vec<bool>,
    /// Whether each node takes in what it is told.
    hears: Vec<bool>,
    last: Instant,
}

impl World {
    async fn new(app: &TestApp) -> Self {
        let mut gold = persona("gold", "fra", &[]);
        gold["spec"]["qos"] =
            json!({ "shared": { "scope": "fleet", "egressRate": "64mbit", "ingressRate": "64mbit" } });
        app.apply(vec![pool("fra", "198.51.100.0/28"), gold, binding("all", &["gold"])]).await;
        let mut edge = app.join(Role::Edge, "f1", 11, Some("fra")).await;
        edge.watch().await;
        Self { nodes: vec![], edge, sent: vec![], is_busy: vec![], hears: vec![], last: Instant::now() }
    }

    async fn add(&mut self, app: &TestApp, is_busy: bool) {
        let number = self.nodes.len() as u8 + 1;
        let mut node = app.join(Role::Node, &format!("n{number}"), number, None).await;
        node.watch().await;
        node.report(workloads(&["web".to_owned()])).await;
        self.nodes.push(node);
        self.sent.push(0);
        self.is_busy.push(is_busy);
        self.hears.push(true);
    }

    /// Everybody takes in what came and reports what was sent since the last turn.
    async fn turn(&mut self) {
        let elapsed = std::mem::replace(&mut self.last, Instant::now()).elapsed();
        self.edge.take_what_is_there().await;
        self.edge.report(Report { outside_alive: Some(true), ..Report::default() }).await;
        for index in 0..self.nodes.len() {
            if self.is_busy[index] {
                self.sent[index] += (self.told(index).0 as f64 / 8.0 * elapsed.as_secs_f64()) as u64;
            }
            if self.hears[index] {
                self.nodes[index].take_what_is_there().await;
            }
            let subject = format!("workload/n{}/web", index + 1).parse().unwrap();
            let traffic = Traffic { egress_bytes: self.sent[index], ..Traffic::default() };
            let counters = Counters {
                subjects: vec![SubjectCounters { subject, traffic, opened_flows: 0, dropped_packets: 0 }],
                ..Counters::default()
            };
            self.nodes[index].report(Report { counters: Some(counters), ..Report::default() }).await;
        }
        let sum: u64 = (0..self.nodes.len()).map(|index| self.told(index).0).sum();
        assert!(sum <= TOTAL_BPS, "nodes have {sum} together");
    }

    /// What is in force at a node, up and down.
    fn told(&self, index: usize) -> (u64, u64) {
        match self.nodes[index].state.items.get("share/gold") {
            Some(Item::Share(ShareItem { egress_bps, ingress_bps, .. })) => (*egress_bps, *ingress_bps),
            _ => (0, 0),
        }
    }

    async fn until(&mut self, what: &str, is_so: impl Fn(&[(u64, u64)]) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let told: Vec<(u64, u64)> = (0..self.nodes.len()).map(|index| self.told(index)).collect();
            if is_so(&told) {
                return;
            }
            assert!(Instant::now() < deadline, "{what}: {told:?}");
            self.turn().await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_have_a_total_together_and_never_more_of_it() {
    let app = TestApp::new().await;
    let mut world = World::new(&app).await;
    world.add(&app, true).await;
    world.until("one alone has all", |told| told == [(TOTAL_BPS, TOTAL_BPS)]).await;

    // The first one hears nothing: it may still hold all, and the other gets nothing.
    world.hears[0] = false;
    world.add(&app, true).await;
    let newcomer = |world: &World| world.nodes[1].state.items.contains_key("subject/workload/n2/web");
    let deadline = Instant::now() + PATIENCE;
    while !newcomer(&world) {
        assert!(Instant::now() < deadline, "{:#?}", world.nodes[1].state);
        world.turn().await;
    }
    for _ in 0..20 {
        world.turn().await;
    }
    assert_eq!((world.told(0).0, world.told(1).0), (TOTAL_BPS, 0));
    world.hears[0] = true;
    world.until("both have halves", |told| told.iter().all(|told| told.0 == TOTAL_BPS / 2)).await;

    world.is_busy[0] = false;
    world.until("who sends gets what the other leaves", |told| told[1].0 > TOTAL_BPS * 9 / 10).await;
    assert!(world.told(0).0 > 0, "it has something to begin with");
    assert_eq!(shares(&app).await, [world.told(0).0, world.told(1).0]);

    // What nodes may have is known after a restart, before anybody has reported.
    let before = shares(&app).await;
    let app = app.restart().await;
    assert_eq!(shares(&app).await, before);
}

/// What both nodes are told to have upwards, as people see it.
async fn shares(app: &TestApp) -> [u64; 2] {
    let share = |node: &serde_json::Value| node["shares"][0]["egressBps"].as_u64().unwrap();
    [share(&app.get("/v1/nodes/n1").await), share(&app.get("/v1/nodes/n2").await)]
}
