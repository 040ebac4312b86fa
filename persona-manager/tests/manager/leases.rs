//! The order in which edges and nodes learn of leases and forget them, over real HTTP with fake agents.

use std::collections::BTreeSet;
use std::time::Instant;

use crate::support::*;
use persona_core::ids::LeaseId;
use persona_core::wire::agent::{Report, Role};
use persona_core::wire::desired::Item;
use serde_json::json;

const WEB: &str = "workload/n1/web";

/// A manager with one node, two edges in `fra`, one in `tyo`, all serving.
pub(crate) async fn world() -> (TestApp, FakeAgent, Vec<FakeAgent>) {
    let app = TestApp::new().await;
    app.apply(vec![
        pool("fra", "198.51.100.0/30"),
        pool("tyo", "203.0.113.0/30"),
        persona("frankfurt", "fra", &[]),
        persona("tokyo", "tyo", &["low-latency"]),
        binding("all", &["frankfurt", "tokyo"]),
    ])
    .await;
    let node = app.join(Role::Node, "n1", 1, None).await;
    let mut edges = Vec::new();
    for (name, byte, group) in [("f1", 11, "fra"), ("f2", 12, "fra"), ("t1", 13, "tyo")] {
        let mut edge = app.join(Role::Edge, name, byte, Some(group)).await;
        edge.watch().await;
        edges.push(edge);
    }
    for edge in &mut edges {
        let own = format!("edge/{}", edge.name);
        loop {
            edge.report(alive()).await;
            if matches!(edge.state.items.get(&own), Some(Item::Edge(item)) if item.in_service) {
                break;
            }
            edge.next().await;
        }
        edge.report(alive()).await;
    }
    (app, node, edges)
}

pub(crate) fn alive() -> Report {
    Report { outside_alive: Some(true), ..Report::default() }
}

/// Keeps agents that have nothing to do from being silent.
async fn heartbeat(agents: &[&FakeAgent]) {
    for agent in agents {
        agent.report(Report::default()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_goes_to_edges_first_and_leaves_them_last() {
    let (app, mut node, mut edges) = world().await;
    node.watch().await;
    node.report(workloads(&["web".to_owned()])).await;

    // Granted: both edges hear of it, the node does not before both acknowledged.
    edges[0].until("lease 1", |state| has_lease(state, 1)).await;
    edges[1].until("lease 1", |state| has_lease(state, 1)).await;
    edges[0].report(alive()).await;
    assert_eq!(app.leases().await[0].state, "publishing");
    assert!(!has_lease(&node.state, 1));
    edges[1].report(alive()).await;
    node.until("lease 1", |state| lease_of(state, WEB) == Some(1)).await;
    let Item::Lease(lease) = &node.state.items["lease/1"] else { unreachable!() };
    assert!(edges[0].state.generation >= lease.generation);
    node.report(Report::default()).await;
    assert_eq!(app.get(&format!("/v1/explain/{WEB}")).await["assignment"]["inForce"], true);

    // Switched: the old lease stays in force until the new one is known to its edge.
    let (status, body) = app.post("/v1/switch", json!({ "subject": WEB, "persona": "tokyo" })).await;
    assert_eq!((status, &body["changed"], &body["inForce"]), (200, &json!(true), &json!(false)), "{body}");
    edges[2].until("lease 2", |state| has_lease(state, 2)).await;
    heartbeat(&[&node, &edges[0], &edges[1]]).await;
    assert_eq!(lease_of(&node.state, WEB), Some(1));
    edges[2].report(alive()).await;
    node.until("lease 2", |state| lease_of(state, WEB) == Some(2)).await;
    assert!(matches!(&node.state.items["lease/1"], Item::Lease(lease) if lease.retiring));
    assert!(has_lease(&edges[0].state, 1));

    // Drained: the node forgets it first, then the edges, then it rests, then it is free.
    node.report(Report { drained: vec![LeaseId(1)], ..Report::default() }).await;
    node.until("no lease 1", |state| !has_lease(state, 1)).await;
    heartbeat(&[&edges[0], &edges[1], &edges[2]]).await;
    assert_eq!(app.leases().await[0].state, "revoking");
    node.report(Report::default()).await;
    edges[0].until("no lease 1", |state| !has_lease(state, 1)).await;
    edges[0].report(alive()).await;
    assert_eq!(app.leases().await[0].state, "revoking", "the other edge has not forgotten it");
    edges[1].until("no lease 1", |state| !has_lease(state, 1)).await;
    edges[1].report(alive()).await;
    eventually("quarantine", async || app.leases().await[0].state == "quarantine").await;
    eventually("free", async || app.leases().await.len() == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn switching_back_reuses_the_lease_that_still_retires() {
    let (app, mut node, mut edges) = world().await;
    node.watch().await;
    node.report(workloads(&["web".to_owned()])).await;
    for edge in &mut edges[..2] {
        edge.until("lease 1", |state| has_lease(state, 1)).await;
        edge.report(alive()).await;
    }
    node.until("lease 1", |state| lease_of(state, WEB) == Some(1)).await;
    app.post("/v1/switch", json!({ "subject": WEB, "persona": "tokyo" })).await;
    edges[2].until("lease 2", |state| has_lease(state, 2)).await;
    edges[2].report(alive()).await;
    node.until("lease 2", |state| lease_of(state, WEB) == Some(2)).await;
    let (status, body) = app.call("DELETE", &format!("/v1/switch/{WEB}"), None).await;
    assert_eq!((status, &body["lease"]), (200, &json!(1)), "{body}");
    node.until("lease 1 again", |state| lease_of(state, WEB) == Some(1)).await;
    assert!(matches!(&node.state.items["lease/1"], Item::Lease(lease) if !lease.retiring));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_edge_is_down_and_its_subjects_go_on_or_move() {
    let (app, mut node, mut edges) = world().await;
    node.watch().await;
    node.report(workloads(&["web".to_owned()])).await;
    for edge in &mut edges[..2] {
        edge.until("lease 1", |state| has_lease(state, 1)).await;
        edge.report(alive()).await;
    }
    node.until("lease 1", |state| lease_of(state, WEB) == Some(1)).await;
    // f1 says that its outside is dead: it is taken out at once.
    edges[0].report(Report { outside_alive: Some(false), ..Report::default() }).await;
    let serves = |name: &'static str| move |state: &persona_core::wire::desired::DesiredState| matches!(&state.items[&format!("edge/{name}")], Item::Edge(edge) if edge.in_service);
    node.until("f1 out of service", |state| !serves("f1")(state)).await;
    assert_eq!(lease_of(&node.state, WEB), Some(1));
    let events = app.events().await;
    let down = events.iter().find(|event| event.name == "edge.down").unwrap();
    assert!(down.message.contains("workload/n1/web go on through f2 of group fra"), "{}", down.message);
    // f2 falls silent: no edge of the group is left, tokyo is next.
    let (beat, mut tokyo) = (edges.remove(0), edges.remove(1));
    let started = Instant::now();
    while !has_lease(&tokyo.state, 2) {
        assert!(started.elapsed().as_secs() < 10);
        beat.report(Report { outside_alive: Some(false), ..Report::default() }).await;
        tokyo.report(alive()).await;
        node.report(Report::default()).await;
        if tokio::time::timeout(std::time::Duration::from_millis(200), tokyo.next()).await.is_err() {
            continue;
        }
    }
    tokyo.report(alive()).await;
    node.until("lease 2", |state| lease_of(state, WEB) == Some(2)).await;
    let view = app.get(&format!("/v1/explain/{WEB}")).await;
    let reason = view["assignment"]["sections"]["network"]["reason"].as_str().unwrap();
    assert!(reason.contains("frankfurt was refused: edge group fra has 0 serving edges"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_switches_at_once_never_share_a_port() {
    let (app, node, edges) = world().await;
    let names: Vec<String> = (0..200).map(|index| format!("w{index}")).collect();
    // 4 addresses of 63 blocks each: 252 subjects fit.
    node.report(workloads(&names)).await;
    let started = Instant::now();
    let switches = names
        .iter()
        .map(|name| app.post("/v1/switch", json!({ "subject": format!("workload/n1/{name}"), "persona": "tokyo" })));
    // A busy machine may take longer than an edge may be silent.
    let beats = async {
        loop {
            heartbeat(&[&edges[0], &edges[1], &edges[2], &node]).await;
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
    };
    let answers = tokio::select! {
        answers = futures_util::future::join_all(switches) => answers,
        () = beats => unreachable!("heartbeats go on"),
    };
    for (status, body) in answers {
        assert_eq!(status, 200, "{body}");
    }
    println!("200 switches took {:?}", started.elapsed());
    let leases = app.leases().await;
    assert!(leases.iter().filter(|lease| lease.persona.as_str() == "tokyo").count() == 200);
    let mut seen = BTreeSet::new();
    for lease in &leases {
        for (first, last) in &lease.ports {
            assert!(*first >= 1024 && last - first == 1023);
            assert!(seen.insert((lease.space.address(), *first)), "{} {first} is leased twice", lease.space);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_switch_reaches_the_edge_within_milliseconds() {
    let (app, mut node, mut edges) = world().await;
    node.watch().await;
    node.report(workloads(&["web".to_owned()])).await;
    for edge in &mut edges[..2] {
        edge.until("lease 1", |state| has_lease(state, 1)).await;
        edge.report(alive()).await;
    }
    let mut took = Vec::new();
    for round in 0..10 {
        // A new workload each time, so that each switch grants a new lease.
        let names: Vec<String> = (0..=round).map(|index| format!("w{index}")).collect();
        node.report(workloads(&names)).await;
        heartbeat(&[&edges[0], &edges[1]]).await;
        let subject = format!("workload/n1/w{round}");
        let known = |state: &persona_core::wire::desired::DesiredState| {
            let of_subject = |item: &Item| matches!(item, Item::Lease(lease) if lease.subject.to_string() == subject);
            state.items.values().any(of_subject)
        };
        let started = Instant::now();
        let body = json!({ "subject": subject, "persona": "tokyo" });
        let (answer, ()) = tokio::join!(app.post("/v1/switch", body), edges[2].until("its lease", known));
        took.push(started.elapsed());
        assert_eq!(answer.0, 200, "{}", answer.1);
        edges[2].report(alive()).await;
    }
    took.sort();
    println!("switch to the edge's frame: median {:?}, worst {:?}", took[5], took[9]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_that_nobody_hears_is_down_although_it_reports() {
    let (app, node, edges) = world().await;
    let says = |alive: bool| Report {
        edges: Some(
            serde_json::from_value(
                json!([{ "edge": "f1", "alive": alive, "rttUs": 300, "loss": 0.0, "generation": 1 }]),
            )
            .unwrap(),
        ),
        ..Report::default()
    };
    let state = async || app.get("/v1/edges/f1").await["state"].clone();
    node.report(says(true)).await;
    edges[1].report(says(false)).await;
    heartbeat(&[&edges[0]]).await;
    assert_eq!(state().await, "up", "the node hears it");
    node.report(says(false)).await;
    eventually("f1 is down", async || state().await == "down").await;
    let reason = app.get("/v1/edges/f1").await["reason"].as_str().unwrap().to_owned();
    assert!(reason.contains("node/n1, edge/f2"), "{reason}");
}
