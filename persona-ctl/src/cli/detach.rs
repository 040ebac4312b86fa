//! `persona-ctl detach`: removes everything that a role put into the kernel and leaves the host as it was.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::{Output, on_runtime};
use crate::agent;
use crate::dataplane::{self, DetachReport};
use crate::host::error_chain;
use crate::limits;
use crate::netlink::{Netlink, NetlinkError};

/// Remove programs, maps, pins and queues of a role from this host, and put limits of workloads back.
///
/// Stop the role first: a running agent would put everything back. Traffic of workloads then leaves, or does not, as it
/// did before Persona came.
#[derive(Debug, Args)]
pub(super) struct DetachArgs {
    /// Configuration file of the role.
    #[arg(long, env = "PERSONA_CONFIG", required_unless_present = "bpffs")]
    config: Option<PathBuf>,
    /// Directory on a bpffs where maps and links are pinned.
    #[arg(long, env = "PERSONA_BPFFS")]
    bpffs: Option<PathBuf>,
    /// Remove queues from this device only; may be given several times. Default: from every device that has ours.
    #[arg(long)]
    device: Vec<String>,
}

/// What was removed, and what could not be.
#[derive(Debug, Default, Serialize)]
struct Removed {
    links: Vec<String>,
    maps: Vec<String>,
    unmounted: bool,
    queues: Vec<String>,
    offloads: Vec<String>,
    tunnels: Vec<String>,
    limits: Vec<String>,
    files: Vec<String>,
    routes: Vec<String>,
    failures: Vec<String>,
}

impl DetachArgs {
    /// Removes, and prints what was removed. Everything is tried; what failed is listed at the end.
    pub(super) fn run(self, output: Output) -> anyhow::Result<()> {
        let mut removed = Removed::default();
        match dataplane::detach(&bpffs(&self)?) {
            Ok(DetachReport { links, maps, offloads, unmounted }) => {
                removed = Removed { links, maps, offloads, unmounted, ..removed };
            }
            Err(error) => removed.failures.push(error_chain(&error)),
        }
        on_runtime(async {
            remove_queues(&self.device, &mut removed).await?;
            removed.failures.extend(agent::withdraw_everything(&Netlink::open()?).await);
            if is_for_edges(&self)? {
                withdraw_routes(&mut removed).await?;
            }
            Ok(())
        })?;
        match crate::wire::remove_devices() {
            Ok(devices) => removed.tunnels = devices,
            Err(error) => removed.failures.push(format!("devices of encrypted tunnels: {error}")),
        }
        restore_gai_files(&self, &mut removed)?;
        restore_limits(&self, &mut removed)?;
        output.show(&removed, tell)?;
        anyhow::ensure!(removed.failures.is_empty(), "not everything was removed: {}", removed.failures.join("; "));
        Ok(())
    }
}

fn bpffs(args: &DetachArgs) -> anyhow::Result<PathBuf> {
    if let Some(bpffs) = &args.bpffs {
        return Ok(bpffs.clone());
    }
    let role = args.config.as_deref().map(crate::config::load::<toml::Table>).transpose()?.unwrap_or_default();
    Ok(role.get("bpffs").and_then(toml::Value::as_str).unwrap_or("/sys/fs/bpf/persona").into())
}

/// Takes our block out of every policy file of getaddrinfo that the configuration names.
fn restore_gai_files(args: &DetachArgs, removed: &mut Removed) -> anyhow::Result<()> {
    let role = args.config.as_deref().map(crate::config::load::<toml::Table>).transpose()?.unwrap_or_default();
    let workloads = role.get("workload").and_then(toml::Value::as_array).into_iter().flatten();
    for section in role.get("host").into_iter().chain(workloads) {
        let Some(path) = section.get("gai_conf").and_then(toml::Value::as_str) else { continue };
        match agent::keep_gai_file(path.as_ref(), &[]) {
            Ok(true) => removed.files.push(path.to_owned()),
            Ok(false) => {}
            Err(error) => removed.failures.push(format!("{path}: {error}")),
        }
    }
    Ok(())
}

/// Puts limits of workloads back to what they were before the first persona, by the records in the state directory.
fn restore_limits(args: &DetachArgs, removed: &mut Removed) -> anyhow::Result<()> {
    let role = args.config.as_deref().map(crate::config::load::<toml::Table>).transpose()?.unwrap_or_default();
    let state_dir = role.get("state_dir").and_then(toml::Value::as_str).unwrap_or(agent::STATE_DIR);
    for restored in limits::restore_everything(state_dir.as_ref()) {
        match restored.outcome {
            Ok(()) => removed.limits.push(restored.workload.to_string()),
            Err(reason) => removed.failures.push(format!("limits of {}: {reason}", restored.workload)),
        }
    }
    Ok(())
}

/// Whether an edge's things go: its routes outlive its process, and an agent's detachment must not take them.
fn is_for_edges(args: &DetachArgs) -> anyhow::Result<bool> {
    let role = args.config.as_deref().map(crate::config::load::<toml::Table>).transpose()?;
    Ok(role.is_none_or(|role| role.contains_key("outside")))
}

/// Takes back every route that an edge announced.
async fn withdraw_routes(removed: &mut Removed) -> Result<(), NetlinkError> {
    let netlink = Netlink::open_strict()?;
    for route in netlink.announced_routes(None).await? {
        match netlink.withdraw_route(&route).await {
            Ok(()) => removed.routes.push(format!("{} in table {}", route.destination, route.table)),
            Err(error) => removed.failures.push(error_chain(&error)),
        }
    }
    Ok(())
}

async fn remove_queues(devices: &[String], removed: &mut Removed) -> Result<(), NetlinkError> {
    let netlink = Netlink::open()?;
    let links = netlink.links().await?;
    let name = |ifindex: u32| links.iter().find(|link| link.index == ifindex).map(|link| link.name.clone());
    for ifindex in netlink.shapers().await?.into_keys() {
        let Some(device) = name(ifindex) else { continue };
        if !devices.is_empty() && !devices.contains(&device) {
            continue;
        }
        match netlink.remove_shaper(ifindex).await {
            Ok(()) => removed.queues.push(device),
            Err(error) => removed.failures.push(error_chain(&error)),
        }
    }
    for ifindex in netlink.fair_queues().await? {
        let Some(device) = name(ifindex).filter(|device| devices.is_empty() || devices.contains(device)) else {
            continue;
        };
        match netlink.remove_fair_queue(ifindex).await {
            Ok(()) => removed.queues.push(device),
            Err(error) => removed.failures.push(error_chain(&error)),
        }
    }
    Ok(())
}

fn tell(removed: &Removed) -> String {
    let listed = |names: &[String]| if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    format!(
        "programs: {}\nmaps: {}\nqueues: {}\noffloads put back: {}\nencrypted tunnels: {}\nlimits put back: {}\nfiles: {}\nannounced routes: {}\nbpffs: {}",
        listed(&removed.links),
        listed(&removed.maps),
        listed(&removed.queues),
        listed(&removed.offloads),
        listed(&removed.tunnels),
        listed(&removed.limits),
        listed(&removed.files),
        listed(&removed.routes),
        if removed.unmounted { "unmounted" } else { "left mounted: it was there before" },
    )
}
