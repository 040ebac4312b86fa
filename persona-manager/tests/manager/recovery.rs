//! Going back to a backup under nodes and edges that have gone on since: what they hold wins, nothing runs backwards.

use std::collections::BTreeMap;

use crate::support::*;
use persona_core::ids::{Generation, LeaseId};
use persona_core::wire::agent::{Report, Role};
use persona_core::wire::api::LeaseView;
use persona_core::wire::desired::{Item, LeaseItem};
use persona_core::wire::proof::StateProof;
use persona_manager::{backup, restore};
use serde_json::json;

/// Whatever is waited for must come within this many rounds of reports.
const TURN_COUNT_MAX: usize = 400;

const WEB: &str = "workload/n1/web";

fn alive() -> Report {
    Report { outside_alive: Some(true), ..Report::default() }
}

/// Everybody whom the tests need: a node, an edge in `fra`, an edge in `tyo`.
struct World {
    app: TestApp,
    node: FakeAgent,
    edges: [FakeAgent; 2],
    names: Vec<String>,
}

impl World {
    /// One address per pool, so that ports that come back are the next to be leased.
    async fn new() -> Self {
        let app = TestApp::new().await;
        app.apply(vec![
            pool("fra", "198.51.100.1/32"),
            pool("tyo", "203.0.113.1/32"),
            persona("frankfurt", "fra", &[]),
            persona("tokyo", "tyo", &["low-latency"]),
            binding("all", &["frankfurt", "tokyo"]),
        ])
        .await;
        let node = app.join(Role::Node, "n1", 1, None).await;
        let edges =
            [app.join(Role::Edge, "f1", 11, Some("fra")).await, app.join(Role::Edge, "t1", 12, Some("tyo")).await];
        let mut world = Self { app, node, edges, names: Vec::new() };
        world.open_streams().await;
        for edge in &mut world.edges {
            let own = format!("edge/{}", edge.name);
            while !matches!(edge.state.items.get(&own), Some(Item::Edge(item)) if item.in_service) {
                edge.report(alive()).await;
                edge.next().await;
            }
        }
        world
    }

    async fn open_streams(&mut self) {
        for agent in self.edges.iter_mut().chain([&mut self.node]) {
            agent.base.clone_from(&self.app.base);
            agent.watch().await;
        }
    }

    /// Adds a workload.
    fn add(&mut self, name: &str) {
        self.names.push(name.to_owned());
    }

    /// Everybody reports and takes in what comes, until the node's state is as wanted.
    async fn settle(&mut self, what: &str, is_wanted: impl Fn(&FakeAgent) -> bool) {
        for _ in 0..TURN_COUNT_MAX {
            self.turn().await;
            if is_wanted(&self.node) {
                return;
            }
        }
        panic!("{what} does not come about: {:#?}", self.node.state);
    }

    async fn turn(&mut self) {
        self.node.report(workloads(&self.names)).await;
        for edge in &self.edges {
            edge.report(alive()).await;
        }
        for agent in self.edges.iter_mut().chain([&mut self.node]) {
            agent.take_what_is_there().await;
        }
        assert_no_overlap(&self.held());
    }

    /// All leases in anybody's tables.
    fn held(&self) -> BTreeMap<LeaseId, LeaseItem> {
        let agents = self.edges.iter().chain([&self.node]);
        agents.flat_map(leases).map(|lease| (lease.id, lease.clone())).collect()
    }

    /// Stops the manager, goes back to `backup`, starts it again.
    async fn go_back(self, backup: &std::path::Path) -> Self {
        let Self { app, node, edges, names } = self;
        let directory = app.halt().await;
        let restored = restore(&directory.path().join("manager.sqlite").into(), backup).unwrap();
        assert_eq!(restored.awaited, ["node/n1", "edge/f1", "edge/t1"]);
        assert!(restored.kept.unwrap().exists());
        Self { app: TestApp::on(directory).await, node, edges, names }
    }
}

fn leases(agent: &FakeAgent) -> impl Iterator<Item = &LeaseItem> {
    agent.state.items.values().filter_map(|item| if let Item::Lease(lease) = item { Some(lease) } else { None })
}

fn assert_no_overlap(leases: &BTreeMap<LeaseId, LeaseItem>) {
    let mut seen = BTreeMap::new();
    for lease in leases.values() {
        for range in lease.space.port_ranges() {
            let other = seen.insert((lease.space.address(), range), lease.id);
            assert_eq!(other, None, "{range:?} is held twice: {leases:#?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_restored_under_live_agents_takes_nothing_from_them_and_gives_nothing_twice() {
    let mut world = World::new().await;
    world.add("web");
    world.settle("lease 1", |node| lease_of(&node.state, WEB) == Some(1)).await;
    let backup_path = world.app.store().with_file_name("backup.sqlite");
    let made = backup(&world.app.store().into(), &backup_path).unwrap();
    assert!(made.revision.starts_with("1.") && made.bytes > 0);
    assert!(backup(&world.app.store().into(), &backup_path).is_err(), "no backup replaces another");

    // Since then: another lease, a switch, and a lease whose ports were free at the time of neither.
    world.add("db");
    world.settle("lease 2", |node| lease_of(&node.state, "workload/n1/db") == Some(2)).await;
    world.app.post("/v1/switch", json!({ "subject": WEB, "persona": "tokyo" })).await;
    world.settle("lease 3", |node| lease_of(&node.state, WEB) == Some(3)).await;
    world.node.report(Report { drained: vec![LeaseId(1)], ..workloads(&world.names) }).await;
    world.settle("the end of lease 1", |node| !has_lease(&node.state, 1)).await;
    for _ in 0..TURN_COUNT_MAX {
        world.turn().await;
        if world.app.leases().await.iter().all(|lease| lease.id.0 != 1) {
            break;
        }
    }
    world.add("late");
    world.settle("lease 4", |node| lease_of(&node.state, "workload/n1/late") == Some(4)).await;
    let held = world.held();
    let generations: Vec<Generation> =
        [&world.node, &world.edges[0], &world.edges[1]].map(|it| it.state.generation).into();
    let last_event =
        world.app.get("/v1/events?limit=1000").await["items"].as_array().unwrap().last().unwrap()["number"].as_u64();

    let mut world = world.go_back(&backup_path).await;
    world.open_streams().await;
    assert!([&world.node, &world.edges[0], &world.edges[1]].iter().all(|agent| agent.recalled == Some(2)));

    // Nobody is told anything, and nothing is leased, before all concerned were heard.
    world.node.report(workloads(&world.names)).await;
    let view = world.app.leases().await;
    assert_eq!(view.iter().map(|lease| lease.id.0).collect::<Vec<_>>(), [1], "what the backup knew");
    world.edges[0].tell_holdings(alive()).await;
    let view = world.app.leases().await;
    assert_eq!(view.iter().map(|lease| lease.id.0).collect::<Vec<_>>(), [2, 4], "lease 1 gives way to lease 4");
    world.node.tell_holdings(workloads(&world.names)).await;
    world.edges[1].tell_holdings(alive()).await;

    // What they hold is theirs still. What people asked for since the backup is not known any more: web goes back.
    let is_back = |node: &FakeAgent| lease_of(&node.state, WEB).is_some_and(|id| id > 1 << 32);
    world.settle("web goes back to frankfurt", is_back).await;
    let now = world.held();
    for id in [2, 4] {
        assert_eq!(now[&LeaseId(id)].space, held[&LeaseId(id)].space, "{id}");
        assert_eq!(now[&LeaseId(id)].subject, held[&LeaseId(id)].subject, "{id}");
    }
    assert!(now[&LeaseId(3)].retiring, "old flows of web go on");
    for (agent, before) in [&world.node, &world.edges[0], &world.edges[1]].iter().zip(generations) {
        assert!(agent.state.generation > before && agent.state.generation.incarnation() == 2);
    }
    let events = world.app.get(&format!("/v1/events?since={}", last_event.unwrap())).await;
    let names: Vec<_> = events["items"].as_array().unwrap().iter().map(|event| event["name"].clone()).collect();
    for name in ["recovery.begun", "recovery.heard", "recovery.given-up", "recovery.over"] {
        assert!(names.contains(&json!(name)), "{name} is not among {names:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_put_back_by_hand_is_noticed_by_what_agents_have() {
    let mut world = World::new().await;
    world.add("web");
    world.settle("lease 1", |node| lease_of(&node.state, WEB) == Some(1)).await;
    let old = world.app.store().with_file_name("old.sqlite");
    backup(&world.app.store().into(), &old).unwrap();
    for name in ["a", "b", "c", "d", "e", "f"] {
        world.add(name);
        world.settle(name, |node| lease_of(&node.state, &format!("workload/n1/{name}")).is_some()).await;
    }
    let held = world.held();
    let World { app, node, edges, names } = world;
    let directory = app.halt().await;
    std::fs::rename(&old, directory.path().join("manager.sqlite")).unwrap();
    let mut world = World { app: TestApp::on(directory).await, node, edges, names };
    for agent in world.edges.iter_mut().chain([&mut world.node]) {
        agent.base.clone_from(&world.app.base);
        agent.report(if agent.name == "n1" { workloads(&world.names) } else { alive() }).await;
        agent.watch().await;
    }
    for agent in world.edges.iter_mut().chain([&mut world.node]) {
        while agent.recalled != Some(2) {
            agent.next().await;
        }
        let report = if agent.name == "n1" { workloads(&world.names) } else { alive() };
        agent.tell_holdings(report).await;
    }
    world.settle("a new state", |node| node.state.generation.incarnation() == 2).await;
    let now = world.held();
    assert!(held.iter().all(|(id, lease)| now.get(id).is_some_and(|it| it.space == lease.space)), "{now:#?}");
}

/// Sends a report and returns what was left out of it.
async fn left_out(agent: &FakeAgent, report: Report) -> Vec<String> {
    let body = serde_json::to_vec(&report).unwrap();
    let response = agent.request("POST", "/v1/agent/report", body).send().await.unwrap();
    match response.status().as_u16() {
        204 => Vec::new(),
        status => {
            assert_eq!(status, 200);
            let taken: serde_json::Value = response.json().await.unwrap();
            let parts = taken["leftOut"].as_array().unwrap().iter();
            parts.map(|part| part["path"].as_str().unwrap().to_owned()).collect()
        }
    }
}

async fn events_named(app: &TestApp, name: &str) -> usize {
    let events = app.get("/v1/events?limit=1000").await;
    events["items"].as_array().unwrap().iter().filter(|event| event["name"] == name).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_has_the_fleet_say_what_it_holds_by_making_up_a_generation() {
    let mut world = World::new().await;
    world.add("web");
    world.settle("lease 1", |node| lease_of(&node.state, WEB) == Some(1)).await;
    let own = world.node.state.proof.clone().expect("states come with a proof");
    let others = world.edges[0].state.proof.clone().unwrap();
    let ahead = Generation::new(1, 1_000_000);
    let forged = [
        None,
        Some(own.clone()),
        Some(StateProof { generation: ahead, ..own.clone() }),
        Some(StateProof { generation: ahead, ..others }),
        Some(StateProof { generation: ahead, root: "aa".repeat(32), ..own }),
    ];
    for proof in forged {
        let report = Report { applied: ahead, proof, ..workloads(&world.names) };
        assert_eq!(left_out(&world.node, report).await, ["applied"]);
    }
    world.turn().await;
    assert_eq!(events_named(&world.app, "recovery.begun").await, 0);
    assert_eq!(events_named(&world.app, "agent.overstepped").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_recovery_the_word_of_who_proves_nothing_takes_nothing_from_anybody() {
    let mut world = World::new().await;
    world.add("web");
    world.settle("lease 1", |node| lease_of(&node.state, WEB) == Some(1)).await;
    let mut liar = world.app.join(Role::Node, "n2", 2, None).await;
    liar.watch().await;
    let backup_path = world.app.store().with_file_name("backup.sqlite");
    backup(&world.app.store().into(), &backup_path).unwrap();
    world.add("db");
    world.settle("lease 2", |node| lease_of(&node.state, "workload/n1/db") == Some(2)).await;
    let held = world.held();

    let World { app, node, edges, names } = world;
    let directory = app.halt().await;
    restore(&directory.path().join("manager.sqlite").into(), &backup_path).unwrap();
    let mut world = World { app: TestApp::on(directory).await, node, edges, names };
    world.open_streams().await;
    liar.base.clone_from(&world.app.base);
    liar.watch().await;
    // The ports of both leases: one that the backup remembers, one that nobody has told yet. And numbers beyond all.
    for (id, lease) in &held {
        let (subject, node) = ("workload/n2/web".parse().unwrap(), "n2".parse().unwrap());
        let id = LeaseId(id.0 + (1 << 60));
        let lie = LeaseItem { id, subject, node, vni: persona_core::ids::Vni((1 << 24) - 1), ..lease.clone() };
        liar.state.insert(Item::Lease(lie));
    }
    liar.tell_holdings(Report::default()).await;
    let of_liar = |leases: &[LeaseView]| leases.iter().filter(|it| it.subject.to_string().contains("n2")).count();
    assert_eq!(of_liar(&world.app.leases().await), 1, "what nobody else was known to have");
    assert_eq!(events_named(&world.app, "recovery.contradiction").await, 1);
    for edge in &world.edges {
        edge.tell_holdings(alive()).await;
    }
    world.node.tell_holdings(workloads(&world.names)).await;
    let now = world.app.leases().await;
    assert_eq!(of_liar(&now), 0, "{now:?}");
    for (id, lease) in &held {
        let kept = now.iter().find(|it| it.id == *id).expect("a lease that is held stays");
        assert_eq!((&kept.space, kept.subject.to_string()), (&lease.space, lease.subject.to_string()));
    }
    // Numbers were not spent by it: a new persona is given one.
    world.app.apply(vec![persona("osaka", "tyo", &[])]).await;
}
