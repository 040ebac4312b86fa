//! Criteria over real HTTP: signals come in, personas are put on and taken off, in their place among the layers.

use crate::leases::{alive, world};
use crate::support::*;
use persona_core::wire::agent::{Report, Role};
use persona_core::wire::desired::Item;
use persona_core::wire::signals::{SampleBatch, SampleRow};
use serde_json::{Value, json};

const WEB: &str = "workload/n1/web";

/// Applies documents and reports one workload; nobody has a network section here.
async fn scene(documents: Vec<Value>) -> (TestApp, FakeAgent) {
    let app = TestApp::new().await;
    app.apply(documents).await;
    let mut node = app.join(Role::Node, "n1", 1, None).await;
    node.watch().await;
    node.report(workloads(&["web".to_owned()])).await;
    (app, node)
}

/// A persona that limits processes, and its rules.
fn sized(name: &str, pids: u32, rules: Value) -> Value {
    json!({ "apiVersion": "persona/v1", "kind": "Persona", "metadata": { "name": name },
        "spec": { "resources": { "pids": pids }, "activation": rules } })
}

/// A binding with these keys beside its selector.
fn binding_with(spec: Value) -> Value {
    let mut document = binding("all", &[]);
    document["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    document
}

async fn push(app: &TestApp, name: &str, value: f64, for_ms: u64) {
    let body = json!({ "subject": WEB, "name": name, "value": value, "forMs": for_ms });
    let (status, answer) = app.post("/v1/signals", body).await;
    assert_eq!(status, 200, "{answer}");
}

async fn withdraw(app: &TestApp, name: &str) {
    let (status, answer) = app.call("DELETE", &format!("/v1/signals/{WEB}?name={name}"), None).await;
    assert_eq!(status, 204, "{answer}");
}

/// The persona and the layer of a section. `-`: nothing is worn there.
async fn worn_in(app: &TestApp, section: &str) -> String {
    let (status, answer) = app.call("GET", &format!("/v1/explain/{WEB}"), None).await;
    assert_eq!(status, 200, "{answer}");
    let worn = &answer["assignment"]["sections"][section];
    match worn["persona"].as_str() {
        Some(persona) => format!("{persona} by {}", worn["layer"].as_str().unwrap()),
        None => "-".to_owned(),
    }
}

async fn until_worn(app: &TestApp, section: &str, expected: &str) {
    eventually(&format!("{section}: {expected}"), async || worn_in(app, section).await == expected).await;
}

async fn events_named(app: &TestApp, prefix: &str) -> Vec<(String, String)> {
    let events = app.events().await.into_iter().filter(|event| event.name.starts_with(prefix));
    events.map(|event| (event.name, event.message)).collect()
}

async fn status_of(app: &TestApp) -> Value {
    app.get(&format!("/v1/activation/{WEB}")).await
}

fn pids_of(node: &FakeAgent) -> Option<u64> {
    match node.state.items.get(&format!("subject/{WEB}")) {
        Some(Item::Subject(item)) => item.resources.as_ref()?.limits.pids_max,
        _ => None,
    }
}

fn samples(rows: &[(Option<&str>, &str, Option<f32>)]) -> Report {
    let batch = |(workload, signal, value): &(Option<&str>, &str, Option<f32>)| SampleBatch {
        age_ms: 0,
        signals: vec![(*signal).to_owned()],
        rows: vec![SampleRow { workload: workload.map(|name| name.parse().unwrap()), values: vec![*value] }],
    };
    Report { samples: rows.iter().map(batch).collect(), ..Report::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pushed_signal_puts_a_persona_on_and_its_end_takes_it_off() {
    let rules = json!([{ "when": "external.surge > 0", "onUnknown": "leave", "staleAfter": "0s" }]);
    let (app, mut node) = scene(vec![
        sized("plain", 100, json!([])),
        sized("surge", 900, rules),
        binding_with(json!({
            "personas": ["surge"], "default": "plain" })),
    ])
    .await;
    until_worn(&app, "resources", "plain by binding").await;
    push(&app, "external.surge", 2.0, 1_500).await;
    assert_eq!(worn_in(&app, "resources").await, "surge by activation", "in force with the answer");
    node.until("the limits of surge", |state| !state.items.is_empty()).await;
    while pids_of(&node) != Some(900) {
        node.next().await;
    }
    let listed = app.get(&format!("/v1/signals/{WEB}")).await;
    assert_eq!(
        (&listed["signals"][0]["name"], &listed["signals"][0]["by"]),
        (&json!("external.surge"), &json!("access/test"))
    );
    let status = status_of(&app).await;
    assert_eq!(status["personas"][0]["worn"], json!(["resources"]), "{status}");
    assert!(status["reason"].as_str().unwrap().contains("external.surge > 0 (2)"), "{status}");

    until_worn(&app, "resources", "plain by binding").await;
    while pids_of(&node) != Some(100) {
        node.next().await;
    }
    let told: Vec<_> = events_named(&app, "activation.").await;
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].1.contains("surge is worn in resources: surge: holds: external.surge > 0 (2)"), "{told:?}");
    assert!(told[1].0 == "activation.left" && told[1].1.contains("unknown for 0ms"), "{told:?}");
    assert_eq!(
        events_named(&app, "signal.").await.into_iter().map(|it| it.0).collect::<Vec<_>>(),
        ["signal.pushed", "signal.expired"]
    );
    let entered = app.events().await.into_iter().find(|event| event.name == "activation.entered").unwrap();
    assert_eq!(entered.details["saw"]["personas"][0]["rules"][0]["seen"][0]["value"], "2", "{}", entered.details);
}

#[tokio::test(flavor = "multi_thread")]
async fn measured_signals_of_the_workload_and_of_its_host_decide() {
    let rules =
        json!([{ "when": "cpu.utilisation > 80% && host.memory.usage < 90%", "leave": "cpu.utilisation < 50%" }]);
    let (app, node) = scene(vec![sized("busy", 9, rules), binding_with(json!({ "personas": ["busy"] }))]).await;
    let host = |value| (None, "memory.usage", Some(value));
    let own = |value| (Some("web"), "cpu.utilisation", value);
    node.report(samples(&[own(Some(0.9))])).await;
    let status = status_of(&app).await;
    let rule = &status["personas"][0]["rules"][0];
    assert!(rule["verdict"].as_str().unwrap().contains("host.memory.usage < 90%"), "{rule}");
    assert_eq!((&rule["holds"], worn_in(&app, "resources").await), (&json!("unknown"), "-".to_owned()));
    node.report(samples(&[host(0.95), own(Some(0.9))])).await;
    let status = status_of(&app).await;
    assert!(status["personas"][0]["rules"][0]["verdict"].as_str().unwrap().contains("off by 0.05"), "{status}");
    app.apply(vec![
        sized("later", 1, json!([{ "when": "cpu.utilisation > 2 * 1 - 1" }])),
        binding_with(json!({ "personas": ["busy", "later"] })),
    ])
    .await;
    let told = status_of(&app).await["personas"][0]["rules"][0]["verdict"].as_str().unwrap().to_owned();
    assert!(told.contains("off by 0.05"), "what was measured is known under a new list too: {told}");
    node.report(samples(&[host(0.5), (Some("nobody"), "cpu.utilisation", Some(0.9))])).await;
    until_worn(&app, "resources", "busy by activation").await;
    node.report(samples(&[own(Some(0.7))])).await;
    node.report(samples(&[own(None)])).await;
    assert_eq!(
        worn_in(&app, "resources").await,
        "busy by activation",
        "between the thresholds it stays, and unknown too"
    );
    node.report(samples(&[own(Some(0.4))])).await;
    until_worn(&app, "resources", "-").await;
    let listed = app.get("/v1/signals/node/n1").await;
    assert_eq!(listed["signals"][0]["shown"], "0.5", "{listed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_layer_stands_in_its_place() {
    let (app, mut node, mut edges) = world().await;
    let mut rush = persona("rush", "tyo", &["low-latency"]);
    rush["spec"]["activation"] = json!([{ "when": "external.rush > 0" }]);
    rush["spec"]["resources"] = json!({ "pids": 7 });
    let mut night = sized("night", 3, json!([{ "when": "external.night > 0" }]));
    night["spec"]["qos"] = json!({ "egressRate": "1mbit" });
    app.apply(vec![rush, night, binding("all", &["rush", "night", "frankfurt", "tokyo"])]).await;
    node.watch().await;
    node.report(workloads(&["web".to_owned()])).await;
    until_worn(&app, "network", "frankfurt by binding").await;
    let explained = app.get(&format!("/v1/explain/{WEB}")).await;
    let considered = explained["considered"].as_array().unwrap();
    let waiting = considered.iter().find(|it| it["persona"] == "rush").unwrap();
    assert!(waiting["refusals"][0].as_str().unwrap().contains("criteria"), "{waiting}");
    for edge in &mut edges[..2] {
        edge.until("lease 1", |state| has_lease(state, 1)).await;
        edge.report(alive()).await;
    }
    node.until("lease 1", |state| lease_of(state, WEB) == Some(1)).await;

    // Per section the first of the list that is in.
    push(&app, "external.night", 1.0, 600_000).await;
    assert_eq!(
        (worn_in(&app, "network").await, worn_in(&app, "qos").await),
        ("frankfurt by binding".into(), "night by activation".into())
    );
    push(&app, "external.rush", 1.0, 600_000).await;
    assert_eq!(
        (worn_in(&app, "network").await, worn_in(&app, "qos").await),
        ("rush by activation".into(), "rush by activation".into())
    );
    edges[2].until("lease 2", |state| has_lease(state, 2)).await;
    edges[2].report(alive()).await;
    node.until("lease 2", |state| lease_of(state, WEB) == Some(2)).await;

    push(&app, "external.night", 2.0, 600_000).await;
    let sections = &app.get(&format!("/v1/explain/{WEB}")).await["assignment"]["sections"];
    assert!(sections["network"]["reason"].as_str().unwrap().contains("external.rush > 0 (1)"), "{sections}");
    push(&app, "external.night", 1.0, 600_000).await;

    // A request and a person stand above, and what they do not have is left to criteria.
    let body = json!({ "subject": WEB, "capabilities": ["low-latency"] });
    assert_eq!(app.post("/v1/request", body).await.0, 200);
    assert_eq!(worn_in(&app, "network").await, "rush by request");
    let (status, answer) = app.post("/v1/switch", json!({ "subject": WEB, "persona": "frankfurt" })).await;
    assert_eq!(status, 409, "it lacks what was requested: {answer}");
    assert_eq!(app.call("DELETE", &format!("/v1/request/{WEB}"), None).await.0, 200);
    let (status, answer) = app.post("/v1/switch", json!({ "subject": WEB, "persona": "frankfurt" })).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(
        (worn_in(&app, "network").await, worn_in(&app, "qos").await),
        ("frankfurt by manual".into(), "frankfurt by manual".into())
    );
    assert_eq!(worn_in(&app, "resources").await, "rush by activation");
    assert_eq!(app.call("DELETE", &format!("/v1/switch/{WEB}"), None).await.0, 200);
    assert_eq!(worn_in(&app, "network").await, "rush by activation");

    // Without its signal it is unknown, and stays; when it says no, it goes.
    withdraw(&app, "external.rush").await;
    assert_eq!(worn_in(&app, "network").await, "rush by activation");
    push(&app, "external.rush", 0.0, 600_000).await;
    assert_eq!(
        (worn_in(&app, "network").await, worn_in(&app, "qos").await),
        ("frankfurt by binding".into(), "night by activation".into())
    );
    let (status, answer) = app.post("/v1/switch", json!({ "subject": WEB, "persona": "rush" })).await;
    assert_eq!((status, worn_in(&app, "network").await.as_str()), (200, "rush by manual"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_worn_and_what_was_pushed_survive_a_restart() {
    let rules = json!([{ "when": "cpu.usage > 5" }, { "when": "external.surge > 0" }]);
    let documents = vec![sized("surge", 9, rules), binding_with(json!({ "personas": ["surge"] }))];
    let (app, node) = scene(documents).await;
    push(&app, "external.surge", 1.0, 600_000).await;
    assert_eq!(worn_in(&app, "resources").await, "surge by activation");
    let before = status_of(&app).await;
    let app = app.restart().await;
    let after = status_of(&app).await;
    assert_eq!((&after["sinceMs"], &after["reason"]), (&before["sinceMs"], &before["reason"]));
    assert_eq!(
        (&after["switchCount"], worn_in(&app, "resources").await),
        (&json!(1), "surge by activation".to_owned())
    );
    assert!(
        after["personas"][0]["rules"][1]["isIn"].as_bool().unwrap()
            && !after["personas"][0]["rules"][0]["isIn"].as_bool().unwrap()
    );
    assert_eq!(events_named(&app, "activation.").await.len(), 1, "nothing was switched");
    withdraw(&app, "external.surge").await;
    let app = app.restart().await;
    assert_eq!(worn_in(&app, "resources").await, "surge by activation", "nobody knows, so it stays");
    push(&app, "external.surge", 0.0, 600_000).await;
    assert_eq!(worn_in(&app, "resources").await, "-", "the rule that was never in does not hold it");
    drop(node);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_used_up_budget_keeps_what_is_worn_and_says_so_once() {
    let rules = json!([{ "when": "external.surge > 0" }]);
    let budget = json!({ "personas": ["surge"], "flapBudget": { "count": 2, "per": "1h" } });
    let (app, _node) = scene(vec![sized("surge", 9, rules), binding_with(budget)]).await;
    for (value, expected) in [(1.0, "surge by activation"), (0.0, "-"), (1.0, "-"), (0.0, "-"), (1.0, "-")] {
        push(&app, "external.surge", value, 600_000).await;
        assert_eq!(worn_in(&app, "resources").await, expected);
    }
    let held: Vec<_> = events_named(&app, "activation.held-back").await;
    assert!((1..=2).contains(&held.len()) && held[0].1.contains("flap budget is used up"), "{held:?}");
    let status = status_of(&app).await;
    assert_eq!((&status["switchCount"], &status["switchCountMax"]), (&json!(2), &json!(2)));
    assert!(status["heldBack"].as_str().unwrap().contains("flap budget"), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_changes_takes_along_what_is_worn() {
    let rules = |when: &str| json!([{ "when": when, "leave": "external.surge < 1" }]);
    let (app, _node) =
        scene(vec![sized("surge", 9, rules("external.surge > 5")), binding_with(json!({ "personas": ["surge"] }))])
            .await;
    push(&app, "external.surge", 6.0, 600_000).await;
    push(&app, "external.surge", 3.0, 600_000).await;
    assert_eq!(worn_in(&app, "resources").await, "surge by activation");
    app.apply(vec![
        sized("surge", 8, rules("external.surge > 7")),
        sized("other", 1, json!([{ "when": "external.other > 0" }])),
        binding_with(json!({ "personas": ["other", "surge"] })),
    ])
    .await;
    assert_eq!(worn_in(&app, "resources").await, "surge by activation", "it is between its thresholds as before");
    assert_eq!(app.get(&format!("/v1/explain/{WEB}")).await["assignment"]["sections"]["resources"]["version"], 2);
    app.apply(vec![binding_with(json!({ "personas": ["other"] }))]).await;
    until_worn(&app, "resources", "-").await;
    app.apply(vec![sized("other", 1, json!([]))]).await;
    let (status, answer) = app.call("GET", &format!("/v1/activation/{WEB}"), None).await;
    assert_eq!((status, answer["detail"].as_str().unwrap().contains("has rules")), (404, true), "{answer}");
    assert_eq!(events_named(&app, "activation.left").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_pushed_is_refused_with_what_would_be_valid() {
    let (app, node) =
        scene(vec![sized("p", 9, json!([{ "when": "external.a > 0" }])), binding_with(json!({ "personas": ["p"] }))])
            .await;
    let cases = [
        (json!({ "subject": WEB, "name": "external.A", "value": 1, "forMs": 5_000 }), 400, "a-z, 0-9"),
        (json!({ "subject": WEB, "name": "cpu.usage", "value": 1, "forMs": 5_000 }), 400, "is measured"),
        (
            json!({ "subject": WEB, "name": "cpu.utilization", "value": 1, "forMs": 5_000 }),
            400,
            "did you mean cpu.utilisation?",
        ),
        (json!({ "subject": WEB, "name": "external.a", "value": "high", "forMs": 5_000 }), 400, "expected f64"),
        (json!({ "subject": WEB, "name": "external.a", "value": 1, "forMs": 10 }), 400, "1000 to 604800000"),
        (json!({ "subject": WEB, "name": "external.a", "value": 1 }), 400, "forMs"),
        (
            json!({ "subject": "workload/n1/gone", "name": "external.a", "value": 1, "forMs": 5_000 }),
            404,
            "there is no",
        ),
    ];
    for (body, status, expected) in cases {
        let (got, answer) = app.post("/v1/signals", body.clone()).await;
        assert!(got == status && answer["detail"].as_str().unwrap().contains(expected), "{body}: {answer}");
    }
    for index in 0..64 {
        push(&app, &format!("external.a{index}"), 1.0, 600_000).await;
    }
    let (status, answer) =
        app.post("/v1/signals", json!({ "subject": WEB, "name": "external.b", "value": 1, "forMs": 5_000 })).await;
    assert!(status == 400 && answer["detail"].as_str().unwrap().contains("at most 64"), "{answer}");
    push(&app, "external.a1", 2.0, 600_000).await;
    assert_eq!(events_named(&app, "signal.pushed").await.len(), 64, "a value in place of another is no news");
    let (status, answer) = app.call("DELETE", &format!("/v1/signals/{WEB}?name=external.none"), None).await;
    assert_eq!(status, 404, "{answer}");
    // A node speaks of its own only, and in whole tables.
    let torn = SampleBatch { age_ms: 0, signals: vec!["cpu.usage".into()], rows: vec![SampleRow::default()] };
    let body = serde_json::to_vec(&Report { samples: vec![torn], ..Report::default() }).unwrap();
    assert_eq!(node.request("POST", "/v1/agent/report", body).send().await.unwrap().status().as_u16(), 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_that_cannot_be_judged_together_are_refused_when_they_are_applied() {
    let app = TestApp::new().await;
    let many = |name: &str, from: u32| {
        let rules: Vec<Value> = (from..from + 60).map(|at| json!({ "when": format!("external.a > {at}") })).collect();
        sized(name, 9, json!(rules))
    };
    let documents = vec![
        many("one", 0),
        many("two", 100),
        many("three", 200),
        binding_with(json!({ "personas": ["one", "two", "three"] })),
    ];
    let (status, answer) = app.post("/v1/apply", json!({ "documents": documents })).await;
    assert!(status == 400 && answer["detail"].as_str().unwrap().contains("at most 128"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_triggered_activation_stands_above_criteria_until_its_time_is_over() {
    let when = |signal: &str| json!([{ "when": format!("external.{signal} > 0") }]);
    let documents = vec![
        sized("night", 3, when("night")),
        sized("training", 8, when("training")),
        sized("other", 1, json!([])),
        binding_with(json!({ "personas": ["night", "training"] })),
    ];
    let (app, _node) = scene(documents).await;
    push(&app, "external.night", 1.0, 600_000).await;
    assert_eq!(worn_in(&app, "resources").await, "night by activation");
    let trigger = async |persona: &str, for_ms: Option<u64>| {
        app.post("/v1/activation", json!({ "subject": WEB, "persona": persona, "forMs": for_ms })).await
    };
    let (status, answer) = trigger("training", Some(1_000)).await;
    let worn = &answer["sections"]["resources"];
    assert_eq!((status, &worn["persona"], &worn["layer"]), (200, &json!("training"), &json!("activation")), "{answer}");
    assert!(worn["untilMs"].as_u64().is_some() && worn["reason"].as_str().unwrap().contains("triggered"), "{worn}");
    until_worn(&app, "resources", "night by activation").await;
    assert_eq!(trigger("training", None).await.0, 200);
    let (status, _) = app.call("DELETE", &format!("/v1/activation/{WEB}"), None).await;
    assert_eq!((status, worn_in(&app, "resources").await.as_str()), (200, "night by activation"));
    assert_eq!(app.call("DELETE", &format!("/v1/activation/{WEB}"), None).await.0, 404);
    for (persona, expected) in [("other", 409), ("nobody", 404)] {
        assert_eq!(trigger(persona, None).await.0, expected, "{persona}");
    }
    let told: Vec<_> = events_named(&app, "activation.").await.into_iter().map(|it| it.0).collect();
    assert_eq!(
        told,
        [
            "activation.entered",
            "activation.triggered",
            "activation.ended",
            "activation.triggered",
            "activation.taken-back"
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_changes_no_faster_than_it_may() {
    let app = TestApp::with(|config| config.activation_changes_per_minute = std::num::NonZeroU32::new(1)).await;
    let rules = json!([{ "when": "host.cpu.usage > 1" }]);
    app.apply(vec![sized("busy", 9, rules), binding_with(json!({ "personas": ["busy"] }))]).await;
    let node = app.join(Role::Node, "n1", 1, None).await;
    node.report(workloads(&["web".to_owned(), "db".to_owned()])).await;
    node.report(samples(&[(None, "cpu.usage", Some(2.0))])).await;
    eventually("one is held back", async || events_named(&app, "activation.held-back").await.len() == 1).await;
    let held = &events_named(&app, "activation.held-back").await[0].1;
    assert!(held.contains("too many subjects change"), "{held}");
    assert_eq!(events_named(&app, "activation.entered").await.len(), 1);
}
