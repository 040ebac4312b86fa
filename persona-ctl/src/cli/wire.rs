//! `persona-ctl wire`: the encrypted tunnel of the role on this host.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use serde::Serialize;

use super::Output;
use crate::wire::{OwnKeys, ask_for_another_key};

/// How often the key is looked at.
const LOOK: Duration = Duration::from_millis(200);

/// What to do with the tunnel.
#[derive(Debug, Subcommand)]
pub(super) enum WireCommand {
    /// Give the role's tunnel another key, without a pause, and wait until it is in use.
    ///
    /// The role makes the next key and says so to the manager; its far ends accept both. When all of them have agreed on
    /// sessions under the next, the one before is gone for good. A far end that falls silent meanwhile delays this by at most ten minutes.
    /// It happens by itself every wireguard_rotate_hours. Run it as root or as the role's user.
    #[command(after_help = "Examples:\n  persona-ctl wire rotate --config /etc/persona/agent.toml\n  \
                            persona-ctl wire rotate --state-dir /var/lib/persona/edge --wait 0")]
    Rotate(RotateArgs),
}

#[derive(Debug, Args)]
pub(super) struct RotateArgs {
    /// Configuration file of the agent or edge.
    #[arg(long, env = "PERSONA_CONFIG", required_unless_present = "state_dir")]
    config: Option<PathBuf>,
    /// The role's state directory.
    #[arg(long, env = "PERSONA_STATE_DIR")]
    state_dir: Option<PathBuf>,
    /// How long to wait for the next key to be in use, seconds. 0: not at all.
    #[arg(long, default_value_t = 60)]
    wait: u64,
}

/// The public keys before and after.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Rotated {
    before: String,
    /// Absent: nobody has waited for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<String>,
}

impl WireCommand {
    pub(super) fn run(self, output: Output) -> anyhow::Result<()> {
        match self {
            Self::Rotate(args) => args.run(output),
        }
    }
}

impl RotateArgs {
    fn run(self, output: Output) -> anyhow::Result<()> {
        let directory = self.state_dir()?;
        let before = ask_for_another_key(&directory)?;
        let mut rotated = Rotated { before: before.to_string(), after: None };
        if self.wait > 0 {
            rotated.after = Some(wait_for_another(&directory, &rotated.before, Duration::from_secs(self.wait))?);
        }
        output.show(&rotated, tell)
    }

    fn state_dir(&self) -> anyhow::Result<PathBuf> {
        if let Some(directory) = &self.state_dir {
            return Ok(directory.clone());
        }
        let path = self.config.as_deref().context("name the role's file with --config, or --state-dir")?;
        let role: toml::Table = crate::config::load(path)?;
        // Only an edge's file has these.
        let is_edge = ["group", "inside", "outside"].iter().any(|key| role.contains_key(*key));
        let role_name = if is_edge { "edge" } else { "agent" };
        let configured = role.get("state_dir").and_then(toml::Value::as_str).map(PathBuf::from);
        Ok(configured.unwrap_or_else(|| Path::new("/var/lib/persona").join(role_name)))
    }
}

fn wait_for_another(directory: &Path, before: &str, patience: Duration) -> anyhow::Result<String> {
    let start = Instant::now();
    loop {
        let keys = OwnKeys::in_directory(directory)?;
        let key = keys.current.public().to_string();
        if key != *before {
            return Ok(key);
        }
        if start.elapsed() >= patience {
            let wanted = if keys.next.is_some() {
                "its far ends have not all agreed to the next key yet; it goes on by itself"
            } else {
                "the role has not taken notice: is it running?"
            };
            bail!("after {} s the tunnel's key is the same: {wanted}", patience.as_secs());
        }
        std::thread::sleep(LOOK);
    }
}

fn tell(rotated: &Rotated) -> String {
    match &rotated.after {
        Some(after) => format!("tunnel's key: {} → {after}", rotated.before),
        None => format!("asked for another key than {}; node get or edge get say how far it is", rotated.before),
    }
}
