//! The guard before everything else: at boot, before any runtime starts, nothing of a managed range may leave the uplink.
//!
//! It attaches the programs at the uplink and fills the managed ranges, pinned, and ends. Workload devices that are not
//! there yet are covered by their ranges, or by `guard = "all-forwarded"`. An agent that starts later takes the pins over.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use serde::Serialize;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::config::{AgentFile, Guard};
use super::places::managed_ranges;
use super::workload_config;
use crate::dataplane::tables::NodeTables;
use crate::dataplane::{NodeDataplane, NodeOptions, PacketLogging};
use crate::host;
use crate::netlink::{self, Link, Netlink, Notices};

/// A look without notice, should one be missed.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// What the guard holds back now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GuardReport {
    /// The device that it stands at.
    pub uplink: String,
    /// Where its programs are pinned.
    pub bpffs: PathBuf,
    /// Whether every forwarded packet is held back.
    pub all_forwarded: bool,
    /// Source ranges that are held back: first address and prefix length.
    pub managed: Vec<(IpAddr, u8)>,
    /// Whether an agent's tables were there already; they stay as they are.
    pub was_in_force: bool,
}

/// Puts the guard in force, waiting at most `wait` for the uplink to appear.
pub async fn guard(file: &AgentFile, wait: Duration) -> anyhow::Result<GuardReport> {
    workload_config::check(&file.workload, &file.host)?;
    let uplink =
        file.uplink.clone().context("uplink is not set: set it in the configuration file, or give --uplink")?;
    let bpffs = file.bpffs_or_default();
    host::require_node(&bpffs)?;
    let link = wait_for_link(&uplink, wait).await?;
    let all_forwarded = file.guard == Guard::AllForwarded;
    let managed = managed_ranges(file);
    anyhow::ensure!(
        all_forwarded || !managed.is_empty(),
        "there is nothing to guard: set managed or a workload's addresses, or guard = \"all-forwarded\""
    );
    let options = NodeOptions {
        bpffs: bpffs.clone(),
        uplinks: vec![link.index],
        guard_all_forwarded: all_forwarded,
        adopt: Duration::ZERO,
        coexist: file.coexist,
        logging: PacketLogging::Off,
    };
    let mut dataplane = NodeDataplane::open(&options).context("data plane cannot be opened")?;
    let was_in_force = dataplane.has_tables()?;
    if !was_in_force {
        dataplane.apply(&NodeTables { managed: managed.clone(), ..Default::default() })?;
    }
    Ok(GuardReport { uplink: link.name, bpffs, all_forwarded, managed, was_in_force })
}

async fn wait_for_link(name: &str, wait: Duration) -> anyhow::Result<Link> {
    let netlink = Netlink::open()?;
    let changed = Arc::new(Notify::new());
    netlink::watch(Arc::clone(&changed), Notices::Routes)?;
    let deadline = Instant::now() + wait;
    loop {
        let links = netlink.links().await?;
        if let Some(link) = links.iter().find(|link| link.name == name) {
            return Ok(link.clone());
        }
        let present: Vec<&str> = links.iter().map(|link| link.name.as_str()).collect();
        anyhow::ensure!(
            Instant::now() < deadline,
            "uplink {name} did not appear within {} s: the devices here are {}",
            wait.as_secs(),
            present.join(", ")
        );
        // Either way it is looked at again.
        let _ = tokio::time::timeout_at(deadline.min(Instant::now() + LOOK_AGAIN), changed.notified()).await;
    }
}
