//! An edge that somebody works on is emptied, comes and goes unannounced and unheld, and is not forgotten by a restart.

use crate::crowd::*;
use crate::support::*;
use persona_core::wire::desired::Item;
use serde_json::{Value, json};

const PATH: &str = "/v1/edges/f1/maintenance";

async fn world() -> Crowd {
    let documents =
        vec![pool("fra", "198.51.100.0/28"), persona("frankfurt", "fra", &[]), binding("all", &["frankfurt"])];
    let mut crowd = Crowd::new(documents, &[("f1", "fra", holding(100)), ("f2", "fra", holding(100))]).await;
    let found: Vec<(&str, Value)> = ["w1", "w2", "w3", "w4"].iter().map(|name| (*name, json!({}))).collect();
    crowd.report(&found).await;
    crowd.until("all have a way out", async |crowd| crowd.count("frankfurt") == 4).await;
    crowd
}

/// Whether the node is told that new flows avoid the edge.
fn is_avoided(crowd: &Crowd, edge: &str) -> bool {
    matches!(crowd.node.state.items.get(&format!("edge/{edge}")), Some(Item::Edge(edge)) if edge.draining)
}

async fn told(crowd: &Crowd, name: &str) -> usize {
    crowd.app.events().await.iter().filter(|it| it.name == name && it.about == "edge/f1").count()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_in_maintenance_goes_and_comes_back_without_an_alarm_and_without_a_hold() {
    let mut crowd = world().await;
    let steer = json!({ "mode": "steer", "planning": { "pace": { "every": "10ms", "arrivals": "100%" } } });
    assert_eq!(crowd.app.call("PUT", "/v1/settings/planning", Some(steer)).await.0, 200);
    crowd.until("both are planned with", async |crowd| planned(crowd).await == ["serving 2", "serving 2"]).await;

    let (status, view) = crowd.app.call("PUT", PATH, Some(json!({ "reason": "new fans" }))).await;
    assert_eq!((status, &view["maintenance"]["reason"]), (200, &json!("new fans")), "{view}");
    crowd.until("it is emptied", async |crowd| planned(crowd).await == ["maintenance 0", "serving 4"]).await;
    crowd.until("new flows avoid it", async |crowd| is_avoided(crowd, "f1")).await;
    let (_, again) = crowd.app.call("PUT", PATH, Some(json!({ "reason": "new fans" }))).await;
    assert_eq!(again["maintenance"], view["maintenance"], "saying it twice changes nothing");
    assert_eq!(told(&crowd, "edge.maintenance").await, 1);
    let long = json!({ "reason": "x".repeat(201) });
    assert_eq!(crowd.app.call("PUT", PATH, Some(long)).await.0, 400);

    for round in 1..=3 {
        crowd.silent.insert("f1".to_owned());
        crowd.until("it is away", async |crowd| crowd.edge("f1").await["state"] == "down").await;
        crowd.silent.clear();
        crowd.until("it is back", async |crowd| crowd.edge("f1").await["state"] == "up").await;
        // On a slow machine it may seem to be away once more.
        let (away, back) = (told(&crowd, "edge.away").await, told(&crowd, "edge.back").await);
        assert!(away == back && away >= round, "{away} times away, {back} times back, {round} times silent");
    }
    assert_eq!(told(&crowd, "edge.down").await, 0);
    let metrics = crowd.app.get("/metrics").await;
    assert!(metrics.as_str().unwrap().contains("persona_edge_maintenance{edge=\"f1\",group=\"fra\"} 1"));

    let (status, view) = crowd.app.call("DELETE", PATH, None).await;
    assert_eq!((status, &view["maintenance"]), (200, &Value::Null), "{view}");
    crowd.until("it is planned with again", async |crowd| planned(crowd).await[0].starts_with("serving ")).await;
    crowd.until("new flows use it", async |crowd| !is_avoided(crowd, "f1")).await;
    crowd.silent.insert("f1".to_owned());
    crowd.until("it is down", async |crowd| crowd.edge("f1").await["state"] == "down").await;
    assert_eq!(told(&crowd, "edge.down").await, 1);
}

/// Each edge's service in the plan, and how many subjects are planned onto it.
async fn planned(crowd: &Crowd) -> Vec<String> {
    let plan = crowd.app.get("/v1/plan").await;
    let edges = plan["edges"].as_array().unwrap().iter();
    edges.map(|edge| format!("{} {}", edge["service"].as_str().unwrap(), edge["subjects"])).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn maintenance_outlives_a_restart_and_who_is_down_when_it_ends_is_told_of() {
    let mut crowd = world().await;
    assert_eq!(crowd.app.call("PUT", PATH, Some(json!({}))).await.0, 200);
    crowd.silent.insert("f1".to_owned());
    crowd.until("it is away", async |crowd| crowd.edge("f1").await["state"] == "down").await;
    let app = crowd.app.restart().await;
    let view = app.get("/v1/edges/f1").await;
    assert!(view["maintenance"]["sinceMs"].as_u64().is_some_and(|since| since > 0), "{view}");
    assert_eq!(app.call("DELETE", PATH, None).await.0, 200);
    let events = app.events().await;
    let down = events.iter().find(|it| it.name == "edge.down").unwrap();
    assert!(down.message.contains("edge/f1 is down: it "), "{}", down.message);
    let none = app.call("PUT", "/v1/edges/nobody/maintenance", Some(json!({}))).await;
    assert_eq!(none.0, 404, "{}", none.1);
}
