//! A fleet whose agents acknowledge and report by themselves: one node with workloads, edges that state what they can carry.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::support::*;
use persona_core::wire::agent::{Report, Role};
use persona_core::wire::desired::Item;
use serde_json::{Value, json};

/// However slow the machine, what is waited for must come within this time.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Crowd {
    pub(crate) app: TestApp,
    pub(crate) node: FakeAgent,
    pub(crate) edges: BTreeMap<String, FakeAgent>,
    /// Edges that say nothing.
    pub(crate) silent: BTreeSet<String>,
}

impl Crowd {
    /// Documents, and edges with what they state, as name, group and the rest of their registration; all of them serve.
    pub(crate) async fn new(documents: Vec<Value>, edges: &[(&str, &str, Value)]) -> Self {
        let app = TestApp::with(|config| config.hold_max_ms = 1_000).await;
        app.apply(documents).await;
        let mut node = app.join(Role::Node, "n1", 1, None).await;
        node.watch().await;
        let mut crowd = Self { app, node, edges: BTreeMap::new(), silent: BTreeSet::new() };
        for (name, group, more) in edges {
            crowd.join(name, group, more.clone()).await;
        }
        crowd
    }

    /// One edge more, which serves. What it says of itself is bound to it as well: its own word satisfies no policy.
    pub(crate) async fn join(&mut self, name: &str, group: &str, more: Value) {
        let byte = 11 + self.edges.len() as u8;
        let offered = more["capabilities"].as_array().cloned().unwrap_or_default();
        let mut bound = more["labels"].as_object().cloned().unwrap_or_default();
        bound.extend(offered.iter().map(|it| (format!("capability/{}", it.as_str().unwrap()), json!("yes"))));
        let edge = self.app.join_edge(name, byte, group, more).await;
        if !bound.is_empty() {
            let path = format!("/v1/labels/edge/{name}");
            let (status, body) = self.app.call("PUT", &path, Some(json!({ "labels": bound }))).await;
            assert_eq!(status, 200, "{body}");
        }
        self.edges.insert(name.to_owned(), edge);
        let name = name.to_owned();
        self.until("it serves", async |crowd| crowd.edge(&name).await["state"] == "up").await;
    }

    /// Everybody who is not silent takes in what came, and reports; the node has no flows.
    pub(crate) async fn turn(&mut self) {
        let silent = &self.silent;
        for (_, edge) in self.edges.iter_mut().filter(|(name, _)| !silent.contains(*name)) {
            edge.take_what_is_there().await;
            edge.report(Report { outside_alive: Some(true), ..Report::default() }).await;
        }
        self.node.take_what_is_there().await;
        let ended = self.node.state.items.values().filter_map(|item| match item {
            Item::Lease(lease) if lease.retiring => Some(lease.id),
            _ => None,
        });
        let drained = ended.collect();
        self.node.report(Report { drained, ..Report::default() }).await;
    }

    pub(crate) async fn until(&mut self, what: &str, is_so: impl AsyncFn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is_so(self).await {
            assert!(Instant::now() < deadline, "{what}: {:?}", self.told());
            self.turn().await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Everybody goes on for a while: what was to come has come.
    pub(crate) async fn settle(&mut self) {
        for _ in 0..25 {
            self.turn().await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The node reports these workloads; the labels of each are bound to it.
    pub(crate) async fn report(&mut self, found: &[(&str, Value)]) {
        for (name, labels) in found.iter().filter(|(_, labels)| *labels != json!({})) {
            let path = format!("/v1/labels/workload/n1/{name}");
            let (status, body) = self.app.call("PUT", &path, Some(json!({ "labels": labels }))).await;
            assert_eq!(status, 200, "{body}");
        }
        let workload = |(index, (name, _)): (usize, &(&str, Value))| {
            json!({ "name": name, "device": format!("veth{index}"), "attached": true,
                "address": format!("172.30.0.{}", index + 1) })
        };
        let found: Vec<Value> = found.iter().enumerate().map(workload).collect();
        let workloads = Some(serde_json::from_value(json!(found)).unwrap());
        self.node.report(Report { workloads, ..Report::default() }).await;
    }

    /// What the node is told: by workload, the persona whose way out it has, if any.
    pub(crate) fn told(&self) -> BTreeMap<String, Option<String>> {
        let subjects = self.node.state.items.values().filter_map(|item| match item {
            Item::Subject(item) => {
                let name = item.subject.to_string().trim_start_matches("workload/n1/").to_owned();
                Some((name, item.network.as_ref().map(|network| network.persona.to_string())))
            }
            _ => None,
        });
        subjects.collect()
    }

    /// How many workloads have a way out through a persona.
    pub(crate) fn count(&self, persona: &str) -> usize {
        self.told().values().filter(|worn| worn.as_deref() == Some(persona)).count()
    }

    pub(crate) async fn edge(&self, name: &str) -> Value {
        self.app.get(&format!("/v1/edges/{name}")).await
    }

    /// What is considered for a workload: by persona, refusals and what would change the answer.
    pub(crate) async fn considered(&self, workload: &str) -> BTreeMap<String, String> {
        let told = self.app.get(&format!("/v1/explain/workload/n1/{workload}")).await;
        let considered = told["considered"].as_array().unwrap().iter();
        considered
            .map(|it| (it["persona"].as_str().unwrap().to_owned(), format!("{} | {}", it["refusals"], it["hint"])))
            .collect()
    }
}

/// What an edge states that can hold so many leases.
pub(crate) fn holding(lease_count: u32) -> Value {
    json!({ "capacity": { "bitsPerSec": 1_000_000_000, "leaseCount": lease_count } })
}
