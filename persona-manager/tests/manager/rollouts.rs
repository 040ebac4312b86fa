//! Rollouts: new versions and switches go in waves, halt by what nodes report, and leave nothing when they are taken back.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::support::*;
use persona_core::ids::SubjectId;
use persona_core::wire::agent::{Counters, Rejection, Report, Role, SubjectCounters, Traffic};
use persona_core::wire::desired::{Item, SubjectItem};
use persona_core::wire::rollouts::RolloutView;
use serde_json::{Value, json};

const NODES: [&str; 4] = ["n1", "n2", "n3", "n4"];
const WORKLOADS_EACH: usize = 5;
const SUBJECTS: u32 = 20;

/// However slow the machine, what is waited for must come within this time.
const PATIENCE: Duration = Duration::from_secs(30);

fn rate(name: &str, rate: &str) -> Value {
    json!({ "apiVersion": "persona/v1", "kind": "Persona", "metadata": { "name": name },
        "spec": { "qos": { "egressRate": rate } } })
}

fn waves() -> Value {
    json!({ "waves": ["5%", "50%", "100%"], "soak": "300ms", "gate": { "settle": "5s" } })
}

/// Four nodes with five workloads each, all of which wear `a` in version 1 and carry traffic.
struct World {
    app: TestApp,
    nodes: BTreeMap<&'static str, FakeAgent>,
    turns: u64,
    /// Whether packets of nodes with somebody moved are dropped.
    is_faulty: bool,
    /// Nodes drop as much as this, per mille, whatever they wear.
    drops_always: u64,
    dropped: BTreeMap<&'static str, u64>,
    /// The most who were ever told the new rate.
    most_moved: usize,
}

impl World {
    async fn new() -> Self {
        let app = TestApp::new().await;
        let mut all = binding("all", &["a", "b"]);
        all["spec"]["default"] = json!("a");
        app.apply(vec![rate("a", "10mbit"), rate("b", "77mbit"), all]).await;
        let mut nodes = BTreeMap::new();
        for (name, byte) in NODES.into_iter().zip(1..) {
            let mut node = app.join(Role::Node, name, byte, None).await;
            node.watch().await;
            let names: Vec<String> = (0..WORKLOADS_EACH).map(|number| format!("w{number}")).collect();
            node.report(workloads(&names)).await;
            nodes.insert(name, node);
        }
        let (dropped, most_moved) = Default::default();
        let mut world = Self { app, nodes, turns: 0, is_faulty: false, drops_always: 0, dropped, most_moved };
        world.until("all wear it", |world| world.told("10000000") == SUBJECTS as usize).await;
        world
    }

    fn items(&self) -> BTreeMap<SubjectId, SubjectItem> {
        let items = self.nodes.values().flat_map(|node| node.state.items.values());
        items
            .filter_map(|item| if let Item::Subject(it) = item { Some((it.subject.clone(), it.clone())) } else { None })
            .collect()
    }

    /// How many are told this rate, bits per second.
    fn told(&self, rate: &str) -> usize {
        let rate = rate.parse().ok();
        self.items().values().filter(|item| item.qos.egress_bps == rate).count()
    }

    /// Every node takes in what came, and reports what it carried and dropped.
    async fn turn(&mut self) {
        self.turns += 1;
        for (name, node) in &mut self.nodes {
            node.take_what_is_there().await;
            let has_moved = node.state.items.values().any(
                |item| matches!(item, Item::Subject(it) if it.qos.egress_bps.is_some_and(|bps| bps != 10_000_000)),
            );
            let dropped = self.dropped.entry(name).or_default();
            *dropped += self.drops_always + if has_moved && self.is_faulty { 100 } else { 0 };
            node.report(Report { counters: Some(counted(node, self.turns, *dropped)), ..Report::default() }).await;
        }
        self.most_moved = self.most_moved.max(SUBJECTS as usize - self.told("10000000"));
    }

    async fn until(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is_so(self) {
            assert!(Instant::now() < deadline, "{what}: {} moved", self.most_moved);
            self.turn().await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn until_phase(&mut self, name: &str, phase: &str) -> RolloutView {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let view = self.view(name).await;
            if view.phase.as_str() == phase {
                return view;
            }
            assert!(Instant::now() < deadline, "{name} is not {phase}: {view:#?}");
            self.turn().await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn view(&self, name: &str) -> RolloutView {
        serde_json::from_value(self.app.get(&format!("/v1/rollouts/{name}")).await).unwrap()
    }

    async fn start(&self, body: Value) -> RolloutView {
        let (status, view) = self.app.post("/v1/rollouts?forceConflicts=true", body).await;
        assert_eq!(status, 200, "{view}");
        serde_json::from_value(view).unwrap()
    }

    async fn order(&self, name: &str, command: &str) -> (u16, Value) {
        self.app.post(&format!("/v1/rollouts/{name}/{command}"), json!({})).await
    }
}

/// A thousand packets a turn, both ways, of each subject.
fn counted(node: &FakeAgent, turns: u64, dropped: u64) -> Counters {
    let traffic = Traffic { egress_packets: turns * 500, ingress_packets: turns * 500, ..Traffic::default() };
    let subject = |number| SubjectCounters {
        subject: format!("workload/{}/w{number}", node.name).parse().unwrap(),
        traffic,
        opened_flows: 0,
        dropped_packets: 0,
    };
    Counters {
        subjects: (0..WORKLOADS_EACH).map(subject).collect(),
        personas: [(1, traffic)].into(),
        drops: [("no-lease".to_owned(), dropped)].into(),
        ..Counters::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_version_goes_in_waves_and_is_in_force_for_everybody_at_the_end() {
    let mut world = World::new().await;
    let view = world.start(json!({ "documents": [rate("a", "20mbit")], "spec": waves() })).await;
    assert_eq!((view.name.as_str(), view.members, view.moved, view.phase.as_str()), ("a-2", SUBJECTS, 0, "observing"));
    let counts: Vec<u32> = view.waves.iter().map(|wave| wave.subjects).collect();
    assert_eq!(counts, [1, 10, 20]);
    assert_eq!(world.app.get("/v1/personas/a").await["version"], 1, "the version in force is still the first");
    for most in [1, 10] {
        world.until("the wave is there", |world| world.told("20000000") >= most).await;
        assert_eq!(world.told("20000000"), most);
        let soaking = world.view("a-2").await;
        assert_eq!((soaking.moved as usize, soaking.phase.as_str()), (most, "soaking"));
        assert!(soaking.moved_subjects.len() == most && soaking.reason.is_none());
    }
    world.until_phase("a-2", "done").await;
    world.until("everybody has it", |world| world.told("20000000") == 20).await;
    let persona = world.app.get("/v1/personas/a").await;
    assert_eq!((&persona["version"], &persona["latestVersion"]), (&json!(2), &json!(2)));
    let events = world.app.events().await;
    let named = |name: &str| events.iter().filter(|event| event.name == name).count();
    assert_eq!((named("rollout.started"), named("rollout.wave"), named("rollout.done")), (1, 3, 1));
    let (status, refused) = world.order("a-2", "rollback").await;
    assert!(status == 409 && refused["detail"].as_str().unwrap().contains("it is over"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn drops_halt_it_at_the_first_wave_and_a_rollback_gives_back_what_was() {
    let mut world = World::new().await;
    let before = world.items();
    (world.is_faulty, world.drops_always) = (true, 1);
    world.start(json!({ "documents": [rate("a", "20mbit")], "spec": waves() })).await;
    let halted = world.until_phase("a-2", "halted").await;
    let reason = halted.reason.unwrap();
    assert!(reason.contains("no-lease") && reason.contains("elsewhere"), "{reason}");
    assert_eq!((halted.wave, halted.moved, world.most_moved), (1, 1, 1));
    let events = world.app.events().await;
    assert!(events.iter().any(|event| event.name == "rollout.halted" && event.message.contains("no-lease")));

    world.is_faulty = false;
    for _ in 0..40 {
        world.turn().await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!((world.view("a-2").await.phase.as_str(), world.most_moved), ("halted", 1), "it stays halted");
    let (status, refused) = world.app.post(APPLY, json!({ "documents": [rate("a", "30mbit")] })).await;
    assert!(status == 409 && refused["detail"].as_str().unwrap().contains("rollout a-2"), "{refused}");
    let (status, _) = world.app.call("DELETE", "/v1/personas/a", None).await;
    assert_eq!(status, 409);
    assert_eq!(world.order("a-2", "pause").await.0, 409, "what halted cannot pause");

    let (status, view) = world.order("a-2", "rollback").await;
    assert_eq!((status, &view["phase"]), (200, &json!("rolledBack")), "{view}");
    world.until("nobody has it", |world| world.told("10000000") == 20).await;
    assert_eq!(world.items(), before, "to the byte");
    assert_eq!(world.app.get("/v1/personas/a").await["version"], 1);
    assert_eq!(world.app.get("/v1/personas/a/versions").await["items"].as_array().unwrap().len(), 2, "it is history");
    let again = world.start(json!({ "documents": [rate("a", "20mbit")], "spec": waves() })).await;
    assert_eq!(again.name.as_str(), "a-3", "no number is given twice");
    assert_eq!(world.order("a-3", "resume").await.0, 409, "what runs cannot resume");
    world.until_phase("a-3", "done").await;
    let (status, back) = world.app.post("/v1/personas/a/rollback", json!({})).await;
    assert_eq!((status, &back["version"]), (200, &json!(4)), "{back}");
    world.until("what was in force before is worn again", |world| world.told("10000000") == 20).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_rejects_what_it_is_told_halts_it_and_somebody_may_go_on() {
    let mut world = World::new().await;
    world.start(json!({ "name": "fast", "documents": [rate("a", "20mbit")], "spec": waves() })).await;
    world.until("the first is moved", |world| world.told("20000000") == 1).await;
    let view = world.view("fast").await;
    let node = view.moved_subjects[0].node().to_string();
    let node = NODES.into_iter().find(|name| **name == *node).unwrap();
    let agent = &world.nodes[node];
    let rejected = Some(Rejection { generation: agent.state.generation, reason: "no such qdisc".into() });
    let applied = persona_core::ids::Generation(agent.state.generation.0 - 1);
    let body = serde_json::to_vec(&Report { applied, rejected, ..Report::default() }).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while world.view("fast").await.phase.as_str() != "halted" {
        assert!(Instant::now() < deadline);
        world.nodes[node].request("POST", "/v1/agent/report", body.clone()).send().await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let reason = world.view("fast").await.reason.unwrap();
    assert_eq!(reason, format!("node {node} rejects what it was told: no such qdisc"));
    assert_eq!(world.order("fast", "resume").await.0, 200);
    world.until_phase("fast", "done").await;
    assert_eq!(world.told("20000000"), 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_switch_of_many_is_taken_back_but_for_what_people_did_since() {
    let mut world = World::new().await;
    let (status, _) = world.app.post("/v1/switch", json!({ "subject": "workload/n1/w0", "persona": "a" })).await;
    assert_eq!(status, 200);
    let selector = json!({ "kind": "workload", "names": ["workload/n1/*", "workload/n2/*"] });
    let start = json!({ "switch": { "selector": selector, "persona": "b" }, "spec": { "waves": ["50%", "100%"], "soak": "300ms" } });
    let viewer = world.app.with_bearer(&world.app.access("au", "author").await);
    let by_author = viewer.post(format!("{}/v1/rollouts", world.app.base)).json(&start).send().await.unwrap();
    assert_eq!(by_author.status(), 403, "who may not switch may not switch many");
    let view = world.start(start).await;
    assert_eq!((view.name.as_str(), view.members), ("b-switch", 10));
    world.until("half of them are switched", |world| world.told("77000000") == 5).await;
    assert_eq!(world.order("b-switch", "pause").await.0, 200);
    let moved = world.view("b-switch").await.moved_subjects;
    let other = moved.iter().find(|subject| subject.to_string() != "workload/n1/w0").unwrap();
    let (status, _) = world.app.post("/v1/switch", json!({ "subject": other, "persona": "a" })).await;
    assert_eq!(status, 200);
    assert_eq!(world.order("b-switch", "rollback").await.0, 200);
    world.until("nobody wears it", |world| world.told("77000000") == 0).await;
    let layer = async |subject: String| {
        let explained = world.app.get(&format!("/v1/explain/{subject}")).await;
        explained["assignment"]["sections"]["qos"]["layer"].as_str().unwrap().to_owned()
    };
    assert_eq!(layer("workload/n1/w0".to_owned()).await, "manual", "it was switched by hand before");
    assert_eq!(layer(other.to_string()).await, "manual", "and this one since");
    let untouched = moved.iter().find(|it| *it != other && it.to_string() != "workload/n1/w0").unwrap();
    assert_eq!(layer(untouched.to_string()).await, "binding");
    let nobody =
        json!({ "switch": { "selector": { "kind": "workload", "names": ["workload/n9/*"] }, "persona": "b" } });
    assert_eq!(world.app.post("/v1/rollouts", nobody).await.0, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_goes_on_where_it_was_and_waves_wait_for_what_changes_may_reach() {
    let mut world = World::new().await;
    let limit = json!({ "limit": { "percentPerHour": 20, "subjectsAtLeast": 4 } });
    assert_eq!(world.app.call("PUT", "/v1/settings/reach", Some(limit)).await.0, 200);
    world.start(json!({ "documents": [rate("a", "20mbit")], "spec": waves() })).await;
    world.until("as many as may are moved", |world| world.told("20000000") == 4).await;
    let waiting = world.view("a-2").await;
    assert_eq!((waiting.moved, waiting.wave, waiting.phase.as_str()), (4, 2, "soaking"));
    assert!(waiting.waiting.unwrap().starts_with("6 more are due in wave 2"));
    assert_eq!(world.app.get("/v1/settings/reach").await["used"], 4);

    let World { app, .. } = world;
    let app = app.restart().await;
    let view: RolloutView = serde_json::from_value(app.get("/v1/rollouts/a-2").await).unwrap();
    assert_eq!((view.moved, view.wave, view.phase.as_str()), (4, 2, "soaking"), "nobody is forgotten, nobody is moved");
    assert_eq!(app.call("PUT", "/v1/settings/reach", Some(json!({ "limit": null }))).await.0, 200);
    // Its nodes are silent: what is moved now is not judged by them, and cannot be in force.
    let all = async || app.get("/v1/rollouts/a-2").await["moved"] == 10;
    eventually("the wave is filled up", all).await;
    assert_eq!(app.post("/v1/rollouts/a-2/abort", json!({ "reason": "enough" })).await.0, 200);
    let (status, refused) = app.post(APPLY, json!({ "documents": [rate("a", "30mbit")] })).await;
    assert_eq!(status, 409, "{refused}");
    let explained = app.get(&format!("/v1/explain/{}", view.moved_subjects[0])).await;
    assert_eq!(explained["assignment"]["sections"]["qos"]["version"], 2, "who was moved stays");
    assert_eq!(app.post("/v1/rollouts/a-2/rollback", json!({})).await.0, 200);
    let explained = app.get(&format!("/v1/explain/{}", view.moved_subjects[0])).await;
    assert_eq!(explained["assignment"]["sections"]["qos"]["version"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_rolled_out_says_why() {
    let world = World::new().await;
    let cases = [
        (json!({ "documents": [rate("new", "1mbit")] }), 400, "new"),
        (json!({ "documents": [rate("a", "10mbit")] }), 400, "nothing of that differs"),
        (json!({ "documents": [binding("all", &["b"])] }), 400, "Binding all"),
        (json!({ "documents": [rate("a", "1mbit")], "spec": { "waves": ["50%"] } }), 400, "has to be 100%"),
        (json!({ "documents": [rate("a", "1mbit")], "spec": { "wave": [] } }), 400, "unknown field"),
        (json!({}), 400, "documents has 0 entries"),
        (json!({ "switch": { "selector": { "kind": "node" }, "persona": "none" } }), 404, "no persona none"),
        (json!({ "switch": { "selector": { "kind": "node" }, "persona": "b" } }), 409, "4 of 4 cannot wear b"),
    ];
    for (body, expected, words) in cases {
        let (status, refused) = world.app.post("/v1/rollouts?forceConflicts=true", body).await;
        assert!(status == expected && refused.to_string().contains(words), "{words}: {status} {refused}");
    }
    assert_eq!(world.app.get("/v1/rollouts").await["items"], json!([]));
    assert_eq!(world.app.post("/v1/rollouts/none/pause", json!({})).await.0, 404);
}
