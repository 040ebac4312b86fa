//! What desired states are made of, arranged by who needs it, and kept up by what changes.

use std::collections::{BTreeMap, BTreeSet};

use persona_core::ids::{EdgeName, GroupName, LeaseId, NodeName, PoolName, SubjectId};
use persona_core::lease::PoolSpace;
use persona_core::wire::agent::Role;
use persona_core::wire::desired::{EdgeItem, Item, ItemMap, LeaseItem, NodeItem, ProbeItem, TunnelItem};

use super::desired::{Reachable, Renewed, lease_item, pools_of, rates_of, serving_groups};
use super::facts::space_of;
use super::recovery;
use crate::store::{AgentDetails, AgentId, AgentRecord, EdgeDetails, EdgeState, LeaseRecord, Snapshot};

/// What desired states are made of.
pub(super) struct World {
    probe: ProbeItem,
    /// Ends of encrypted tunnels.
    tunnels: BTreeMap<AgentId, TunnelItem>,
    reachable: Reachable,
    nodes: BTreeMap<NodeName, Node>,
    groups: BTreeMap<GroupName, Group>,
    spaces: BTreeMap<PoolName, PoolSpace>,
    /// Leases that an edge or a node is told of, by who holds them.
    leases: BTreeMap<SubjectId, BTreeSet<LeaseId>>,
    /// Edges that were deleted and forget everything.
    leaving: BTreeSet<String>,
}

/// What one node is told.
struct Node {
    item: NodeItem,
    shares: Vec<Item>,
    leases: BTreeMap<LeaseId, LeaseItem>,
    subjects: BTreeMap<SubjectId, Item>,
}

/// What the edges of one group are told.
#[derive(Default)]
struct Group {
    edges: Vec<EdgeItem>,
    /// What all of them are told alike.
    items: ItemMap,
    /// Who holds its encrypted leases.
    encrypted: BTreeMap<LeaseId, NodeName>,
}

impl World {
    /// All of a state's.
    pub(super) fn of(snapshot: &Snapshot, probe: ProbeItem, reachable: Reachable) -> Self {
        let spaces = snapshot.pools().map(|pool| (pool.metadata.name.clone(), space_of(&pool.spec))).collect();
        let (tunnels, nodes, groups, leases, leaving) = Default::default();
        let mut world = Self { probe, tunnels, reachable, nodes, groups, spaces, leases, leaving };
        let serving = serving_groups(snapshot);
        snapshot.agents.values().for_each(|agent| world.add_agent(agent, &serving));
        for (group, pools) in pools_of(snapshot) {
            let Some(group) = world.groups.get_mut(&group) else { continue };
            pools.into_iter().for_each(|pool| group.items.insert(Item::Pool(pool)));
        }
        for group in world.groups.values_mut() {
            group.items.insert(Item::Probe(probe));
            world.nodes.values().for_each(|node| group.items.insert(Item::Node(node.item.clone())));
            group.edges.iter().for_each(|edge| group.items.insert(Item::Edge(edge.clone())));
        }
        for item in snapshot.subjects.values().filter_map(|record| record.item.as_ref()) {
            if let Some(node) = world.nodes.get_mut(item.subject.node()) {
                node.subjects.insert(item.subject.clone(), Item::Subject(item.clone()));
            }
        }
        snapshot.leases.values().for_each(|lease| world.put_lease(snapshot, lease));
        world
    }

    /// How to probe.
    pub(super) fn probe(&self) -> ProbeItem {
        self.probe
    }

    /// Takes in what leads from one state to another. Returns whose items may differ; None: all must be made anew.
    pub(super) fn follow(
        &mut self,
        before: &Snapshot,
        now: &Snapshot,
        renewed: &Renewed<'_>,
    ) -> Option<BTreeSet<AgentId>> {
        let mut affected = Affected::default();
        self.follow_agents(before, now, &mut affected)?;
        self.follow_subjects(before, now, &mut affected);
        self.follow_leases(before, now, &mut affected)?;
        for (node, groups) in (renewed.reachable)(renewed.nodes.as_ref()) {
            if self.reachable.get(&node) != Some(&groups) {
                affected.nodes.insert(node.clone());
                self.reachable.insert(node, groups);
            }
        }
        let nodes = affected.nodes.iter().filter(|node| self.nodes.contains_key(*node)).map(AgentId::node);
        let edges = affected.groups.iter().filter_map(|group| self.groups.get(group)).flat_map(|group| &group.edges);
        Some(nodes.chain(edges.map(|edge| AgentId::edge(edge.name.as_str()))).collect())
    }

    fn follow_agents(&mut self, before: &Snapshot, now: &Snapshot, affected: &mut Affected) -> Option<()> {
        for change in now.agents.changes_since(&before.agents) {
            let after = change.after?;
            if change.before.is_some_and(|before| is_told_alike(before, after)) {
                continue;
            }
            let node = after.node()?; // What edges are, everybody is told.
            let name: NodeName = after.id.name.parse().ok()?;
            match change.before {
                Some(known) if known.address != after.address || known.tunnel != after.tunnel => return None,
                Some(known) if known.node().is_some_and(|known| known.shares == node.shares) => {}
                Some(_) => {
                    if let Some(known) = self.nodes.get_mut(&name) {
                        known.shares = shares_of(after);
                    }
                    affected.nodes.insert(name);
                }
                None if after.tunnel.is_some() => return None,
                None => {
                    self.add_agent(after, &BTreeSet::new());
                    for (group_name, group) in &mut self.groups {
                        group.items.insert(Item::Node(NodeItem { name: name.clone(), address: after.address }));
                        affected.groups.insert(group_name.clone());
                    }
                    affected.nodes.insert(name);
                }
            }
        }
        Some(())
    }

    fn follow_subjects(&mut self, before: &Snapshot, now: &Snapshot, affected: &mut Affected) {
        for change in now.subjects.changes_since(&before.subjects) {
            let item = |record: Option<&std::sync::Arc<crate::store::SubjectRecord>>| record?.item.clone();
            let (old, new) = (item(change.before), item(change.after));
            let Some(node) = self.nodes.get_mut(change.key.node()).filter(|_| old != new) else { continue };
            match new {
                Some(new) => node.subjects.insert(change.key.clone(), Item::Subject(new)),
                None => node.subjects.remove(change.key),
            };
            affected.nodes.insert(change.key.node().clone());
            // Edges hold to the rates that its node was told.
            let leases = self.leases.get(change.key).into_iter().flatten();
            let leases: Vec<_> = leases.filter_map(|id| now.leases.get(id).cloned()).collect();
            for lease in leases {
                self.put_lease(now, &lease);
                affected.groups.insert(lease.group.clone());
            }
        }
    }

    fn follow_leases(&mut self, before: &Snapshot, now: &Snapshot, affected: &mut Affected) -> Option<()> {
        for change in now.leases.changes_since(&before.leases) {
            for lease in change.before.into_iter().chain(change.after) {
                // What a pool lost is among its addresses as long as somebody holds a lease of it.
                self.spaces.get(&lease.pool).filter(|space| space.holds(&lease.space))?;
                affected.groups.insert(lease.group.clone());
                affected.nodes.insert(lease.subject.node().clone());
            }
            if let Some(gone) = change.before {
                self.take_lease(gone);
            }
            if let Some(lease) = change.after {
                self.put_lease(now, lease);
            }
        }
        Some(())
    }

    fn add_agent(&mut self, agent: &AgentRecord, serving: &BTreeSet<GroupName>) {
        if let Some(end) = agent.tunnel.clone() {
            let (role, name) = (agent.id.role, agent.id.name.clone());
            self.tunnels.insert(agent.id.clone(), TunnelItem { role, name, address: agent.address, end });
        }
        match &agent.details {
            AgentDetails::Node(_) => {
                let Ok(name) = agent.id.name.parse::<NodeName>() else { return };
                let item = NodeItem { name: name.clone(), address: agent.address };
                let (leases, subjects) = Default::default();
                self.nodes.insert(name, Node { item, shares: shares_of(agent), leases, subjects });
            }
            AgentDetails::Edge(edge) => {
                let Ok(name) = agent.id.name.parse::<EdgeName>() else { return };
                let serves_none = !serving.contains(&edge.group);
                let serves = edge.state == EdgeState::Up || (edge.is_lifeline && serves_none);
                self.groups.entry(edge.group.clone()).or_default().edges.push(EdgeItem {
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

    /// Tells a lease to those who shall know of it, in place of what they were told before.
    fn put_lease(&mut self, snapshot: &Snapshot, lease: &LeaseRecord) {
        let Some(node) = self.nodes.get_mut(lease.subject.node()) else { return };
        if !recovery::is_vouched(snapshot, lease) {
            return;
        }
        let item = lease_item(lease, &node.item);
        if lease.state.is_at_edges()
            && let Some(group) = self.groups.get_mut(&lease.group)
        {
            // Edges carry a retiring lease like any other; telling them would only make them acknowledge more.
            let rates = rates_of(snapshot, lease);
            group.items.insert(Item::Lease(LeaseItem { retiring: false, rates, ..item.clone() }));
            if lease.encrypted {
                group.encrypted.insert(lease.id, lease.subject.node().clone());
            }
        }
        if lease.state.is_at_node() {
            node.leases.insert(lease.id, item);
        }
        self.leases.entry(lease.subject.clone()).or_default().insert(lease.id);
    }

    fn take_lease(&mut self, lease: &LeaseRecord) {
        if let Some(group) = self.groups.get_mut(&lease.group) {
            group.items.remove(&format!("lease/{}", lease.id));
            group.encrypted.remove(&lease.id);
        }
        if let Some(node) = self.nodes.get_mut(lease.subject.node()) {
            node.leases.remove(&lease.id);
        }
        if let Some(of_subject) = self.leases.get_mut(&lease.subject) {
            of_subject.remove(&lease.id);
            if of_subject.is_empty() {
                self.leases.remove(&lease.subject);
            }
        }
    }

    /// An agent's end of encrypted tunnels, for those that talk to it.
    fn tunnel(&self, agent: &AgentId) -> Option<Item> {
        self.tunnels.get(agent).cloned().map(Item::Tunnel)
    }

    /// All that a node or an edge is told.
    pub(super) fn items_of(&self, id: &AgentId) -> ItemMap {
        match id.role {
            Role::Node => self.node_items(id).into_iter().chain([Item::Probe(self.probe)]).collect(),
            Role::Edge => self.edge_items(id).unwrap_or_else(|| ItemMap::from_iter([Item::Probe(self.probe)])),
        }
    }

    fn node_items(&self, id: &AgentId) -> Vec<Item> {
        let Some(node) = id.name.parse::<NodeName>().ok().and_then(|name| self.nodes.get(&name)) else {
            return Vec::new();
        };
        let reachable = self.reachable.get(&node.item.name).into_iter().flatten();
        let groups: BTreeSet<&GroupName> = node.leases.values().map(|lease| &lease.group).chain(reachable).collect();
        let edges = groups.into_iter().filter_map(|group| self.groups.get(group)).flat_map(|group| &group.edges);
        let edges: Vec<&EdgeItem> = edges.collect();
        // A node learns of its edges' ends, never of another node's.
        let needs_tunnel = node.leases.values().any(|lease| lease.encrypted);
        let far_ends = edges.iter().filter(|_| needs_tunnel).map(|edge| AgentId::edge(edge.name.as_str()));
        let tunnels: Vec<Item> = far_ends.filter_map(|end| self.tunnel(&end)).collect();
        let leases = node.leases.values().cloned().map(Item::Lease);
        let subjects = node.subjects.values().chain(&node.shares).cloned();
        leases.chain(subjects).chain(edges.iter().map(|edge| Item::Edge((*edge).clone()))).chain(tunnels).collect()
    }

    /// None: an edge that was deleted carries nothing and answers for nothing.
    fn edge_items(&self, id: &AgentId) -> Option<ItemMap> {
        let holds = |group: &&Group| group.edges.iter().any(|edge| edge.name.as_str() == id.name);
        let group = self.groups.values().find(holds).filter(|_| !self.leaving.contains(&id.name))?;
        let mut items = group.items.clone();
        // An edge learns of its peers' ends, and of those of nodes that hold encrypted leases of its group.
        let holders: BTreeSet<&NodeName> = group.encrypted.values().collect();
        let peers = group.edges.iter().map(|peer| AgentId::edge(peer.name.as_str())).filter(|peer| peer != id);
        let peers = peers.filter(|_| !holders.is_empty());
        let far_ends = holders.iter().map(|node| AgentId::node(node)).chain(peers);
        far_ends.filter_map(|end| self.tunnel(&end)).for_each(|tunnel| items.insert(tunnel));
        Some(items)
    }
}

/// Whose items may differ.
#[derive(Default)]
struct Affected {
    nodes: BTreeSet<NodeName>,
    groups: BTreeSet<GroupName>,
}

/// Whether everybody is told the same of an edge as before: what it measures of contents, for one, only decisions look at.
fn is_told_alike(before: &AgentRecord, after: &AgentRecord) -> bool {
    let (Some(old), Some(new)) = (before.edge(), after.edge()) else { return false };
    let told = |edge: &EdgeDetails| {
        (edge.number, edge.group.clone(), edge.weight, edge.state, edge.is_lifeline, edge.is_leaving, edge.is_emptied())
    };
    (before.address, &before.tunnel) == (after.address, &after.tunnel) && told(old) == told(new)
}

fn shares_of(agent: &AgentRecord) -> Vec<Item> {
    let shares = agent.node().into_iter().flat_map(|node| &node.shares);
    shares.map(|(persona, share)| Item::Share(share.item(persona))).collect()
}
