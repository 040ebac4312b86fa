//! Activation on a forecast over real HTTP: nodes report days of load, and a persona is put on before the load comes; the event says on
//! which forecast and how sure it was, and how far off forecasts were is measured afterwards.

use crate::support::*;
use persona_core::wire::agent::{Report, Role};
use persona_core::wire::signals::{SAMPLE_BATCH_COUNT_MAX, SampleBatch, SampleRow};
use serde_json::{Value, json};

const WEB: &str = "workload/n1/web";

/// A step of forecasts, minutes.
const STEP: u64 = 5;

/// Minutes of a day.
const DAY: u64 = 1_440;

/// Eight days, until 08:15: three quarters of an hour before the load.
const END: u64 = 8 * DAY + 495;

/// Busy from nine to five.
fn load(minute: u64) -> f32 {
    if (540..1_020).contains(&(minute % DAY)) { 0.9 } else { 0.1 }
}

/// What was measured at these minutes, as if it was told now.
fn report_of(minutes: &[u64]) -> Report {
    let batch = |minute: &u64| SampleBatch {
        age_ms: u32::try_from((END - minute) * 60_000).unwrap(),
        signals: vec!["cpu.utilisation".to_owned()],
        rows: vec![SampleRow { workload: Some("web".parse().unwrap()), values: vec![Some(load(*minute))] }],
    };
    Report { samples: minutes.iter().map(batch).collect(), ..Report::default() }
}

async fn worn(app: &TestApp) -> Value {
    let (status, answer) = app.call("GET", &format!("/v1/explain/{WEB}"), None).await;
    assert_eq!(status, 200, "{answer}");
    answer["assignment"]["sections"]["resources"]["persona"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_persona_is_put_on_before_the_load_comes_and_forecasts_are_measured() {
    let app = TestApp::new().await;
    // What is pushed says when to look: days of history are told in a moment.
    let rules = json!([{ "when": "predicted(cpu.utilisation, 1h) > 70% && external.look > 0" }]);
    let ready = json!({ "apiVersion": "persona/v1", "kind": "Persona", "metadata": { "name": "ready" },
        "spec": { "resources": { "pids": 900 }, "activation": rules } });
    let mut all = binding("all", &[]);
    all["spec"]["personas"] = json!(["ready"]);
    app.apply(vec![ready, all]).await;
    let mut node = app.join(Role::Node, "n1", 1, None).await;
    node.watch().await;
    node.report(workloads(&["web".to_owned()])).await;
    let minutes: Vec<u64> = (0..=END).step_by(STEP as usize).collect();
    for some in minutes.chunks(SAMPLE_BATCH_COUNT_MAX) {
        node.report(report_of(some)).await;
    }
    assert_eq!(worn(&app).await, Value::Null, "nobody has said to look");
    let listed = app.get(&format!("/v1/signals/{WEB}")).await;
    assert!(listed["signals"][0]["value"].as_f64().unwrap() < 0.2, "the load itself is low: {listed}");

    let body = json!({ "subject": WEB, "name": "external.look", "value": 1.0, "forMs": 600_000 });
    let (status, answer) = app.post("/v1/signals", body).await;
    assert_eq!(status, 200, "{answer}");
    eventually("the persona of the load to come", async || worn(&app).await == "ready").await;
    let event = app.events().await.into_iter().find(|event| event.name == "activation.entered").unwrap();
    assert!(event.message.contains("predicted(cpu.utilisation, 1h) > 70%"), "{}", event.message);
    let forecast = &event.details["saw"]["forecasts"][0];
    assert_eq!((&forecast["signal"], &forecast["aheadMs"]), (&json!("cpu.utilisation"), &json!(3_600_000)));
    let number = |key: &str| forecast[key].as_f64().unwrap_or(f64::NAN);
    assert!(number("value") > 0.7 && number("typicalError") < 0.2, "which forecast, and how sure: {forecast}");
    assert!(number("measuredError") < 0.2 && number("measuredCount") > 1_000.0, "{forecast}");

    let accuracy = app.get("/v1/forecasts").await;
    let own = &accuracy["items"][0];
    assert_eq!((&own["subject"], &own["signal"]), (&json!(WEB), &json!("cpu.utilisation")), "{accuracy}");
    let of = |key: &str| own[key].as_f64().unwrap_or_else(|| panic!("{key} in {accuracy}"));
    let (error, persistence) = (of("error"), of("persistenceError"));
    assert!(error < persistence, "better than taking things to stay as they are: {own}");
}
