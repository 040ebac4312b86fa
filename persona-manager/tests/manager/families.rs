//! Leases of both families and of whole addresses, as edges and nodes are told of them.

use crate::support::*;
use persona_core::document::{Assign, EnforceAt, Filtering};
use persona_core::wire::agent::{Report, Role};
use persona_core::wire::desired::{DesiredState, Item, LeaseItem, LeaseRates, LeaseSpace, SubjectNetwork};
use serde_json::{Value, json};

const WEB: &str = "workload/n1/web";

fn dual_pool(name: &str) -> Value {
    json!({ "apiVersion": "persona/v1", "kind": "EgressPool", "metadata": { "name": name },
        "spec": { "addresses": ["198.51.100.0/31", "2001:db8:1::/62"], "nextHop6": "2001:db8::1", "group": name,
            "quarantine": "1s" } })
}

fn persona_with(name: &str, network: Value) -> Value {
    json!({ "apiVersion": "persona/v1", "kind": "Persona", "metadata": { "name": name }, "spec": { "network": network } })
}

/// A manager with a dual pool and a serving edge `f1`, whose workload `web` wears the first of the personas.
async fn world(personas: Vec<Value>) -> (TestApp, FakeAgent, FakeAgent) {
    let app = TestApp::new().await;
    let names: Vec<String> = personas.iter().map(|it| it["metadata"]["name"].as_str().unwrap().to_owned()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    app.apply([vec![dual_pool("fra"), binding("all", &names)], personas].concat()).await;
    let mut node = app.join(Role::Node, "n1", 1, None).await;
    let mut edge = app.join(Role::Edge, "f1", 11, Some("fra")).await;
    edge.watch().await;
    while !matches!(edge.state.items.get("edge/f1"), Some(Item::Edge(item)) if item.in_service) {
        edge.report(alive()).await;
        edge.next().await;
    }
    edge.report(alive()).await;
    node.watch().await;
    node.report(workloads(&["web".to_owned()])).await;
    (app, node, edge)
}

fn alive() -> Report {
    Report { outside_alive: Some(true), ..Report::default() }
}

fn network(state: &DesiredState) -> Option<&SubjectNetwork> {
    match state.items.get(&format!("subject/{WEB}")) {
        Some(Item::Subject(item)) => item.network.as_ref(),
        _ => None,
    }
}

fn lease(state: &DesiredState, id: u64) -> &LeaseItem {
    match &state.items[&format!("lease/{id}")] {
        Item::Lease(lease) => lease,
        other => panic!("{other:?}"),
    }
}

/// Has the edge acknowledge these leases and the node hear of them.
async fn until_worn(node: &mut FakeAgent, edge: &mut FakeAgent, ids: &[u64]) {
    let has_all = |state: &DesiredState| ids.iter().all(|id| has_lease(state, *id));
    edge.until("the leases", has_all).await;
    edge.report(alive()).await;
    let ids: Vec<Option<u64>> = ids.iter().map(|id| Some(*id)).collect();
    let wears = |state: &DesiredState| {
        let worn = network(state).map(|network| [network.lease, network.lease6].map(|id| id.map(|id| id.0)));
        worn.is_some_and(|worn| ids.iter().all(|id| worn.contains(id)))
    };
    node.until("the leases in use", wears).await;
    node.report(Report::default()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn prefer_ipv6_leases_both_and_a_switch_to_ipv6_keeps_the_prefix_of_old_flows() {
    let both = persona_with(
        "both",
        json!({ "egress": { "pools": ["fra"], "family": "prefer-ipv6", "filtering": "address-and-port-dependent" },
            "bypass": ["10.0.0.0/8", "fd00::/8"] }),
    );
    let six =
        persona_with("six", json!({ "egress": { "pools": ["fra"], "family": "ipv6" }, "protocols": ["gre", "icmp"] }));
    let (app, mut node, mut edge) = world(vec![both, six]).await;
    until_worn(&mut node, &mut edge, &[1, 2]).await;
    let worn = network(&node.state).unwrap();
    assert_eq!((worn.lease.unwrap().0, worn.lease6.unwrap().0, worn.prefer_ipv6), (1, 2, true));
    assert_eq!((worn.filtering, worn.bypass.len()), (Filtering::AddressAndPortDependent, 2));
    assert_eq!(worn.protocols, [1, 6, 17, 58]);
    assert_eq!(lease(&node.state, 2).space, LeaseSpace::Prefix { prefix: "2001:db8:1::".parse().unwrap() });
    let Item::Pool(pool) = &edge.state.items["pool/fra"] else { unreachable!() };
    assert_eq!((pool.addresses.len(), pool.prefixes.len(), pool.next_hop6), (2, 1, "2001:db8::1".parse().ok()));

    let (status, body) = app.post("/v1/switch", json!({ "subject": WEB, "persona": "six" })).await;
    assert_eq!((status, &body["lease"], &body["lease6"]), (200, &json!(null), &json!(3)), "{body}");
    until_worn(&mut node, &mut edge, &[3]).await;
    assert_eq!(network(&node.state).unwrap().protocols, [1, 47, 58]);
    for old in [1, 2] {
        assert!(lease(&node.state, old).retiring, "lease {old} goes on for old flows");
    }
    let view = app.get("/v1/egress-pools/fra").await;
    assert_eq!(
        (&view["prefixesTotal"], &view["prefixesLeased"], &view["blocksLeased"]),
        (&json!(4), &json!(2), &json!(1))
    );

    let drained = vec![persona_core::ids::LeaseId(1), persona_core::ids::LeaseId(2)];
    node.report(Report { drained, ..Report::default() }).await;
    node.until("no old leases", |state| !has_lease(state, 1) && !has_lease(state, 2)).await;
    node.report(Report::default()).await;
    edge.until("no old leases", |state| !has_lease(state, 1) && !has_lease(state, 2)).await;
    edge.report(alive()).await;
    eventually("both are free", async || app.leases().await.len() == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn configured_subjects_get_whole_addresses_until_none_is_left() {
    let whole = persona_with(
        "whole",
        json!({ "egress": { "pools": ["fra"], "assign": "configure" }, "protocols": ["tcp", "esp"] }),
    );
    let (app, mut node, mut edge) = world(vec![whole]).await;
    until_worn(&mut node, &mut edge, &[1]).await;
    let held = lease(&node.state, 1);
    assert_eq!(held.space, LeaseSpace::whole_address([198, 51, 100, 1].into()));
    assert!(held.configured);
    assert_eq!(network(&node.state).unwrap().assign, Assign::Configure);
    node.report(workloads(&["web".to_owned(), "w2".to_owned(), "w3".to_owned()])).await;
    eventually("two leases", async || app.leases().await.len() == 2).await;
    let status = app.get("/v1/status").await;
    let reason = status["unassigned"]["workload/n1/web"].as_str().or(status["unassigned"]["workload/n1/w3"].as_str());
    assert!(reason.unwrap().contains("a whole address is needed; of each of its 2 addresses"), "{status}");
    let view = app.get("/v1/egress-pools/fra").await;
    assert_eq!((&view["addressesFree"], &view["blocksLeased"]), (&json!(0), &json!(126)));
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_of_both_families_outlive_a_restart() {
    let both =
        persona_with("both", json!({ "egress": { "pools": ["fra"], "family": "prefer-ipv6", "assign": "configure" } }));
    let (app, mut node, mut edge) = world(vec![both]).await;
    until_worn(&mut node, &mut edge, &[1, 2]).await;
    let before = app.leases().await;
    let app = app.restart().await;
    let after = app.leases().await;
    let spaces = |leases: &[persona_core::wire::api::LeaseView]| -> Vec<_> {
        leases.iter().map(|lease| (lease.id, lease.space.clone(), lease.state.clone())).collect()
    };
    assert_eq!(spaces(&before), spaces(&after));
    assert_eq!(after.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_next_hop_belongs_to_one_group_and_to_nobody_itself() {
    let app = TestApp::new().await;
    app.apply(vec![dual_pool("fra")]).await;
    let mut other = dual_pool("tyo");
    other["spec"]["addresses"] = json!(["2001:db8:9::/64"]);
    let (status, body) = app.post(APPLY, json!({ "documents": [other] })).await;
    assert_eq!(status, 409, "{body}");
    assert!(body["detail"].as_str().unwrap().contains("one group answers for it"), "{body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn edges_learn_the_rates_in_force_with_every_lease_of_the_subject() {
    let network = json!({ "egress": { "pools": ["fra"], "family": "prefer-ipv6" } });
    let mut slow = persona_with("slow", network.clone());
    slow["spec"]["qos"] = json!({ "egressRate": "20mbit", "ingressRate": "1gbit", "burst": "64KiB" });
    let (app, mut node, mut edge) = world(vec![slow, persona_with("free", network)]).await;
    until_worn(&mut node, &mut edge, &[1, 2]).await;
    let rates = |state: &DesiredState, id: u64| has_lease(state, id).then(|| lease(state, id).rates).flatten();
    let is_slow = |rates: LeaseRates| {
        (rates.egress_bps, rates.ingress_bps, rates.burst_bytes)
            == (Some(20_000_000), Some(1_000_000_000), Some(65_536))
    };
    edge.until("the rates", |state| [1, 2].iter().all(|id| rates(state, *id).is_some_and(is_slow))).await;
    edge.report(alive()).await;
    let numbers = [1, 2].map(|id| rates(&edge.state, id).unwrap().subject_number);
    let Item::Subject(subject) = &node.state.items[&format!("subject/{WEB}")] else { unreachable!() };
    assert_eq!(numbers, [subject.number; 2]);
    assert_eq!([1, 2].map(|id| lease(&node.state, id).rates), [None; 2], "its node has them with the subject");

    assert!([1, 2].iter().all(|id| !rates(&edge.state, *id).unwrap().held), "its node holds it");
    assert_eq!(subject.network.as_ref().unwrap().planned, []);

    // Old leases go by what the subject wears now.
    let (status, body) = app.post("/v1/switch", json!({ "subject": WEB, "persona": "free" })).await;
    assert_eq!(status, 200, "{body}");
    until_worn(&mut node, &mut edge, &[3, 4]).await;
    edge.until("no rates", |state| [1, 2, 3, 4].iter().all(|id| rates(state, *id).is_none())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rates_that_edges_hold_are_told_to_them_and_one_edge_to_the_node() {
    let mut held = persona_with("held", json!({ "egress": { "pools": ["fra"] } }));
    held["spec"]["qos"] = json!({ "egressRate": "20mbit", "enforceAt": "edge", "class": "telephony" });
    let mut both = held.clone();
    both["metadata"]["name"] = json!("both");
    both["spec"]["qos"]["enforceAt"] = json!("both");
    let (app, mut node, mut edge) = world(vec![held, both]).await;
    until_worn(&mut node, &mut edge, &[1]).await;
    let qos = |state: &DesiredState| match &state.items[&format!("subject/{WEB}")] {
        Item::Subject(item) => (item.qos.enforce_at, item.needs_class()),
        other => panic!("{other:?}"),
    };
    let is_held = |state: &DesiredState, id: u64| {
        let is_told = |it: LeaseRates| it.held && it.egress_bps == Some(20_000_000) && it.dscp == Some(46);
        has_lease(state, id) && lease(state, id).rates.is_some_and(is_told)
    };
    edge.until("a rate that it holds", |state| is_held(state, 1)).await;
    edge.report(alive()).await;
    assert_eq!(qos(&node.state), (EnforceAt::Edge, false), "the node has no class for it");
    let named =
        |state: &DesiredState| network(state).unwrap().planned.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(named(&node.state), ["f1"]);

    let (status, body) = app.post("/v1/switch", json!({ "subject": WEB, "persona": "both" })).await;
    assert_eq!(status, 200, "{body}");
    until_worn(&mut node, &mut edge, &[2]).await;
    edge.until("the same rate", |state| is_held(state, 2)).await;
    assert_eq!(qos(&node.state), (EnforceAt::Both, true));
}
