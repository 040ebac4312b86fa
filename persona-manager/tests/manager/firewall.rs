//! Firewall rules that a persona has, over real HTTP: told to the node in numbers, by the strongest layer that has the section.

use persona_core::wire::agent::Role;
use persona_core::wire::desired::{DesiredState, Item};
use serde_json::json;

use crate::support::*;

const WEB: &str = "workload/n1/web";

/// The rules of web as its node is told them, with the persona that they are from.
fn told(state: &DesiredState) -> Option<(String, Vec<String>)> {
    let Some(Item::Subject(item)) = state.items.get(&format!("subject/{WEB}")) else { return None };
    let firewall = item.firewall.as_ref()?;
    let rules = firewall.rules.iter().map(ToString::to_string).collect();
    Some((format!("{}@{}", firewall.persona, firewall.version), rules))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_told_the_rules_of_the_strongest_layer_that_has_some() {
    let app = TestApp::new().await;
    let rules = json!([
        { "action": "allow", "direction": "egress", "to": "10.0.0.0/8", "protocol": "tcp", "ports": [25] },
        { "action": "deny", "direction": "ingress", "protocol": "icmp" }
    ]);
    let with = |name: &str, spec: serde_json::Value| json!({ "apiVersion": "persona/v1", "kind": "Persona", "metadata": { "name": name }, "spec": spec });
    let applied = app.apply(vec![with("walled", json!({ "security": { "firewall": rules } }))]).await;
    assert!(!applied.to_string().contains("not enforce"), "{applied}");
    let open = json!({ "security": { "firewall": [{ "action": "deny", "direction": "egress" }] } });
    app.apply(vec![with("shut", open), with("small", json!({ "resources": { "pids": 9 } }))]).await;
    let mut document = binding("all", &["shut", "small"]);
    document["spec"]["default"] = "walled".into();
    app.apply(vec![document]).await;
    let mut node = app.join(Role::Node, "n1", 1, None).await;
    node.watch().await;
    node.report(workloads(&["web".to_owned()])).await;
    let walled = ["allow egress to 10.0.0.0/8 tcp 25", "deny ingress icmp"].map(str::to_owned).to_vec();
    node.until("the default's rules", |state| told(state) == Some(("walled@1".into(), walled.clone()))).await;

    let (status, _) = app.post("/v1/switch", json!({ "subject": WEB, "persona": "shut" })).await;
    assert_eq!(status, 200);
    node.until("those of a switch", |state| told(state) == Some(("shut@1".into(), vec!["deny egress".into()]))).await;
    let (status, _) = app.post("/v1/switch", json!({ "subject": WEB, "persona": "small" })).await;
    assert_eq!(status, 200);
    node.until("the lower layer's again", |state| told(state) == Some(("walled@1".into(), walled.clone()))).await;

    let many = json!({ "security": { "firewall": vec![json!({ "action": "deny", "direction": "egress" }); 65] } });
    let (status, refused) = app.post(APPLY, json!({ "documents": [with("many", many)] })).await;
    assert_eq!(status, 400, "{refused}");
    assert!(refused.to_string().contains("65 rules are too many for one persona: at most 64"), "{refused}");
}
