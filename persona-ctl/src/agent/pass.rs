//! One pass of the agent: look, plan, apply, read back.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use persona_core::ids::{EdgeNumber, Generation};
use persona_core::liveness::Verdict;
use persona_core::wire::desired::DesiredState;

use super::config::AgentConfig;
use super::observe::{ObserveError, Observed};
use super::tables::{self, MaglevCache, NodePlan, Refusal};
use crate::dataplane::{DataplaneError, NodeDataplane};
use crate::netlink::{Netlink, NetlinkError};
use crate::probe::{Prober, Target};

/// How long an apply waits for edges to show the generation that new leases need.
const GENERATION_WAIT: Duration = Duration::from_millis(150);
const GENERATION_LOOK: Duration = Duration::from_millis(2);

/// Why a pass could not make a desired state true.
#[derive(Debug, thiserror::Error)]
pub(super) enum PassError {
    /// The kernel could not be looked at.
    #[error(transparent)]
    Observe(#[from] ObserveError),
    /// The state makes no sense here.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The queues were not taken.
    #[error(transparent)]
    Queues(#[from] NetlinkError),
    /// The programs or maps were not taken.
    #[error(transparent)]
    Dataplane(#[from] DataplaneError),
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
    cache: MaglevCache,
}

impl Reconciler {
    pub(super) fn new(
        config: AgentConfig,
        netlink: Netlink,
        dataplane: Arc<Mutex<NodeDataplane>>,
        prober: Prober,
    ) -> Self {
        let (observed, plan, cache) = Default::default();
        Self { config, netlink, dataplane, prober, observed, plan, cache }
    }

    /// Looks at the kernel anew.
    pub(super) async fn look(&mut self, states: &[&DesiredState]) -> Result<&Observed, ObserveError> {
        let observed = Observed::look(&self.netlink, &self.config, states, self.observed.as_ref()).await?;
        Ok(self.observed.insert(observed))
    }

    /// Makes `desired` true, given what was seen last. On an error everything stays as it was before.
    pub(super) async fn apply(&mut self, desired: &DesiredState) -> Result<(), PassError> {
        let Some(observed) = &self.observed else { return Ok(()) };
        let plan = tables::build(desired, &self.config, observed, &mut self.cache)?;
        if let Err(error) = self.apply_plan(&plan).await {
            // The tables are whole or untouched; the queues are put back to what the tables in force name.
            self.raise_queues(&self.plan).await?;
            self.trim_queues(&self.plan).await?;
            return Err(error);
        }
        self.plan = plan;
        Ok(())
    }

    async fn apply_plan(&self, plan: &NodePlan) -> Result<(), PassError> {
        self.raise_queues(plan).await?;
        self.wait_for_edges(plan).await;
        tokio::task::block_in_place(|| lock(&self.dataplane).apply(&plan.tables))?;
        self.trim_queues(plan).await?;
        self.set_targets(plan)?;
        Ok(())
    }

    /// Queues and classes come before the programs name them …
    async fn raise_queues(&self, plan: &NodePlan) -> Result<(), NetlinkError> {
        for (ifindex, shaper) in &plan.queues.shapers {
            self.netlink.raise_shaper(*ifindex, shaper).await?;
        }
        Ok(())
    }

    /// … and go after the programs have ceased to.
    async fn trim_queues(&self, plan: &NodePlan) -> Result<(), NetlinkError> {
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
            targets.push(Target { edge: entry.number, address: entry.address.into(), believed });
        }
        self.prober.set_targets(plan.probe, &targets);
        Ok(())
    }

    /// Which workloads are attached, for comparison between passes.
    pub(super) fn attached(&self) -> BTreeMap<String, u32> {
        let attached = self.observed.iter().flat_map(|observed| &observed.attached);
        attached.map(|(name, ifindex)| (name.to_string(), *ifindex)).collect()
    }
}

/// A panic elsewhere must not stop the data plane from being told of dead edges.
pub(super) fn lock(dataplane: &Mutex<NodeDataplane>) -> MutexGuard<'_, NodeDataplane> {
    dataplane.lock().unwrap_or_else(PoisonError::into_inner)
}
