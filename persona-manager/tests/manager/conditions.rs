//! What a node measures and asks with decides, is kept as part of the reason, and what it says in between decides nothing.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::support::*;
use persona_core::wire::agent::{EdgeHealth, Report, Role};
use persona_core::wire::conditions::{Conditions, PathCondition};
use persona_core::wire::desired::Item;
use serde_json::json;

/// However slow the machine, what is waited for must come within this time.
const PATIENCE: Duration = Duration::from_secs(30);

struct World {
    app: TestApp,
    node: FakeAgent,
    edges: BTreeMap<&'static str, FakeAgent>,
    /// What the node's probes say, and what it has asked with.
    probed: Vec<EdgeHealth>,
    asked: Option<Conditions>,
}

impl World {
    /// A workload that wears the first of two personas, each with an edge of its own.
    async fn new() -> Self {
        let app = TestApp::new().await;
        let mut documents = vec![pool("fra", "198.51.100.0/28"), pool("tok", "203.0.113.0/28")];
        documents.extend([persona("frankfurt", "fra", &[]), persona("tokyo", "tok", &[])]);
        documents.push(binding("all", &["frankfurt", "tokyo"]));
        app.apply(documents).await;
        let mut node = app.join(Role::Node, "n1", 1, None).await;
        let mut edges = BTreeMap::new();
        for (name, group, byte) in [("f1", "fra", 11), ("t1", "tok", 12)] {
            let mut edge = app.join(Role::Edge, name, byte, Some(group)).await;
            edge.watch().await;
            edges.insert(name, edge);
        }
        node.watch().await;
        node.report(workloads(&["web".to_owned()])).await;
        let mut world = Self { app, node, edges, probed: Vec::new(), asked: None };
        world.until("it wears the first", "frankfurt").await;
        world
    }

    async fn turn(&mut self) {
        for edge in self.edges.values_mut() {
            edge.take_what_is_there().await;
            edge.report(Report { outside_alive: Some(true), ..Report::default() }).await;
        }
        self.node.take_what_is_there().await;
        let (edges, conditions) = (Some(self.probed.clone()), self.asked.clone());
        self.node.report(Report { edges, conditions, ..Report::default() }).await;
    }

    fn worn(&self) -> String {
        let worn = self.node.state.items.values().find_map(|item| match item {
            Item::Subject(item) => Some(item.network.as_ref()?.persona.to_string()),
            _ => None,
        });
        worn.unwrap_or_default()
    }

    async fn until(&mut self, what: &str, persona: &str) {
        let deadline = Instant::now() + PATIENCE;
        while self.worn() != persona {
            assert!(Instant::now() < deadline, "{what}: {:?}", self.worn());
            self.turn().await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn reason(&self) -> String {
        let explained = self.app.get("/v1/explain/workload/n1/web").await;
        explained["assignment"]["sections"]["network"]["reason"].as_str().unwrap().to_owned()
    }
}

fn asked(number: u64, cause: &str, loss: f32) -> Option<Conditions> {
    let path = |group: &str, loss| PathCondition { group: group.parse().unwrap(), rtt_us: Some(12_000), loss };
    let paths = vec![path("fra", loss), path("tok", 0.0)];
    Some(Conditions { number, cause: cause.to_owned(), rate_bps: None, available_bps: None, paths })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_that_got_worse_moves_a_subject_once_its_node_asks() {
    let mut world = World::new().await;
    world.asked = asked(1, "the agent has started", 0.0);
    let health = |edge: &str, loss| EdgeHealth {
        edge: edge.parse().unwrap(),
        alive: true,
        rtt_us: Some(12_000),
        jitter_us: None,
        loss,
        generation: Default::default(),
    };
    world.probed = vec![health("f1", 0.5), health("t1", 0.0)];
    for _ in 0..60 {
        world.turn().await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(world.worn(), "frankfurt", "it has not asked: what probes say may be over in a moment");
    let reason = world.reason().await;
    assert!(reason.ends_with("12.0 ms and 0.0 % loss to fra, when it asked: the agent has started"), "{reason}");

    world.asked = asked(2, "loss to fra 0.0 % → 50.0 %", 0.5);
    world.until("it is moved", "tokyo").await;
    let reason = world.reason().await;
    assert!(reason.contains("loss to tok, when it asked: loss to fra 0.0 % → 50.0 %"), "{reason}");
    let explained = world.app.get("/v1/explain/workload/n1/web").await;
    let considered = explained["considered"].as_array().unwrap();
    let other = considered.iter().find(|it| it["persona"] == "frankfurt").unwrap();
    assert_eq!(other["scores"]["loss"], -20.0, "{other}");

    world.asked = asked(3, "loss to fra 50.0 % → 0.0 %", 0.0);
    world.until("it is back", "frankfurt").await;
    let edge = &world.edges["f1"];
    let body = serde_json::to_vec(&Report { conditions: asked(1, "x", 0.0), ..Report::default() }).unwrap();
    let answer = edge.request("POST", "/v1/agent/report", body).send().await.unwrap();
    assert_eq!(answer.status(), 400, "edges wear nothing: {}", json!(answer.text().await.unwrap()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_hears_nobody_is_cut_off_and_no_edge_is_blamed() {
    let mut world = World::new().await;
    let mut other = world.app.join(Role::Node, "n2", 2, None).await;
    other.watch().await;
    other.report(workloads(&["app".to_owned()])).await;
    let health = |alive| {
        let of = |edge: &str| EdgeHealth {
            edge: edge.parse().unwrap(),
            alive,
            rtt_us: Some(12_000),
            jitter_us: None,
            loss: 0.0,
            generation: Default::default(),
        };
        vec![of("f1"), of("t1")]
    };
    // Before n1 hears nobody, n2 is known to hear somebody.
    other.report(Report { edges: Some(health(true)), ..Report::default() }).await;
    let deadline = Instant::now() + PATIENCE;
    for (alive, event) in [(false, "node.cut-off"), (true, "node.reached")] {
        world.probed = health(alive);
        loop {
            world.turn().await;
            other.take_what_is_there().await;
            other.report(Report { edges: Some(health(true)), ..Report::default() }).await;
            let edge = world.app.get("/v1/edges/f1").await;
            assert_eq!((&edge["state"], &edge["flags"]), (&json!("up"), &json!([])), "{edge}");
            if world.app.get("/v1/nodes/n1").await["cutOff"] == json!(!alive) {
                break;
            }
            assert!(Instant::now() < deadline, "{event} does not come");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let events = world.app.get("/v1/events?limit=1000").await.to_string();
        assert!(events.contains(event) && !events.contains("edge.flagged"), "{events}");
        assert_eq!(world.app.get("/v1/nodes/n2").await["cutOff"], json!(false));
    }
}
