//! Six limits of a running container, to and fro: ours straight to the kernel, beside the Docker Engine's own call and command.
//!
//! Ours is all that an agent does: criteria are evaluated, the kernel is looked at, what differs is written and read back, the
//! record is on disk, the event is there. The engine sets what it can of the same: quota, weight, processes, memory, processors.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use persona_core::activate::RuleSet;
use persona_core::limit::Limits;
use persona_core::wire::limits::{LimitState, SubjectResources};
use persona_ctl::limits::{Common, InstanceConfig, Limited, LimitsConfig, Records, Source, Wish};
use serde_json::json;

use super::rules::rule_set;
use crate::bench::measures::Run;
use crate::bench::row::{Better, Goal, Row};
use crate::bench::samples::Samples;
use crate::cgroups::read_first;
use crate::ledger::Undo;
use crate::netns::{Forwarding, Namespace};
use crate::peers::docker::Docker;

/// Switches per sample; each sample is their median.
const OUR_SWITCH_COUNT: usize = 200;
const ENGINE_SWITCH_COUNT: usize = 20;
const COMMAND_SWITCH_COUNT: usize = 8;

/// Between which is switched: CPU quota (microseconds of 100,000), weight, processes, and the rates of the disk.
const LOW: Step = Step { quota_us: 50_000, shares: 512, pids: 300, rate: 10 << 20 };
const HIGH: Step = Step { quota_us: 150_000, shares: 2_048, pids: 600, rate: 80 << 20 };

/// Of both: memory shrinks with patience, on purpose.
const MEMORY_BYTES: u64 = 256 << 20;

const ENGINE: &str = "Docker Engine, POST /containers/NAME/update";
const COMMAND: &str = "docker update";

/// What a container is held to.
#[derive(Debug, Clone, Copy)]
struct Step {
    quota_us: u64,
    shares: u64,
    pids: u64,
    rate: u64,
}

/// Measures all three, in turns.
pub fn measure(run: &Run<'_>) -> Result<Vec<Row>> {
    run.say("apply: a Docker engine and two containers");
    let place = Place::start(run)?;
    let mut own = Own::new(&place.socket(), &place.folder)?;
    let engine = Engine::new(&place.socket())?;
    let [mut ours, mut api, mut command]: [Samples; 3] = Default::default();
    for round in 0..run.rounds {
        run.say(&format!("apply: round {} of {}", round + 1, run.rounds));
        ours.push(median_us(OUR_SWITCH_COUNT, |step| own.switch(step))?);
        place.check("own", HIGH)?;
        api.push(median_us(ENGINE_SWITCH_COUNT, |step| engine.update("other", step))?);
        place.check("other", HIGH)?;
        command.push(median_us(COMMAND_SWITCH_COUNT, |step| place.update("other", step))?);
        place.check("other", HIGH)?;
        run.step();
    }
    let row = |peer: &str| Row::new(format!("apply/beside-{peer}"), "µs", Better::Less, ours.clone());
    Ok(vec![
        row("engine").beside(ENGINE, api).reach(Goal::TimesPeer(30.0)),
        row("command").beside(COMMAND, command).reach(Goal::TimesPeer(100.0)),
    ])
}

/// The median time of so many switches, microseconds; the last one is to [`HIGH`].
fn median_us(count: usize, mut switch: impl FnMut(Step) -> Result<()>) -> Result<f64> {
    let mut samples = Samples::default();
    for number in 0..count {
        let start = Instant::now();
        switch(if number % 2 == 0 { LOW } else { HIGH })?;
        samples.push(start.elapsed().as_secs_f64() * 1e6);
    }
    Ok(samples.median())
}

/// An engine with two containers: what one holds is nobody else's.
struct Place {
    docker: Docker,
    folder: PathBuf,
    groups: Vec<(&'static str, String)>,
}

impl Place {
    fn start(run: &Run<'_>) -> Result<Self> {
        let name = format!("pb{}-apply", std::process::id());
        let folder = std::env::temp_dir().join(&name);
        run.ledger.note(Undo::RemoveFolder(folder.clone()));
        std::fs::create_dir(&folder).with_context(|| format!("{} cannot be made", folder.display()))?;
        let namespace = Namespace::create(run.ledger, &name, Forwarding::Off)?;
        let docker = Docker::start(run.ledger, &namespace, &folder)?;
        let mut groups = Vec::new();
        for container in ["own", "other"] {
            docker.run(container, &format!("{name}-{container}"))?;
            let id = docker.client(&["inspect", "--format", "{{.Id}}", container])?;
            groups.push((container, format!("{name}-docker/{}", id.trim())));
        }
        Ok(Self { docker, folder, groups })
    }

    fn socket(&self) -> PathBuf {
        self.folder.join("docker/docker.sock")
    }

    /// Fails unless the kernel holds a container so.
    fn check(&self, container: &str, step: Step) -> Result<()> {
        let (_, group) = self.groups.iter().find(|(name, _)| *name == container).context("no such container")?;
        let quota = read_first(group, "cpu", &["cpu.cfs_quota_us", "cpu.max"])?;
        let pids = read_first(group, "pids", &["pids.max"])?;
        let is_held =
            quota.split_whitespace().next() == Some(&step.quota_us.to_string()) && pids == step.pids.to_string();
        ensure!(is_held, "{container} has quota {quota} and {pids} processes, not {step:?}");
        Ok(())
    }

    fn update(&self, container: &str, step: Step) -> Result<()> {
        let (quota, shares, pids) = (step.quota_us.to_string(), step.shares.to_string(), step.pids.to_string());
        let memory = MEMORY_BYTES.to_string();
        let limits = ["--cpu-period", "100000", "--cpu-quota", &quota, "--cpu-shares", &shares, "--pids-limit", &pids];
        let rest = ["--memory", &memory, "--memory-swap", "-1", "--cpuset-cpus", "0", container];
        self.docker.client(&[&["update"], &limits[..], &rest].concat()).map(drop)
    }
}

/// What an agent does.
struct Own {
    rules: RuleSet,
    limited: Limited,
}

impl Own {
    fn new(socket: &Path, state: &Path) -> Result<Self> {
        let source = Source::Container { socket: socket.to_owned(), name: "own".to_owned() };
        let config = LimitsConfig::default();
        let common = Common::new(config, Records::in_directory(state));
        let instance = InstanceConfig { source, io_devices: Vec::new() };
        let limited = Limited::new("own".parse()?, Some(instance), Arc::new(common));
        Ok(Self { rules: rules()?, limited })
    }

    /// The load has changed: which persona, and its limits.
    fn switch(&mut self, wanted: Step) -> Result<()> {
        let load = if wanted.quota_us == HIGH.quota_us { 0.9 } else { 0.1 };
        let step = match self.rules.first_match(&[load]) {
            Some(0) => HIGH,
            Some(_) => LOW,
            None => anyhow::bail!("no persona goes with a load of {load}"),
        };
        let persona = if step.quota_us == HIGH.quota_us { "high" } else { "low" };
        let limits = Limits {
            cpu_us_per_sec: Some(step.quota_us * 10),
            cpu_weight: Some((step.shares * 100 / 1_024) as u32),
            memory_max_bytes: Some(MEMORY_BYTES),
            pids_max: Some(step.pids),
            read_bytes_per_sec: Some(step.rate),
            write_bytes_per_sec: Some(step.rate),
            writes_per_sec: Some(step.rate >> 10),
            ..Limits::default()
        };
        let report =
            self.limited.turn(&Wish::Wears(SubjectResources { persona: persona.parse()?, version: 1, limits }));
        ensure!(report.state == LimitState::InForce, "{report:?}");
        ensure!(!self.limited.take_told().is_empty(), "nothing was told");
        Ok(())
    }
}

/// Two personas, by load.
fn rules() -> Result<RuleSet> {
    let personas = [("high", "cpu.utilisation > 0.5"), ("low", "cpu.utilisation <= 0.5")];
    rule_set(&personas.map(|(name, when)| (name.to_owned(), when.to_owned())))
}

/// The engine's own call, over a connection that stays open.
struct Engine {
    runtime: tokio::runtime::Runtime,
    client: reqwest::Client,
}

impl Engine {
    fn new(socket: &Path) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let client = persona_ctl::trust::plain_http().unix_socket(socket).build()?;
        Ok(Self { runtime, client })
    }

    fn update(&self, container: &str, step: Step) -> Result<()> {
        let body = json!({
            "CpuPeriod": 100_000, "CpuQuota": step.quota_us, "CpuShares": step.shares, "PidsLimit": step.pids,
            "Memory": MEMORY_BYTES, "MemorySwap": -1, "CpusetCpus": "0",
        });
        self.runtime.block_on(async {
            let url = format!("http://docker/containers/{container}/update");
            let answer = self.client.post(url).json(&body).send().await?;
            let (status, text) = (answer.status(), answer.text().await?);
            ensure!(status.is_success(), "the engine answers {status}: {text}");
            Ok(())
        })
    }
}
