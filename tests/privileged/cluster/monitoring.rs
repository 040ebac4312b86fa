//! A real Prometheus, with the configuration that is shipped, scrapes every role; each expression of the shipped dashboard
//! and alerts is put to it, and each metric that they name must be there.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::Result;
use persona_core::wire::api::AccessTokenSecret;
use persona_core::wire::credential::Credential;
use persona_tests::findings::Findings;
use persona_tests::peers::prometheus::{Prometheus, Targets};
use persona_tests::world::{EDGES, FIRST_NODE, Families, World};
use serde_json::Value;

const DASHBOARD: &str = include_str!("../../../persona-ctl/packaging/monitoring/persona-dashboard.json");

/// Everything is scraped, and everything that is reported at intervals told, within this time.
const SCRAPE_TIME: Duration = Duration::from_secs(45);

/// Expressions that the dashboard and the alerts have at least.
const EXPRESSION_COUNT_MIN: usize = 50;

/// One expression, and what a graph writes beside its lines.
struct Asked {
    expression: String,
    legend: String,
}

/// Asks every expression.
pub(super) fn judge(world: &World, findings: &mut Findings) -> Result<()> {
    let prometheus = start(world)?;
    let rules = prometheus.rules()?;
    let mut asked: Vec<Asked> = rules.iter().filter_map(of_rule).collect();
    let dashboard: Value = serde_json::from_str(DASHBOARD)?;
    of_dashboard(&dashboard, &mut asked);
    let count = asked.len();
    findings.note(
        format!("the dashboard and {} alerts ask something", rules.len()),
        format!("{count} expressions"),
        count >= EXPRESSION_COUNT_MIN && rules.len() > 20,
    );
    await_scrapes(&prometheus, findings)?;
    let names: BTreeSet<&str> = asked.iter().flat_map(|asked| names_in(&asked.expression)).collect();
    let missing = missing_after_patience(&prometheus, &names)?;
    let measured = if missing.is_empty() { "all".to_owned() } else { missing.join(", ") + " missing" };
    findings.note(format!("{} metrics that they name are served", names.len()), measured, missing.is_empty());
    let wrong: Vec<String> = asked.iter().filter_map(|asked| wrong_with(&prometheus, asked)).collect();
    let measured = if wrong.is_empty() { format!("{count} answers") } else { wrong.join("; ") };
    findings.note("Prometheus answers each", measured, wrong.is_empty());
    let is_well = |rule: &&Value| rule["health"] == "ok";
    let unwell: Vec<Value> = prometheus.rules()?.iter().filter(|rule| !is_well(rule)).cloned().collect();
    findings.note("each alert was evaluated", format!("{} were not: {unwell:?}", unwell.len()), unwell.is_empty());
    let leads = prometheus.query("sum(persona_manager_leads) == 1 and sum(persona_edge_up) == 3")?;
    findings.note("it sees one leader and three edges", format!("{leads:?}"), leads.len() == 1);
    Ok(())
}

fn start(world: &World) -> Result<Prometheus> {
    let secret: AccessTokenSecret =
        world.ctl.json(&["access", "create", "--name", "prometheus", "--role", "viewer", "--ttl", "1h"])?;
    let token = world.path("prometheus-token");
    std::fs::write(&token, secret.token.parse::<Credential>()?.bearer())?;
    let place = |address: &str| format!("{address}:9600");
    let targets = Targets {
        manager: Families::Ipv4.manager_address(),
        token: &token,
        roots: &world.path("manager.state").join("roots.pem"),
        agents: &[place(FIRST_NODE.address)],
        edges: &EDGES.map(|edge| place(edge.inside)),
    };
    Prometheus::start(&world.ledger, &world.namespaces.underlay, &world.path(""), &targets)
}

fn of_rule(rule: &Value) -> Option<Asked> {
    Some(Asked { expression: rule["query"].as_str()?.to_owned(), legend: String::new() })
}

/// Every target of every panel, as Grafana would ask for it: its variables stand for everything.
fn of_dashboard(value: &Value, asked: &mut Vec<Asked>) {
    if let Some(expression) = value["expr"].as_str() {
        let expression = expression.replace("$__rate_interval", "10s").replace("$group", ".*");
        let legend = value["legendFormat"].as_str().unwrap_or_default().to_owned();
        asked.push(Asked { expression, legend });
    }
    match value {
        Value::Object(object) => object.values().for_each(|inner| of_dashboard(inner, asked)),
        Value::Array(items) => items.iter().for_each(|inner| of_dashboard(inner, asked)),
        _ => {}
    }
}

fn await_scrapes(prometheus: &Prometheus, findings: &mut Findings) -> Result<()> {
    let (start, expected) = (Instant::now(), EDGES.len() + 2);
    let mut up = prometheus.query("up == 1")?;
    while up.len() < expected && start.elapsed() < SCRAPE_TIME {
        std::thread::sleep(Duration::from_millis(200));
        up = prometheus.query("up == 1")?;
    }
    findings.note(
        "it scrapes the manager, the agent and three edges",
        format!("{} answer", up.len()),
        up.len() == expected,
    );
    Ok(())
}

/// Names of metrics of which no sample came.
fn missing_after_patience<'a>(prometheus: &Prometheus, names: &BTreeSet<&'a str>) -> Result<Vec<&'a str>> {
    let start = Instant::now();
    let mut missing: Vec<&str> = names.iter().copied().collect();
    loop {
        let mut still = Vec::new();
        for name in missing {
            if prometheus.query(&format!("count({name})"))?.is_empty() {
                still.push(name);
            }
        }
        missing = still;
        if missing.is_empty() || start.elapsed() > SCRAPE_TIME {
            return Ok(missing);
        }
        std::thread::sleep(Duration::from_millis(500));
    }
}

/// What is wrong with an expression: Prometheus refuses it, or its samples lack a label that its legend shows.
fn wrong_with(prometheus: &Prometheus, asked: &Asked) -> Option<String> {
    let samples = match prometheus.query(&asked.expression) {
        Ok(samples) => samples,
        Err(error) => return Some(format!("{}: {error:#}", asked.expression)),
    };
    let labels = asked.legend.split("{{").skip(1).filter_map(|part| part.split("}}").next());
    let lacks = |label: &str| samples.iter().any(|sample| sample["metric"][label].is_null());
    let lacking: Vec<&str> = labels.filter(|label| lacks(label)).collect();
    (!lacking.is_empty()).then(|| format!("{} has no {}", asked.expression, lacking.join(", ")))
}

/// Our own metrics that an expression names.
fn names_in(expression: &str) -> Vec<&str> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    // What stands in quotation marks are labels' values.
    let outside = expression.split('"').step_by(2);
    outside.flat_map(move |part| part.split(move |c| !is_name(c))).filter(|word| word.starts_with("persona_")).collect()
}
