//! `persona-ctl agent`: the node's agent.

use anyhow::Context;
use clap::Args;
use persona_core::units::Span;

use super::role::{self, CommonKeys, RoleArgs, overlay};
use crate::agent::{self, AgentConfig, AgentFile};

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
}

impl AgentArgs {
    pub(super) fn run(self, manager: Option<String>) -> anyhow::Result<()> {
        let format = self.role.log_format;
        let config = configuration(self, manager)?;
        role::run(format, |stop| agent::run(config, stop))
    }
}

fn configuration(args: AgentArgs, manager: Option<String>) -> anyhow::Result<AgentConfig> {
    let mut file: AgentFile = args.role.file()?;
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
    args.role.put_over(manager, keys)?;
    overlay(&mut file.uplink, args.uplink);
    if let Some(adopt) = args.adopt {
        file.adopt_secs = u32::try_from(adopt.0.div_ceil(1_000)).context("--adopt is too long")?;
    }
    file.check().context("the agent is not configured")
}
