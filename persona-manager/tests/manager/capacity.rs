//! What edges state that they can carry is reserved: nobody gets a lease or a guarantee beyond it, and is told what there is room for.

use crate::crowd::*;
use crate::support::*;
use serde_json::{Value, json};

fn guaranteeing(name: &str, pool: &str, rate: &str) -> Value {
    json!({ "apiVersion": "persona/v1", "kind": "Persona", "metadata": { "name": name },
        "spec": { "network": { "egress": { "pools": [pool] } },
            "qos": { "guaranteedRate": rate, "shared": { "egressRate": "2gbit" } } } })
}

fn plain(names: &[&'static str]) -> Vec<(&'static str, Value)> {
    names.iter().map(|name| (*name, json!({}))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lease_beyond_what_the_smallest_edge_can_hold_is_refused_until_one_ends() {
    let documents =
        vec![pool("fra", "198.51.100.0/28"), persona("frankfurt", "fra", &[]), binding("all", &["frankfurt"])];
    let mut crowd = Crowd::new(documents, &[("f1", "fra", holding(100)), ("f2", "fra", holding(2))]).await;
    // All of them come in one report, so one pass gives what there is.
    crowd.report(&plain(&["w1", "w2", "w3"])).await;
    crowd.until("two have a way out", async |crowd| crowd.count("frankfurt") == 2).await;
    crowd.settle().await;
    assert_eq!((crowd.count("frankfurt"), crowd.app.leases().await.len()), (2, 2), "{:?}", crowd.told());
    let left_out = crowd.told().into_iter().find(|(_, worn)| worn.is_none()).unwrap().0;
    let told = &crowd.considered(&left_out).await["frankfurt"];
    assert!(told.contains("edge f2 of group fra can hold 2 leases and there are 2: 1 more are needed"), "{told}");
    assert!(told.contains("raise capacity.lease_count of edge f2"), "{told}");
    let by_hand = json!({ "subject": format!("workload/n1/{left_out}"), "persona": "frankfurt" });
    let (status, body) = crowd.app.post("/v1/switch", by_hand).await;
    assert_eq!((status, body["type"].as_str()), (409, Some("/problems/no-persona-fits")), "{body}");
    assert!(body.to_string().contains("can hold 2 leases"), "{body}");

    // The smallest edge is dead: it comes back, and then holds what its group holds.
    crowd.silent.insert("f2".to_owned());
    crowd.until("it is down", async |crowd| crowd.edge("f2").await["state"] == "down").await;
    crowd.settle().await;
    assert_eq!(crowd.app.leases().await.len(), 2);
    crowd.silent.clear();
    crowd.until("it serves", async |crowd| crowd.edge("f2").await["state"] == "up").await;

    let stay: Vec<&str> = ["w1", "w2", "w3"].into_iter().filter(|name| *name != "w1").collect();
    let stay: Vec<(&str, Value)> = stay.into_iter().map(|name| (name, json!({}))).collect();
    crowd.report(&stay).await;
    crowd
        .until("who was left out has a way out", async |crowd| {
            crowd.told().iter().filter(|(name, _)| *name != "w1").all(|(_, worn)| worn.is_some())
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn guarantees_go_to_whom_the_edges_can_carry_and_the_rest_go_where_there_is_room() {
    let documents = vec![
        pool("fra", "198.51.100.0/28"),
        pool("tyo", "203.0.113.0/28"),
        guaranteeing("frankfurt", "fra", "400mbit"),
        persona("tokyo", "tyo", &[]),
        binding("all", &["frankfurt", "tokyo"]),
    ];
    let edges = [("f1", "fra", holding(100)), ("t1", "tyo", holding(100))];
    let mut crowd = Crowd::new(documents, &edges).await;
    crowd.report(&plain(&["w1", "w2", "w3"])).await;
    crowd.until("all have a way out", async |crowd| crowd.told().values().flatten().count() == 3).await;
    assert_eq!((crowd.count("frankfurt"), crowd.count("tokyo")), (2, 1), "{:?}", crowd.told());
    let elsewhere = crowd.told().into_iter().find(|(_, worn)| worn.as_deref() == Some("tokyo")).unwrap().0;
    let told = &crowd.considered(&elsewhere).await["frankfurt"];
    assert!(told.contains("can carry 1gbit, of which 800mbit are guaranteed to others: 400mbit more"), "{told}");
    assert!(told.contains("lower qos.guaranteedRate of frankfurt to at most 200mbit"), "{told}");
    // Another edge, more room.
    crowd.join("f2", "fra", holding(100)).await;
    crowd.until("all are in frankfurt", async |crowd| crowd.count("frankfurt") == 3).await;
}
