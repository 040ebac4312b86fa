//! What operators see of a manager's own work, and of nodes' and edges' standing with it.

use std::time::Duration;

use persona_core::ids::Generation;
use persona_core::wire::agent::{Rejection, Report, Role};

use crate::support::*;

/// The value of a sample by its name and labels as they are written.
fn sample(text: &str, name: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

async fn scraped(app: &TestApp, name: &str) -> f64 {
    let metrics = app.get("/metrics").await;
    let text = metrics.as_str().unwrap();
    sample(text, name).unwrap_or_else(|| panic!("{name} is not in\n{text}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manager_tells_of_its_store_and_its_certificates() {
    let app = TestApp::new().await;
    let commits = scraped(&app, "persona_store_commit_seconds_count").await;
    let revision = scraped(&app, "persona_store_revision").await;
    assert!(commits >= 2.0 && revision >= 2.0, "a root and a token were stored: {commits}, {revision}");
    app.apply(vec![pool("fra", "203.0.113.0/30")]).await;
    assert!(scraped(&app, "persona_store_commit_seconds_count").await > commits);
    assert!(scraped(&app, "persona_store_revision").await > revision);
    for (name, expected) in [
        ("persona_manager_leads", 1.0),
        ("persona_store_incarnation", 1.0),
        ("persona_store_recovering", 0.0),
        ("persona_store_failed_batches_total", 0.0),
        ("persona_certificate_lifetime_seconds", 86_400.0),
        (concat!("persona_build_info{role=\"manager\",version=\"", env!("CARGO_PKG_VERSION"), "\"}"), 1.0),
    ] {
        assert_eq!(scraped(&app, name).await, expected, "{name}");
    }
    let metrics = app.get("/metrics").await;
    let root =
        metrics.as_str().unwrap().lines().find(|line| line.starts_with("persona_root_expires_timestamp_seconds{"));
    let ends: f64 = root.and_then(|line| line.split_whitespace().last()).unwrap().parse().unwrap();
    assert!(ends > now_ms() as f64 / 1_000.0, "{ends}");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_counted_by_route_and_nothing_that_callers_make_up_is_a_label() {
    let app = TestApp::new().await;
    for name in ["a", "b", "c"] {
        app.call("GET", &format!("/v1/personas/{name}"), None).await;
        app.call("GET", &format!("/nothing/{name}"), None).await;
    }
    app.call("FROBNICATE", "/v1/status", None).await;
    let not_known = app.nobody.get(format!("{}/v1/status", app.base)).send().await.unwrap();
    assert_eq!(not_known.status(), 401);
    for (labels, expected) in [
        ("method=\"GET\",route=\"/v1/personas/{name}\",status=\"404\"", 3.0),
        ("method=\"GET\",route=\"none\",status=\"404\"", 3.0),
        ("method=\"other\",route=\"/v1/status\",status=\"405\"", 1.0),
        ("method=\"GET\",route=\"/v1/status\",status=\"401\"", 1.0),
    ] {
        let name = format!("persona_http_requests_total{{{labels}}}");
        assert_eq!(scraped(&app, &name).await, expected, "{name}");
    }
    let timed = "persona_http_request_seconds_count{route=\"/v1/personas/{name}\"}";
    assert_eq!(scraped(&app, timed).await, 3.0);
    let metrics = app.get("/metrics").await;
    assert!(!metrics.as_str().unwrap().contains("FROBNICATE"));
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_refusals_and_certificates_of_nodes_are_told() {
    let app = TestApp::new().await;
    let watches = "persona_watches{role=\"node\"}";
    assert_eq!(scraped(&app, watches).await, 0.0, "also before the first");
    let mut node = app.join(Role::Node, "n1", 1, None).await;
    node.watch().await;
    assert_eq!(scraped(&app, watches).await, 1.0);
    assert_eq!(scraped(&app, "persona_watches{role=\"edge\"}").await, 0.0);
    let ends = scraped(&app, "persona_agent_certificate_expires_timestamp_seconds{agent=\"node/n1\"}").await;
    let left = Duration::from_secs_f64(ends) - Duration::from_millis(now_ms());
    assert!(left > Duration::from_secs(86_000) && left <= Duration::from_secs(86_400), "{left:?}");

    let rejected = "persona_agent_rejected{agent=\"node/n1\"}";
    assert_eq!(scraped(&app, rejected).await, 0.0);
    let refusal = Rejection { generation: Generation(7), reason: "it does not fit".to_owned() };
    node.report(Report { rejected: Some(refusal), ..Report::default() }).await;
    assert_eq!(scraped(&app, rejected).await, 1.0);
    drop(node);
    eventually("the stream is over", async || scraped(&app, watches).await == 0.0).await;
}
