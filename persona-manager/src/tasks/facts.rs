//! What decisions rest on, gathered from a draft and the reports: groups, pools, and which ports are held.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

use persona_common::maps::BLOCKS_PER_LEASE_MAX;
use persona_core::assign::{GroupEdge, GroupFacts, Labels, Ledger, PoolFacts, is_forbidden};
use persona_core::document::{PoolDocument, PoolSpec};
use persona_core::ids::{EdgeName, GroupName, NodeName, PoolName, SubjectId};
use persona_core::lease::{FreeSpace, Need, Occupancy, PoolSpace};
use persona_core::wire::desired::LeaseSpace;

use super::recovery;
use super::reports::Reports;
use super::standing::ledger_of;
use super::wear::ComposedBefore;
use super::wear::labels_of;
use crate::planning::{bound_location_of, place_of};
use crate::store::{AgentId, AgentRecord, DocumentRecord, EdgeDetails, EdgeState, LeaseRecord, Records, Snapshot};

/// What decisions of one pass rest on. It is kept from pass to pass and follows what changed.
#[derive(Default)]
pub(super) struct Facts {
    /// Pools by name.
    pub(super) pools: BTreeMap<PoolName, PoolFacts>,
    /// Their addresses, and what is free of them.
    pub(super) spaces: BTreeMap<PoolName, FreeSpace>,
    /// Ports held by leases in any state.
    pub(super) occupancy: Occupancy,
    /// How many leases the edges of each group hold.
    lease_counts: BTreeMap<GroupName, u64>,
    /// What subjects hold of groups beside leases, and the policies under which that counts.
    pub(super) ledger: Ledger,
    /// What layers came to before.
    pub(super) composed: ComposedBefore,
    groups: BTreeMap<GroupName, GroupFacts>,
    group_edges: BTreeMap<GroupName, Vec<EdgeName>>,
    /// The groups as seen from the node that was asked for last.
    seen_from: SeenFrom,
    nodes_with_tunnel: BTreeSet<NodeName>,
    /// The agents of which these were found.
    tunnels: Option<Records<AgentRecord>>,
    /// The leases that were counted, and those that were granted since.
    counted: Records<LeaseRecord>,
    granted: Vec<LeaseRecord>,
    /// The documents that pools were read from.
    documents: Option<Records<DocumentRecord>>,
}

/// A node, and the groups as seen from it.
type SeenFrom = RefCell<Option<(NodeName, Arc<BTreeMap<GroupName, GroupFacts>>)>>;

/// What decisions rest on, without what wavers: load, and room of which there is enough for anybody.
#[derive(Debug, PartialEq)]
pub(super) struct Firm {
    groups: BTreeMap<GroupName, GroupFacts>,
    pools: BTreeMap<PoolName, PoolFacts>,
}

impl Facts {
    /// Gathers them.
    pub(super) fn of(snapshot: &Snapshot, reports: &Reports) -> Self {
        let mut facts = Self::default();
        facts.follow(snapshot, reports);
        facts
    }

    /// Brings them to what a state and the reports say, whatever state they are of.
    pub(super) fn follow(&mut self, snapshot: &Snapshot, reports: &Reports) {
        let is_same = self.documents.as_ref().is_some_and(|known| known.is_same(&snapshot.documents));
        let touched = self.follow_leases(snapshot);
        match is_same {
            true => self.recount(&touched),
            false => self.read_pools(snapshot),
        }
        self.pools = self.pool_facts(snapshot);
        self.ledger = ledger_of(snapshot);
        if !self.tunnels.as_ref().is_some_and(|known| known.is_same(&snapshot.agents)) {
            self.nodes_with_tunnel = nodes_with_tunnel(snapshot);
            self.tunnels = Some(snapshot.agents.clone());
        }
        (self.groups, self.group_edges, self.seen_from) = Default::default();
        snapshot.edges().for_each(|agent| self.add_edge(agent, reports));
        for (group, count) in &self.lease_counts {
            self.groups.entry(group.clone()).or_default().lease_count = *count;
        }
    }

    /// Counts leases that came, went or changed. Returns of what space there is more or less.
    fn follow_leases(&mut self, snapshot: &Snapshot) -> Vec<LeaseSpace> {
        let mut touched = Vec::new();
        for lease in std::mem::take(&mut self.granted) {
            self.discount(&lease);
            touched.push(lease.space);
        }
        let counted = std::mem::replace(&mut self.counted, snapshot.leases.clone());
        for change in snapshot.leases.changes_since(&counted) {
            if let Some(lease) = change.before {
                self.discount(lease);
            }
            if let Some(lease) = change.after {
                self.count(lease);
            }
            let is_space_same = |(one, other): (&Arc<LeaseRecord>, &Arc<LeaseRecord>)| one.space == other.space;
            if !change.before.zip(change.after).is_some_and(is_space_same) {
                touched.extend(change.before.into_iter().chain(change.after).map(|lease| lease.space.clone()));
            }
        }
        touched
    }

    fn count(&mut self, lease: &LeaseRecord) {
        self.occupancy.hold(&lease.space);
        if lease.state.is_at_edges() {
            *self.lease_counts.entry(lease.group.clone()).or_default() += 1;
        }
    }

    fn discount(&mut self, lease: &LeaseRecord) {
        self.occupancy.free(&lease.space);
        if let Some(count) = self.lease_counts.get_mut(&lease.group).filter(|_| lease.state.is_at_edges()) {
            *count -= 1;
        }
    }

    fn recount(&mut self, touched: &[LeaseSpace]) {
        let addresses: BTreeSet<Ipv4Addr> = touched.iter().filter_map(LeaseSpace::address).collect();
        let has_prefixes = touched.iter().any(|space| space.prefix().is_some());
        for space in self.spaces.values_mut() {
            addresses.iter().for_each(|address| space.recount(*address, &self.occupancy));
            if has_prefixes {
                space.recount_prefixes(&self.occupancy);
            }
        }
    }

    fn read_pools(&mut self, snapshot: &Snapshot) {
        let space = |pool: &PoolDocument| FreeSpace::new(space_of(&pool.spec), &self.occupancy);
        self.spaces = snapshot.pools().map(|pool| (pool.metadata.name.clone(), space(pool))).collect();
        self.documents = Some(snapshot.documents.clone());
    }

    /// What of this everybody's decision rests on.
    pub(super) fn firm(&self) -> Firm {
        let group = |group: &GroupFacts| {
            // Nobody needs room for more leases at once than two, one for each address family.
            let lease_count = group
                .lease_capacity
                .as_ref()
                .map_or(0, |(count, _)| count.saturating_sub(group.lease_room().unwrap_or(0).min(2)));
            GroupFacts { lease_count, bits_per_sec: 0, ..group.clone() }
        };
        let pool = |pool: &PoolFacts| PoolFacts {
            best_free: pool.best_free.min(BLOCKS_PER_LEASE_MAX as u32),
            free_addresses: pool.free_addresses.min(1),
            free_prefixes: pool.free_prefixes.min(1),
            ..pool.clone()
        };
        Firm {
            groups: self.groups.iter().map(|(name, it)| (name.clone(), group(it))).collect(),
            pools: self.pools.iter().map(|(name, it)| (name.clone(), pool(it))).collect(),
        }
    }

    /// The groups as seen from a node, with its paths to them. Subjects of one node are mostly decided one after the other.
    pub(super) fn groups_from(&self, node: &NodeName, reports: &Reports) -> Arc<BTreeMap<GroupName, GroupFacts>> {
        let mut last = self.seen_from.borrow_mut();
        if let Some((of, groups)) = last.as_ref()
            && of == node
        {
            return Arc::clone(groups);
        }
        let groups = Arc::new(self.find_groups_from(node, reports));
        *last = Some((node.clone(), Arc::clone(&groups)));
        groups
    }

    fn find_groups_from(&self, node: &NodeName, reports: &Reports) -> BTreeMap<GroupName, GroupFacts> {
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
        self.count(lease);
        self.granted.push(lease.clone());
        self.groups.entry(lease.group.clone()).or_default().lease_count += 1;
        if let Some((_, groups)) = self.seen_from.get_mut() {
            Arc::make_mut(groups).entry(lease.group.clone()).or_default().lease_count += 1;
        }
    }

    fn add_edge(&mut self, agent: &AgentRecord, reports: &Reports) {
        let Some(EdgeDetails { group, capacity, state, reason, is_leaving, maintenance, content_rtt_us, .. }) =
            agent.edge()
        else {
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
        for (source, us) in content_rtt_us {
            let least = facts.content_rtt_us.entry(source.clone()).or_insert(*us);
            *least = (*least).min(*us);
        }
        facts.places.extend(place_of(agent));
        facts.serving.push(name.clone());
        self.group_edges.entry(group.clone()).or_default().push(name);
    }

    fn pool_facts(&self, snapshot: &Snapshot) -> BTreeMap<PoolName, PoolFacts> {
        let facts = |pool: &PoolDocument| {
            let mut facts = pool_facts(pool.spec.group.clone(), self.spaces.get(&pool.metadata.name)?);
            if !recovery::is_open(snapshot, &pool.spec.group) {
                (facts.best_free, facts.free_addresses, facts.free_prefixes) = (0, 0, 0);
            }
            Some((pool.metadata.name.clone(), facts))
        };
        snapshot.pools().filter_map(facts).collect()
    }
}

fn nodes_with_tunnel(snapshot: &Snapshot) -> BTreeSet<NodeName> {
    let nodes = snapshot.with_tunnels().filter(|agent| agent.node().is_some());
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
