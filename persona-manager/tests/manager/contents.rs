//! Closeness to content: edges are told which sources there are, measure them, and subjects follow what is clearly closer.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::support::*;
use persona_core::document::Format;
use persona_core::plan::parse_fleet;
use persona_core::wire::agent::{Report, Role};
use persona_core::wire::contents::Contents;
use persona_core::wire::desired::Item;
use serde_json::{Value, json};

/// However slow the machine, what is waited for must come within this time.
const PATIENCE: Duration = Duration::from_secs(30);

/// Long enough for a subject to move that should not.
const TURN_COUNT: usize = 60;

const SUBJECT: &str = "workload/n1/web";

struct World {
    app: TestApp,
    node: FakeAgent,
    edges: BTreeMap<&'static str, FakeAgent>,
}

fn near(name: &str, content: Value) -> Value {
    json!({ "apiVersion": "persona/v1", "kind": "Persona", "metadata": { "name": name },
        "spec": { "capabilities": ["video"],
            "network": { "egress": { "pools": ["fra", "tok"] }, "edges": { "content": content } } } })
}

impl World {
    /// A workload that wears a persona with a pool in each of two groups, and wants to be close to a name.
    async fn new() -> Self {
        let app = TestApp::new().await;
        let documents = vec![
            pool("fra", "198.51.100.0/28"),
            pool("tok", "203.0.113.0/28"),
            near("near", json!({ "name": "cdn.example.com" })),
            near("unnamed", json!({ "name": "nobody.example.com" })),
            binding("all", &["near"]),
        ];
        app.apply(documents).await;
        let mut node = app.join(Role::Node, "n1", 1, None).await;
        let mut edges = BTreeMap::new();
        for (name, group, byte) in [("f1", "fra", 11), ("t1", "tok", 12)] {
            let mut edge = FakeAgent::new(&app, Role::Edge, name, byte, Some(group));
            let token = app.token(Role::Edge).await;
            let place = match name {
                "f1" => json!({ "latitude": "50.11", "longitude": "8.68" }),
                _ => json!({ "latitude": "35.68", "longitude": "139.69" }),
            };
            let (status, body) = edge.register_with(json!({ "token": token, "labels": place })).await;
            assert_eq!(status, 200, "{body}");
            edge.take(body);
            edge.watch().await;
            edges.insert(name, edge);
        }
        node.watch().await;
        node.report(workloads(&["web".to_owned()])).await;
        let mut world = Self { app, node, edges };
        world.until("nobody has measured anything", "fra").await;
        world
    }

    async fn turn(&mut self) {
        for edge in self.edges.values_mut() {
            edge.take_what_is_there().await;
            edge.report(Report { outside_alive: Some(true), ..Report::default() }).await;
        }
        self.node.take_what_is_there().await;
        self.node.report(Report::default()).await;
    }

    /// The group that carries the workload, as its node is told.
    fn group(&self) -> String {
        let group = self.node.state.items.values().find_map(|item| match item {
            Item::Subject(item) => Some(item.network.as_ref()?.group.to_string()),
            _ => None,
        });
        group.unwrap_or_default()
    }

    async fn until(&mut self, what: &str, group: &str) {
        let deadline = Instant::now() + PATIENCE;
        while self.group() != group {
            assert!(Instant::now() < deadline, "{what}: {:?}", self.group());
            self.turn().await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn stays(&mut self, what: &str, group: &str) {
        for _ in 0..TURN_COUNT {
            self.turn().await;
            assert_eq!(self.group(), group, "{what}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn asked(&self, edge: &str) -> Vec<String> {
        let answer = self.edges[edge].request("GET", "/v1/agent/contents", Vec::new()).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        let contents: Contents = answer.json().await.unwrap();
        contents.contents.iter().map(ToString::to_string).collect()
    }

    async fn measured(&self, edge: &str, contents: &[(&str, u32)]) {
        let contents = contents.iter().map(|(source, ms)| ((*source).to_owned(), ms * 1_000)).collect();
        self.edges[edge]
            .report(Report { outside_alive: Some(true), contents: Some(contents), ..Report::default() })
            .await;
    }

    async fn scores(&self) -> Value {
        self.app.get(&format!("/v1/explain/{SUBJECT}")).await["considered"][0]["scores"].clone()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subject_goes_where_its_content_is_clearly_closer() {
    let mut world = World::new().await;
    assert_eq!(world.asked("f1").await, ["cdn.example.com"], "what nobody may wear is not measured");
    assert_eq!(world.asked("t1").await, ["cdn.example.com"]);
    world.measured("f1", &[("cdn.example.com", 70), ("other.example.com", 1)]).await;
    world.measured("t1", &[("cdn.example.com", 40)]).await;
    world.stays("30 ms are not worth the move", "fra").await;
    let f1 = world.app.get("/v1/edges/f1").await;
    assert_eq!(f1["contentRttUs"], json!({ "cdn.example.com": 70_000 }), "what it was not asked for is nothing");
    assert_eq!(world.scores().await["content"], -7.0);

    world.measured("t1", &[("cdn.example.com", 5)]).await;
    world.until("65 ms are", "tok").await;
    assert_eq!(world.scores().await["content"], -0.5);
    let fleet = world.app.get("/v1/fleet").await.to_string();
    let fleet = parse_fleet(&fleet, Format::Json).unwrap();
    assert_eq!(
        fleet.personas.iter().find(|it| it.name.as_str() == "near").unwrap().content.as_deref(),
        Some("cdn.example.com")
    );
    let rtts: Vec<_> = fleet.edges.iter().map(|edge| edge.content_rtt_ms.get("cdn.example.com").copied()).collect();
    assert_eq!(rtts, [Some(70.0), Some(5.0)]);

    let refused = serde_json::to_vec(&json!({ "applied": 0, "contents": { "cdn.example.com": 1 } })).unwrap();
    let answer = world.node.request("POST", "/v1/agent/report", refused).send().await.unwrap();
    assert_eq!(answer.status(), 400, "nodes measure no content");
    assert_eq!(
        world
            .node
            .request("GET", "/v1/agent/contents", Vec::new())
            .send()
            .await
            .unwrap()
            .json::<Value>()
            .await
            .unwrap()["contents"],
        json!([])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_request_names_counts_as_long_as_it_lasts() {
    let mut world = World::new().await;
    world.measured("f1", &[("cdn.example.com", 5)]).await;
    world.measured("t1", &[("cdn.example.com", 90)]).await;
    let ask = |content: Value| json!({ "subject": SUBJECT, "capabilities": ["video"], "content": content });
    let (status, refused) = world.app.post("/v1/request", ask(json!({ "prefix": "0.0.0.0/0" }))).await;
    assert!(status == 400 && refused["detail"].as_str().unwrap().contains("at least 16 bits"), "{refused}");
    let (status, refused) = world.app.post("/v1/request", ask(json!({ "name": "a_b" }))).await;
    assert!(status == 400 && refused.to_string().contains("no name of a host"), "{refused}");

    let (status, view) = world.app.post("/v1/request", ask(json!({ "name": "files.example.com" }))).await;
    assert_eq!(status, 200, "{view}");
    assert_eq!(world.asked("t1").await, ["files.example.com", "cdn.example.com"], "somebody waits for it");
    world.measured("f1", &[("cdn.example.com", 5), ("files.example.com", 90)]).await;
    world.measured("t1", &[("cdn.example.com", 90), ("files.example.com", 5)]).await;
    world.until("it is close to what it asked for", "tok").await;
    let message =
        world.app.events().await.into_iter().rev().find(|event| event.name == "request.made").unwrap().message;
    assert!(message.contains("for video, close to files.example.com"), "{message}");

    assert_eq!(world.app.call("DELETE", &format!("/v1/request/{SUBJECT}"), None).await.0, 200);
    world.until("the request is over", "fra").await;
    assert_eq!(world.asked("t1").await, ["cdn.example.com"]);

    let (status, _) =
        world.app.post("/v1/request", ask(json!({ "place": { "latitude": 35, "longitude": 139 } }))).await;
    assert_eq!(status, 200);
    world.until("a place is judged by distance", "tok").await;
    assert_eq!(world.asked("t1").await, ["cdn.example.com"], "a place is not measured");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_measured_outlives_the_manager() {
    let mut world = World::new().await;
    world.measured("f1", &[("cdn.example.com", 90)]).await;
    world.measured("t1", &[("cdn.example.com", 5)]).await;
    world.until("it is closer there", "tok").await;
    let app = world.app.restart().await;
    let edge = app.get("/v1/edges/t1").await;
    assert_eq!(edge["contentRttUs"], json!({ "cdn.example.com": 5_000 }));
    let explained = app.get(&format!("/v1/explain/{SUBJECT}")).await;
    assert_eq!(explained["considered"][0]["scores"]["content"], -0.5, "{explained}");
}
