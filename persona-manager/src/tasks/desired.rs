//! Desired states of nodes and edges, computed from a draft, each with the generation that last changed it.
//!
//! What states are made of is kept from pass to pass ([`World`]), so that those alone are made anew whose items changed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use persona_core::document::PoolSpec;
use persona_core::ids::{GroupName, NodeName};
use persona_core::units::Cidr;
use persona_core::wire::desired::{
    DesiredState, ItemMap, LeaseItem, LeaseRates, LeaseSpace, NodeItem, PoolItem, ProbeItem,
};

use super::desired_world::World;
use crate::store::{AgentId, Draft, EdgeState, LeaseRecord, PublicationRecord, Snapshot};

/// Edge groups that the subjects of each node may come to use.
pub(super) type Reachable = BTreeMap<NodeName, BTreeSet<GroupName>>;

/// What desired states rest on beside the store.
pub(super) struct Renewed<'a> {
    /// How to probe.
    pub(super) probe: ProbeItem,
    /// Nodes whose subjects were decided anew. None: all.
    pub(super) nodes: Option<BTreeSet<NodeName>>,
    /// Nodes of which some subject was never decided here: their states stay as they are until that is done.
    pub(super) undecided: &'a BTreeSet<AgentId>,
    /// The groups that some nodes may come to use, or all.
    pub(super) reachable: &'a dyn Fn(Option<&BTreeSet<NodeName>>) -> Reachable,
}

/// What the desired states of a draft were computed from.
pub(super) struct Basis {
    snapshot: Snapshot,
    world: World,
    /// Nodes whose states are to be made once their subjects are decided.
    owed: BTreeSet<AgentId>,
}

impl Basis {
    /// Whether single changes lead from it to a state, which has what was published from it.
    fn is_ground_of(&self, snapshot: &Snapshot) -> bool {
        let (of, now) = (&self.snapshot, snapshot);
        of.incarnation == now.incarnation
            && of.recovery.is_same(&now.recovery)
            && of.heard.is_same(&now.heard)
            && of.publications.is_same(&now.publications)
            && of.desired.is_same(&now.desired)
    }
}

/// States that may differ from what is published.
pub(super) struct Compared {
    world: World,
    /// Those of them that were made anew.
    states: BTreeMap<AgentId, ItemMap>,
    /// Whether these are all, but for those that are owed.
    is_whole: bool,
    owed: BTreeSet<AgentId>,
}

/// Makes those states anew that may differ from what is published.
pub(super) fn compare(snapshot: &Snapshot, renewed: &Renewed<'_>, basis: Option<Basis>) -> Compared {
    let is_undecided = |id: &AgentId| renewed.undecided.contains(id);
    if let Some(mut basis) = basis.filter(|basis| basis.is_ground_of(snapshot) && basis.world.probe() == renewed.probe)
        && let Some(affected) = basis.world.follow(&basis.snapshot, snapshot, renewed)
    {
        let (world, affected) = (basis.world, affected.into_iter().chain(basis.owed));
        let (owed, ready): (BTreeSet<_>, BTreeSet<_>) = affected.partition(is_undecided);
        let states = ready.into_iter().map(|id| (world.items_of(&id), id)).map(|(items, id)| (id, items)).collect();
        return Compared { world, states, is_whole: false, owed };
    }
    let world = World::of(snapshot, renewed.probe, (renewed.reachable)(None));
    let (owed, ready): (BTreeSet<_>, BTreeSet<_>) = snapshot.agents.keys().cloned().partition(is_undecided);
    let states = ready.into_iter().map(|id| (world.items_of(&id), id)).map(|(items, id)| (id, items)).collect();
    Compared { world, states, is_whole: true, owed }
}

impl Compared {
    /// Publishes what differs; a state that is what it was keeps its generation.
    pub(super) fn write(self, draft: &mut Draft) -> Basis {
        let (mut last, mut written) = (None, BTreeMap::new());
        for (id, items) in self.states {
            let state = publish_one(draft, &id, items, &mut last);
            written.insert(id, state);
        }
        let before = &draft.state().desired;
        if self.is_whole {
            let as_before = self.owed.iter().filter_map(|id| Some((id.clone(), before.get(id)?.clone())));
            written.extend(as_before);
        }
        let is_same =
            |(id, state): &(&AgentId, &Arc<DesiredState>)| before.get(*id).is_some_and(|it| Arc::ptr_eq(it, state));
        let are_same = written.iter().all(|pair| is_same(&pair));
        match self.is_whole {
            _ if are_same && (!self.is_whole || before.len() == written.len()) => {}
            true => draft.set_desired(written),
            false => draft.replace_desired(written),
        }
        Basis { snapshot: draft.state().clone(), world: self.world, owed: self.owed }
    }
}

/// Publishes what every node and edge shall be; a state that is what it was keeps its generation.
pub(super) fn publish(draft: &mut Draft, probe: ProbeItem, reachable: Reachable) {
    let renewed = Renewed { probe, nodes: None, undecided: &BTreeSet::new(), reachable: &|_| reachable.clone() };
    compare(draft.state(), &renewed, None).write(draft);
}

/// `last` is the last state that is new: edges of one group are mostly told the same.
fn publish_one(
    draft: &mut Draft,
    id: &AgentId,
    items: ItemMap,
    last: &mut Option<Arc<DesiredState>>,
) -> Arc<DesiredState> {
    if let Some(before) = draft.state().desired.get(id)
        && before.generation.incarnation() == draft.state().incarnation
        && before.items == items
    {
        return before.clone();
    }
    // After a restart nothing is published yet: the stored digest tells whether the state is still the same.
    if let Some(stored) = draft.state().publications.get(id)
        && stored.generation.incarnation() == draft.state().incarnation
    {
        let same = DesiredState { generation: stored.generation, items: items.clone(), proof: None };
        if same.has_digest(&stored.digest) {
            return Arc::new(same);
        }
    }
    let state = match last.take() {
        Some(same) if same.items == items => same,
        _ => Arc::new(DesiredState { generation: draft.generation(), items, proof: None }),
    };
    let (generation, digest) = (state.generation, state.digest());
    draft.put(PublicationRecord { agent: id.clone(), generation, digest });
    *last = Some(state.clone());
    state
}

/// Groups of which an edge serves.
pub(super) fn serving_groups(snapshot: &Snapshot) -> BTreeSet<GroupName> {
    let edges = snapshot.edges().filter_map(|agent| agent.edge());
    edges.filter(|edge| edge.state == EdgeState::Up && !edge.is_leaving).map(|edge| edge.group.clone()).collect()
}

/// The pools that each group carries.
pub(super) fn pools_of(snapshot: &Snapshot) -> BTreeMap<GroupName, Vec<PoolItem>> {
    let mut pools: BTreeMap<GroupName, Vec<PoolItem>> = BTreeMap::new();
    for pool in snapshot.pools() {
        let name = &pool.metadata.name;
        // What the pool lost is carried as long as somebody holds a lease of it.
        let held = snapshot.leases.values().filter(|lease| lease.pool == *name && lease.state.is_at_edges());
        let held: Vec<&LeaseSpace> = held.map(|lease| &lease.space).collect();
        let held_addresses = held.iter().filter_map(|space| space.address());
        let addresses: BTreeSet<_> = pool.spec.addresses().into_iter().chain(held_addresses).collect();
        let item = PoolItem {
            name: name.clone(),
            addresses: addresses.into_iter().collect(),
            block_bits: pool.spec.block_bits(),
            prefixes: prefixes_of(&pool.spec, &held),
            next_hop6: pool.spec.next_hop6,
        };
        pools.entry(pool.spec.group.clone()).or_default().push(item);
    }
    pools
}

fn prefixes_of(pool: &PoolSpec, held: &[&LeaseSpace]) -> Vec<Cidr> {
    let mut prefixes = pool.prefixes();
    for prefix in held.iter().filter(|space| space.prefix().is_some()) {
        let prefix: Cidr = prefix.to_string().parse().expect("a leased prefix is written as a range");
        if !prefixes.iter().any(|known| known.overlaps(&prefix)) {
            prefixes.push(prefix);
        }
    }
    prefixes
}

/// A lease, as its node is told.
pub(super) fn lease_item(lease: &LeaseRecord, holder: &NodeItem) -> LeaseItem {
    LeaseItem {
        id: lease.id,
        subject: lease.subject.clone(),
        node: holder.name.clone(),
        node_address: holder.address,
        vni: lease.vni,
        group: lease.group.clone(),
        pool: lease.pool.clone(),
        space: lease.space.clone(),
        configured: lease.configured,
        encrypted: lease.encrypted,
        mtu: lease.mtu,
        generation: lease.generation,
        retiring: matches!(lease.state, persona_core::lease::LeaseState::Retiring { .. }),
        rates: None,
    }
}

/// What edges hold a lease's holder to: the rates that its node was told, whichever persona the lease is under.
pub(super) fn rates_of(snapshot: &Snapshot, lease: &LeaseRecord) -> Option<LeaseRates> {
    let item = snapshot.subjects.get(&lease.subject)?.item.as_ref()?;
    let (egress_bps, ingress_bps) = (item.qos.egress_most_bps(), item.qos.ingress_most_bps());
    let burst_bytes = item.qos.burst_bytes;
    egress_bps.or(ingress_bps)?;
    let held = !item.qos.enforce_at.is_node();
    let dscp = item.qos.dscp.filter(|_| held);
    Some(LeaseRates { subject_number: item.number, egress_bps, ingress_bps, burst_bytes, held, dscp })
}
