//! The plan of the live fleet: as advice it is shown, steering it is told to nodes, and follows edges that die, drain and return.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::support::*;
use persona_core::document::Format;
use persona_core::plan::{Fleet, Plan, Planner, parse_fleet};
use persona_core::wire::agent::{Counters, Report, Role, Traffic};
use persona_core::wire::desired::{DesiredState, Item};
use persona_core::wire::planning::PlanView;
use serde_json::{Value, json};

const SUBJECT_COUNT: usize = 12;
const EDGES: [&str; 3] = ["f1", "f2", "f3"];

/// However slow the machine, what is waited for must come within this time.
const PATIENCE: Duration = Duration::from_secs(30);

struct World {
    app: TestApp,
    node: FakeAgent,
    edges: BTreeMap<&'static str, FakeAgent>,
    /// Edges that say nothing.
    silent: BTreeSet<&'static str>,
}

impl World {
    /// Node `n1` with twelve workloads, all of them with leases, and three serving edges of one group that state the same
    /// capacity, but for those named.
    async fn new(unstated: &[&str]) -> Self {
        Self::holding(unstated, 100).await
    }

    /// The same with edges that can hold so many leases.
    async fn holding(unstated: &[&str], lease_count: u32) -> Self {
        let app = TestApp::with(|config| config.hold_max_ms = 1_000).await;
        let documents =
            vec![pool("fra", "198.51.100.0/28"), persona("frankfurt", "fra", &[]), binding("all", &["frankfurt"])];
        app.apply(documents).await;
        let mut node = app.join(Role::Node, "n1", 1, None).await;
        let mut edges = BTreeMap::new();
        for (name, byte) in EDGES.into_iter().zip(11..) {
            let mut edge = FakeAgent::new(&app, Role::Edge, name, byte, Some("fra"));
            let capacity = json!({ "bitsPerSec": 1_000_000_000, "leaseCount": lease_count, "cpuPercent": 80 });
            let capacity = if unstated.contains(&name) { Value::Null } else { capacity };
            let token = app.token(Role::Edge).await;
            let (status, body) = edge.register_with(json!({ "token": token, "capacity": capacity })).await;
            assert_eq!(status, 200, "{body}");
            edge.take(body);
            edge.watch().await;
            edges.insert(name, edge);
        }
        node.watch().await;
        let mut world = Self { app, node, edges, silent: BTreeSet::new() };
        let names: Vec<String> = (0..SUBJECT_COUNT).map(|number| format!("w{number}")).collect();
        world.node.report(workloads(&names)).await;
        world.until("everybody has a lease", |world| world.told().len() == SUBJECT_COUNT).await;
        world
    }

    /// Everybody who is not silent takes in what came, and reports.
    async fn turn(&mut self) {
        let silent = &self.silent;
        for (_, edge) in self.edges.iter_mut().filter(|(name, _)| !silent.contains(*name)) {
            edge.take_what_is_there().await;
            edge.report(Report { outside_alive: Some(true), ..Report::default() }).await;
        }
        self.node.take_what_is_there().await;
        self.node.report(Report::default()).await;
    }

    async fn until(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is_so(self) {
            assert!(Instant::now() < deadline, "{what}: {:?}", self.told());
            self.turn().await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// What the node is told: by subject with a lease, its planned edge or nothing.
    fn told(&self) -> BTreeMap<String, String> {
        planned_in(&self.node.state)
    }

    fn count_on(&self, edge: &str) -> usize {
        self.told().values().filter(|planned| *planned == edge).count()
    }

    async fn set(&self, settings: Value) {
        let (status, body) = self.app.call("PUT", "/v1/settings/planning", Some(settings)).await;
        assert_eq!(status, 200, "{body}");
    }

    async fn plan(&self) -> PlanView {
        serde_json::from_value(self.app.get("/v1/plan").await).unwrap()
    }
}

fn planned_in(state: &DesiredState) -> BTreeMap<String, String> {
    let networks = state.items.values().filter_map(|item| match item {
        Item::Subject(item) => Some((item.subject.to_string(), item.network.as_ref()?)),
        _ => None,
    });
    let edge = |planned: &[persona_core::ids::EdgeName]| planned.first().map(ToString::to_string).unwrap_or_default();
    networks.map(|(subject, network)| (subject, edge(&network.planned))).collect()
}

/// Steering, in waves that come fast and take everybody.
fn steering() -> Value {
    json!({ "mode": "steer", "planning": { "pace": { "every": "10ms", "arrivals": "100%" } } })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_steering_plan_follows_edges_that_die_drain_and_return() {
    let mut world = World::new(&[]).await;
    assert!(world.told().values().all(String::is_empty), "as advice nobody is told anything");
    world.set(steering()).await;
    world.until("everybody is planned", |world| world.told().values().all(|edge| !edge.is_empty())).await;
    let before = world.told();
    assert!(EDGES.iter().all(|edge| (3..=5).contains(&world.count_on(edge))), "{before:?}");
    let moved = world.app.events().await.into_iter().find(|event| event.name == "plan.moved").unwrap();
    let next = moved.details["next"].as_array().unwrap();
    assert_eq!(next.len(), EDGES.len() - 1, "what else was considered is kept: {}", moved.details);
    assert!(next.iter().all(|edge| edge["edge"] != moved.details["after"]), "{}", moved.details);

    world.silent.insert("f3");
    world.until("nobody is on the dead edge", |world| world.count_on("f3") == 0).await;
    let after = world.told();
    let dead = before.values().filter(|edge| *edge == "f3").count();
    let by_choice = before.iter().filter(|(who, edge)| *edge != "f3" && after[*who] != **edge).count();
    assert!(by_choice <= dead.div_ceil(5), "{by_choice} moved who could stay, for {dead} who could not");

    world.silent.clear();
    world.until("the edge that came back has its fair share", |world| world.count_on("f3") >= 3).await;
    let back = world.told();
    let moved = after.iter().filter(|(who, edge)| back[*who] != **edge).count();
    assert!(moved <= 5, "six fifths of a fair share of {} may move: {moved}", SUBJECT_COUNT / 3);

    let (status, _) = world.app.call("POST", "/v1/edges/f1/drain", Some(json!(null))).await;
    assert_eq!(status, 200);
    world.until("the drained edge is empty", |world| world.count_on("f1") == 0).await;
    let plan = world.plan().await;
    let drained = plan.edges.iter().find(|edge| edge.edge.as_str() == "f1").unwrap();
    assert_eq!((drained.service.as_str(), drained.subjects), ("draining", 0));
    assert!(plan.subjects.iter().all(|it| it.edge.is_some() && it.since_ms.is_some()), "{:?}", plan.subjects);

    let history = world.app.get("/v1/plan/history?limit=3").await;
    let newest = history["items"][0]["message"].as_str().unwrap();
    assert!(newest.contains("f1 → ") && newest.contains("its edge is draining"), "{newest}");
    let numbers: Vec<u64> =
        history["items"].as_array().unwrap().iter().map(|it| it["number"].as_u64().unwrap()).collect();
    assert!(numbers.len() == 3 && numbers.is_sorted_by(|one, other| one > other), "{numbers:?}");
    let explained = world.app.get("/v1/explain/workload/n1/w0").await;
    let considered = explained["edges"]["considered"].as_array().unwrap();
    let refused = considered.iter().find(|edge| edge["edge"] == "f1").unwrap();
    assert_eq!((considered.len(), &refused["refusals"]), (3, &json!(["service: it is draining"])), "{explained}");

    world.set(json!({ "mode": "advise" })).await;
    world.until("nobody is told anything", |world| world.told().values().all(String::is_empty)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_live_fleet_is_what_simulate_reads_and_policies_are_kept() {
    let mut world = World::new(&[]).await;
    let text = world.app.get("/v1/fleet").await.to_string();
    let fleet: Fleet = parse_fleet(&text, Format::Json).unwrap();
    let subjects: usize = fleet.nodes.iter().map(|node| node.subjects.len()).sum();
    assert_eq!((fleet.edges.len(), fleet.nodes.len(), subjects), (3, 1, SUBJECT_COUNT));
    let plan = world.plan().await;
    assert_eq!(plan.plan.subjects.len(), SUBJECT_COUNT);
    let again = Planner::new(fleet, &plan.plan).unwrap().replan();
    assert!(again.moves.is_empty() && again.refusals.is_empty(), "advice holds on the fleet that is served: {again:?}");

    let wrong =
        json!({ "policies": [{ "name": "p", "rule": { "maxGroupShare": { "group": "fro", "share": "50%" } } }] });
    let (status, body) = world.app.call("PUT", "/v1/settings/planning", Some(wrong)).await;
    assert_eq!(status, 400, "{body}");
    assert!(body["detail"].as_str().unwrap().contains("did you mean fra?"), "{body}");

    let mut settings = steering();
    settings["policies"] = json!([{ "name": "not-there", "rule": { "deny": { "edges": ["f2"] } } }]);
    world.set(settings).await;
    world.until("everybody is planned", |world| world.told().values().all(|edge| !edge.is_empty())).await;
    assert_eq!(world.count_on("f2"), 0);
    let probe = json!({ "intervalMs": 100, "multiplier": 3 });
    assert_eq!(world.app.call("PUT", "/v1/settings/probe", Some(probe)).await.0, 200);
    assert_eq!(world.app.get("/v1/settings/planning").await["mode"], "steer", "one setting leaves the other");
}

/// What an edge reports that has carried so many packets, with its processor in use by these millionths.
fn carried(packets: u64, [cpu, packet_cpu]: [u32; 2]) -> Report {
    let traffic = Traffic { egress_packets: packets, ..Traffic::default() };
    let counters = Counters {
        personas: [(1, traffic)].into(),
        cpu_millionths: Some(cpu),
        packet_cpu_millionths: Some(packet_cpu),
        ..Counters::default()
    };
    Report { outside_alive: Some(true), counters: Some(counters), ..Report::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn edges_are_given_the_packets_that_their_processors_have_time_for() {
    let mut world = World::new(&[]).await;
    let start = Instant::now();
    for packets in [0, 100_000] {
        // Half of what f1 has in use is somebody else's; f2 is idle; f3 tells nothing.
        for (edge, packets, used) in [("f1", packets, [400_000, 200_000]), ("f2", 0, [0, 0])] {
            world.edges.get_mut(edge).unwrap().report(carried(packets, used)).await;
        }
        tokio::time::sleep(Duration::from_millis(1_100)).await;
    }
    let fleet: Fleet = parse_fleet(&world.app.get("/v1/fleet").await.to_string(), Format::Json).unwrap();
    let room: Vec<Option<u64>> = fleet.edges.iter().map(|edge| edge.capacity.processor_packets_per_sec).collect();
    // 20 % carry the packets, the others leave 60 % of 80: three times as many, and four times at f2, less the steps.
    let most = 100_000.0 / 1.1;
    let least = 100_000.0 / start.elapsed().as_secs_f64();
    let is_within = |room: Option<u64>, times: f64| {
        room.is_some_and(|room| (least * times * 0.88..=most * times + 1.0).contains(&(room as f64)))
    };
    assert!(is_within(room[0], 3.0) && is_within(room[1], 4.0) && room[2].is_none(), "{room:?}, {least} to {most}");
    let edge = world.app.get("/v1/edges/f1").await;
    let is_half = edge["load"]["fullness"].as_f64().is_some_and(|full| (full - 0.5).abs() < 1e-6);
    assert!(is_half && edge["load"]["fullest"] == "processor", "{}", edge["load"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_with_an_edge_that_states_nothing_is_left_to_its_weights() {
    let mut world = World::new(&["f2"]).await;
    world.set(steering()).await;
    let plan = world.plan().await;
    assert_eq!(plan.subjects.len(), SUBJECT_COUNT);
    for subject in &plan.subjects {
        assert_eq!(subject.edge, None);
        assert!(subject.reason.contains("f2 must state"), "{}", subject.reason);
    }
    assert_eq!(plan.plan, Plan { edges: plan.plan.edges.clone(), ..Plan::default() });
    // A pass comes with every change: had it something to tell, it would by now.
    let generation = world.node.state.generation;
    world.app.apply(vec![pool("tok", "203.0.113.0/28")]).await;
    for _ in 0..80 {
        world.turn().await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(world.told().values().all(String::is_empty) && world.node.state.generation >= generation);
}

#[tokio::test(flavor = "multi_thread")]
async fn moves_are_spread_over_waves_in_which_no_edge_gets_more_than_its_arrivals() {
    const EVERY_MS: u64 = 250;
    // A twentieth of twenty leases: one at a time.
    let mut world = World::holding(&[], 20).await;
    world.set(json!({ "mode": "steer", "planning": { "pace": { "every": "250ms", "arrivals": "5%" } } })).await;
    world.until("everybody is planned", |world| world.told().values().all(|edge| !edge.is_empty())).await;
    assert!(EDGES.iter().all(|edge| world.count_on(edge) >= 3), "{:?}", world.told());
    check_pace(&world.plan().await, EVERY_MS);

    let moved_ms = now_ms();
    world.silent.insert("f3");
    world.until("nobody is on the dead edge", |world| world.count_on("f3") == 0).await;
    let plan = world.plan().await;
    let moved = plan.subjects.iter().filter(|it| it.since_ms.is_some_and(|since| since >= moved_ms)).count();
    assert!(moved >= 3, "those of the dead edge moved: {:?}", plan.subjects);
    check_pace(&plan, EVERY_MS);
}

/// Who came to an edge in one wave, and how far waves are apart.
fn check_pace(plan: &PlanView, every_ms: u64) {
    let mut waves: BTreeMap<u64, Vec<&str>> = BTreeMap::new();
    for subject in &plan.subjects {
        let (since, edge) = (subject.since_ms.unwrap(), subject.edge.as_ref().unwrap());
        waves.entry(since).or_default().push(edge.as_str());
    }
    for (since, edges) in &waves {
        let distinct: BTreeSet<&&str> = edges.iter().collect();
        assert_eq!(distinct.len(), edges.len(), "an edge got two at {since}: {waves:?}");
    }
    // Two clocks say the time: one may round down where the other does not.
    let starts: Vec<u64> = waves.keys().copied().collect();
    assert!(starts.windows(2).all(|pair| pair[1] - pair[0] + 1 >= every_ms), "waves too close: {starts:?}");
}
