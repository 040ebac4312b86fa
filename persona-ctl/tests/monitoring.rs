//! The shipped dashboard, alerts and scrape configuration, judged by promtool and against each other. That the metrics which
//! they name are served is judged by a real Prometheus in the privileged tests.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

const PAGE: &str = include_str!("../../docs/monitoring.md");

fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/monitoring").join(name)
}

/// promtool, of this machine or as `cargo xtask setup` unpacked it. None: it is not here, and need not be.
fn promtool(arguments: &[&str], file: &Path) -> Option<Output> {
    let cache = match (std::env::var_os("XDG_CACHE_HOME"), std::env::var_os("HOME")) {
        (Some(cache), _) if !cache.is_empty() => PathBuf::from(cache),
        (_, home) => PathBuf::from(home.unwrap_or_default()).join(".cache"),
    };
    let programs = [cache.join("persona/prometheus/usr/bin/promtool"), PathBuf::from("promtool")];
    let run = |program: PathBuf| Command::new(program).args(arguments).arg(file).output().ok();
    let output = programs.into_iter().find_map(run);
    if output.is_none() {
        assert!(std::env::var_os("PERSONA_REQUIRE_TOOLS").is_none(), "no promtool, and it is required");
        println!("SKIP: no promtool; `cargo xtask setup` unpacks it");
    }
    output
}

fn judge(arguments: &[&str], file: &Path) {
    let Some(output) = promtool(arguments, file) else { return };
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{arguments:?} {}: {}", file.display(), String::from_utf8_lossy(&said));
}

fn dashboard() -> Value {
    let text = std::fs::read_to_string(shipped("persona-dashboard.json")).expect("the dashboard is there");
    serde_json::from_str(&text).expect("it is JSON")
}

fn alerts(text: &str, key: &str) -> BTreeSet<String> {
    let lines = text.lines().filter_map(|line| line.trim().trim_start_matches("- ").strip_prefix(key));
    lines.map(|name| name.trim().to_owned()).collect()
}

#[test]
fn promtool_takes_alerts_and_the_scrape_configuration() {
    judge(&["check", "rules"], &shipped("persona-rules.yml"));
    judge(&["check", "config", "--syntax-only"], &shipped("prometheus.yml"));
}

#[test]
fn each_alert_is_silent_while_all_is_well_and_says_what_is_wrong() {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/monitoring/alerts.yml");
    judge(&["test", "rules"], &cases);
    let rules = alerts(&std::fs::read_to_string(shipped("persona-rules.yml")).unwrap(), "alert:");
    let tested = alerts(&std::fs::read_to_string(cases).unwrap(), "alertname:");
    assert!(rules.len() > 20);
    assert_eq!(rules, tested, "every alert has its case");
    for alert in &rules {
        assert!(PAGE.contains(&format!("| `{alert}` |")), "docs/monitoring.md says what to do about {alert}");
    }
}

#[test]
fn promtool_takes_every_expression_of_the_dashboard() {
    let dashboard = dashboard();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    let expressions: Vec<String> = targets
        .map(|target| target["expr"].as_str().unwrap().replace("$__rate_interval", "1m").replace("$group", ".*"))
        .collect();
    assert!(expressions.len() > 30, "{}", expressions.len());
    let rules: Vec<Value> = expressions
        .iter()
        .enumerate()
        .map(|(index, expression)| serde_json::json!({ "record": format!("asked:{index}"), "expr": expression }))
        .collect();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("dashboard.json");
    // JSON is YAML.
    std::fs::write(&file, serde_json::json!({ "groups": [{ "name": "asked", "rules": rules }] }).to_string()).unwrap();
    judge(&["check", "rules"], &file);
}

#[test]
fn panels_of_the_dashboard_have_ids_of_their_own_and_do_not_cover_each_other() {
    let dashboard = dashboard();
    let panels = dashboard["panels"].as_array().unwrap();
    let ids: BTreeSet<u64> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len());
    let mut covered = BTreeSet::new();
    for panel in panels {
        let at = |key: &str| panel["gridPos"][key].as_u64().unwrap();
        assert!(at("x") + at("w") <= 24, "{}", panel["title"]);
        for cell in (at("x")..at("x") + at("w")).flat_map(|x| (at("y")..at("y") + at("h")).map(move |y| (x, y))) {
            assert!(covered.insert(cell), "{} covers another", panel["title"]);
        }
        let targets = panel["targets"].as_array().into_iter().flatten();
        for source in targets.map(|target| &target["datasource"]).chain(panel.get("datasource")) {
            assert_eq!(source["uid"], "${datasource}", "{}: whoever imports it has another", panel["title"]);
        }
        assert!(panel["type"] == "row" || panel["description"].is_string(), "{} says what it shows", panel["title"]);
    }
}
