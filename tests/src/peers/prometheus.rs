//! Prometheus as a peer: with the configuration and the alerts that are shipped, changed only in where things are.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::programs::Program;
use crate::ctl::patient;
use crate::ledger::Ledger;
use crate::netns::Namespace;
use crate::process::Running;

const CONFIG: &str = include_str!("../../../persona-ctl/packaging/monitoring/prometheus.yml");
const RULES: &str = include_str!("../../../persona-ctl/packaging/monitoring/persona-rules.yml");

/// Where it listens, in its namespace.
const ADDRESS: &str = "127.0.0.1:9090";

/// How long it may take to answer.
const START_TIME: Duration = Duration::from_secs(30);

/// What it scrapes, and as whom.
#[derive(Debug)]
pub struct Targets<'a> {
    /// The manager's address and port.
    pub manager: &'a str,
    /// The file with a viewer's bearer.
    pub token: &'a Path,
    /// The manager's roots.
    pub roots: &'a Path,
    /// Addresses and ports of agents.
    pub agents: &'a [String],
    /// Addresses and ports of edges.
    pub edges: &'a [String],
}

/// A running Prometheus, asked over its API.
#[derive(Debug)]
pub struct Prometheus {
    process: Running,
    inside: Namespace,
}

impl Prometheus {
    /// Starts one inside a namespace, with what it needs in `folder`, and waits until it answers.
    pub fn start(ledger: &Ledger, inside: &Namespace, folder: &Path, targets: &Targets<'_>) -> Result<Self> {
        let config = folder.join("prometheus.yml");
        std::fs::write(&config, config_text(targets)?)?;
        std::fs::write(folder.join("persona-rules.yml"), RULES)?;
        let mut command = Program::find("prometheus", "usr/bin/prometheus")?.command(inside)?;
        command.arg(format!("--config.file={}", config.display()));
        command.arg(format!("--storage.tsdb.path={}", folder.join("prometheus").display()));
        command.arg(format!("--web.listen-address={ADDRESS}")).arg("--log.level=warn");
        let process = Running::start(ledger, "prometheus", &folder.join("prometheus.log"), command)?;
        let mut prometheus = Self { process, inside: inside.clone() };
        let start = Instant::now();
        while let Err(error) = prometheus.get("status/buildinfo", &[]) {
            prometheus.process.check()?;
            if start.elapsed() > patient(START_TIME) {
                return Err(error.context("Prometheus does not answer"));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(prometheus)
    }

    /// The samples that an expression has now: each with its labels under `metric`.
    pub fn query(&self, expression: &str) -> Result<Vec<Value>> {
        let data = self.get("query", &[("query", expression)])?;
        data["result"].as_array().cloned().with_context(|| format!("{expression} is no vector"))
    }

    /// Every rule that it has loaded.
    pub fn rules(&self) -> Result<Vec<Value>> {
        let data = self.get("rules", &[])?;
        let groups = data["groups"].as_array().context("there are no groups of rules")?;
        Ok(groups.iter().flat_map(|group| group["rules"].as_array().cloned().unwrap_or_default()).collect())
    }

    fn get(&self, what: &str, parameters: &[(&str, &str)]) -> Result<Value> {
        let mut curl = self.inside.command("curl")?;
        curl.args(["--silent", "--show-error", "--get", "--max-time", "10"]);
        for (name, value) in parameters {
            curl.arg("--data-urlencode").arg(format!("{name}={value}"));
        }
        let output = curl.arg(format!("http://{ADDRESS}/api/v1/{what}")).output()?;
        let answer: Value = serde_json::from_slice(&output.stdout)
            .with_context(|| format!("Prometheus: {}", String::from_utf8_lossy(&output.stderr).trim()))?;
        match answer["status"].as_str() {
            Some("success") => Ok(answer["data"].clone()),
            _ => bail!("Prometheus refuses {parameters:?}: {}", answer["error"]),
        }
    }
}

/// The shipped configuration with these targets, in a hurry.
fn config_text(targets: &Targets<'_>) -> Result<String> {
    let quoted = |all: &[String]| all.iter().map(|one| format!("\"{one}\"")).collect::<Vec<_>>().join(", ");
    let mut text = CONFIG.to_owned();
    for (shipped, here) in [
        ("/etc/prometheus/persona-token", targets.token.display().to_string()),
        ("/etc/prometheus/persona-roots.pem", targets.roots.display().to_string()),
        ("\"10.0.0.1:7600\"", format!("\"{}\"", targets.manager)),
        ("\"10.0.0.11:9600\"", quoted(targets.agents)),
        ("\"10.0.0.21:9600\"", quoted(targets.edges)),
        ("15s", "1s".to_owned()),
    ] {
        ensure!(text.contains(shipped), "the shipped configuration lacks {shipped}");
        text = text.replace(shipped, &here);
    }
    Ok(text)
}
