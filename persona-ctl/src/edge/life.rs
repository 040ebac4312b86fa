//! The edge's process from start to stop: what wakes a pass, and what each pass leads to.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use persona_core::ids::EdgeNumber;
use persona_core::liveness::Verdict;
use persona_core::wire::agent::{Counters, Register, Rejection, Role};
use persona_core::wire::desired::{DesiredState, Item, NodeItem, ProbeItem};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use super::config::EdgeConfig;
use super::guardian::{Guardian, News};
use super::tables::{self, EdgePlan, Observed, Own};
use super::watcher::{Side, Watcher};
use crate::agent::edge_health;
use crate::dataplane::{EdgeDataplane, EdgeOptions};
use crate::host;
use crate::manager_link::{self, Link, LinkConfig, StateFile};
use crate::netlink::{self, Netlink, Notices};
use crate::probe::{Prober, Target};

/// A pass runs at least this often, for what no notice tells: counters, drift.
const PASS_INTERVAL: Duration = Duration::from_secs(1);
/// News that comes in a burst is taken in one pass.
const SETTLE: Duration = Duration::from_millis(3);
/// XDP sends past the kernel, which then sees no use of a neighbour and never confirms it; so we ask this often.
const CONFIRM_INTERVAL: Duration = Duration::from_secs(10);
/// Verdicts that wait for the loop; the guardian has been told already.
const VERDICT_COUNT_MAX: usize = 1_024;

/// Runs the edge until `stop` is cancelled. The data path stays as it is.
pub async fn run(config: EdgeConfig, stop: CancellationToken) -> anyhow::Result<()> {
    host::require_node(&config.bpffs)?;
    let mut edge = Edge::start(config, &stop).await?;
    let mut interval = tokio::time::interval(PASS_INTERVAL);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            _ = interval.tick() => edge.count(),
            Some((peer, verdict)) = edge.verdicts.recv() => { edge.tell_verdict(peer, verdict); continue }
            () = edge.decided.notified() => { edge.tell_standing(); continue }
            Ok(()) = edge.link.desired.changed() => {}
            () = edge.changed.notified() => tokio::time::sleep(SETTLE).await,
        }
        edge.pass().await;
    }
    tracing::info!("stopped; the data path goes on with the last generation");
    Ok(())
}

struct Edge {
    config: EdgeConfig,
    own: Own,
    netlink: Netlink,
    dataplane: Arc<Mutex<EdgeDataplane>>,
    prober: Prober,
    watcher: Watcher,
    guardian: Guardian,
    link: Link,
    state_file: StateFile,
    applied: DesiredState,
    plan: EdgePlan,
    rejected: Option<Rejection>,
    changed: Arc<Notify>,
    decided: Arc<Notify>,
    verdicts: mpsc::Receiver<(EdgeNumber, Verdict)>,
    confirmed: Instant,
    said: String,
}

impl Edge {
    async fn start(config: EdgeConfig, stop: &CancellationToken) -> anyhow::Result<Self> {
        let netlink = Netlink::open()?;
        let (changed, decided) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        netlink::watch(Arc::clone(&changed), Notices::RoutesAndNeighbours)?;
        let observed = look(&netlink, &config, &[]).await?;
        let options = EdgeOptions {
            bpffs: config.bpffs.clone(),
            inside: observed.inside.index,
            outside: observed.outside.index,
            hook: config.file.hook.into(),
            coexist: config.file.coexist,
        };
        let dataplane = EdgeDataplane::open(&options).context("data plane cannot be opened")?;
        let ownership = dataplane.ownership_writer().context("ownership maps cannot be opened")?;
        let dataplane = Arc::new(Mutex::new(dataplane));
        let (inside, outside) = sides(&config, &observed);
        let probe = ProbeItem::default();
        let settle = Duration::from_millis(u64::from(probe.interval_ms) * u64::from(probe.multiplier + 1));
        let guardian =
            Guardian::start(&outside, ownership, Arc::clone(&decided), settle).context("guardian cannot be started")?;
        let watcher = start_watcher(inside, outside, &guardian).context("ARP watcher cannot be started")?;
        let (sender, verdicts) = mpsc::channel(VERDICT_COUNT_MAX);
        let prober = start_prober(observed.address, &guardian, sender).context("prober cannot be started")?;
        let link = manager_link::start(link_config(&config, &observed), stop)?;
        let state_file = StateFile::in_directory(&config.state_dir);
        let applied = state_file.load().unwrap_or_default();
        let (name, group, outside_next_hop) = (config.name.clone(), config.group.clone(), config.outside_next_hop);
        let own = Own { name, group, outside_next_hop };
        let (plan, rejected, said) = Default::default();
        Ok(Self {
            config,
            own,
            netlink,
            dataplane,
            prober,
            watcher,
            guardian,
            link,
            state_file,
            applied,
            plan,
            rejected,
            changed,
            decided,
            verdicts,
            confirmed: Instant::now(),
            said,
        })
    }

    /// Looks, makes the newest state true, or keeps the last one true, and reports.
    async fn pass(&mut self) {
        let newest = self.link.desired.borrow_and_update().clone();
        let observed = match look(&self.netlink, &self.config, &[&newest, &self.applied]).await {
            Ok(observed) => observed,
            Err(error) => return self.say(&format!("{error:#}")),
        };
        let has_news = newest.generation != Default::default() && newest != self.applied;
        if !(has_news && self.take(&newest, &observed)) {
            let applied = std::mem::take(&mut self.applied);
            let outcome = self.apply(&applied, &observed);
            self.applied = applied;
            match outcome {
                Ok(()) => self.said.clear(),
                Err(error) => self.say(&format!("{error:#}")),
            }
        }
        self.resolve_next_hops().await;
        self.tell_state();
    }

    /// Applies a new state. If that fails it is rejected whole, with the reason.
    fn take(&mut self, newest: &DesiredState, observed: &Observed) -> bool {
        match self.apply(newest, observed) {
            Ok(()) => {
                tracing::info!(generation = %newest.generation, "desired state is in force");
                self.state_file.store(newest);
                self.applied.clone_from(newest);
                self.rejected = None;
                self.said.clear();
                true
            }
            Err(error) => {
                self.reject(newest, &error);
                false
            }
        }
    }

    /// Makes `desired` true. On an error everything stays as it was.
    fn apply(&mut self, desired: &DesiredState, observed: &Observed) -> anyhow::Result<()> {
        let plan = tables::build(desired, &self.own, observed)?;
        tokio::task::block_in_place(|| lock(&self.dataplane).apply(&plan.tables))?;
        self.watcher.set_inside(plan.probe, plan.inside_next_hops.clone());
        let target = |peer: &persona_core::wire::desired::EdgeItem| Target {
            edge: peer.number,
            address: peer.address.into(),
            believed: None,
        };
        self.prober.set_targets(plan.probe, &plan.peers.values().map(target).collect::<Vec<_>>());
        if plan.situation != self.plan.situation {
            // The guardian's thread lives as long as this value.
            let _ = self.guardian.news().send(News::Group(Box::new(plan.situation.clone())));
        }
        self.plan = plan;
        Ok(())
    }

    /// Has the kernel resolve and confirm what XDP needs; TC asks it by itself.
    async fn resolve_next_hops(&mut self) {
        let is_due = self.confirmed.elapsed() >= CONFIRM_INTERVAL;
        if is_due {
            self.confirmed = Instant::now();
        }
        let nodes = self.plan.tables.nodes.iter().map(|node| &node.next_hop);
        for hop in nodes.chain(&self.plan.tables.outside).filter(|hop| is_due || hop.destination_mac.is_none()) {
            if let Err(error) = self.netlink.resolve_neighbour(hop.ifindex, hop.address).await {
                tracing::debug!(next_hop = %hop.address, error = host::error_chain(&error), "next hop is not resolved");
            }
        }
    }

    fn reject(&mut self, newest: &DesiredState, error: &anyhow::Error) {
        let rejection = Rejection { generation: newest.generation, reason: format!("{error:#}") };
        if self.rejected.as_ref() == Some(&rejection) {
            return;
        }
        let Rejection { generation, reason } = &rejection;
        tracing::warn!(%generation, reason, "desired state is rejected; the previous one stays in force");
        self.rejected = Some(rejection);
    }

    fn tell_state(&self) {
        let edges = edge_health(&self.plan.peers, &self.prober.health());
        self.link.report_now(|outbox| {
            outbox.report.applied = self.applied.generation;
            outbox.report.rejected = self.rejected.clone();
            outbox.report.edges = Some(edges);
        });
    }

    /// The guardian knows already; this is for people and for the manager.
    fn tell_verdict(&self, peer: EdgeNumber, verdict: Verdict) {
        let name = self.plan.peers.get(&peer).map_or_else(|| peer.to_string(), |edge| edge.name.to_string());
        let edges = edge_health(&self.plan.peers, &self.prober.health());
        self.link.report_now(|outbox| {
            let said = outbox.report.edges.iter().flatten().find(|edge| edge.edge.as_str() == name);
            if said.map(|edge| edge.alive) != Some(verdict.alive) {
                let event = if verdict.alive { "edge.up" } else { "edge.down" };
                tracing::info!(edge.name = name, event, "peer changed");
                let message =
                    if verdict.alive { "peer answers" } else { "peer is silent; its addresses are taken over" };
                outbox.push_event(event, name, message);
            }
            outbox.report.edges = Some(edges);
        });
    }

    fn tell_standing(&self) {
        let standing = self.guardian.standing();
        self.link.report_now(|outbox| {
            if outbox.report.outside_alive.is_some_and(|before| before != standing.is_outside_alive) {
                let event = if standing.is_outside_alive { "outside.up" } else { "outside.down" };
                let about = self.own.outside_next_hop.to_string();
                outbox.push_event(event, about, "the outside next hop answers or is silent now");
            }
            for address in &standing.taken_over {
                tracing::info!(%address, "answering for address");
                outbox.push_event(
                    "address.taken-over",
                    address.to_string(),
                    format!("{} answers for it", self.own.name),
                );
            }
            outbox.report.outside_alive = Some(standing.is_outside_alive);
            outbox.report.owned = Some(standing.owned.iter().map(|address| IpAddr::V4(*address)).collect());
        });
    }

    fn count(&mut self) {
        let counted = tokio::task::block_in_place(|| lock(&self.dataplane).counters());
        match counted {
            Ok(raw) => self.link.report_next(|outbox| {
                let personas = raw.personas.into_iter().map(|(vni, traffic)| (vni.0, traffic)).collect();
                outbox.report.counters =
                    Some(Counters { subjects: Vec::new(), personas, drops: raw.drops, ..Default::default() });
            }),
            Err(error) => self.say(&host::error_chain(&error)),
        }
    }

    /// The same trouble every second is one line in the log.
    fn say(&mut self, trouble: &str) {
        if self.said != trouble {
            tracing::error!(trouble, "pass failed; what was in force stays so, and it is tried again");
            self.link.report_next(|outbox| outbox.push_event("apply.failing", self.own.name.to_string(), trouble));
            self.said = trouble.to_owned();
        }
    }
}

async fn look(netlink: &Netlink, config: &EdgeConfig, states: &[&DesiredState]) -> anyhow::Result<Observed> {
    let links = netlink.links().await?;
    let addresses = netlink.addresses().await?;
    let find = |name: &str| {
        let present = || links.iter().map(|link| link.name.as_str()).collect::<Vec<_>>().join(", ");
        let found = links.iter().find(|link| link.name == name).cloned();
        found.with_context(|| format!("device {name} is not there: the devices here are {}", present()))
    };
    let (inside, outside) = (find(&config.inside)?, find(&config.outside)?);
    let first = |ifindex| {
        let mut on_device = addresses.iter().filter(|address| address.ifindex == ifindex);
        on_device.find_map(|address| match address.address {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        })
    };
    let given = config.address.and_then(|address| match address {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    });
    let address = given.or_else(|| first(inside.index));
    let address = address
        .with_context(|| format!("inside device {} has no IPv4 address: give it one, or set address", inside.name))?;
    let mut paths = BTreeMap::new();
    for node in states.iter().flat_map(|state| nodes(state)) {
        if !paths.contains_key(&node)
            && let Some(path) = netlink.path_to(node.into()).await?
        {
            paths.insert(node, path);
        }
    }
    let neighbours = netlink.neighbours().await?;
    let outside_address = first(outside.index);
    let links = links.into_iter().map(|link| (link.index, link)).collect();
    Ok(Observed { inside, outside, address, outside_address, paths, links, neighbours })
}

fn nodes(state: &DesiredState) -> impl Iterator<Item = Ipv4Addr> {
    state.items.values().filter_map(|item| match item {
        Item::Node(NodeItem { address: IpAddr::V4(address), .. }) => Some(*address),
        _ => None,
    })
}

fn sides(config: &EdgeConfig, observed: &Observed) -> (Side, Side) {
    let mac = |link: &crate::netlink::Link| link.mac.unwrap_or_default();
    let inside = Side {
        ifindex: observed.inside.index,
        mac: mac(&observed.inside),
        sender: observed.address,
        targets: Default::default(),
    };
    let outside = Side {
        ifindex: observed.outside.index,
        mac: mac(&observed.outside),
        sender: observed.outside_address.unwrap_or(Ipv4Addr::UNSPECIFIED),
        targets: [config.outside_next_hop].into(),
    };
    (inside, outside)
}

fn start_watcher(inside: Side, outside: Side, guardian: &Guardian) -> std::io::Result<Watcher> {
    let news = guardian.news();
    // The guardian outlives the watcher, or the process is ending.
    Watcher::start(inside, outside, Box::new(move |side, is_alive| drop(news.send(News::Side(side, is_alive)))))
}

fn start_prober(
    source: Ipv4Addr,
    guardian: &Guardian,
    sender: mpsc::Sender<(EdgeNumber, Verdict)>,
) -> std::io::Result<Prober> {
    let news = guardian.news();
    let tell = move |peer, verdict: Verdict| {
        // The guardian outlives the prober, or the process is ending.
        let _ = news.send(News::Peer(peer, verdict.alive));
        // A full queue loses only an event: health is reported as it is, not as it changed.
        let _ = sender.try_send((peer, verdict));
    };
    Prober::start(source.into(), Box::new(tell))
}

fn link_config(config: &EdgeConfig, observed: &Observed) -> LinkConfig {
    let register = Register {
        token: config.join_token.clone(),
        role: Role::Edge,
        name: config.name.to_string(),
        public_key: String::new(),
        address: observed.address.into(),
        group: Some(config.group.clone()),
        capabilities: config.file.capabilities.clone(),
        capacity: config.file.capacity.map(Into::into),
        labels: config.file.labels.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    LinkConfig { manager: config.manager.clone(), state_dir: config.state_dir.clone(), register }
}

fn lock(dataplane: &Mutex<EdgeDataplane>) -> MutexGuard<'_, EdgeDataplane> {
    dataplane.lock().unwrap_or_else(PoisonError::into_inner)
}
