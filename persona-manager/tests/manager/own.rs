//! Whatever a node or an edge says of others is left out and told; and nothing of others is told to it.

use crate::leases::{alive, world};
use std::collections::BTreeMap;

use crate::support::*;
use persona_core::wire::agent::{Report, Role};
use serde_json::{Value, json};

const WEB: &str = "workload/n1/web";

/// The manager, n1 that holds lease 1 in Frankfurt, another node, and the edges f1, f2 of Frankfurt and t1 of Tokyo.
struct Scene {
    app: TestApp,
    node: FakeAgent,
    other: FakeAgent,
    edges: Vec<FakeAgent>,
}

impl Scene {
    async fn new() -> Self {
        let (app, mut node, mut edges) = world().await;
        node.watch().await;
        node.report(workloads(&["web".to_owned()])).await;
        for edge in &mut edges[..2] {
            edge.until("lease 1", |state| has_lease(state, 1)).await;
            edge.report(alive()).await;
        }
        node.until("lease 1", |state| lease_of(state, WEB) == Some(1)).await;
        node.report(Report::default()).await;
        let other = app.join(Role::Node, "n2", 2, None).await;
        Self { app, node, other, edges }
    }

    /// Names and subjects of the events that somebody told of.
    async fn told_by(&self, actor: &str) -> Vec<(String, String)> {
        let events = self.app.events().await.into_iter().filter(|event| event.actor == actor);
        events.map(|event| (event.name, event.about)).filter(|(name, _)| !name.starts_with("agent.")).collect()
    }
}

fn event(name: &str, about: &str) -> Value {
    json!({ "timeMs": 1, "name": name, "about": about, "message": "as they say" })
}

/// Sends a report; returns the status, and the paths of what was left out.
async fn send(agent: &FakeAgent, mut report: Value) -> (u16, Vec<String>) {
    report["applied"] = json!(agent.state.generation);
    let answer = agent.request("POST", "/v1/agent/report", report.to_string().into_bytes()).send().await.unwrap();
    let status = answer.status().as_u16();
    let body: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap_or_default();
    let parts = body["leftOut"].as_array().into_iter().flatten();
    (status, parts.map(|part| part["path"].as_str().unwrap().to_owned()).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_cannot_speak_of_others() {
    let scene = Scene::new().await;
    let traffic = json!({ "egressPackets": 1, "egressBytes": 1, "ingressPackets": 1, "ingressBytes": 1 });
    let report = json!({
        "events": [
            event("workload.vanished", "web"),
            event("agent.revoked", "node/n2"),
            event("agent.revoked", "node/n1"),
            event("workload.vanished", WEB),
            event("apply.failing", "n1"),
            event("edge.down", "edge/f1"),
            event("lease.cut", "lease/1"),
            event("uplink.down", "node/n1"),
            event("uplink.down", "up0\u{1b}[2J"),
            event("routes.failing", "f1"),
            event("edge.down", "f1"),
        ],
        "drained": [1, 77],
        "leases": [{ "lease": 1, "liveSlotCount": 9, "slotCount": 9, "sharedPortCount": 9 }],
        "edges": [{ "edge": "f1", "alive": true, "rttUs": 5, "jitterUs": 1, "loss": 0.0, "generation": 0 }],
        "software": [{ "subject": WEB, "persona": "x@1", "state": "drifted", "packages": [] }],
        "counters": { "subjects": [{ "subject": WEB, "traffic": traffic }, { "subject": "node/n2", "traffic": traffic }],
            "personas": {}, "drops": {} },
    });
    let (status, left_out) = send(&scene.other, report.clone()).await;
    let events = (1..=9).map(|index| format!("events[{index}]"));
    let others = ["drained[0]", "leases[0]", "software[0]", "counters.subjects[0]"].map(str::to_owned);
    assert_eq!((status, left_out), (200, events.chain(others).collect()));

    let told = scene.told_by("node/n2").await;
    let expected = [("workload.vanished", "web"), ("edge.down", "f1")];
    assert_eq!(told, expected.map(|(name, about)| (name.to_owned(), about.to_owned())));
    assert_eq!(scene.app.get("/v1/leases/1").await["use"], Value::Null);
    assert_eq!(scene.app.get(&format!("/v1/explain/{WEB}")).await["software"], Value::Null);
    let node = scene.app.get("/v1/nodes/n2").await;
    assert_eq!(node["edges"].as_array().unwrap().len(), 1, "what it may say was taken in: {node}");
    assert_eq!(node["counters"]["subjects"].as_array().unwrap().len(), 1, "{node}");

    // Once a minute it stands in the log who tried.
    assert_eq!(send(&scene.other, report).await.0, 200);
    let events = scene.app.events().await;
    let overstepped: Vec<_> = events.iter().filter(|event| event.name == "agent.overstepped").collect();
    assert_eq!(overstepped.len(), 1);
    let event = overstepped[0];
    assert_eq!((event.about.as_str(), event.actor.as_str()), ("node/n2", "manager"));
    assert!(event.message.contains("events[1]") && event.message.contains("12 parts more"), "{}", event.message);
    assert_eq!(event.details["partCount"], 13);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_cannot_speak_of_another_group() {
    let scene = Scene::new().await;
    let tokyo = &scene.edges[2];
    let health = |edge: &str| json!({ "edge": edge, "alive": false, "rttUs": 5, "loss": 1.0, "generation": 0 });
    let report = json!({
        "events": [
            event("edge.down", "f1"),
            event("edge.down", "edge/t1"),
            event("address.taken-over", "198.51.100.1"),
            event("address.taken-over", "203.0.113.1"),
            event("routes.withdrawn", "f1"),
            event("routes.withdrawn", "t1"),
            event("node.silent", "node/n1"),
            event("node.silent", "10.9.0.1"),
            event("workload.vanished", "web"),
            event("apply.put-back", "t1"),
        ],
        "edges": [health("f1"), health("f2")],
        "outsideAlive": true,
        "owned": ["198.51.100.1", "203.0.113.1"],
        "announced": ["198.51.100.0/30", "203.0.113.0/30"],
        "counters": { "subjects": [{ "subject": WEB, "traffic":
            { "egressPackets": 1, "egressBytes": 1, "ingressPackets": 1, "ingressBytes": 1 } }], "personas": {}, "drops": {} },
    });
    let (status, left_out) = send(tokyo, report).await;
    let events = [0, 1, 2, 4, 6, 8, 9].map(|index| format!("events[{index}]"));
    let others = ["edges[0]", "edges[1]", "owned[0]", "announced[0]", "counters.subjects[0]"].map(str::to_owned);
    assert_eq!((status, left_out), (200, events.into_iter().chain(others).collect()));

    let told = scene.told_by("edge/t1").await;
    let expected = [("address.taken-over", "203.0.113.1"), ("routes.withdrawn", "t1"), ("node.silent", "10.9.0.1")];
    assert_eq!(told, expected.map(|(name, about)| (name.to_owned(), about.to_owned())));
    let edge = scene.app.get("/v1/edges/t1").await;
    assert_eq!((&edge["owned"], &edge["announced"]), (&json!(["203.0.113.1"]), &json!(["203.0.113.0/30"])));
    let probes = scene.app.get("/v1/edges/f1").await["probes"].to_string();
    assert!(!probes.contains("edge/t1"), "{probes}");
    // What is only a node's makes a report of an edge none at all.
    assert_eq!(send(tokyo, json!({ "drained": [1] })).await.0, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_takes_the_key_of_anothers_tunnels() {
    let scene = Scene::new().await;
    let key = |letter: &str| format!("{}=", letter.repeat(43));
    let tunnel = |key: &str, next: Option<&str>| json!({ "tunnel": { "end": { "publicKey": key, "port": 51820, "nextKey": next }, "farEnds": [] } });
    assert_eq!(send(&scene.node, tunnel(&key("A"), Some(&key("B")))).await.0, 204);
    for (own, next) in [("A", None), ("B", None), ("C", Some("A"))] {
        let next = next.map(key);
        let (status, left_out) = send(&scene.other, tunnel(&key(own), next.as_deref())).await;
        assert_eq!((status, left_out), (200, vec!["tunnel.end".to_owned()]), "{own}");
    }
    assert_eq!(send(&scene.other, tunnel(&key("C"), None)).await.0, 204);
    let changed = scene.told_by("node/n2").await;
    assert!(changed.is_empty(), "{changed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_told_is_bounded() {
    let scene = Scene::new().await;
    let mut long = event("apply.failing", "n2");
    long["message"] = json!("ä".repeat(100_000));
    let rejected = json!({ "generation": 1, "reason": "x".repeat(100_000) });
    assert_eq!(send(&scene.other, json!({ "events": [long], "rejected": rejected })).await.0, 204);
    let events = scene.app.events().await;
    for (name, whole) in [("apply.failing", "200000"), ("apply.rejected", "100000")] {
        let event = events.iter().find(|event| event.name == name && event.actor == "node/n2").unwrap();
        assert!(event.message.len() < 5_000 && event.message.contains(whole), "{name}: {}", event.message.len());
    }
    let mut far = event("uplink.down", &"u".repeat(600));
    far["message"] = json!("short");
    assert_eq!(send(&scene.other, json!({ "events": [far] })).await, (200, vec!["events[0]".to_owned()]));
}

/// Every route for nodes and edges, with another node's certificate and names that are there.
#[tokio::test(flavor = "multi_thread")]
async fn another_nodes_certificate_gets_nothing_of_n1() {
    let mut scene = Scene::new().await;
    let renewal = json!({ "csr": scene.node.csr() }).to_string();
    let answer = scene.other.request("POST", "/v1/agent/renew", renewal.into_bytes()).send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 400, "{}", answer.text().await.unwrap());

    let ask = json!({ "subject": WEB, "by": "process 7", "ask": { "do": "request", "capabilities": ["low-latency"], "for": "1m" } }).to_string();
    let answer = scene.other.request("POST", "/v1/agent/ask", ask.into_bytes()).send().await.unwrap();
    let (status, body) = (answer.status().as_u16(), answer.text().await.unwrap());
    assert_eq!(status, 403, "{body}");
    let before = scene.app.get(&format!("/v1/explain/{WEB}")).await;
    assert_eq!(before["assignment"]["lease"], 1, "{before}");

    // Its own workload of the same name is another one.
    scene.other.watch().await;
    scene.other.report(Report { workloads: workloads(&["web".to_owned()]).workloads, ..Report::default() }).await;
    for edge in &mut scene.edges[..2] {
        edge.until("lease 2", |state| has_lease(state, 2)).await;
        edge.report(alive()).await;
    }
    scene.other.until("lease 2", |state| lease_of(state, "workload/n2/web") == Some(2)).await;
    let told = serde_json::to_string(&scene.other.state).unwrap();
    assert!(!told.contains("n1") && !has_lease(&scene.other.state, 1), "{told}");

    // That it has no workloads is about its own alone.
    scene.other.report(Report { workloads: Some(Vec::new()), ..Report::default() }).await;
    eventually("n2's is gone", async || scene.app.get("/v1/workloads").await["items"].as_array().unwrap().len() == 1)
        .await;
    assert_eq!(scene.app.get(&format!("/v1/workloads/{WEB}")).await["attached"], true);
    for path in ["/v1/nodes/n1", "/v1/workloads/workload/n1/web", "/v1/explain/workload/n1/web", "/v1/leases/1"] {
        let answer = scene.other.request("GET", path, Vec::new()).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 403, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn labels_without_bounds_are_left_out_and_not_registered() {
    let app = TestApp::new().await;
    let node = app.join(Role::Node, "n1", 1, None).await;
    let many: BTreeMap<String, String> = (0..65).map(|number| (format!("k{number}"), String::new())).collect();
    let long = BTreeMap::from([("k".to_owned(), "v".repeat(254))]);
    let fine = BTreeMap::from([("app".to_owned(), "web".to_owned())]);
    let labelled = |labels: &[&BTreeMap<String, String>]| {
        let names: Vec<String> = (0..labels.len()).map(|number| format!("w{number}")).collect();
        let mut report = workloads(&names);
        for (workload, labels) in report.workloads.as_mut().unwrap().iter_mut().zip(labels) {
            workload.labels = (*labels).clone();
        }
        report
    };
    let body = serde_json::to_vec(&labelled(&[&many, &fine, &long])).unwrap();
    let answer = node.request("POST", "/v1/agent/report", body).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let taken: Value = answer.json().await.unwrap();
    let paths: Vec<&str> =
        taken["leftOut"].as_array().unwrap().iter().map(|part| part["path"].as_str().unwrap()).collect();
    assert_eq!(paths, ["workloads[0].labels", "workloads[2].labels"], "the rest counts all the same");
    let told = app.get("/v1/workloads/workload/n1/w1").await;
    assert_eq!(told["labels"]["app"], "web", "{told}");

    let (status, token) = app.post("/v1/join-tokens", json!({ "role": "node", "uses": 9, "ttlMs": 60_000 })).await;
    assert_eq!(status, 201);
    let other = FakeAgent::at(&app.nobody, &app.base, &app.roots(), Role::Node, "n2", 2, None);
    for (more, part) in [
        (json!({ "labels": many }), "at most 64"),
        (json!({ "labels": long }), "not valid"),
        (json!({ "capabilities": (0..65).map(|number| format!("c{number}")).collect::<Vec<_>>() }), "at most 64"),
    ] {
        let mut body = json!({ "token": bearer_of(&token) });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let (status, answer) = other.register_with(body).await;
        assert!(status == 400 && answer.to_string().contains(part), "{status} {answer}");
    }
}
