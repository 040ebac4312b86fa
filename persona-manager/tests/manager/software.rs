//! Software that a persona asks for, over real HTTP: told to the node, and what the node says of it.

use persona_core::wire::agent::{Report, Role};
use persona_core::wire::desired::Item;
use persona_core::wire::software::{PackageReport, SoftwareReport, SoftwareState};
use serde_json::json;

use crate::support::*;

const WEB: &str = "workload/n1/web";

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_told_what_is_wanted_and_its_drift_is_shown() {
    let app = TestApp::new().await;
    let packages = json!([{ "package": "nginx", "version": ">= 1.22" }]);
    let persona = json!({ "apiVersion": "persona/v1", "kind": "Persona", "metadata": { "name": "web" },
        "spec": { "software": packages } });
    let mut document = binding("all", &[]);
    document["spec"]["default"] = "web".into();
    app.apply(vec![persona, document]).await;
    let mut node = app.join(Role::Node, "n1", 1, None).await;
    node.watch().await;
    node.report(workloads(&["web".to_owned()])).await;
    node.until("the packages of web", |state| {
        let item = state.items.get(&format!("subject/{WEB}"));
        matches!(item, Some(Item::Subject(item)) if item.software.as_ref().is_some_and(|it| it.packages[0].package == "nginx"))
    })
    .await;
    assert!(app.get(&format!("/v1/explain/{WEB}")).await["software"].is_null(), "the node has not said yet");

    let package = PackageReport {
        package: "nginx".to_owned(),
        wanted: Some(">= 1.22".to_owned()),
        installed: Some("1.18.0-6".to_owned()),
        is_as_wanted: false,
        is_held: false,
    };
    let report = |state, is_as_wanted| Report {
        software: Some(vec![SoftwareReport {
            subject: WEB.parse().unwrap(),
            persona: "web@1".to_owned(),
            state,
            reason: None,
            packages: vec![PackageReport { is_as_wanted, ..package.clone() }],
        }]),
        ..Report::default()
    };
    node.report(report(SoftwareState::Drifted, false)).await;
    let told = app.get(&format!("/v1/explain/{WEB}")).await;
    assert_eq!(
        (&told["software"]["state"], &told["software"]["packages"][0]["installed"]),
        (&json!("drifted"), &json!("1.18.0-6"))
    );
    assert_eq!(app.get("/v1/status").await["drifted"], json!([WEB]));
    node.report(Report::default()).await;
    assert_eq!(app.get("/v1/status").await["drifted"], json!([WEB]), "what is left out is unchanged");
    node.report(report(SoftwareState::AsWanted, true)).await;
    assert_eq!(app.get("/v1/status").await["drifted"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_alone_wears_everything_but_a_network_and_says_why() {
    let app = TestApp::new().await;
    let small = json!({ "apiVersion": "persona/v1", "kind": "Persona", "metadata": { "name": "small" },
        "spec": { "resources": { "pids": 100 } } });
    let mut all = binding("all", &["abroad"]);
    all["spec"]["default"] = "small".into();
    app.apply(vec![pool("a", "203.0.113.64/28"), small, persona("abroad", "a", &[])]).await;
    app.apply(vec![all]).await;
    let mut node = app.join(Role::Node, "n1", 1, None).await;
    node.watch().await;
    let report = json!([{ "name": "web", "device": "", "kind": "instance", "attached": true }]);
    node.report(Report { workloads: Some(serde_json::from_value(report).unwrap()), ..Report::default() }).await;
    node.until("the limits of web", |state| {
        let item = state.items.get(&format!("subject/{WEB}"));
        matches!(item, Some(Item::Subject(item)) if item.resources.is_some() && item.network.is_none())
    })
    .await;
    let (status, refused) = app.post("/v1/switch", json!({ "subject": WEB, "persona": "abroad" })).await;
    assert_eq!(status, 409, "{refused}");
    assert!(refused.to_string().contains("keeps its ordinary network"), "{refused}");
    let told = app.get(&format!("/v1/explain/{WEB}")).await;
    assert!(told.to_string().contains("set device or cgroup for it"), "{told}");
}
