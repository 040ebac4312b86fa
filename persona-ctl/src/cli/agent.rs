//! `persona-ctl agent`: the node's agent.

use anyhow::Context;
use clap::Args;

use super::role::{self, RoleArgs, overlay, overlay_manager};
use crate::agent::{self, AgentConfig, AgentFile};
use crate::config;
use crate::dataplane::Coexistence;

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
    /// What is done about programs of others at the same hooks.
    #[arg(long, env = "PERSONA_COEXIST", value_enum)]
    coexist: Option<Coexistence>,
}

impl AgentArgs {
    pub(super) fn run(self, manager: String) -> anyhow::Result<()> {
        let format = self.role.log_format;
        let config = configuration(self, manager)?;
        role::run(format, |stop| agent::run(config, stop))
    }
}

fn configuration(args: AgentArgs, manager: String) -> anyhow::Result<AgentConfig> {
    let RoleArgs { config: path, name, join_token, join_token_file, state_dir, bpffs, address, .. } = args.role;
    let mut file: AgentFile = path.map(|path| config::load(&path)).transpose()?.unwrap_or_default();
    overlay(&mut file.name, name.map(|name| name.parse()).transpose()?);
    overlay_manager(&mut file.manager, manager);
    overlay(&mut file.join_token, join_token);
    overlay(&mut file.join_token_file, join_token_file);
    overlay(&mut file.state_dir, state_dir);
    overlay(&mut file.bpffs, bpffs);
    overlay(&mut file.address, address);
    overlay(&mut file.uplink, args.uplink);
    file.coexist = args.coexist.unwrap_or(file.coexist);
    file.check().context("the agent is not configured")
}
