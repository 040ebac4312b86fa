//! Puts what the plan says into workloads' namespaces and onto the host, reads it back, and takes away what is too much.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::net::Ipv6Addr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use persona_core::ids::WorkloadName;

use super::look::{self, Unreachable};
use super::plan::{ConfiguredWorkload, GATEWAY, Ours, Reach, labels_of, our_labels};
use super::serve::Servant;
use crate::host::error_chain;
use crate::netlink::{Link, LinkAddress, Netlink, NetlinkError, OurRoute};
use crate::privilege;

/// What is as it should be is looked at again this often, for drift inside that no notice tells.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// Something that could not be done for one workload; all others are not affected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// Who.
    pub name: WorkloadName,
    /// `configure.unreachable` or `configure.failed`.
    pub event: &'static str,
    /// What is wrong and what to do.
    pub message: String,
}

/// Keeps workloads' interfaces as the plan says.
#[derive(Debug, Default)]
pub struct Configurer {
    done: BTreeMap<WorkloadName, Done>,
    servant: Servant,
}

/// What was last made true for a workload.
#[derive(Debug)]
struct Done {
    workload: ConfiguredWorkload,
    mac: [u8; 6],
    namespace: Option<PathBuf>,
    moment: Instant,
}

#[derive(Debug, thiserror::Error)]
enum ConfigureError {
    #[error(transparent)]
    Unreachable(#[from] Unreachable),
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    #[error("interface with index {0} is not in the workload's namespace any more")]
    NoInterface(u32),
    #[error("interface {0} took what was put but shows {1}")]
    ReadBack(String, String),
}

impl Configurer {
    /// Takes away what `next` does not have any more of what was made true before: before the data plane forgets it.
    pub async fn withdraw(&mut self, netlink: &Netlink, links: &[Link], next: &[ConfiguredWorkload]) {
        let mut less = Vec::new();
        for done in self.done.values() {
            let kept = next.iter().find(|workload| workload.name == done.workload.name);
            let is_kept =
                |address| kept.is_some_and(|workload| workload.leases.iter().any(|lease| lease.address == address));
            let leases: Vec<_> = done.workload.leases.iter().filter(|lease| is_kept(lease.address)).copied().collect();
            if leases.len() < done.workload.leases.len() {
                less.push(ConfiguredWorkload { leases, ..done.workload.clone() });
            }
        }
        for workload in &less {
            // What could not be taken away is tried again by the next pass, which also says so.
            if let Err(error) = self.make_true(netlink, links, workload).await {
                tracing::debug!(workload.name = %workload.name, error = error_chain(&error), "not withdrawn yet");
            }
        }
    }

    /// Makes the plan true and mends drift. Returns what could not be done.
    pub async fn provide(
        &mut self,
        netlink: &Netlink,
        links: &[Link],
        workloads: &[ConfiguredWorkload],
    ) -> Vec<Trouble> {
        let mut troubles = Vec::new();
        // An advertisement from any other source is not believed (RFC 4861 §6.1.2).
        let addresses = netlink.addresses().await.unwrap_or_default();
        let can_speak = |ifindex| addresses.iter().any(|it| it.ifindex == ifindex && it.is_link_local());
        for workload in workloads {
            if workload.reach == Reach::Serve {
                if let Some(link) = links.iter().find(|link| link.is_up && link.index == workload.ifindex) {
                    troubles.extend(self.servant.serve(link, can_speak(link.index), workload));
                }
                continue;
            }
            let outcome = self.make_true(netlink, links, workload).await;
            let is_wanted = !workload.leases.is_empty() || !workload.preferred_prefixes.is_empty();
            match outcome {
                Err(ConfigureError::Unreachable(_)) if !is_wanted => {}
                Err(error) => {
                    let is_unreachable = matches!(error, ConfigureError::Unreachable(_));
                    let event = if is_unreachable { "configure.unreachable" } else { "configure.failed" };
                    troubles.push(Trouble { name: workload.name.clone(), event, message: error_chain(&error) });
                }
                Ok(()) => {}
            }
        }
        self.done.retain(|name, _| workloads.iter().any(|workload| workload.name == *name));
        self.servant
            .retain(|name| workloads.iter().any(|workload| workload.name == *name && workload.reach == Reach::Serve));
        let host_side = match set_host_routes(netlink, links, workloads).await {
            Ok(()) => set_host_addresses(netlink, workloads).await,
            error => error,
        };
        if let Err(error) = host_side {
            let message = error_chain(&error);
            let named = workloads.iter().filter(|workload| !workload.leases.is_empty());
            troubles.extend(named.map(|workload| Trouble {
                name: workload.name.clone(),
                event: "configure.failed",
                message: message.clone(),
            }));
        }
        troubles
    }

    async fn make_true(
        &mut self,
        netlink: &Netlink,
        links: &[Link],
        workload: &ConfiguredWorkload,
    ) -> Result<(), ConfigureError> {
        let Some(link) = links.iter().find(|link| link.index == workload.ifindex) else { return Ok(()) };
        let mac = link.mac.unwrap_or_default();
        let before = self.done.get(&workload.name);
        let is_fresh =
            |done: &&Done| done.workload == *workload && done.mac == mac && done.moment.elapsed() < LOOK_AGAIN;
        if before.filter(is_fresh).is_some() {
            return Ok(());
        }
        let is_idle =
            |workload: &ConfiguredWorkload| workload.leases.is_empty() && workload.preferred_prefixes.is_empty();
        // What an earlier agent left is taken away once; after that there is nothing to look after.
        if is_idle(workload) && before.is_some_and(|done| is_idle(&done.workload)) {
            return Ok(());
        }
        let namespace = before.and_then(|done| done.namespace.clone());
        let outcome = configure(netlink, link, workload, mac, namespace).await;
        let namespace = match &outcome {
            Ok(path) => Some(path.clone()),
            Err(_) => None,
        };
        if outcome.is_ok() || is_idle(workload) {
            let (name, workload) = (workload.name.clone(), workload.clone());
            self.done.insert(name, Done { workload, mac, namespace, moment: Instant::now() });
        }
        outcome.map(drop)
    }
}

/// Takes everything of ours out of the namespaces behind this host's devices, and our routes off the host.
pub async fn withdraw_everything(netlink: &Netlink) -> Vec<String> {
    let mut failures = Vec::new();
    let links = match netlink.links().await {
        Ok(links) => links,
        Err(error) => return vec![error_chain(&error)],
    };
    for link in links.iter().filter(|link| link.peer.is_some_and(|peer| peer.namespace_id.is_some())) {
        let Ok((_, file)) = look::find(netlink, link, &Reach::Peer, None).await else { continue };
        let ifindex = link.peer.map(|peer| peer.index).unwrap_or_default();
        if let Err(error) = set_inside(&file, ifindex, &link.name, &Ours::default()).await {
            failures.push(format!("behind device {}: {}", link.name, error_chain(&error)));
        }
    }
    let host = [
        set_host_routes(netlink, &links, &[]).await,
        set_host_addresses(netlink, &[]).await,
        set_host_labels(netlink, &[]).await,
    ];
    failures.extend(host.iter().filter_map(|outcome| outcome.as_ref().err()).map(|error| error_chain(error)));
    failures
}

/// Exactly these of the labels that only we give, in our own namespace.
pub(in crate::agent) async fn set_host_labels(
    netlink: &Netlink,
    prefixes: &[(Ipv6Addr, u8)],
) -> Result<(), NetlinkError> {
    let present = our_labels(netlink.address_labels().await?);
    let wanted = labels_of(prefixes);
    for label in present.difference(&wanted) {
        netlink.remove_address_label(label).await?;
    }
    for label in wanted.difference(&present) {
        netlink.put_address_label(label).await?;
    }
    Ok(())
}

async fn configure(
    netlink: &Netlink,
    link: &Link,
    workload: &ConfiguredWorkload,
    mac: [u8; 6],
    namespace: Option<PathBuf>,
) -> Result<PathBuf, ConfigureError> {
    let (path, file) = look::find(netlink, link, &workload.reach, namespace.as_deref()).await?;
    let ifindex = link.peer.map(|peer| peer.index).unwrap_or_default();
    set_inside(&file, ifindex, &link.name, &workload.wanted_inside(ifindex, mac)).await?;
    Ok(path)
}

async fn set_inside(file: &File, ifindex: u32, device: &str, wanted: &Ours) -> Result<(), ConfigureError> {
    let inside = Netlink::open_inside(file)?;
    let links = inside.links().await?;
    let interface = links.iter().find(|link| link.index == ifindex).ok_or(ConfigureError::NoInterface(ifindex))?;
    if wanted.addresses.iter().any(|address| address.address.is_ipv6()) {
        allow_ipv6(file, &interface.name);
    }
    let present = look_inside(&inside, ifindex).await?;
    if present == *wanted {
        return Ok(());
    }
    tracing::info!(device, interface = interface.name, "workload's interface is brought to what its leases say");
    add(&inside, &present, wanted).await?;
    remove(&inside, &present, wanted).await?;
    let present = look_inside(&inside, ifindex).await?;
    if present == *wanted {
        Ok(())
    } else {
        let shown = format!("{:?} too much, {:?} too little", present.without(wanted), wanted.without(&present));
        Err(ConfigureError::ReadBack(interface.name.clone(), shown))
    }
}

/// What of ours is on one interface, and the namespace's labels.
async fn look_inside(inside: &Netlink, ifindex: u32) -> Result<Ours, NetlinkError> {
    let addresses = inside.addresses().await?;
    let routes = inside.our_routes().await?;
    let neighbours = inside.neighbours().await?;
    // A kernel without IPv6 has no labels.
    let labels = inside.address_labels().await.unwrap_or_default();
    Ok(Ours::among(ifindex, addresses, routes, &neighbours, labels))
}

/// Addresses before the routes that name them as source.
async fn add(inside: &Netlink, present: &Ours, wanted: &Ours) -> Result<(), NetlinkError> {
    let missing = wanted.without(present);
    for address in &missing.addresses {
        inside.put_address(address).await?;
    }
    for ((ifindex, address), mac) in &missing.neighbours {
        inside.put_permanent_neighbour(*ifindex, *address, *mac).await?;
    }
    for route in &missing.routes {
        match present.routes.iter().find(|old| is_same_place(old, route) && route.destination.0.is_ipv6()) {
            // The kernel takes two IPv6 routes with one next hop for the same, whatever their source.
            Some(_) => inside.replace_route(route).await?,
            None => inside.put_route(route).await?,
        }
    }
    for label in &missing.labels {
        inside.put_address_label(label).await?;
    }
    Ok(())
}

/// Routes before the addresses that they name.
async fn remove(inside: &Netlink, present: &Ours, wanted: &Ours) -> Result<(), NetlinkError> {
    let surplus = present.without(wanted);
    for route in &surplus.routes {
        let is_replaced =
            route.destination.0.is_ipv6() && wanted.routes.iter().any(|wanted| is_same_place(wanted, route));
        if !is_replaced {
            inside.remove_route(route).await?;
        }
    }
    for (ifindex, address) in surplus.neighbours.keys().filter(|key| !wanted.neighbours.contains_key(key)) {
        inside.remove_neighbour(*ifindex, *address).await?;
    }
    let is_wanted = |address| wanted.addresses.iter().any(|wanted| wanted.address == address);
    for address in surplus.addresses.iter().filter(|address| !is_wanted(address.address)) {
        inside.remove_address(address).await?;
    }
    for label in &surplus.labels {
        inside.remove_address_label(label).await?;
    }
    Ok(())
}

fn is_same_place(one: &OurRoute, other: &OurRoute) -> bool {
    (one.destination, one.metric) == (other.destination, other.metric)
}

/// Container runtimes switch IPv6 off where they do not use it themselves. Where that cannot be changed, putting the address fails
/// and says why.
fn allow_ipv6(namespace: &File, interface: &str) {
    if let Err(error) = privilege::allow_ipv6(namespace, interface) {
        tracing::debug!(interface, %error, "IPv6 could not be switched on");
    }
}

/// The gateway's address on devices of guests that have a leased IPv4 address: they ask for it by ARP.
async fn set_host_addresses(netlink: &Netlink, workloads: &[ConfiguredWorkload]) -> Result<(), NetlinkError> {
    let present: BTreeSet<LinkAddress> =
        netlink.addresses().await?.into_iter().filter(|address| address.is_ours).collect();
    let is_served = |workload: &&ConfiguredWorkload| {
        workload.reach == Reach::Serve && workload.leases.iter().any(|lease| lease.address.is_ipv4())
    };
    let gateway = |workload: &ConfiguredWorkload| LinkAddress {
        ifindex: workload.ifindex,
        address: GATEWAY.into(),
        prefix_length: 32,
        is_deprecated: false,
        is_ours: true,
    };
    let wanted: BTreeSet<LinkAddress> = workloads.iter().filter(is_served).map(gateway).collect();
    for address in wanted.difference(&present) {
        netlink.put_address(address).await?;
    }
    for address in present.difference(&wanted) {
        netlink.remove_address(address).await?;
    }
    Ok(())
}

/// Exactly the routes that lead to leased addresses, through the bridge where a device is a port of one.
async fn set_host_routes(
    netlink: &Netlink,
    links: &[Link],
    workloads: &[ConfiguredWorkload],
) -> Result<(), NetlinkError> {
    let present: BTreeSet<OurRoute> = netlink.our_routes().await?.into_iter().collect();
    let mut wanted = BTreeSet::new();
    for workload in workloads {
        let Some(link) = links.iter().find(|link| link.index == workload.ifindex && link.is_up) else { continue };
        wanted.extend(workload.wanted_on_host(link.controller.unwrap_or(link.index)));
    }
    for route in wanted.difference(&present) {
        netlink.put_route(route).await?;
    }
    for route in present.difference(&wanted) {
        netlink.remove_route(route).await?;
    }
    Ok(())
}
