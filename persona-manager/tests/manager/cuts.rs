//! A grace bounds what old flows may take: by the persona that is left, or by whoever switches. Without one they end when
//! they end. The cut is announced, and the node's count of it is shown.

use std::time::Duration;

use crate::leases::{alive, world};
use crate::support::*;
use persona_core::ids::LeaseId;
use persona_core::wire::agent::{AgentEvent, Counters, LeaseUse, Report};
use persona_core::wire::desired::Item;
use serde_json::{Value, json};

const WEB: &str = "workload/n1/web";

/// Long enough for several of the manager's ticks.
const A_WHILE: Duration = Duration::from_millis(900);

/// What a test follows: a workload with lease 1 in Frankfurt.
struct Scene {
    app: TestApp,
    node: FakeAgent,
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
        Self { app, node, edges }
    }

    /// Switches to Tokyo, until the node uses lease 2 there.
    async fn switch(&mut self, more: Value) {
        let mut body = json!({ "subject": WEB, "persona": "tokyo" });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let (status, answer) = self.app.post("/v1/switch", body).await;
        assert_eq!(status, 200, "{answer}");
        self.edges[2].until("lease 2", |state| has_lease(state, 2)).await;
        self.edges[2].report(alive()).await;
        self.node.until("lease 2", |state| lease_of(state, WEB) == Some(2)).await;
    }

    async fn lease(&self, id: u64) -> Value {
        self.app.get(&format!("/v1/leases/{id}")).await
    }

    /// Messages of all events with a name.
    async fn told(&self, name: &str) -> Vec<String> {
        let events = self.app.events().await;
        events.into_iter().filter(|event| event.name == name).map(|event| event.message).collect()
    }

    /// Nobody is silent for a while.
    async fn pass_time(&self) {
        for _beat in 0..3 {
            for agent in self.edges.iter().chain([&self.node]) {
                agent.report(if agent.group.is_some() { alive() } else { Report::default() }).await;
            }
            tokio::time::sleep(A_WHILE / 3).await;
        }
    }
}

fn persona_with_grace(grace: &str) -> Value {
    let mut document = persona("frankfurt", "fra", &[]);
    document["spec"]["network"]["egress"]["grace"] = json!(grace);
    document
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_grace_old_flows_end_when_they_end() {
    let mut scene = Scene::new().await;
    scene.switch(json!({})).await;
    scene.pass_time().await;
    let lease = scene.lease(1).await;
    assert_eq!((&lease["state"], &lease["cutAtMs"]), (&json!("retiring"), &Value::Null));
    assert!(scene.told("lease.cut-announced").await.is_empty() && scene.told("lease.cutting").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_grace_of_the_persona_that_is_left_ends_with_a_cut() {
    let mut scene = Scene::new().await;
    scene.app.apply(vec![persona_with_grace("2s")]).await;
    scene.switch(json!({})).await;
    let lease = scene.lease(1).await;
    assert_eq!(lease["state"], "retiring", "it has its grace");
    assert!(lease["cutAtMs"].as_u64().unwrap() > now_ms());
    assert_eq!(
        scene.told("lease.retiring").await,
        ["new flows of workload/n1/web no longer use lease 1; what is left of old ones is cut in 2s"]
    );
    scene.pass_time().await;
    assert!(has_lease(&scene.node.state, 1), "the grace is not over");
    let mut node = scene.node;
    node.until("no lease 1", |state| !has_lease(state, 1)).await;
    let cutting = scene.app.events().await.into_iter().find(|event| event.name == "lease.cutting").unwrap();
    assert!(cutting.message.contains("workload/n1/web's flows"), "{}", cutting.message);
    // The node tells what that came to, and only then does the lease go its way.
    let event = AgentEvent {
        time_ms: now_ms(),
        name: "lease.cut".to_owned(),
        about: "lease/1".to_owned(),
        message: "12 flows of workload/n1/web cut under lease 1: its grace was over".to_owned(),
    };
    let counters = Counters { cut_flows: 12, ..Counters::default() };
    node.report(Report { events: vec![event], counters: Some(counters), ..Report::default() }).await;
    let metrics = scene.app.get("/metrics").await;
    assert!(metrics.as_str().unwrap().contains("persona_cut_flows_total{node=\"n1\"} 12\n"), "{metrics}");
    assert!(scene.app.events().await.iter().any(|event| event.name == "lease.cut" && event.message.starts_with("12 ")));
    eventually("the edges forget it", async || {
        scene.app.get("/v1/leases/1").await["state"].as_str() == Some("revoking")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_switch_that_cuts_announces_it_and_does_not_wait_for_flows() {
    let mut scene = Scene::new().await;
    scene.switch(json!({ "cutAfterMs": 0 })).await;
    scene.node.until("no lease 1", |state| !has_lease(state, 1)).await;
    assert_eq!(
        scene.told("lease.cut-announced").await,
        ["what is left of workload/n1/web's flows under lease 1 is cut as soon as the switch is in force"]
    );
    assert_eq!(scene.told("lease.cutting").await.len(), 1);
    let made = scene.app.events().await.into_iter().find(|event| event.name == "switch.made").unwrap();
    assert_eq!(made.details["cutAfterMs"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_already_retires_can_be_cut_later_and_a_longer_grace_changes_nothing() {
    let mut scene = Scene::new().await;
    scene.switch(json!({})).await;
    let cut = async |ms: u64| {
        let body = json!({ "subject": WEB, "persona": "tokyo", "cutAfterMs": ms });
        assert_eq!(scene.app.post("/v1/switch", body).await.0, 200);
        scene.lease(1).await["cutAtMs"].as_u64().unwrap()
    };
    let first = cut(60_000).await;
    assert!(first > now_ms() + 50_000);
    assert_eq!(cut(600_000).await, first, "who was promised a minute gets no ten");
    assert!(cut(30_000).await < first);
    assert_eq!(scene.told("lease.cut-announced").await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_takes_a_switch_back_may_cut_too_and_who_returns_in_time_keeps_everything() {
    let mut scene = Scene::new().await;
    scene.switch(json!({ "cutAfterMs": 60_000 })).await;
    let (status, body) = scene.app.call("DELETE", &format!("/v1/switch/{WEB}?cutAfterMs=0"), None).await;
    assert_eq!((status, &body["lease"]), (200, &json!(1)), "{body}");
    scene.node.until("lease 1 again", |state| lease_of(state, WEB) == Some(1)).await;
    scene.node.until("no lease 2", |state| !has_lease(state, 2)).await;
    let lease = scene.lease(1).await;
    assert_eq!((&lease["state"], &lease["cutAtMs"]), (&json!("active"), &Value::Null));
    let (status, body) = scene.app.call("DELETE", &format!("/v1/switch/{WEB}?cutAfter=0"), None).await;
    assert_eq!(status, 400, "{body}");
}

/// RFC 6888 REQ-14: what is told of a lease does not depend on its flows.
#[tokio::test(flavor = "multi_thread")]
async fn a_lease_is_told_once_however_many_flows_it_carries() {
    let scene = Scene::new().await;
    let of_lease = async || {
        let events = scene.app.events().await;
        events.into_iter().filter(|event| event.about == "lease/1").map(|event| event.name).collect::<Vec<_>>()
    };
    let before = of_lease().await;
    assert_eq!(before, ["lease.granted", "lease.active"]);
    for live_slot_count in 1..200 {
        let usage = LeaseUse { lease: LeaseId(1), live_slot_count, slot_count: 3_072, shared_port_count: 0 };
        scene.node.report(Report { leases: vec![usage], ..Report::default() }).await;
    }
    let Item::Lease(lease) = &scene.node.state.items["lease/1"] else { unreachable!() };
    assert_eq!(scene.lease(lease.id.0).await["use"]["liveSlotCount"], 199);
    assert_eq!(of_lease().await, before);
}
