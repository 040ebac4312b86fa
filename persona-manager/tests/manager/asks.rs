//! What nodes pass on for applications: for subjects of their own, not too often, for a while, and below what people asked for.

use crate::support::*;
use persona_core::wire::agent::{Report, Role};
use serde_json::{Value, json};

struct World {
    app: TestApp,
    nodes: [FakeAgent; 2],
    edge: FakeAgent,
}

impl World {
    /// Two nodes with a workload each, which may wear a plain persona and a fast one.
    async fn new() -> Self {
        let app = TestApp::new().await;
        let documents = vec![
            pool("fra", "198.51.100.0/28"),
            persona("plain", "fra", &[]),
            persona("fast", "fra", &["low-latency"]),
            persona("elsewhere", "fra", &["satellite"]),
            binding("all", &["plain", "fast"]),
        ];
        app.apply(documents).await;
        let mut edge = app.join(Role::Edge, "f1", 11, Some("fra")).await;
        edge.watch().await;
        let mut nodes = [app.join(Role::Node, "n1", 1, None).await, app.join(Role::Node, "n2", 2, None).await];
        for node in &mut nodes {
            node.watch().await;
            node.report(workloads(&["web".to_owned()])).await;
        }
        edge.take_what_is_there().await;
        let world = Self { app, nodes, edge };
        world.until("n1", "plain").await;
        world.until("n2", "plain").await;
        world
    }

    /// Waits for what a node's workload wears, while the edge serves.
    async fn until(&self, node: &str, persona: &str) {
        eventually(&format!("{node} wears {persona}"), async || {
            self.edge.report(Report { outside_alive: Some(true), ..Report::default() }).await;
            self.worn(node).await == persona
        })
        .await;
    }

    async fn worn(&self, node: &str) -> String {
        let explained = self.app.get(&format!("/v1/explain/workload/{node}/web")).await;
        explained["assignment"]["sections"]["network"]["persona"].as_str().unwrap_or_default().to_owned()
    }

    /// What the first node is answered.
    async fn ask(&self, subject: &str, ask: Value) -> (u16, Value) {
        let body = json!({ "subject": subject, "by": "process 7 (call) of user 1000", "ask": ask }).to_string();
        let request = self.nodes[0].request("POST", "/v1/agent/ask", body.into_bytes());
        let answer = request.header("content-type", "application/json").send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }
}

fn request(capability: &str, time: &str) -> Value {
    json!({ "do": "request", "capabilities": [capability], "for": time })
}

const OWN: &str = "workload/n1/web";

#[tokio::test(flavor = "multi_thread")]
async fn a_node_asks_for_its_own_subjects_and_for_no_others() {
    let world = World::new().await;
    let (status, view) = world.ask(OWN, json!({ "do": "show" })).await;
    assert_eq!((status, &view["changed"]), (200, &json!(false)), "{view}");
    let (status, view) = world.ask(OWN, request("low-latency", "1s")).await;
    assert_eq!((status, &view["changed"]), (200, &json!(true)), "{view}");
    assert_eq!((world.worn("n1").await, world.worn("n2").await), ("fast".to_owned(), "plain".to_owned()));
    let events = world.app.events().await;
    let made = events.iter().find(|event| event.name == "request.made").unwrap();
    assert_eq!(made.actor, "node/n1");
    assert!(made.message.contains("low-latency by process 7 (call) of user 1000"), "{}", made.message);
    world.until("n1", "plain").await;

    for subject in ["workload/n2/web", "node/n2", "workload/n10/web"] {
        let (status, refused) = world.ask(subject, request("low-latency", "1m")).await;
        assert_eq!((status, &refused["type"]), (403, &json!("/problems/forbidden")), "{subject}: {refused}");
    }
    assert_eq!(world.worn("n2").await, "plain");
    let body = json!({ "subject": OWN, "by": "", "ask": { "do": "show" } }).to_string();
    let of_edge = world.edge.request("POST", "/v1/agent/ask", body.into_bytes()).send().await.unwrap();
    assert_eq!(of_edge.status(), 403, "an edge has no subjects");
}

#[tokio::test(flavor = "multi_thread")]
async fn policy_people_and_the_quota_stand_above_what_applications_ask() {
    let world = World::new().await;
    for (ask, expected, words) in [
        (request("satellite", "1m"), 409, "lacks the capabilities satellite"),
        (request("low-latency", "25h"), 400, "applications ask for"),
        (json!({ "do": "request", "capabilities": [], "for": "1m" }), 400, "capabilities is empty"),
        (json!({ "do": "release" }), 404, "no request"),
        (json!({ "do": "switch" }), 400, "switch"),
    ] {
        let (status, refused) = world.ask(OWN, ask.clone()).await;
        assert!(status == expected && refused.to_string().contains(words), "{ask}: {status} {refused}");
    }
    let by_operator = json!({ "subject": OWN, "capabilities": ["low-latency"], "forMs": 600_000 });
    assert_eq!(world.app.post("/v1/request", by_operator).await.0, 200);
    for ask in [request("low-latency", "1m"), json!({ "do": "release" })] {
        let (status, refused) = world.ask(OWN, ask).await;
        assert!(
            status == 409 && refused["detail"].as_str().unwrap().contains("by access/test is in force"),
            "{refused}"
        );
    }
    assert_eq!(world.app.call("DELETE", &format!("/v1/request/{OWN}"), None).await.0, 200);

    let mut refused = None;
    for _ in 0..40 {
        let (status, answer) = world.ask(OWN, request("low-latency", "1m")).await;
        if status != 200 {
            refused = Some((status, answer));
            break;
        }
    }
    let (status, answer) = refused.expect("nobody may ask so often");
    assert!(status == 429 && answer["detail"].as_str().unwrap().contains("30 times an hour"), "{answer}");
    assert_eq!(world.ask(OWN, json!({ "do": "release" })).await.0, 200, "what is there may always be given back");
    assert_eq!(world.worn("n1").await, "plain");
}
