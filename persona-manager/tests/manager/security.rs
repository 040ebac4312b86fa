//! Security settings beside the firewall, over real HTTP: told to the node, and what the node says of them.

use persona_core::wire::agent::{Report, Role};
use persona_core::wire::desired::Item;
use persona_core::wire::security::{SecurityReport, SecurityState, SettingReport, SettingState};
use serde_json::json;

use crate::support::*;

const WEB: &str = "workload/n1/web";

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_told_what_is_wanted_and_what_needs_a_restart_is_shown() {
    let app = TestApp::new().await;
    let security = json!({ "sysctl": { "vm.swappiness": 10 }, "readOnlyRoot": true });
    let persona = json!({ "apiVersion": "persona/v1", "kind": "Persona", "metadata": { "name": "web" },
        "spec": { "security": security } });
    let mut document = binding("all", &[]);
    document["spec"]["default"] = "web".into();
    app.apply(vec![persona, document]).await;
    let mut node = app.join(Role::Node, "n1", 1, None).await;
    node.watch().await;
    node.report(workloads(&["web".to_owned()])).await;
    node.until("the settings of web", |state| {
        let item = state.items.get(&format!("subject/{WEB}"));
        let Some(Item::Subject(item)) = item else { return false };
        let settings = item.security.as_ref().map(|worn| &worn.settings);
        item.firewall.is_none()
            && settings.is_some_and(|it| it.read_only_root == Some(true) && it.sysctl["vm.swappiness"] == "10")
    })
    .await;
    assert!(app.get(&format!("/v1/explain/{WEB}")).await["security"].is_null(), "the node has not said yet");

    let report = |subject: &str, state, setting_state| SecurityReport {
        subject: subject.parse().unwrap(),
        persona: "web@1".to_owned(),
        state,
        reason: None,
        settings: vec![SettingReport {
            setting: "readOnlyRoot".to_owned(),
            wanted: "true".to_owned(),
            actual: Some("false".to_owned()),
            state: setting_state,
            reason: None,
        }],
    };
    let waiting = report(WEB, SecurityState::NeedsRestart, SettingState::NeedsRestart);
    let anothers = report("workload/n2/web", SecurityState::Failed, SettingState::Failed);
    let mixed = Report { security: Some(vec![waiting, anothers]), ..Report::default() };
    let answer = node.request("POST", "/v1/agent/report", serde_json::to_vec(&mixed).unwrap()).send().await.unwrap();
    let left_out: serde_json::Value = answer.json().await.unwrap();
    assert_eq!(left_out["leftOut"][0]["path"], json!("security[1]"), "{left_out}");
    let told = app.get(&format!("/v1/explain/{WEB}")).await;
    assert_eq!(told["security"]["settings"][0]["state"], json!("needsRestart"), "{told}");
    assert_eq!(app.get("/v1/status").await["restart"], json!([WEB]), "of another's a node says nothing");
    let fine = report(WEB, SecurityState::InForce, SettingState::InForce);
    node.report(Report { security: Some(vec![fine]), ..Report::default() }).await;
    assert_eq!(app.get("/v1/status").await["restart"], json!([]));
}
