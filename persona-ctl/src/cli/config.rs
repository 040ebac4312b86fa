//! `persona-ctl config check|show ROLE`: what a role would run on, read and judged as the role itself does it.
//!
//! The flags are the role's own, and its variables count as well, so that a unit's command line is checked by putting
//! `config check` before it. Nothing is started, and nothing is written.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Subcommand;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Output;
use super::agent::{AgentArgs, GuestFlags};
use super::edge::EdgeFlags;
use super::gateway::GatewayFlags;
use super::manager::ManagerFlags;
use crate::config::{self, ConfigError, Mistake, Place};

/// What to do with configurations.
#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Say every mistake of a role's configuration, with file, line and key.
    ///
    /// Exit codes: 0 the role would start on it, 1 it would not.
    #[command(
        subcommand,
        after_help = "Example:\n  persona-ctl config check agent --config /etc/persona/agent.toml && systemctl restart persona-agent"
    )]
    Check(ConfiguredRole),
    /// Show what a role would run on: defaults, then the file, then variables, then flags. Secrets are not shown.
    ///
    /// For people it is a configuration file (TOML). What is not set is left out.
    #[command(
        subcommand,
        after_help = "Example:\n  persona-ctl config show manager --config /etc/persona/manager.toml -o json"
    )]
    Show(ConfiguredRole),
}

/// The role, with its own flags.
#[derive(Debug, Subcommand)]
pub(super) enum ConfiguredRole {
    /// The manager's.
    Manager(Box<ManagerFlags>),
    /// The agent's.
    Agent(Box<AgentArgs>),
    /// The agent's inside a guest.
    Guest(GuestFlags),
    /// The edge's.
    Edge(Box<EdgeFlags>),
    /// The gateway's.
    Gateway(Box<GatewayFlags>),
}

/// A role whose configuration can be looked at without running it.
pub(super) trait Configured: Sized {
    /// What the file may say.
    type File: DeserializeOwned + Default + Serialize;
    /// The file that is named.
    fn config(&self) -> Option<&Path>;
    /// Puts flags and variables over the file.
    fn put_over(self, manager: Option<String>, file: &mut Self::File) -> anyhow::Result<()>;
    /// What the role would refuse, and where that is written.
    fn mistakes(file: &Self::File) -> Vec<(Place, String)>;
    /// The file with defaults, and without secrets.
    fn in_force(file: Self::File) -> anyhow::Result<Self::File>;
}

/// What a check found.
#[derive(Debug, Serialize)]
struct Findings {
    /// None: there is only what flags, variables and defaults say.
    file: Option<PathBuf>,
    mistakes: Vec<Mistake>,
}

impl ConfigCommand {
    pub(super) fn run(self, manager: Option<String>, output: Output) -> anyhow::Result<()> {
        match self {
            Self::Check(ConfiguredRole::Manager(flags)) => check(*flags, manager, output),
            Self::Check(ConfiguredRole::Agent(flags)) => check(*flags, manager, output),
            Self::Check(ConfiguredRole::Guest(flags)) => check(flags, manager, output),
            Self::Check(ConfiguredRole::Edge(flags)) => check(*flags, manager, output),
            Self::Check(ConfiguredRole::Gateway(flags)) => check(*flags, manager, output),
            Self::Show(ConfiguredRole::Manager(flags)) => show(*flags, manager, output),
            Self::Show(ConfiguredRole::Agent(flags)) => show(*flags, manager, output),
            Self::Show(ConfiguredRole::Guest(flags)) => show(flags, manager, output),
            Self::Show(ConfiguredRole::Edge(flags)) => show(*flags, manager, output),
            Self::Show(ConfiguredRole::Gateway(flags)) => show(*flags, manager, output),
        }
    }
}

fn check<C: Configured>(flags: C, manager: Option<String>, output: Output) -> anyhow::Result<()> {
    let file = flags.config().map(Path::to_owned);
    let mistakes = judge(flags, manager)?.err().unwrap_or_default();
    let findings = Findings { file, mistakes };
    output.show(&findings, tell)?;
    match findings.mistakes.len() {
        0 => Ok(()),
        count => bail!("{} has {count} {}", place_of(&findings), if count == 1 { "mistake" } else { "mistakes" }),
    }
}

fn show<C: Configured>(flags: C, manager: Option<String>, output: Output) -> anyhow::Result<()> {
    let file = flags.config().map(Path::to_owned);
    match judge(flags, manager)? {
        Ok(read) => {
            let text = toml::to_string(&C::in_force(read)?).context("the configuration cannot be written as TOML");
            // Through TOML also for programs: a secret that is gone there is gone everywhere.
            let text = text?;
            let answer: toml::Table = text.parse().context("what was written can be read")?;
            output.show(&answer, |_| text.clone())
        }
        Err(mistakes) => bail!("nothing can be in force:\n{}", tell(&Findings { file, mistakes })),
    }
}

/// What the role would run on, or every mistake.
fn judge<C: Configured>(flags: C, manager: Option<String>) -> anyhow::Result<Result<C::File, Vec<Mistake>>> {
    let path = flags.config().map(Path::to_owned);
    let text = path.map(|path| std::fs::read_to_string(&path).map_err(|source| ConfigError::Read { path, source }));
    let text = text.transpose()?.unwrap_or_default();
    let mut file = match config::read::<C::File>(&text) {
        Ok(file) => file,
        Err(mistakes) => return Ok(Err(mistakes)),
    };
    flags.put_over(manager, &mut file)?;
    let mistakes = C::mistakes(&file);
    let located = mistakes.into_iter().map(|(place, message)| config::located(&text, &place, message));
    let located: Vec<Mistake> = located.collect();
    Ok(if located.is_empty() { Ok(file) } else { Err(located) })
}

fn place_of(findings: &Findings) -> String {
    let named = findings.file.as_ref().map(|file| file.display().to_string());
    named.unwrap_or_else(|| "the configuration without a file".to_owned())
}

fn tell(findings: &Findings) -> String {
    let file = place_of(findings);
    if findings.mistakes.is_empty() {
        return format!("{file} is right");
    }
    let line = |mistake: &Mistake| {
        let line = mistake.line.map(|line| format!(":{line}")).unwrap_or_default();
        let key = mistake.key.as_ref().map(|key| format!(" {key}:")).unwrap_or_default();
        format!("{file}{line}:{key} {}", mistake.message)
    };
    findings.mistakes.iter().map(line).collect::<Vec<_>>().join("\n")
}
