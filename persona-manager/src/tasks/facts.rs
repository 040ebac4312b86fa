//! What decisions rest on, gathered from a draft and the reports: groups, pools, and which ports are held.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use persona_core::assign::{GroupEdge, GroupFacts, Labels, Ledger, PoolFacts, is_forbidden};
use persona_core::document::PoolSpec;
use persona_core::ids::{EdgeName, GroupName, LeaseId, NodeName, PoolName, SubjectId};
use persona_core::lease::{FreeSpace, Need, Occupancy, PoolSpace};
use persona_core::wire::desired::LeaseSpace;

use super::recovery;
use super::reports::Reports;
use super::standing::ledger_of;
use super::wear::labels_of;
use crate::planning::bound_location_of;
use crate::store::{AgentId, AgentRecord, EdgeDetails, EdgeState, LeaseRecord, Snapshot};

/// What decisions of one pass rest on.
pub(super) struct Facts {
    /// Pools by name.
    pub(super) pools: BTreeMap<PoolName, PoolFacts>,
    /// Their addresses, and what is free of them.
    pub(super) spaces: BTreeMap<PoolName, FreeSpace>,
    /// Ports held by leases in any state.
    pub(super) occupancy: Occupancy,
    /// Leases in any state, by who holds them.
    leases: BTreeMap<SubjectId, Vec<LeaseId>>,
    /// What subjects hold of groups beside leases, and the policies under which that counts.
    pub(super) ledger: Ledger,
    groups: BTreeMap<GroupName, GroupFacts>,
    group_edges: BTreeMap<GroupName, Vec<EdgeName>>,
    nodes_with_tunnel: BTreeSet<NodeName>,
}

impl Facts {
    /// Gathers them.
    pub(super) fn of(snapshot: &Snapshot, reports: &Reports) -> Self {
        let mut occupancy = Occupancy::default();
        let mut leases: BTreeMap<SubjectId, Vec<LeaseId>> = BTreeMap::new();
        for lease in snapshot.leases.values() {
            occupancy.hold(&lease.space);
            leases.entry(lease.subject.clone()).or_default().push(lease.id);
        }
        let mut facts = Self {
            pools: BTreeMap::new(),
            spaces: BTreeMap::new(),
            occupancy,
            leases,
            ledger: ledger_of(snapshot),
            groups: BTreeMap::new(),
            group_edges: BTreeMap::new(),
            nodes_with_tunnel: nodes_with_tunnel(snapshot),
        };
        snapshot.agents.values().for_each(|agent| facts.add_edge(agent, reports));
        for lease in snapshot.leases.values().filter(|lease| lease.state.is_at_edges()) {
            facts.groups.entry(lease.group.clone()).or_default().lease_count += 1;
        }
        facts.add_pools(snapshot);
        facts
    }

    /// The groups as seen from a node, with its paths to them.
    pub(super) fn groups_from(&self, node: &NodeName, reports: &Reports) -> BTreeMap<GroupName, GroupFacts> {
        let mut groups = self.groups.clone();
        if !self.nodes_with_tunnel.contains(node) {
            groups.values_mut().for_each(|group| group.unencrypted.push(AgentId::node(node).to_string()));
        }
        let Some(live) = reports.get(&AgentId::node(node)) else { return groups };
        for (group, edges) in &self.group_edges {
            let heard = edges.iter().filter_map(|edge| live.edges.get(edge)).filter(|(health, _)| health.alive);
            let best = heard.filter(|(health, _)| health.rtt_us.is_some()).min_by_key(|(health, _)| health.rtt_us);
            let facts = groups.entry(group.clone()).or_default();
            (facts.rtt_us, facts.jitter_us) =
                best.map_or((None, None), |(health, _)| (health.rtt_us, health.jitter_us));
        }
        // What a node asks with is damped: decisions rest on that, and on the last probes only where it says nothing.
        for path in live.conditions.iter().flat_map(|conditions| &conditions.paths) {
            if let Some(group) = groups.get_mut(&path.group) {
                (group.rtt_us, group.loss) = (path.rtt_us, Some(path.loss));
            }
        }
        groups
    }

    /// The leases that a subject holds, in any state.
    pub(super) fn leases_of<'a>(
        &self,
        snapshot: &'a Snapshot,
        subject: &SubjectId,
    ) -> impl Iterator<Item = &'a Arc<LeaseRecord>> {
        let ids = self.leases.get(subject).into_iter().flatten();
        ids.filter_map(|id| snapshot.leases.get(id))
    }

    /// Finds room in a pool for a lease, and notes that it is held. None: there is none.
    pub(super) fn take(&mut self, pool: &PoolName, need: Need) -> Option<LeaseSpace> {
        let free = self.spaces.get_mut(pool)?;
        let space = free.take(need, &mut self.occupancy).ok()?;
        if let Some(facts) = self.pools.get_mut(pool) {
            *facts = pool_facts(facts.group.clone(), free);
        }
        Some(space)
    }

    /// Whether the edges of a group can hold one lease more.
    pub(super) fn has_lease_room(&self, group: &GroupName) -> bool {
        self.groups.get(group).and_then(GroupFacts::lease_room).is_none_or(|room| room > 0)
    }

    /// The labels that are bound to a subject, where there are policies that may look at them.
    pub(super) fn labels_of(&self, snapshot: &Snapshot, subject: &SubjectId) -> Labels {
        if self.ledger.has_policies() { labels_of(snapshot, subject).bound } else { Labels::new() }
    }

    /// Whether a policy forbids a group to a subject with these labels.
    pub(super) fn forbids(&self, labels: &Labels, group: &GroupName) -> bool {
        self.groups.get(group).is_some_and(|facts| is_forbidden(&self.ledger, labels, group, facts))
    }

    /// Notes a granted lease.
    pub(super) fn hold(&mut self, lease: &LeaseRecord) {
        self.leases.entry(lease.subject.clone()).or_default().push(lease.id);
        self.groups.entry(lease.group.clone()).or_default().lease_count += 1;
    }

    fn add_edge(&mut self, agent: &AgentRecord, reports: &Reports) {
        let Some(EdgeDetails { group, capacity, state, reason, is_leaving, maintenance, .. }) = agent.edge() else {
            return;
        };
        let Ok(name) = agent.id.name.parse::<EdgeName>() else { return };
        let facts = self.groups.entry(group.clone()).or_default();
        // Every edge of a group holds all its leases, also one that comes back; the smallest one bounds.
        let lease_count =
            capacity.as_ref().map(|it| u64::from(it.lease_count)).filter(|count| *count > 0 && !is_leaving);
        let smaller = |count: &u64| facts.lease_capacity.as_ref().is_none_or(|(least, _)| count < least);
        if let Some(count) = lease_count.filter(smaller) {
            facts.lease_capacity = Some((count, name.clone()));
        }
        if !is_leaving {
            let country = bound_location_of(agent).map(|location| location.country);
            let (labels, capabilities) = (agent.bound_labels.clone(), agent.bound_capabilities());
            facts.edges.push(Arc::new(GroupEdge { name: name.clone(), labels, capabilities, country }));
        }
        if let Some(maintenance) = maintenance {
            let why = maintenance.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
            facts.not_serving.push((name, format!("it is in maintenance{why}")));
            return;
        }
        if *state != EdgeState::Up || *is_leaving {
            facts.not_serving.push((name, reason.clone()));
            return;
        }
        // Traffic is shared.
        match capacity {
            Some(capacity) => {
                let bits = facts.bits_per_sec_capacity.unwrap_or(0).saturating_add(capacity.bits_per_sec);
                facts.bits_per_sec_capacity = Some(bits);
            }
            None => facts.unstated_count += 1,
        }
        facts.bits_per_sec += reports.get(&agent.id).map_or(0, |live| live.bits_per_sec);
        if agent.tunnel.is_none() {
            facts.unencrypted.push(agent.id.to_string());
        }
        facts.serving.push(name.clone());
        self.group_edges.entry(group.clone()).or_default().push(name);
    }

    fn add_pools(&mut self, snapshot: &Snapshot) {
        for pool in snapshot.pools() {
            let space = FreeSpace::new(space_of(&pool.spec), &self.occupancy);
            let mut facts = pool_facts(pool.spec.group.clone(), &space);
            if !recovery::is_open(snapshot, &pool.spec.group) {
                (facts.best_free, facts.free_addresses, facts.free_prefixes) = (0, 0, 0);
            }
            self.pools.insert(pool.metadata.name.clone(), facts);
            self.spaces.insert(pool.metadata.name.clone(), space);
        }
    }
}

fn nodes_with_tunnel(snapshot: &Snapshot) -> BTreeSet<NodeName> {
    let nodes = snapshot.agents.values().filter(|agent| agent.node().is_some() && agent.tunnel.is_some());
    nodes.filter_map(|agent| agent.id.name.parse().ok()).collect()
}

/// The addresses of a pool and how they are cut.
pub(crate) fn space_of(pool: &PoolSpec) -> PoolSpace {
    let mut addresses = pool.addresses();
    addresses.sort_unstable();
    addresses.dedup();
    PoolSpace { addresses, block_bits: pool.block_bits(), prefixes: pool.prefixes() }
}

fn pool_facts(group: GroupName, free: &FreeSpace) -> PoolFacts {
    let space = free.space();
    PoolFacts {
        group,
        block_bits: space.block_bits,
        best_free: free.best_free(),
        block_count: space.block_count(),
        free_addresses: free.free_address_count(),
        address_count: space.addresses.len() as u32,
        free_prefixes: free.free_prefix_count(),
        prefix_count: space.prefix_count(),
    }
}
