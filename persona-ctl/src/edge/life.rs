//! The edge's process from start to stop: what wakes a pass, and what each pass leads to.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use persona_core::ids::EdgeNumber;
use persona_core::liveness::Verdict;
use persona_core::wire::agent::{Register, Rejection, Role};
use persona_core::wire::desired::DesiredState;
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::carried::Carried;
use super::config::EdgeConfig;
use super::contents::Contents;
use super::guardian::{Audience, News};
use super::observe::{Known, ObserveError, Observed};
use super::processor::Processor;
use super::routes::{self, Routes};
use super::surroundings::Surroundings;
use super::tables::{self, EdgePlan, MtuPolicy, Own};
use crate::host;
use crate::manager_link::{self, Link, LinkConfig, StateFile};
use crate::metrics::{self, Snapshot};
use crate::netlink::fair_leaf::FairLeafLook;
use crate::netlink::{self, Netlink, Notices};
use crate::path_mtu::PathMtus;
use crate::probe::Target;
use crate::slow_path::{Fates, Keeper, Role as SlowRole};
use crate::supervisor::{self, Readiness, Supervisor};
use crate::wire::{self, ROTATE_HOURS, WireConfig};

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
    let readiness = Readiness::default();
    let mut edge = Edge::start(config, &readiness, &stop).await?;
    let mut supervisor = Supervisor::from_environment(&readiness);
    let mut interval = tokio::time::interval(PASS_INTERVAL);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            _ = interval.tick() => edge.count(),
            Some((peer, verdict)) = edge.verdicts.recv() => { edge.tell_verdict(peer, verdict); continue }
            () = edge.decided.notified() => { edge.tell_standing(); continue }
            Ok(()) = edge.link.desired.changed() => {}
            Ok(()) = edge.link.snapshots.changed() => {}
            () = edge.changed.notified() => tokio::time::sleep(SETTLE).await,
        }
        edge.pass().await;
        supervisor.turn(supervisor::standing(edge.applied.generation, edge.rejected.as_ref(), &edge.said));
    }
    tracing::info!("stopped; the data path goes on with the last generation");
    Ok(())
}

/// The running edge.
pub(super) struct Edge {
    pub(super) config: EdgeConfig,
    pub(super) own: Own,
    pub(super) netlink: Netlink,
    known: Known,
    path_mtus: PathMtus,
    /// What routers say of the ways to nodes and peers, as last told.
    pub(super) narrowed: BTreeMap<IpAddr, u32>,
    pub(super) surroundings: Surroundings,
    pub(super) routes: Routes,
    /// What was last told of them.
    pub(super) told_routes: routes::Standing,
    pub(super) slow_path: Keeper,
    pub(super) wire: wire::Keeper,
    pub(super) link: Link,
    state_file: StateFile,
    pub(super) applied: DesiredState,
    pub(super) plan: EdgePlan,
    pub(super) rejected: Option<Rejection>,
    changed: Arc<Notify>,
    decided: Arc<Notify>,
    verdict_sender: mpsc::Sender<(EdgeNumber, Verdict)>,
    verdicts: mpsc::Receiver<(EdgeNumber, Verdict)>,
    confirmed: Instant,
    pub(super) silent_nodes: Vec<IpAddr>,
    /// Whether it has been said that rates are held without queues.
    pub(super) is_unqueued: bool,
    /// Whether the kernel has queues in which flows take turns, as far as anybody would use them.
    pub(super) fair_leaf: FairLeafLook,
    pub(super) said: String,
    /// Whole states of the manager that are in force here.
    snapshot_count: u64,
    pub(super) metrics: watch::Sender<Snapshot>,
    pub(super) carried: Carried,
    pub(super) processor: Processor,
    /// None: the operator wants nothing measured.
    contents: Option<Contents>,
}

impl Edge {
    async fn start(config: EdgeConfig, readiness: &Readiness, stop: &CancellationToken) -> anyhow::Result<Self> {
        let netlink = Netlink::open()?;
        let (changed, decided) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        netlink::watch(Arc::clone(&changed), Notices::RoutesAndNeighbours)?;
        let observed = Observed::look(&netlink, &config, Known::default(), &[]).await?;
        let path_mtus = PathMtus::listen(&changed).context("errors of routers cannot be listened for")?;
        let (verdict_sender, verdicts) = mpsc::channel(VERDICT_COUNT_MAX);
        let routes = Routes::start(config.announced_table(), Arc::clone(&decided), stop.clone())?;
        let audience = Audience { changed: Arc::clone(&decided), routes: routes.wanted() };
        let surroundings = Surroundings::start(&config, &observed, audience, &verdict_sender)?;
        let metrics = metrics::start(config.file.metrics, readiness, stop).await?;
        let link = manager_link::start(link_config(&config, &observed), stop)?;
        let bounds = config.content_bounds();
        let contents = bounds.map(|bounds| Contents::start(bounds, link.asker(), link.reporter(), stop));
        let contents = contents.transpose().context("ways to contents cannot be measured")?;
        let state_file = StateFile::in_directory(&config.state_dir);
        let applied = state_file.load().unwrap_or_default();
        let own = Own {
            name: config.name.clone(),
            group: config.group.clone(),
            outside_next_hop: config.outside_next_hop,
            outside_next_hop6: config.outside_next_hop6,
        };
        let (plan, rejected, silent_nodes, said, snapshot_count, is_unqueued) = Default::default();
        let fair_leaf = FairLeafLook::default();
        let (known, confirmed) = (observed.known(), Instant::now());
        let (file, state_dir) = (&config.file, config.state_dir.clone());
        let wire = wire::Keeper::new(WireConfig {
            rotate_hours: file.wireguard_rotate_hours.unwrap_or(ROTATE_HOURS),
            ..WireConfig::edge(file.wireguard, file.wireguard_port, state_dir)
        });
        Ok(Self {
            config,
            own,
            netlink,
            known,
            path_mtus,
            narrowed: BTreeMap::new(),
            surroundings,
            routes,
            told_routes: routes::Standing::default(),
            slow_path: Keeper::new(SlowRole::Edge),
            wire,
            link,
            state_file,
            applied,
            plan,
            rejected,
            changed,
            decided,
            verdict_sender,
            verdicts,
            confirmed,
            silent_nodes,
            is_unqueued,
            fair_leaf,
            said,
            snapshot_count,
            metrics,
            carried: Carried::default(),
            processor: Processor::default(),
            contents,
        })
    }

    /// Looks, makes the newest state true, or keeps the last one true, and reports.
    async fn pass(&mut self) {
        let snapshot_count = *self.link.snapshots.borrow_and_update();
        let newest = self.link.desired.borrow_and_update().clone();
        let states = [&newest, &self.applied];
        let observed = match Observed::look(&self.netlink, &self.config, self.known, &states).await {
            Ok(observed) => Observed { narrowed: self.path_mtus.known(), ..observed },
            Err(error) => return self.lose_sight(&error),
        };
        self.tell_narrowed(&observed.narrowed);
        if let Err(error) = self.follow(&observed) {
            return self.say(&format!("{error:#}"));
        }
        self.link.set_address(observed.address).await;
        // A manager whose store went back asks what is in force before it sends what follows.
        let is_older = newest.generation < self.applied.generation;
        let has_news = newest.generation != Default::default() && newest != self.applied && !is_older;
        if !(has_news && self.take(&newest, &observed).await) {
            let applied = std::mem::take(&mut self.applied);
            let outcome = self.apply(&applied, &observed, MtuPolicy::Lower).await;
            self.applied = applied;
            match outcome {
                Ok(()) => self.said.clear(),
                Err(error) => self.say(&format!("{error:#}")),
            }
        }
        if self.snapshot_count != snapshot_count && self.applied.generation == newest.generation {
            self.snapshot_count = snapshot_count;
            // The guardian's thread lives as long as this value.
            let _ = self.surroundings.guardian.news().send(News::Current);
        }
        self.resolve_next_hops().await;
        if let Some(contents) = &self.contents {
            contents.know(&self.netlink, &observed, &self.applied).await;
        }
        self.tell_state();
    }

    /// Without a device there is no pass; its pin goes with it, and its successor gets one of its own.
    fn lose_sight(&mut self, error: &ObserveError) {
        let trouble = host::error_chain(error);
        if matches!(error, ObserveError::NoDevice { .. }) && self.said != trouble {
            let reaped = tokio::task::block_in_place(|| self.surroundings.dataplane().reap_vanished());
            if let Err(error) = reaped {
                tracing::warn!(error = host::error_chain(&error), "the pin of a device that is gone was not removed");
            }
        }
        self.say(&trouble);
    }

    /// Follows devices that were made anew or have other addresses now, and sees to the slow path's.
    fn follow(&mut self, observed: &Observed) -> anyhow::Result<()> {
        if self.surroundings.is_outdated(observed) {
            let (inside, outside) = (&observed.inside, &observed.outside);
            tracing::warn!(
                inside.name, inside.index, outside.name, outside.index, address = %observed.address,
                "a device or its address is another one; the edge moves to it"
            );
            let audience = Audience { changed: Arc::clone(&self.decided), routes: self.routes.wanted() };
            let start = || Surroundings::start(&self.config, observed, audience, &self.verdict_sender);
            self.surroundings = tokio::task::block_in_place(start)?;
            self.known = observed.known();
            // Whatever a plan leads to has to be said again to the new threads.
            self.plan = EdgePlan::default();
        }
        Ok(())
    }

    fn slow_ifindex(&mut self, observed: &Observed) -> Option<u32> {
        let surroundings = &self.surroundings;
        let open = || surroundings.dataplane().fragment_fates().map(|fates| Box::new(fates) as Box<dyn Fates>);
        // A device made a moment ago is not among the links that were seen.
        let is_up = |index| observed.links.get(&index).is_none_or(|link| link.is_up);
        tokio::task::block_in_place(|| self.slow_path.ensure(open, is_up))
    }

    /// Applies a new state. If that fails it is rejected whole, with the reason.
    async fn take(&mut self, newest: &DesiredState, observed: &Observed) -> bool {
        match self.apply(newest, observed, MtuPolicy::Refuse).await {
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
    async fn apply(&mut self, desired: &DesiredState, observed: &Observed, policy: MtuPolicy) -> anyhow::Result<()> {
        let slow_ifindex = self.slow_ifindex(observed);
        let leaves = self.leaves(desired, observed).await?;
        let wire = &mut self.wire;
        let provide = || wire::provide(wire, desired, observed.address, observed.inside.mtu);
        let wire_ifindex = tokio::task::block_in_place(provide);
        let observed = &Observed { wire_ifindex, leaves, ..observed.clone() };
        let plan = tables::build(desired, &self.own, observed, slow_ifindex, policy)?;
        self.raise_queues(&plan.queues).await?;
        tokio::task::block_in_place(|| self.surroundings.dataplane().apply(&plan.tables))?;
        self.trim_queues(&self.plan.queues, &plan.queues).await?;
        self.tell_unqueued(&plan.queues, observed);
        self.wire.open();
        self.slow_path.set_facts(plan.facts.clone());
        let Surroundings { watcher, prober, hearing, guardian, .. } = &self.surroundings;
        watcher.set_inside(plan.probe, plan.inside_next_hops.clone());
        hearing.set_nodes(plan.probe, plan.tables.nodes.iter().map(|node| node.address).collect());
        let far_ends = plan.tables.nodes.iter().map(|node| node.address);
        let far_ends = far_ends.chain(plan.tables.peers.iter().map(|peer| peer.address)).collect();
        self.path_mtus.follow(observed.address, far_ends);
        let target = |peer: &persona_core::wire::desired::EdgeItem| Target {
            edge: peer.number,
            address: peer.address,
            believed: None,
        };
        prober.set_targets(plan.probe, &plan.peers.values().map(target).collect::<Vec<_>>());
        if plan.situation != self.plan.situation {
            // The guardian's thread lives as long as this value.
            let _ = guardian.news().send(News::Group(Box::new(plan.situation.clone())));
        }
        if plan.is_draining != self.plan.is_draining {
            let message = if plan.is_draining { "being emptied: new flows avoid it" } else { "no longer emptied" };
            tracing::info!(edge.name = %self.own.name, message);
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
        let tables = &self.plan.tables;
        let inside =
            tables.nodes.iter().map(|node| &node.next_hop).chain(tables.peers.iter().map(|peer| &peer.next_hop));
        let all = inside.chain(&tables.outside).chain(&tables.outside6);
        for hop in all.filter(|hop| is_due || hop.destination_mac.is_none()) {
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
}

fn link_config(config: &EdgeConfig, observed: &Observed) -> LinkConfig {
    let register = Register {
        token: None,
        role: Role::Edge,
        name: config.name.to_string(),
        csr: String::new(),
        address: observed.address,
        group: Some(config.group.clone()),
        capabilities: config.file.capabilities.clone(),
        capacity: config.file.capacity.map(Into::into),
        labels: config.file.labels.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    LinkConfig {
        managers: config.managers.clone(),
        join_token: config.join_token.clone(),
        state_dir: config.state_dir.clone(),
        register,
    }
}
