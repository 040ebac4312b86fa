//! What would happen if documents were applied is told, and nothing of it happens.

use crate::crowd::*;
use crate::support::*;
use persona_core::wire::planning::WhatIf;
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn documents_are_tried_who_would_move_is_told_and_nobody_moves() {
    let documents = vec![
        pool("fra", "198.51.100.0/28"),
        pool("tyo", "203.0.113.0/28"),
        persona("frankfurt", "fra", &[]),
        persona("tokyo", "tyo", &[]),
        binding("all", &["frankfurt"]),
    ];
    let mut crowd = Crowd::new(documents, &[("f1", "fra", holding(100)), ("t1", "tyo", holding(2))]).await;
    let found: Vec<(&str, Value)> = ["w1", "w2", "w3"].iter().map(|name| (*name, json!({}))).collect();
    crowd.report(&found).await;
    crowd.until("all have a way out", async |crowd| crowd.count("frankfurt") == 3).await;

    let simulate =
        async |crowd: &Crowd, document: Value| crowd.app.post("/v1/simulate", json!({ "documents": [document] })).await;
    let (status, body) = simulate(&crowd, binding("all", &["tokyo"])).await;
    assert_eq!(status, 200, "{body}");
    let told: WhatIf = serde_json::from_value(body).unwrap();
    assert_eq!((told.changed, told.refused, told.changes.len()), (3, 1, 3), "{told:?}");
    assert!(told.changes.iter().all(|it| it.before.as_ref().unwrap().persona.as_str() == "frankfurt"));
    let refused = &told.changes[0];
    assert!(
        refused.after.is_none() && refused.reason.contains("edge t1 of group tyo can hold 2 leases"),
        "{refused:?}"
    );
    assert!(told.changes[1..].iter().all(|it| it.after.as_ref().unwrap().persona.as_str() == "tokyo"));
    let blocks: Vec<(&str, u32, u32)> =
        told.pools.iter().map(|it| (it.pool.as_str(), it.blocks_before, it.blocks_after)).collect();
    assert_eq!(blocks, [("fra", 3, 3), ("tyo", 0, 2)], "old leases stay until their flows end");
    let edges: Vec<(&str, u32, u32)> =
        told.edges.iter().map(|it| (it.edge.as_str(), it.subjects_before, it.subjects_after)).collect();
    assert_eq!(edges, [("f1", 3, 0), ("t1", 0, 2)]);
    assert!((told.edges[1].after - 1.0).abs() < 1e-9, "{:?}", told.edges);

    let nothing = simulate(&crowd, binding("all", &["frankfurt"])).await.1;
    assert_eq!((&nothing["changed"], &nothing["changes"]), (&json!(0), &json!([])), "{nothing}");
    assert_eq!(simulate(&crowd, json!({ "kind": "Persona" })).await.0, 400);
    crowd.settle().await;
    assert_eq!((crowd.count("frankfurt"), crowd.app.leases().await.len()), (3, 3), "nothing of it happened");
    assert!(crowd.app.events().await.iter().all(|it| it.about != "binding/all" || it.name == "document.created"));
}
