//! What there is no room for is refused or told before it is written; what runs out later is told once, and counted.

use crate::support::*;
use persona_core::wire::agent::{Report, Role};
use serde_json::{Value, json};

const WEB: &str = "workload/n1/web";

/// A manager with a pool `fra` of four addresses, persona `frankfurt`, node `n1` with `web`, and a serving edge.
async fn world() -> (TestApp, FakeAgent, FakeAgent) {
    let app = TestApp::new().await;
    app.apply(vec![
        pool("fra", "198.51.100.0/30"),
        persona("frankfurt", "fra", &[]),
        binding("all", &["frankfurt", "other"]),
    ])
    .await;
    let mut node = app.join(Role::Node, "n1", 1, None).await;
    let mut edge = app.join(Role::Edge, "f1", 11, Some("fra")).await;
    edge.watch().await;
    edge.report(alive()).await;
    eventually("up", async || app.get("/v1/edges/f1").await["state"] == "up").await;
    node.watch().await;
    node.report(Report { underlay_mtu: Some(1_450), ..workloads(&["web".to_owned()]) }).await;
    edge.until("lease 1", |state| has_lease(state, 1)).await;
    edge.report(alive()).await;
    node.until("lease 1", |state| lease_of(state, WEB) == Some(1)).await;
    node.report(Report::default()).await;
    (app, node, edge)
}

fn alive() -> Report {
    Report { outside_alive: Some(true), ..Report::default() }
}

fn with_network(name: &str, network: Value) -> Value {
    json!({ "apiVersion": "persona/v1", "kind": "Persona", "metadata": { "name": name }, "spec": { "network": network } })
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_fit_is_refused_before_it_is_written() {
    let (app, _node, _edge) = world().await;
    let refused = [
        (
            with_network("frankfurt", json!({ "egress": { "pools": ["fra"] }, "mtu": 1415 })),
            "1 are missing; lower mtu to 1414",
        ),
        (
            with_network("other", json!({ "egress": { "pools": ["fra"], "family": "ipv6" } })),
            "0 IPv6 prefixes where 1 is needed",
        ),
        (
            json!({ "apiVersion": "persona/v1", "kind": "EgressPool", "metadata": { "name": "big" },
                "spec": { "addresses": ["10.64.0.0/19"], "group": "fra" } }),
            "an edge carries 4096: 4100 are too many",
        ),
    ];
    for (document, expected) in refused {
        for path in ["/v1/apply?forceConflicts=true&dryRun=true", APPLY] {
            let (status, body) = app.post(path, json!({ "documents": [document.clone()] })).await;
            assert_eq!((status, body["type"].as_str()), (409, Some("/problems/no-room")), "{body}");
            assert!(body["detail"].as_str().unwrap().contains(expected), "{body}");
        }
    }
    assert_eq!(app.get("/v1/personas/frankfurt").await["latestVersion"], 1, "nothing was written");
    assert_eq!(app.call("GET", "/v1/personas/other", None).await.0, 404);

    // Nobody wears it yet: a warning now, a refusal when somebody shall.
    let other = with_network("other", json!({ "egress": { "pools": ["fra"] }, "mtu": 1450 }));
    let applied = app.apply(vec![other]).await;
    let warnings = applied["results"][0]["warnings"].to_string();
    assert!(
        warnings.contains("node n1 carries 1450 bytes to its edges") && warnings.contains("36 are missing"),
        "{warnings}"
    );
    let (status, body) = app.post("/v1/switch", json!({ "subject": WEB, "persona": "other" })).await;
    assert_eq!((status, body["type"].as_str()), (409, Some("/problems/no-room")), "{body}");
    assert_eq!(
        app.get(&format!("/v1/explain/{WEB}")).await["assignment"]["sections"]["network"]["persona"],
        "frankfurt"
    );
}

/// Ports and map sizes; the MTU budget is above. A node's subjects and classes run out at 4,096, which core's tests show.
#[tokio::test(flavor = "multi_thread")]
async fn blocks_and_cells_that_no_table_holds_are_refused_and_ports_of_a_node_are_counted() {
    let (app, node, _edge) = world().await;
    let narrow = json!({ "apiVersion": "persona/v1", "kind": "EgressPool", "metadata": { "name": "narrow" },
        "spec": { "addresses": ["198.51.100.64/28"], "group": "fra", "blockSize": 64 } });
    app.apply(vec![narrow, pool("wide", "198.51.100.32/28")]).await;
    let asking = |pools: &str, ports: u32| {
        with_network("frankfurt", json!({ "egress": { "pools": [pools], "portsPerSubject": ports } }))
    };
    let prefixes: Vec<String> = (0..37).map(|index| format!("2001:db8:{index:x}::/48")).collect();
    let cells = json!({ "apiVersion": "persona/v1", "kind": "EgressPool", "metadata": { "name": "six" },
        "spec": { "addresses": prefixes, "nextHop6": "2001:db8:ffff::1", "group": "fra" } });
    for (document, expected) in [
        (asking("narrow", 64 * 65), "65 blocks of 64 ports are needed of pool narrow, a lease has at most 64: 1 are"),
        (cells, "port blocks and /64, an edge carries"),
    ] {
        let (status, body) = app.post(APPLY, json!({ "documents": [document] })).await;
        assert_eq!((status, body["type"].as_str()), (409, Some("/problems/no-room")), "{body}");
        assert!(body["detail"].as_str().unwrap().contains(expected), "{body}");
    }
    let names: Vec<String> = (0..9).map(|index| format!("w{index}")).chain(["web".to_owned()]).collect();
    node.report(workloads(&names)).await;
    eventually("ten leases", async || app.leases().await.len() == 10).await;
    let (status, body) = app.post(APPLY, json!({ "documents": [asking("wide", 63 * 1_024)] })).await;
    let warnings = body["results"][0]["warnings"].to_string();
    assert_eq!(status, 200, "{body}");
    // Ten leases of one block stand already, ten of 63 are to come.
    assert!(warnings.contains("655360 leased ports, it has room for 524288: 131072 are missing"), "{warnings}");
}

#[tokio::test(flavor = "multi_thread")]
async fn wearers_without_room_are_counted_in_a_warning() {
    let (app, node, _edge) = world().await;
    let names: Vec<String> = (0..9).map(|index| format!("w{index}")).chain(["web".to_owned()]).collect();
    node.report(workloads(&names)).await;
    eventually("ten leases", async || app.leases().await.len() == 10).await;
    // 4 addresses of 63 blocks, 10 of them in use: 30 blocks fit twice into each.
    let larger = with_network("frankfurt", json!({ "egress": { "pools": ["fra"], "portsPerSubject": 30_720 } }));
    let (status, body) = app.post("/v1/apply?forceConflicts=true&dryRun=true", json!({ "documents": [larger] })).await;
    let warnings = body["results"][0]["warnings"].to_string();
    assert_eq!(status, 200, "{body}");
    assert!(
        warnings.contains("10 wearers need new leases, its pools (fra) have room for 8: 2 are missing"),
        "{warnings}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn ports_that_run_out_are_told_once_per_episode_and_shown_as_metrics() {
    let (app, node, edge) = world().await;
    let full = |live: u32, shared: u32| Report {
        leases: serde_json::from_value(
            json!([{ "lease": 1, "liveSlotCount": live, "slotCount": 1024, "sharedPortCount": shared }]),
        )
        .unwrap(),
        counters: serde_json::from_value(
            json!({ "subjects": [], "personas": {}, "drops": { "ports-exhausted": 7, "mid-stream": 2, "made-up": 4 } }),
        )
        .unwrap(),
        ..Report::default()
    };
    let told = async |name: &str| app.events().await.iter().filter(|event| event.name == name).count();
    for (live, near, exhausted) in [(100, 0, 0), (930, 1, 0), (940, 1, 0), (1_024, 1, 1), (1_000, 1, 1), (1_024, 1, 1)]
    {
        node.report(full(live, 0)).await;
        let carried = json!({ "egressPackets": 3, "egressBytes": 300, "ingressPackets": 5, "ingressBytes": 500 });
        let counters = json!({ "subjects": [], "personas": {}, "drops": { "mid-stream": 1 }, "carried": carried });
        edge.report(Report { counters: serde_json::from_value(counters).unwrap(), ..alive() }).await;
        let is_told = async || {
            (told("lease.ports-nearly-exhausted").await, told("lease.ports-exhausted").await) == (near, exhausted)
        };
        eventually(&format!("{live}: {near} {exhausted}"), is_told).await;
    }
    node.report(full(10, 0)).await;
    eventually("over", async || told("lease.ports-available").await == 1).await;
    let view = app.get("/v1/leases/1").await;
    assert_eq!(view["use"]["liveSlotCount"], 10, "{view}");

    let metrics = app.get("/metrics").await;
    let text = metrics.as_str().unwrap();
    for line in [
        "persona_leases{pool=\"fra\",family=\"ipv4\",state=\"active\"} 1",
        "persona_lease_live_slots{lease=\"1\",subject=\"workload/n1/web\"} 10",
        "persona_pool_blocks{pool=\"fra\",state=\"held\"} 1",
        "persona_pool_blocks{pool=\"fra\",state=\"free\"} 251",
        "persona_pool_free_addresses{pool=\"fra\"} 3",
        "persona_edge_up{edge=\"f1\",group=\"fra\"} 1",
        "persona_node_up{node=\"n1\"} 1",
        "persona_drops_total{reason=\"ports-exhausted\"} 7",
        "persona_drops_total{reason=\"mid-stream\"} 3",
        "persona_drops_total{reason=\"unknown\"} 4",
        "persona_edge_packets_total{edge=\"f1\",direction=\"egress\"} 3",
        "persona_edge_inner_bytes_total{edge=\"f1\",direction=\"ingress\"} 500",
        "persona_subjects{state=\"assigned\"} 1",
        "persona_applied_generation{agent=\"node/n1\"}",
        "# EOF",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
}
