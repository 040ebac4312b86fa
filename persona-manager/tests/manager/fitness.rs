//! What a persona asks of its edges: capabilities that registered edges offer, and the path that its wearer's node measures.

use crate::crowd::*;
use crate::support::*;
use persona_core::document::Format;
use persona_core::plan::parse_fleet;
use persona_core::wire::agent::{EdgeHealth, Report};
use serde_json::{Value, json};

fn asking(name: &str, pool: &str, edges: Value) -> Value {
    json!({ "apiVersion": "persona/v1", "kind": "Persona", "metadata": { "name": name },
        "spec": { "network": { "egress": { "pools": [pool] }, "edges": edges } } })
}

fn offering(capabilities: &[&str]) -> Value {
    json!({ "capabilities": capabilities, "capacity": { "bitsPerSec": 1_000_000_000, "leaseCount": 100 } })
}

/// What a node's probe of an edge says.
fn heard(edge: &str, rtt_us: u32) -> EdgeHealth {
    let edge = edge.parse().unwrap();
    EdgeHealth {
        edge,
        alive: true,
        rtt_us: Some(rtt_us),
        jitter_us: Some(200),
        loss: 0.0,
        generation: Default::default(),
    }
}

async fn probed(crowd: &Crowd, edges: Vec<EdgeHealth>) {
    crowd.node.report(Report { edges: Some(edges), ..Report::default() }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_persona_is_worn_where_its_edges_offer_what_it_requires_and_its_path_is_good_enough() {
    let wanted = json!({ "requires": ["scrubbing"], "path": { "latency": "30ms", "jitter": "1ms" } });
    let documents = vec![
        pool("fra", "198.51.100.0/28"),
        pool("tyo", "203.0.113.0/28"),
        asking("frankfurt", "fra", wanted),
        persona("tokyo", "tyo", &[]),
        binding("all", &["frankfurt", "tokyo"]),
    ];
    let edges = [("f1", "fra", offering(&["scrubbing"])), ("t1", "tyo", offering(&[]))];
    let mut crowd = Crowd::new(documents, &edges).await;
    crowd.report(&[("web", json!({}))]).await;
    crowd.until("it wears what needs no path", async |crowd| crowd.count("tokyo") == 1).await;
    let told = &crowd.considered("web").await["frankfurt"];
    assert!(told.contains("nobody measured its round trip yet"), "{told}");

    probed(&crowd, vec![heard("f1", 29_000), heard("t1", 90_000)]).await;
    crowd.until("its path is good enough", async |crowd| crowd.count("frankfurt") == 1).await;
    // What is worn stays while the path is a little worse than it may be, and goes when it is clearly worse.
    probed(&crowd, vec![heard("f1", 33_000), heard("t1", 90_000)]).await;
    crowd.settle().await;
    assert_eq!(crowd.count("frankfurt"), 1);
    probed(&crowd, vec![heard("f1", 45_000), heard("t1", 90_000)]).await;
    crowd.until("its path is too long", async |crowd| crowd.count("tokyo") == 1).await;
    let told = &crowd.considered("web").await["frankfurt"];
    assert!(told.contains("its round trip is 45.0 ms, at most 30 ms is allowed"), "{told}");
    probed(&crowd, vec![heard("f1", 20_000), heard("t1", 90_000)]).await;
    crowd.until("it is back", async |crowd| crowd.count("frankfurt") == 1).await;

    // The planner reads the same of the live fleet.
    let fleet = parse_fleet(&crowd.app.get("/v1/fleet").await.to_string(), Format::Json).unwrap();
    let persona = fleet.personas.iter().find(|it| it.name.as_str() == "frankfurt").unwrap();
    assert_eq!(persona.requires, ["scrubbing".parse().unwrap()]);
    assert_eq!(persona.path.unwrap().rtt_ms_max, Some(30.0));
    let explained = crowd.app.get("/v1/explain/workload/n1/web").await;
    assert_eq!(explained["edges"]["edge"], "f1", "{}", explained["edges"]);

    // An edge without the capability joins: whoever comes is refused it.
    crowd.join("f2", "fra", offering(&[])).await;
    crowd.until("it went to where nothing is missing", async |crowd| crowd.count("tokyo") == 1).await;
    let told = &crowd.considered("web").await["frankfurt"];
    assert!(told.contains("edge f2 of group fra does not offer scrubbing"), "{told}");
    let considered =
        crowd.app.post("/v1/switch", json!({ "subject": "workload/n1/web", "persona": "frankfurt" })).await;
    assert_eq!(considered.0, 409, "{}", considered.1);
}
