//! The shipped examples are read by the types that the program reads configurations and documents with.

use std::path::PathBuf;

use persona_core::document::{Document, Format, parse_documents};
use persona_ctl::agent::AgentFile;
use persona_ctl::config::load;
use persona_ctl::edge::EdgeFile;
use persona_ctl::gateway::GatewayFile;
use persona_ctl::limits::LimitsConfig;

fn example(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("packaging/examples").join(name)
}

#[test]
fn the_managers_example_is_its_defaults() {
    let config: persona_manager::Config = load(&example("manager.toml")).unwrap();
    assert_eq!(config, persona_manager::Config::default());
    config.check(config.listen).unwrap();
}

#[test]
fn the_agents_example_is_a_whole_configuration() {
    let config = load::<AgentFile>(&example("agent.toml")).unwrap().check().unwrap();
    assert_eq!((config.name.as_str(), config.file.workload.len()), ("n1", 3));
    assert_eq!(config.file.limits, LimitsConfig::default());
    let bare = AgentFile { state_dir: None, bpffs: None, ..config.file.clone() }.check().unwrap();
    assert_eq!((bare.state_dir, bare.bpffs), (config.state_dir, config.bpffs), "the defaults are told right");
}

#[test]
fn the_edges_example_is_a_whole_configuration() {
    let config = load::<EdgeFile>(&example("edge.toml")).unwrap().check().unwrap();
    assert_eq!(config.group.as_str(), "frankfurt");
    let bare = EdgeFile { state_dir: None, bpffs: None, ..config.file.clone() }.check().unwrap();
    assert_eq!((bare.state_dir, bare.bpffs), (config.state_dir, config.bpffs), "the defaults are told right");
}

#[test]
fn the_gateways_example_is_a_whole_configuration() {
    let config = load::<GatewayFile>(&example("gateway.toml")).unwrap().check().unwrap();
    assert_eq!((config.file.service.len(), config.file.service[0].instance.len()), (1, 2));
    let bare = GatewayFile { state_dir: None, bpffs: None, socket: None, ..config.file.clone() }.check().unwrap();
    assert_eq!(
        (bare.state_dir, bare.bpffs, bare.socket),
        (config.state_dir, config.bpffs, config.socket),
        "the defaults are told right"
    );
    // What is commented out is right as well, but for what excludes the rest.
    let text = std::fs::read_to_string(example("gateway.toml")).unwrap();
    let (_, delivery) = text.split_once("# [delivery]").unwrap();
    let delivery: String = delivery.lines().map(|line| format!("{}\n", line.trim_start_matches("# "))).collect();
    let file = toml::from_str::<GatewayFile>(&format!("[delivery]{delivery}")).unwrap();
    assert_eq!(file.check().unwrap().file.delivery.unwrap().instance.len(), 1);
}

#[test]
fn the_documents_are_valid() {
    let cases: [(&str, &[&str]); 4] = [
        ("pool.yaml", &["EgressPool"]),
        ("persona.yaml", &["Persona"]),
        ("binding.yaml", &["Binding"]),
        ("activation.yaml", &["Persona", "Persona", "Persona", "Binding"]),
    ];
    for (name, expected) in cases {
        let path = example(name);
        let text = std::fs::read_to_string(&path).unwrap();
        let documents: Vec<Document> = parse_documents(&text, Format::from_path(&path), name).unwrap();
        let kinds: Vec<String> = documents.iter().map(|document| document.kind().to_string()).collect();
        assert_eq!(kinds, expected, "{name}");
    }
}
