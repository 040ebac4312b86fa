//! `persona-ctl edge --config FILE`: the edge's process. `edge list|get` asks the manager instead.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;

use anyhow::Context;
use clap::Args;

use super::config::Configured;
use super::edges::EdgeCommand;
use super::role::{self, CommonKeys, RoleArgs, overlay};
use crate::config::Place;
use crate::edge::{self, EdgeFile, HookChoice};
use crate::host::error_chain;

/// Run this edge, or list edges.
///
/// It carries the flows of its group and answers for its share of the group's egress addresses. When it stops, the data
/// path goes on as it is, but peers that fail go unnoticed until it runs again: let a supervisor restart it at once.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct EdgeArgs {
    /// Edges as the manager sees them.
    #[command(subcommand)]
    pub command: Option<EdgeCommand>,
    #[command(flatten)]
    flags: EdgeFlags,
}

/// What an edge's process is told.
#[derive(Debug, Args)]
pub(super) struct EdgeFlags {
    #[command(flatten)]
    role: RoleArgs,
    /// Group of edges that carry the same egress addresses.
    #[arg(long, env = "PERSONA_GROUP")]
    group: Option<String>,
    /// Device towards the nodes.
    #[arg(long, env = "PERSONA_INSIDE")]
    inside: Option<String>,
    /// Device towards the outside.
    #[arg(long, env = "PERSONA_OUTSIDE")]
    outside: Option<String>,
    /// Address of the IPv4 next hop on the outside.
    #[arg(long, env = "PERSONA_OUTSIDE_NEXT_HOP")]
    outside_next_hop: Option<Ipv4Addr>,
    /// Address of the IPv6 next hop on the outside.
    #[arg(long, env = "PERSONA_OUTSIDE_NEXT_HOP6")]
    outside_next_hop6: Option<Ipv6Addr>,
    /// Where the programs hang.
    #[arg(long, env = "PERSONA_HOOK", value_enum)]
    hook: Option<HookChoice>,
}

impl EdgeArgs {
    pub(super) fn run(self, manager: Option<String>) -> anyhow::Result<()> {
        let flags = self.flags;
        let format = flags.role.log_format;
        let mut file: EdgeFile = flags.role.file()?;
        flags.put_over(manager, &mut file)?;
        let config = file.check().context("the edge is not configured")?;
        role::run(format, |stop| edge::run(config, stop))
    }
}

impl Configured for EdgeFlags {
    type File = EdgeFile;

    fn config(&self) -> Option<&Path> {
        self.role.config.as_deref()
    }

    fn put_over(self, manager: Option<String>, file: &mut EdgeFile) -> anyhow::Result<()> {
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
        overlay(&mut file.group, self.group.map(|group| group.parse()).transpose()?);
        overlay(&mut file.inside, self.inside);
        overlay(&mut file.outside, self.outside);
        overlay(&mut file.outside_next_hop, self.outside_next_hop);
        overlay(&mut file.outside_next_hop6, self.outside_next_hop6);
        file.hook = self.hook.unwrap_or(file.hook);
        Ok(())
    }

    fn mistakes(file: &EdgeFile) -> Vec<(Place, String)> {
        file.mistakes().iter().map(|error| (error.place(), error_chain(error))).collect()
    }

    fn in_force(file: EdgeFile) -> anyhow::Result<EdgeFile> {
        Ok(EdgeFile::in_force(file.check()?))
    }
}
