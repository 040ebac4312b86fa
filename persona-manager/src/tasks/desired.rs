//! Desired states of all nodes and edges, computed from a draft, each with the generation that last changed it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use persona_core::document::PoolSpec;
use persona_core::ids::{EdgeName, GroupName, NodeName};
use persona_core::units::Cidr;
use persona_core::wire::agent::Role;
use persona_core::wire::desired::{
    DesiredState, EdgeItem, Item, LeaseItem, LeaseRates, LeaseSpace, NodeItem, PoolItem, ProbeItem, TunnelItem,
};

use super::recovery;
use crate::store::{AgentDetails, AgentId, AgentRecord, Draft, EdgeState, LeaseRecord, PublicationRecord, Snapshot};

/// Edge groups that the subjects of each node may come to use.
pub(super) type Reachable = BTreeMap<NodeName, BTreeSet<GroupName>>;

/// What the desired states of a draft were computed from.
pub(super) struct Basis {
    snapshot: Snapshot,
    probe: ProbeItem,
    reachable: Reachable,
}

impl Basis {
    /// Whether a draft implies the same desired states, and has them.
    fn is_that_of(&self, snapshot: &Snapshot, probe: ProbeItem, reachable: &Reachable) -> bool {
        let (of, now) = (&self.snapshot, snapshot);
        of.incarnation == now.incarnation
            && Arc::ptr_eq(&of.agents, &now.agents)
            && Arc::ptr_eq(&of.subjects, &now.subjects)
            && Arc::ptr_eq(&of.leases, &now.leases)
            && Arc::ptr_eq(&of.documents, &now.documents)
            && Arc::ptr_eq(&of.versions, &now.versions)
            && Arc::ptr_eq(&of.recovery, &now.recovery)
            && Arc::ptr_eq(&of.heard, &now.heard)
            && Arc::ptr_eq(&of.publications, &now.publications)
            && Arc::ptr_eq(&of.desired, &now.desired)
            && self.probe == probe
            && self.reachable == *reachable
    }
}

/// Publishes what every node and edge shall be; a state that is what it was keeps its generation. Nothing is computed anew
/// while nothing has changed that it rests on: most passes change nothing.
pub(super) fn publish_changes(draft: &mut Draft, probe: ProbeItem, reachable: Reachable, basis: &mut Option<Basis>) {
    if basis.as_ref().is_some_and(|basis| basis.is_that_of(draft.state(), probe, &reachable)) {
        return;
    }
    publish(draft, probe, &reachable);
    *basis = Some(Basis { snapshot: draft.state().clone(), probe, reachable });
}

/// Publishes what every node and edge shall be; a state that is what it was keeps its generation.
pub(super) fn publish(draft: &mut Draft, probe: ProbeItem, reachable: &Reachable) {
    let world = World::of(draft.state(), reachable.clone());
    let agents: Vec<AgentId> = draft.state().agents.keys().cloned().collect();
    let items: Vec<_> = agents.iter().map(|id| (id.clone(), items_of(&world, id, probe))).collect();
    let (mut desired, mut last) = (BTreeMap::new(), None);
    for (id, items) in items {
        let state = publish_one(draft, &id, items, &mut last);
        desired.insert(id, state);
    }
    let before = &draft.state().desired;
    let is_same = |(id, state): (&AgentId, &Arc<DesiredState>)| before.get(id).is_some_and(|it| Arc::ptr_eq(it, state));
    if before.len() != desired.len() || !desired.iter().all(is_same) {
        draft.set_desired(desired);
    }
}

/// `last` is the last state that is new, with its digest: edges of one group are mostly told the same, and a digest is over
/// all of it.
fn publish_one(
    draft: &mut Draft,
    id: &AgentId,
    items: BTreeMap<String, Item>,
    last: &mut Option<(Arc<DesiredState>, String)>,
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
        if same.digest() == stored.digest {
            return Arc::new(same);
        }
    }
    let (state, digest) = match last.take() {
        Some(same) if same.0.items == items => same,
        _ => {
            let state = DesiredState { generation: draft.generation(), items, proof: None };
            let digest = state.digest();
            (Arc::new(state), digest)
        }
    };
    draft.put(PublicationRecord { agent: id.clone(), generation: state.generation, digest: digest.clone() });
    *last = Some((state.clone(), digest));
    state
}

/// The draft's records, arranged by who needs them.
struct World {
    /// Ends of encrypted tunnels.
    tunnels: BTreeMap<AgentId, TunnelItem>,
    nodes: BTreeMap<String, NodeItem>,
    reachable: Reachable,
    edges: BTreeMap<GroupName, Vec<EdgeItem>>,
    pools: BTreeMap<GroupName, Vec<PoolItem>>,
    leases_by_node: BTreeMap<NodeName, Vec<LeaseItem>>,
    leases_by_group: BTreeMap<GroupName, Vec<LeaseItem>>,
    subjects: BTreeMap<NodeName, Vec<Item>>,
    shares: BTreeMap<NodeName, Vec<Item>>,
    /// Groups of which at least one edge is up.
    serving_groups: BTreeSet<GroupName>,
    /// Edges that were deleted and forget everything.
    leaving: BTreeSet<String>,
}

impl World {
    fn of(snapshot: &Snapshot, reachable: Reachable) -> Self {
        let mut world = Self {
            tunnels: BTreeMap::new(),
            nodes: BTreeMap::new(),
            reachable,
            edges: BTreeMap::new(),
            pools: pools_of(snapshot),
            leases_by_node: BTreeMap::new(),
            leases_by_group: BTreeMap::new(),
            subjects: BTreeMap::new(),
            shares: BTreeMap::new(),
            serving_groups: serving_groups(snapshot),
            leaving: BTreeSet::new(),
        };
        snapshot.agents.values().for_each(|agent| world.add_agent(agent));
        for lease in snapshot.leases.values().filter(|lease| recovery::is_vouched(snapshot, lease)) {
            world.add_lease(lease, rates_of(snapshot, lease));
        }
        for item in snapshot.subjects.values().filter_map(|subject| subject.item.as_ref()) {
            let subjects = world.subjects.entry(item.subject.node().clone()).or_default();
            subjects.push(Item::Subject(item.clone()));
        }
        world
    }

    /// An agent's end of encrypted tunnels, for those that talk to it.
    fn tunnel(&self, agent: &AgentId) -> Option<Item> {
        self.tunnels.get(agent).cloned().map(Item::Tunnel)
    }

    fn add_agent(&mut self, agent: &AgentRecord) {
        if let Some(end) = agent.tunnel.clone() {
            let (role, name) = (agent.id.role, agent.id.name.clone());
            self.tunnels.insert(agent.id.clone(), TunnelItem { role, name, address: agent.address, end });
        }
        match &agent.details {
            AgentDetails::Node(node) => {
                let Ok(name) = agent.id.name.parse::<NodeName>() else { return };
                let shares = node.shares.iter().map(|(persona, share)| Item::Share(share.item(persona)));
                self.shares.insert(name.clone(), shares.collect());
                self.nodes.insert(agent.id.name.clone(), NodeItem { name, address: agent.address });
            }
            AgentDetails::Edge(edge) => {
                let Ok(name) = agent.id.name.parse::<EdgeName>() else { return };
                let serves_none = !self.serving_groups.contains(&edge.group);
                let serves = edge.state == EdgeState::Up || (edge.is_lifeline && serves_none);
                self.edges.entry(edge.group.clone()).or_default().push(EdgeItem {
                    name,
                    number: edge.number,
                    group: edge.group.clone(),
                    address: agent.address,
                    weight: edge.weight,
                    in_service: serves && !edge.is_leaving,
                    draining: edge.is_emptied(),
                });
                if edge.is_leaving {
                    self.leaving.insert(agent.id.name.clone());
                }
            }
        }
    }

    fn add_lease(&mut self, lease: &LeaseRecord, rates: Option<LeaseRates>) {
        let node = lease.subject.node();
        let Some(holder) = self.nodes.get(node.as_str()) else { return };
        let item = lease_item(lease, holder);
        if lease.state.is_at_edges() {
            // Edges carry a retiring lease like any other; telling them would only make them acknowledge more.
            let item = LeaseItem { retiring: false, rates, ..item.clone() };
            self.leases_by_group.entry(lease.group.clone()).or_default().push(item);
        }
        if lease.state.is_at_node() {
            self.leases_by_node.entry(node.clone()).or_default().push(item);
        }
    }
}

fn serving_groups(snapshot: &Snapshot) -> BTreeSet<GroupName> {
    let edges = snapshot.agents.values().filter_map(|agent| agent.edge());
    edges.filter(|edge| edge.state == EdgeState::Up && !edge.is_leaving).map(|edge| edge.group.clone()).collect()
}

fn pools_of(snapshot: &Snapshot) -> BTreeMap<GroupName, Vec<PoolItem>> {
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

fn lease_item(lease: &LeaseRecord, holder: &NodeItem) -> LeaseItem {
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
fn rates_of(snapshot: &Snapshot, lease: &LeaseRecord) -> Option<LeaseRates> {
    let item = snapshot.subjects.get(&lease.subject)?.item.as_ref()?;
    let (egress_bps, ingress_bps) = (item.qos.egress_most_bps(), item.qos.ingress_most_bps());
    let burst_bytes = item.qos.burst_bytes;
    egress_bps.or(ingress_bps)?;
    let held = !item.qos.enforce_at.is_node();
    let dscp = item.qos.dscp.filter(|_| held);
    Some(LeaseRates { subject_number: item.number, egress_bps, ingress_bps, burst_bytes, held, dscp })
}

fn items_of(world: &World, id: &AgentId, probe: ProbeItem) -> BTreeMap<String, Item> {
    let items = match id.role {
        Role::Node => node_items(world, id),
        Role::Edge => edge_items(world, id),
    };
    items.into_iter().chain([Item::Probe(probe)]).map(|item| (item.key(), item)).collect()
}

fn node_items(world: &World, id: &AgentId) -> Vec<Item> {
    let Ok(node) = id.name.parse::<NodeName>() else { return Vec::new() };
    let leases = world.leases_by_node.get(&node).map_or(&[][..], Vec::as_slice);
    let reachable = world.reachable.get(&node).into_iter().flatten();
    let groups: BTreeSet<&GroupName> = leases.iter().map(|lease| &lease.group).chain(reachable).collect();
    let edges: Vec<&EdgeItem> = groups.into_iter().filter_map(|group| world.edges.get(group)).flatten().collect();
    let subjects = world.subjects.get(&node).into_iter().flatten().cloned();
    let shares = world.shares.get(&node).into_iter().flatten().cloned();
    // A node learns of its edges' ends, never of another node's.
    let needs_tunnel = leases.iter().any(|lease| lease.encrypted);
    let far_ends = edges.iter().filter(|_| needs_tunnel).map(|edge| AgentId::edge(edge.name.as_str()));
    let tunnels: Vec<Item> = far_ends.filter_map(|edge| world.tunnel(&edge)).collect();
    let leases = leases.iter().cloned().map(Item::Lease);
    let subjects = subjects.chain(shares);
    leases.chain(subjects).chain(edges.iter().map(|edge| Item::Edge((*edge).clone()))).chain(tunnels).collect()
}

fn edge_items(world: &World, id: &AgentId) -> Vec<Item> {
    let holds = |edges: &&Vec<EdgeItem>| edges.iter().any(|edge| edge.name.as_str() == id.name);
    // An edge that was deleted carries nothing and answers for nothing.
    let Some(peers) = world.edges.values().find(holds).filter(|_| !world.leaving.contains(&id.name)) else {
        return Vec::new();
    };
    let group = &peers[0].group;
    let pools = world.pools.get(group).into_iter().flatten().cloned().map(Item::Pool);
    let leases = world.leases_by_group.get(group).map_or(&[][..], Vec::as_slice);
    // An edge learns of its peers' ends, and of those of nodes that hold encrypted leases of its group.
    let holders: BTreeSet<&NodeName> = leases.iter().filter(|lease| lease.encrypted).map(|lease| &lease.node).collect();
    let others = peers.iter().map(|peer| AgentId::edge(peer.name.as_str())).filter(|peer| peer != id);
    let far_ends = holders.iter().map(|node| AgentId::node(node)).chain(others.filter(|_| !holders.is_empty()));
    let tunnels: Vec<Item> = far_ends.filter_map(|end| world.tunnel(&end)).collect();
    let leases = leases.iter().cloned().map(Item::Lease);
    let nodes = world.nodes.values().cloned().map(Item::Node);
    pools.chain(leases).chain(nodes).chain(peers.iter().cloned().map(Item::Edge)).chain(tunnels).collect()
}
