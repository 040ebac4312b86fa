//! Policies hold for everybody who is dressed, whether the plan steers or not: who may not be somewhere is taken from there.

use crate::crowd::*;
use crate::support::*;
use persona_core::wire::desired::Item;
use serde_json::{Value, json};

/// Groups `fra`, two edges in Germany, and `tyo`, one in Japan, with a persona each.
async fn world(personas: &[&str]) -> Crowd {
    let documents = vec![
        pool("fra", "198.51.100.0/28"),
        pool("tyo", "203.0.113.0/28"),
        persona("frankfurt", "fra", &[]),
        persona("tokyo", "tyo", &[]),
        binding("all", personas),
    ];
    let edges = [("f1", "fra", placed("DE")), ("f2", "fra", placed("DE")), ("t1", "tyo", placed("JP"))];
    Crowd::new(documents, &edges).await
}

fn placed(country: &str) -> Value {
    json!({ "labels": { "country": country }, "capacity": { "bitsPerSec": 1_000_000_000, "leaseCount": 100 } })
}

async fn set(crowd: &Crowd, mode: &str, policies: Value) {
    let settings =
        json!({ "mode": mode, "policies": policies, "planning": { "pace": { "every": "10ms", "arrivals": "100%" } } });
    let (status, body) = crowd.app.call("PUT", "/v1/settings/planning", Some(settings)).await;
    assert_eq!(status, 200, "{body}");
}

fn lease_states(crowd: &Crowd) -> Vec<(u64, bool)> {
    let leases = crowd.node.state.items.values().filter_map(|item| match item {
        Item::Lease(lease) => Some((lease.id.0, lease.retiring)),
        _ => None,
    });
    leases.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_residency_keeps_personas_off_and_takes_them_off_with_their_old_flows() {
    let mut crowd = world(&["tokyo", "frankfurt"]).await;
    let labels = json!({ "data": "eu" });
    crowd.report(&[("crm", labels.clone()), ("web", json!({}))]).await;
    crowd.until("both wear what is first", async |crowd| crowd.count("tokyo") == 2).await;

    set(
        &crowd,
        "advise",
        json!([{ "name": "eu", "subjects": { "labels": { "data": "eu" } }, "rule": { "residency": ["DE", "FR"] } }]),
    )
    .await;
    crowd.until("who may not stay has moved", async |crowd| crowd.count("frankfurt") == 1).await;
    assert_eq!(crowd.told()["crm"].as_deref(), Some("frankfurt"));
    assert_eq!(crowd.told()["web"].as_deref(), Some("tokyo"), "the policy is not for it");
    crowd.until("its old lease has gone", async |crowd| lease_states(crowd).iter().all(|(_, ends)| !ends)).await;
    let events = crowd.app.events().await;
    assert!(events.iter().any(|it| it.name == "lease.cut-announced" && it.message.contains("workload/n1/crm")));
    let told = &crowd.considered("crm").await["tokyo"];
    assert!(
        told.contains("policy: eu keeps it in DE, FR, not in JP: edge t1") && told.contains("change the policy"),
        "{told}"
    );
    let by_hand = json!({ "subject": "workload/n1/crm", "persona": "tokyo" });
    assert_eq!(crowd.app.post("/v1/switch", by_hand).await.0, 409);

    // An edge elsewhere comes to the group: nobody whom it may not carry is left there, and it was never told of them.
    crowd.join("f3", "fra", placed("US")).await;
    crowd.until("nothing is left for it", async |crowd| crowd.told()["crm"].is_none()).await;
    let why = &crowd.considered("crm").await["frankfurt"];
    assert!(why.contains("not in US: edge f3"), "{why}");
    crowd.until("its lease has gone", async |crowd| lease_states(crowd).len() == 1).await;
    let (status, _) = crowd.app.call("DELETE", "/v1/edges/f3?force=gone", None).await;
    assert_eq!(status, 204);
    crowd.edges.remove("f3");
    crowd.until("it is back", async |crowd| crowd.count("frankfurt") == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_policy_denies_has_no_way_out_while_the_next_is_not_ready() {
    let mut crowd = world(&["tokyo", "frankfurt"]).await;
    crowd.report(&[("crm", json!({}))]).await;
    crowd.until("it wears what is first", async |crowd| crowd.count("tokyo") == 1).await;
    // The edges of the other group acknowledge nothing: its lease there is not active.
    crowd.silent.extend(["f1", "f2"].map(str::to_owned));
    set(&crowd, "advise", json!([{ "name": "not-there", "rule": { "deny": { "edges": ["t1"] } } }])).await;
    crowd.until("it has no way out", async |crowd| crowd.told()["crm"].is_none()).await;
    crowd.silent.clear();
    crowd.until("it has the next", async |crowd| crowd.count("frankfurt") == 1).await;
    // Taken back, the first of its binding is worn again.
    set(&crowd, "advise", json!([])).await;
    crowd.until("it wears what is first", async |crowd| crowd.count("tokyo") == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn shares_and_distance_are_kept_in_one_pass_and_again_when_they_change() {
    let mut crowd = world(&["frankfurt", "tokyo"]).await;
    set(&crowd, "advise", json!([{ "name": "half", "rule": { "maxGroupShare": { "group": "fra", "share": "50%" } } }]))
        .await;
    let names = ["w1", "w2", "w3", "w4", "w5", "w6"];
    let found: Vec<(&str, Value)> = names.iter().map(|name| (*name, json!({ "customer": "acme" }))).collect();
    crowd.report(&found).await;
    crowd.until("all have a way out", async |crowd| crowd.told().values().flatten().count() == 6).await;
    assert_eq!((crowd.count("frankfurt"), crowd.count("tokyo")), (3, 3), "{:?}", crowd.told());

    // Every edge of a group carries each of them: one of them in each group.
    set(&crowd, "advise", json!([{ "name": "ha", "rule": { "apart": { "label": "customer", "perEdge": 3 } } }])).await;
    crowd.settle().await;
    assert_eq!((crowd.count("frankfurt"), crowd.count("tokyo")), (3, 3), "{:?}", crowd.told());
    // Steering, each has one of two edges.
    set(&crowd, "steer", json!([{ "name": "ha", "rule": { "apart": { "label": "customer", "perEdge": 2 } } }])).await;
    crowd.until("four are in the group of two edges", async |crowd| crowd.count("frankfurt") == 4).await;
    crowd
        .until("two are on each", async |crowd| {
            let plan = crowd.app.get("/v1/plan").await;
            let edges = plan["edges"].as_array().unwrap().iter();
            edges.map(|edge| edge["subjects"].as_u64().unwrap()).eq([2, 2, 2])
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_edge_says_of_itself_satisfies_no_policy_until_it_is_bound() {
    let mut crowd = world(&["frankfurt"]).await;
    // Nobody else has bound anything to it: where it is and what it offers are its own word.
    let claim = json!({ "labels": { "country": "DE" }, "capabilities": ["scrubbing"],
        "capacity": { "bitsPerSec": 1_000_000_000, "leaseCount": 100 } });
    let edge = crowd.app.join_edge("c1", 31, "cla", claim).await;
    crowd.edges.insert("c1".to_owned(), edge);
    crowd.until("it serves", async |crowd| crowd.edge("c1").await["state"] == "up").await;
    let mut demanding = persona("claimed", "cla", &[]);
    demanding["spec"]["network"]["edges"] = json!({ "requires": ["scrubbing"] });
    let documents = vec![pool("cla", "192.0.2.0/28"), demanding, binding("only", &["claimed"])];
    crowd.app.apply(documents).await;
    let (status, _) = crowd.app.call("DELETE", "/v1/bindings/all", None).await;
    assert_eq!(status, 204);
    set(&crowd, "advise", json!([{ "name": "eu", "rule": { "residency": ["DE"] } }])).await;
    crowd.report(&[("web", json!({}))]).await;
    crowd.settle().await;
    assert_eq!(crowd.count("claimed"), 0);
    let told = crowd.considered("web").await["claimed"].clone();
    assert!(told.contains("no label that is bound") && told.contains("does not offer scrubbing"), "{told}");
    assert!(told.contains("persona-ctl edge label c1"), "{told}");

    let labels = json!({ "labels": { "country": "DE", "capability/scrubbing": "yes" } });
    assert_eq!(crowd.app.call("PUT", "/v1/labels/edge/c1", Some(labels)).await.0, 200);
    crowd.until("it is worn", async |crowd| crowd.count("claimed") == 1).await;
}
