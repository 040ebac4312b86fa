//! `persona-ctl agent`: the node's agent.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use persona_core::units::Span;

use super::config::Configured;
use super::role::{self, CommonKeys, RoleArgs, overlay};
use crate::agent::{self, AgentFile};
use crate::config::Place;
use crate::guest::{self, GuestFile};
use crate::host::error_chain;
use crate::privilege;

/// Run the agent of this node.
///
/// It makes true what the manager wants of this node, and keeps it true. When it stops, the data path goes on as it is,
/// but edges that fail go unnoticed until it runs again: let a supervisor restart it at once.
#[derive(Debug, Args)]
pub(super) struct AgentArgs {
    #[command(flatten)]
    role: RoleArgs,
    /// Device towards the underlay.
    #[arg(long, env = "PERSONA_UPLINK")]
    uplink: Option<String>,
    /// After programs are first attached, let TCP connections from before pass as they are for this long, such as 10m.
    #[arg(long, env = "PERSONA_ADOPT", value_name = "TIME")]
    adopt: Option<Span>,
    /// Socket of the helper that does what only root can. Without it, the agent does that itself, and has to be root.
    #[arg(long, env = "PERSONA_HELPER", value_name = "SOCKET")]
    helper: Option<PathBuf>,
    /// Be the agent inside a guest: do what the agent of its host says over a virtio-serial port, and tell what is measured
    /// inside. The configuration is a guest's own (docs/guests.md), and of the other flags only --log-format counts.
    #[arg(long)]
    guest: bool,
}

impl AgentArgs {
    pub(super) fn run(self, manager: Option<String>) -> anyhow::Result<()> {
        let format = self.role.log_format;
        if self.guest {
            let file: GuestFile = self.role.file()?;
            let config = file.check().context("the guest's agent is not configured")?;
            return role::run(format, |stop| guest::run(config, stop));
        }
        if let Some(socket) = self.helper.clone() {
            privilege::use_helper(socket);
        }
        let mut file: AgentFile = self.role.file()?;
        self.put_over(manager, &mut file)?;
        let config = file.check().context("the agent is not configured")?;
        role::run(format, |stop| agent::run(config, stop))
    }
}

impl Configured for AgentArgs {
    type File = AgentFile;

    fn config(&self) -> Option<&Path> {
        self.role.config.as_deref()
    }

    fn put_over(self, manager: Option<String>, file: &mut AgentFile) -> anyhow::Result<()> {
        let keys = CommonKeys {
            name: &mut file.name,
            manager: &mut file.manager,
            join_token: &mut file.join_token,
            join_token_file: &mut file.join_token_file,
            state_dir: &mut file.state_dir,
            bpffs: &mut file.bpffs,
            address: &mut file.address,
            metrics: &mut file.metrics,
            verbose_packets: &mut file.verbose_packets,
            coexist: &mut file.coexist,
            offloads: &mut file.offloads,
        };
        self.role.put_over(manager, keys)?;
        overlay(&mut file.uplink, self.uplink);
        if let Some(adopt) = self.adopt {
            file.adopt_secs = u32::try_from(adopt.0.div_ceil(1_000)).context("--adopt is too long")?;
        }
        Ok(())
    }

    fn mistakes(file: &AgentFile) -> Vec<(Place, String)> {
        file.mistakes().iter().map(|error| (error.place(), error_chain(error))).collect()
    }

    fn in_force(file: AgentFile) -> anyhow::Result<AgentFile> {
        Ok(AgentFile::in_force(file.check()?))
    }
}

/// Flags of the agent inside a guest, for looking at its configuration.
#[derive(Debug, Args)]
pub(super) struct GuestFlags {
    /// Configuration file (TOML).
    #[arg(long, env = "PERSONA_CONFIG")]
    config: Option<PathBuf>,
}

impl Configured for GuestFlags {
    type File = GuestFile;

    fn config(&self) -> Option<&Path> {
        self.config.as_deref()
    }

    fn put_over(self, _: Option<String>, _: &mut GuestFile) -> anyhow::Result<()> {
        Ok(())
    }

    fn mistakes(file: &GuestFile) -> Vec<(Place, String)> {
        file.mistakes()
    }

    fn in_force(file: GuestFile) -> anyhow::Result<GuestFile> {
        Ok(file.in_force())
    }
}
