//! `persona-ctl guard`: holds managed packets back from boot on, before any runtime or agent runs.

use std::time::Duration;

use clap::Args;

use super::{Output, on_runtime};
use crate::agent::{self, AgentFile, GuardReport};
use crate::config;

/// Hold back what workloads would send past their personas, from now on and without an agent.
///
/// Attaches the pinned guard at the uplink and ends: run it at boot before container and VM runtimes start. Forwarded
/// packets of the managed ranges (all of them with guard = "all-forwarded") leave only through Persona from then on. An
/// agent that starts later goes on from there; `detach` takes it away.
#[derive(Debug, Args)]
pub(super) struct GuardArgs {
    /// Configuration file of the agent.
    #[arg(long, env = "PERSONA_CONFIG")]
    config: std::path::PathBuf,
    /// Device towards the underlay.
    #[arg(long, env = "PERSONA_UPLINK")]
    uplink: Option<String>,
    /// How long to wait for the uplink to appear, seconds.
    #[arg(long, default_value_t = 30)]
    wait: u64,
}

impl GuardArgs {
    pub(super) fn run(self, output: Output) -> anyhow::Result<()> {
        let mut file: AgentFile = config::load(&self.config)?;
        super::role::overlay(&mut file.uplink, self.uplink);
        let wait = Duration::from_secs(self.wait);
        let mut report = None;
        on_runtime(async {
            report = Some(agent::guard(&file, wait).await?);
            Ok(())
        })?;
        report.map_or(Ok(()), |report| output.show(&report, tell))
    }
}

fn tell(report: &GuardReport) -> String {
    let ranges: Vec<String> = report.managed.iter().map(|(address, length)| format!("{address}/{length}")).collect();
    let held = if report.all_forwarded { "every forwarded packet".to_owned() } else { ranges.join(", ") };
    let note = if report.was_in_force { "\nan agent's tables are in force and stay as they are" } else { "" };
    format!("guard at {}: {held}{note}", report.uplink)
}
