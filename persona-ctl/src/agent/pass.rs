//! One pass of the agent: look, plan, apply, read back.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use persona_common::departure::BY_CLASS;
use persona_core::ids::{EdgeNumber, Generation};
use persona_core::liveness::Verdict;
use persona_core::wire::desired::{DesiredState, Item};

use super::budget::MtuPolicy;
use super::cgroup;
use super::changes::{self, Note};
use super::config::AgentConfig;
use super::configure::{self, Configurer};
use super::downward::Demands;
use super::observe::{ObserveError, Observed};
use super::queues::Leaves;
use super::shared_rate::is_low_latency;
use super::slow;
use super::tables::{self, MaglevCache, NodePlan, Refusal};
use crate::dataplane::{DataplaneError, NodeDataplane, adjust_offloads, number_by_wire};
use crate::host::error_chain;
use crate::netlink::fair_leaf::FairLeafLook;
use crate::netlink::{FlowsOf, Netlink, NetlinkError};
use crate::path_mtu::PathMtus;
use crate::privilege;
use crate::probe::{Prober, Target};
use crate::slow_path::{Keeper, Role};
use crate::wire::{self, ROTATE_HOURS, WireConfig};

/// How long an apply waits for edges to show the generation that new leases need.
const GENERATION_WAIT: Duration = Duration::from_millis(150);
const GENERATION_LOOK: Duration = Duration::from_millis(2);

/// Queues that shall be as they were are looked at this often: with hundreds of classes a look is the dearest part of a pass.
const QUEUES_LOOK: Duration = Duration::from_secs(5);

/// While nothing is told, by the manager or the kernel, everything is looked at this often.
const FULL_LOOK: Duration = Duration::from_secs(5);

/// Why a pass could not make a desired state true.
#[derive(Debug, thiserror::Error)]
pub(super) enum PassError {
    /// The kernel could not be looked at.
    #[error(transparent)]
    Observe(#[from] ObserveError),
    /// The state makes no sense here.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Packets cannot be delayed or repeated here.
    #[error(
        "personas of {} delay or repeat packets, and this kernel lacks netem (CONFIG_NET_SCH_NETEM, module sch_netem): load or install it, or leave delay and duplicate out of spec.network.impair; loss and rate need no netem",
        subjects.join(", ")
    )]
    NoNetem {
        /// Whose personas do.
        subjects: Vec<String>,
    },
    /// Departure times are configured and nobody would keep them.
    #[error(
        "queues = \"edt\" is set, and this kernel lacks fq (CONFIG_NET_SCH_FQ, module sch_fq): load or install it, or set queues = \"htb\" or \"auto\""
    )]
    NoFq,
    /// The queues were not taken.
    #[error(transparent)]
    Queues(#[from] NetlinkError),
    /// The programs or maps were not taken.
    #[error(transparent)]
    Dataplane(#[from] DataplaneError),
    /// Probes cannot leave from the node's address.
    #[error("probes cannot leave from {address}")]
    Probe {
        /// Which address.
        address: IpAddr,
        /// Why.
        source: std::io::Error,
    },
}

/// What the agent holds between passes.
pub(super) struct Reconciler {
    pub config: AgentConfig,
    pub netlink: Netlink,
    pub dataplane: Arc<Mutex<NodeDataplane>>,
    pub prober: Prober,
    pub observed: Option<Observed>,
    /// What was applied last, with what it meant.
    pub plan: NodePlan,
    /// What subjects want of totals downwards.
    pub demands: Demands,
    cache: MaglevCache,
    configurer: Configurer,
    has_lost_uplink: bool,
    /// Whether netem has been seen. It is asked for anew until it is there: a module can be loaded at any time.
    has_netem: bool,
    /// Whether `fq` has been seen, likewise.
    has_fq: bool,
    /// Whether the kernel has queues in which flows take turns, as far as anybody would use them.
    fair_leaf: FairLeafLook,
    /// When the queues were last as they shall be.
    queues_seen: Option<Instant>,
    /// The device on which the kernel refused a mix; it will again.
    refuses_mix: Option<u32>,
    /// The generation that the last apply made true, and when. None: it failed, or the kernel was looked at since.
    settled: Option<(Generation, Instant)>,
    pub slow_path: Keeper,
    pub wire: wire::Keeper,
    /// Where it probes from: the tunnel's device and the node's address.
    wire_prober: Option<((u32, IpAddr), Prober)>,
    path_mtus: PathMtus,
}

impl Reconciler {
    pub(super) fn new(
        config: AgentConfig,
        netlink: Netlink,
        dataplane: Arc<Mutex<NodeDataplane>>,
        prober: Prober,
        path_mtus: PathMtus,
    ) -> Self {
        let (observed, plan, cache, configurer, has_lost_uplink, has_netem, has_fq) = Default::default();
        let (fair_leaf, queues_seen, refuses_mix) = Default::default();
        let (slow_path, demands) = (Keeper::new(Role::Node), Demands::default());
        let (file, state_dir) = (&config.file, config.state_dir.clone());
        let wire = wire::Keeper::new(WireConfig {
            rotate_hours: file.wireguard_rotate_hours.unwrap_or(ROTATE_HOURS),
            ..WireConfig::node(file.wireguard, file.wireguard_port, state_dir)
        });
        Self {
            config,
            netlink,
            dataplane,
            prober,
            observed,
            plan,
            demands,
            cache,
            configurer,
            has_lost_uplink,
            has_netem,
            has_fq,
            fair_leaf,
            queues_seen,
            refuses_mix,
            settled: None,
            slow_path,
            wire,
            wire_prober: None,
            path_mtus,
        }
    }

    /// Looks at the kernel anew, and follows an uplink or address that became another. Returns what changed.
    pub(super) async fn look(&mut self, states: &[&DesiredState]) -> Result<Vec<Note>, PassError> {
        self.settled = None;
        let now = Observed::look(&self.netlink, &self.config, states, self.observed.as_ref()).await;
        let now = match now {
            Err(error @ ObserveError::NoUplink { .. }) if !self.has_lost_uplink => {
                self.has_lost_uplink = true;
                self.reap()?;
                return Err(error.into());
            }
            now => now?,
        };
        let now = Observed { narrowed: self.path_mtus.known(), demands: self.demands.clone(), ..now };
        let before = self.observed.as_ref();
        let notes = before.map(|before| changes::between(before, &now, &self.config)).unwrap_or_default();
        let is_other_uplink = before.is_some_and(|before| before.uplink.index != now.uplink.index);
        if is_other_uplink || self.has_lost_uplink {
            tokio::task::block_in_place(|| lock(&self.dataplane).set_uplinks(&[now.uplink.index]))?;
            adjust_offloads(&self.config.bpffs, now.uplink.index, self.config.file.offloads);
            self.has_lost_uplink = false;
        }
        if let (Some(old), Some(new)) = (before.and_then(|before| before.address), now.address)
            && old != new
        {
            let refused = |source| PassError::Probe { address: new, source };
            self.prober.set_source(new).map_err(refused)?;
        }
        if notes.iter().any(|note| matches!(note.event, "workload.vanished" | "workload.replaced")) {
            self.reap()?;
        }
        self.observed = Some(now);
        Ok(notes)
    }

    /// Pins do not outlive their devices.
    fn reap(&self) -> Result<(), DataplaneError> {
        tokio::task::block_in_place(|| lock(&self.dataplane).reap_vanished()).map(drop)
    }

    /// Whether a look and an apply of this generation would find everything as the last ones left it, as long as nobody has told
    /// anything since: together they are most of a pass. Keys of an encrypted tunnel and totals are kept moving, and nobody tells
    /// of control groups.
    pub(super) fn is_settled(&self, generation: Generation) -> bool {
        let is_still = self.plan.tables.wire.ifindex.is_none() && self.plan.shares_down.is_empty();
        let is_recent = |(of, at): (Generation, Instant)| of == generation && at.elapsed() < FULL_LOOK;
        let has_same_groups = |observed: &Observed| observed.cgroups == cgroup::ids_of(self.config.groups());
        is_still && self.settled.is_some_and(is_recent) && self.observed.as_ref().is_some_and(has_same_groups)
    }

    /// Makes `desired` true, given what was seen last. On an error everything stays as it was before. Returns what cannot
    /// be had although the state is in force.
    pub(super) async fn apply(&mut self, desired: &DesiredState, policy: MtuPolicy) -> Result<Vec<Note>, PassError> {
        self.look_for_fair_leaf(desired).await?;
        let Some(mut observed) = self.observed.clone() else { return Ok(Vec::new()) };
        observed.wire_ifindex = self.provide_wire(desired, &observed);
        let mut plan = tables::build(desired, &self.config, &observed, policy, &mut self.cache)?;
        slow::provide(&mut self.slow_path, &mut plan.tables, &self.dataplane, &observed);
        if let Err(error) = self.apply_plan(&plan, &observed).await {
            // The tables are whole or untouched; the queues are put back to what the tables in force name.
            self.raise_queues(&self.plan).await?;
            self.trim_queues(&self.plan).await?;
            return Err(error);
        }
        let mut notes = plan.notes.clone();
        let troubles = self.configurer.provide(&self.netlink, &observed.links, &plan.configured).await;
        notes.extend(troubles.into_iter().map(|trouble| Note::new(trouble.event, trouble.name, trouble.message)));
        notes.extend(self.set_address_selection(&plan).await);
        self.plan = plan;
        // What cannot be had is tried again with the next pass.
        if notes.len() == self.plan.notes.len() {
            self.settled = Some((desired.generation, Instant::now()));
        }
        Ok(notes)
    }

    /// The encrypted tunnel, while the state needs one.
    fn provide_wire(&mut self, desired: &DesiredState, observed: &Observed) -> Option<u32> {
        let address = observed.address?;
        let wire = &mut self.wire;
        tokio::task::block_in_place(|| wire::provide(wire, desired, address, observed.uplink.mtu))
    }

    /// Probes the ways through the tunnel, apart from those beside it.
    fn probe_wire(&mut self, plan: &NodePlan, observed: &Observed) -> Result<(), PassError> {
        let (Some(ifindex), Some(address)) = (observed.wire_ifindex, observed.address) else {
            self.wire_prober = None;
            return Ok(());
        };
        let place = (ifindex, address);
        if self.wire_prober.as_ref().is_none_or(|(known, _)| *known != place) {
            let mut liveness = lock(&self.dataplane).liveness_writer()?;
            let tell = move |edge: EdgeNumber, verdict: Verdict| {
                let Some(number) = number_by_wire(edge) else { return };
                tracing::info!(edge.number = %edge, verdict.alive, "an edge's encrypted tunnel");
                if let Err(error) = liveness.set(number, verdict.alive, verdict.generation) {
                    tracing::error!(edge.number = %edge, error = error_chain(&error), "data path was not told of a tunnel");
                }
            };
            let refused = |source| PassError::Probe { address, source };
            let prober = Prober::start_through(address, ifindex, Box::new(tell)).map_err(refused)?;
            self.wire_prober = Some((place, prober));
        }
        let (_, prober) = self.wire_prober.as_ref().expect("it has just been started");
        let reached = plan.tables.edges.iter().filter(|edge| plan.tables.wire.edges.contains(&edge.address));
        let targets = reached.map(|edge| Target { edge: edge.number, address: edge.address, believed: None });
        prober.set_targets(plan.probe, &targets.collect::<Vec<_>>());
        Ok(())
    }

    async fn apply_plan(&mut self, plan: &NodePlan, observed: &Observed) -> Result<(), PassError> {
        self.require_netem(plan).await?;
        self.require_fq(plan).await?;
        let is_settled =
            self.plan.queues == plan.queues && self.queues_seen.is_some_and(|at| at.elapsed() < QUEUES_LOOK);
        if !is_settled {
            self.queues_seen = None;
            self.provide_queues(plan).await?;
        }
        self.configurer.withdraw(&self.netlink, &observed.links, &plan.configured).await;
        self.wait_for_edges(plan).await;
        tokio::task::block_in_place(|| lock(&self.dataplane).apply(&plan.tables))?;
        self.wire.open();
        if !is_settled {
            self.trim_queues(plan).await?;
            self.queues_seen = Some(Instant::now());
        }
        self.set_targets(plan)?;
        self.probe_wire(plan, observed)?;
        if let Some(own) = observed.address {
            self.path_mtus.follow(own, plan.tables.edges.iter().map(|edge| edge.address).collect());
        }
        Ok(())
    }

    /// `prefer-ipv6`, for the kernel's source selection on the host and for getaddrinfo where a file is configured.
    async fn set_address_selection(&self, plan: &NodePlan) -> Vec<Note> {
        let mut notes = Vec::new();
        let mut note = |about: &dyn std::fmt::Display, error: &dyn std::error::Error| {
            notes.push(Note::new("prefer-ipv6.failed", about, error_chain(error)));
        };
        for (path, prefixes) in &plan.gai_files {
            match privilege::keep_address_policy(path, prefixes) {
                Ok(false) => {}
                Ok(true) => {
                    tracing::info!(path = %path.display(), "policy of getaddrinfo is brought to what personas say")
                }
                Err(error) => note(&path.display(), &error),
            }
        }
        if let Some(prefixes) = &plan.host_prefixes
            && let Err(error) = configure::set_host_labels(&self.netlink, prefixes).await
        {
            note(&"host", &error);
        }
        notes
    }

    /// Nothing is touched for a plan whose queues the kernel does not have.
    async fn require_netem(&mut self, plan: &NodePlan) -> Result<(), PassError> {
        if let Some(ifindex) = self.refuses_mix.filter(|_| plan.queues.is_mixed) {
            return Err(NetlinkError::MixedNetem { ifindex }.into());
        }
        if self.has_netem || plan.queues.delayed.is_empty() {
            return Ok(());
        }
        self.has_netem = self.netlink.has_netem().await?;
        if self.has_netem {
            return Ok(());
        }
        let names = plan.queues.delayed.iter().filter_map(|number| plan.subjects.get(number));
        Err(PassError::NoNetem { subjects: names.map(|subject| subject.to_string()).collect() })
    }

    /// Looked for until it is there, as long as somebody would use it.
    async fn look_for_fair_leaf(&mut self, desired: &DesiredState) -> Result<(), PassError> {
        let Some(observed) = self.observed.as_mut().filter(|observed| observed.leaves == Leaves::Plain) else {
            return Ok(());
        };
        let is_wanted = |item: &Item| matches!(item, Item::Subject(subject) if is_low_latency(subject.qos.dscp));
        if desired.items.values().any(is_wanted) && self.netlink.look_for_fair_leaf(&mut self.fair_leaf).await? {
            observed.leaves = Leaves::Fair;
        }
        Ok(())
    }

    async fn require_fq(&mut self, plan: &NodePlan) -> Result<(), PassError> {
        if self.has_fq || plan.queues.departures.devices.is_empty() {
            return Ok(());
        }
        self.has_fq = self.netlink.has_fq().await?;
        if self.has_fq { Ok(()) } else { Err(PassError::NoFq) }
    }

    /// A queue that has to go may be what one that repeats cannot stand beside: then it goes first.
    async fn provide_queues(&mut self, plan: &NodePlan) -> Result<(), PassError> {
        match self.raise_queues(plan).await {
            Err(PassError::Queues(NetlinkError::MixedNetem { .. })) if !plan.queues.is_mixed => {
                self.trim_queues(plan).await?;
                self.raise_queues(plan).await
            }
            Err(error @ PassError::Queues(NetlinkError::MixedNetem { ifindex })) => {
                self.refuses_mix = Some(ifindex);
                Err(error)
            }
            outcome => outcome,
        }
    }

    /// Queues, classes and departure times come before the programs name them …
    async fn raise_queues(&self, plan: &NodePlan) -> Result<(), PassError> {
        for (ifindex, shaper) in &plan.queues.shapers {
            self.netlink.raise_shaper(*ifindex, shaper).await?;
        }
        let departures = &plan.queues.departures;
        for (ifindex, cell) in &departures.devices {
            let flows = if u32::from(*cell) == BY_CLASS { FlowsOf::Many } else { FlowsOf::OneSubject };
            self.netlink.raise_fair_queue(*ifindex, flows).await?;
        }
        tokio::task::block_in_place(|| lock(&self.dataplane).raise_departures(departures))?;
        Ok(())
    }

    /// … and go after the programs have ceased to.
    async fn trim_queues(&self, plan: &NodePlan) -> Result<(), PassError> {
        let departures = &plan.queues.departures;
        tokio::task::block_in_place(|| lock(&self.dataplane).trim_departures(departures))?;
        for ifindex in self.netlink.fair_queues().await? {
            if !departures.devices.contains_key(&ifindex) {
                self.netlink.remove_fair_queue(ifindex).await?;
            }
        }
        for ifindex in self.netlink.shapers().await?.keys() {
            match plan.queues.shapers.get(ifindex) {
                Some(shaper) => self.netlink.trim_shaper(*ifindex, shaper).await?,
                None => self.netlink.remove_shaper(*ifindex).await?,
            }
        }
        Ok(())
    }

    /// Edges learn of a lease before their node does, but the node knows that only from their next answer. Asking now
    /// saves the first flows of a new lease the rest of a probe interval.
    async fn wait_for_edges(&self, plan: &NodePlan) {
        if !self.has_stale_edge(plan) {
            return;
        }
        let deadline = tokio::time::Instant::now() + GENERATION_WAIT;
        self.prober.probe_soon();
        while self.has_stale_edge(plan) && tokio::time::Instant::now() < deadline {
            tokio::time::sleep(GENERATION_LOOK).await;
        }
    }

    fn has_stale_edge(&self, plan: &NodePlan) -> bool {
        let health = self.prober.health();
        let needed = |number: &EdgeNumber| {
            let group = plan.edges.get(number).map(|edge| &edge.group);
            let leases = plan.tables.leases.iter().filter(|lease| Some(&lease.group) == group);
            leases.map(|lease| lease.generation).max().unwrap_or(Generation::default())
        };
        let is_stale = |(number, health): (&EdgeNumber, &crate::probe::Health)| {
            health.verdict.alive && health.verdict.generation < needed(number)
        };
        health.iter().any(is_stale)
    }

    fn set_targets(&self, plan: &NodePlan) -> Result<(), DataplaneError> {
        let mut targets = Vec::new();
        for entry in &plan.tables.edges {
            let believed = lock(&self.dataplane).edge_liveness(entry.number)?;
            let believed = believed.map(|(alive, generation)| Verdict { alive, generation });
            targets.push(Target { edge: entry.number, address: entry.address, believed });
        }
        self.prober.set_targets(plan.probe, &targets);
        Ok(())
    }
}

/// A panic elsewhere must not stop the data plane from being told of dead edges.
pub(super) fn lock(dataplane: &Mutex<NodeDataplane>) -> MutexGuard<'_, NodeDataplane> {
    dataplane.lock().unwrap_or_else(PoisonError::into_inner)
}
