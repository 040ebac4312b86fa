//! What desired states are made of, arranged by who needs it, and kept up by what changes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use persona_core::ids::{EdgeName, GroupName, LeaseId, NodeName, PoolName};
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
    /// What everybody is told alike.
    probes: ItemMap,
    /// Ends of encrypted tunnels.
    tunnels: BTreeMap<AgentId, TunnelItem>,
    reachable: Reachable,
    nodes: BTreeMap<NodeName, Node>,
    groups: BTreeMap<GroupName, Group>,
    spaces: BTreeMap<PoolName, PoolSpace>,
    /// Edges that were deleted and forget everything.
    leaving: BTreeSet<String>,
}

/// What one node is told.
struct Node {
    item: NodeItem,
    /// Its subjects, their leases, and its shares.
    items: ItemMap,
    shares: Vec<String>,
    /// Which group carries each of its leases, and whether that is encrypted.
    leases: BTreeMap<LeaseId, (GroupName, bool)>,
}

/// What the edges of one group are told.
#[derive(Default)]
struct Group {
    edges: Vec<EdgeItem>,
    edge_items: ItemMap,
    /// What all of them are told alike.
    items: ItemMap,
    /// Keys of the pools among these.
    pools: Vec<String>,
    /// Who holds its encrypted leases.
    encrypted: BTreeMap<LeaseId, NodeName>,
}

impl World {
    /// All of a state's.
    pub(super) fn of(snapshot: &Snapshot, probe: ProbeItem, reachable: Reachable) -> Self {
        let spaces = snapshot.pools().map(|pool| (pool.metadata.name.clone(), space_of(&pool.spec))).collect();
        let (tunnels, nodes, groups, leaving) = Default::default();
        let probes = ItemMap::from_iter([Item::Probe(probe)]);
        let mut world = Self { probe, probes, tunnels, reachable, nodes, groups, spaces, leaving };
        let serving = serving_groups(snapshot);
        snapshot.agents.values().for_each(|agent| world.add_agent(agent, &serving));
        world.put_pools(snapshot, &mut BTreeSet::new());
        let hosts: ItemMap = world.nodes.values().map(|node| Item::Node(node.item.clone())).collect();
        for group in world.groups.values_mut() {
            group.edge_items = group.edges.iter().map(|edge| Item::Edge(edge.clone())).collect();
            group.items.merge(&world.probes);
            group.items.merge(&hosts);
            group.items.merge(&group.edge_items);
        }
        for item in snapshot.subjects.values().filter_map(|record| record.item.as_ref()) {
            if let Some(node) = world.nodes.get_mut(item.subject.node()) {
                node.items.insert(Item::Subject(item.clone()));
            }
        }
        snapshot.leases.values().for_each(|lease| world.put_lease(snapshot, lease));
        world
    }

    /// Tells the edges of each group of its pools. Adds the groups for which that is something else.
    fn put_pools(&mut self, snapshot: &Snapshot, changed: &mut BTreeSet<GroupName>) {
        let mut pools = pools_of(snapshot);
        for (name, group) in &mut self.groups {
            let before = group.items.clone();
            std::mem::take(&mut group.pools).iter().for_each(|key| group.items.remove(key));
            for item in pools.remove(name).unwrap_or_default().into_iter().map(Item::Pool) {
                group.pools.push(item.key());
                group.items.insert(item);
            }
            if group.items != before {
                changed.insert(name.clone());
            }
        }
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
        let has_other_documents = !(before.documents.is_same(&now.documents) && before.versions.is_same(&now.versions));
        self.follow_agents(before, now, &mut affected)?;
        if has_other_documents {
            self.spaces = now.pools().map(|pool| (pool.metadata.name.clone(), space_of(&pool.spec))).collect();
            self.put_pools(now, &mut affected.groups);
        }
        self.follow_subjects(before, now, &mut affected);
        self.follow_leases(before, now, &mut affected)?;
        // What documents say of personas, everybody's ways rest on.
        let of_nodes = renewed.nodes.as_ref().filter(|_| !has_other_documents);
        for (node, groups) in (renewed.reachable)(of_nodes) {
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
                        known.put_shares(after);
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
            let item = |record: Option<&Arc<crate::store::SubjectRecord>>| record?.item.clone();
            let (old, new) = (item(change.before), item(change.after));
            let Some(node) = self.nodes.get_mut(change.key.node()).filter(|_| old != new) else { continue };
            match new {
                Some(new) => node.items.insert(Item::Subject(new)),
                None => node.items.remove(&format!("subject/{}", change.key)),
            }
            affected.nodes.insert(change.key.node().clone());
            // Edges hold to the rates that its node was told.
            for lease in now.leases_of(change.key) {
                self.put_lease(now, lease);
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
            let is_elsewhere = |(one, other): (&Arc<LeaseRecord>, &Arc<LeaseRecord>)| {
                (&one.subject, &one.group) != (&other.subject, &other.group)
            };
            if let Some(gone) = change.before
                && change.before.zip(change.after).is_none_or(is_elsewhere)
            {
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
                let (items, shares, leases) = Default::default();
                let mut node = Node { item, items, shares, leases };
                node.put_shares(agent);
                self.nodes.insert(name, node);
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
        let (is_at_edges, is_at_node) = (lease.state.is_at_edges(), lease.state.is_at_node());
        if !recovery::is_vouched(snapshot, lease) || !(is_at_edges || is_at_node) {
            return self.take_lease(lease);
        }
        let item = lease_item(lease, &node.item);
        match self.groups.get_mut(&lease.group) {
            Some(group) if is_at_edges => {
                // Edges carry a retiring lease like any other; telling them would only make them acknowledge more.
                let rates = rates_of(snapshot, lease);
                group.items.insert(Item::Lease(LeaseItem { retiring: false, rates, ..item.clone() }));
                if lease.encrypted {
                    group.encrypted.insert(lease.id, lease.subject.node().clone());
                }
            }
            Some(group) => group.take_lease(lease.id),
            None => {}
        }
        if is_at_node {
            node.leases.insert(lease.id, (lease.group.clone(), lease.encrypted));
            node.items.insert(Item::Lease(item));
        } else {
            node.take_lease(lease.id);
        }
    }

    fn take_lease(&mut self, lease: &LeaseRecord) {
        if let Some(group) = self.groups.get_mut(&lease.group) {
            group.take_lease(lease.id);
        }
        if let Some(node) = self.nodes.get_mut(lease.subject.node()) {
            node.take_lease(lease.id);
        }
    }

    /// An agent's end of encrypted tunnels, for those that talk to it.
    fn tunnel(&self, agent: &AgentId) -> Option<Item> {
        self.tunnels.get(agent).cloned().map(Item::Tunnel)
    }

    /// All that a node or an edge is told.
    pub(super) fn items_of(&self, id: &AgentId) -> ItemMap {
        match id.role {
            Role::Node => {
                let mut items = self.node_items(id).unwrap_or_default();
                items.merge(&self.probes);
                items
            }
            Role::Edge => self.edge_items(id).unwrap_or_else(|| self.probes.clone()),
        }
    }

    fn node_items(&self, id: &AgentId) -> Option<ItemMap> {
        let node = id.name.parse::<NodeName>().ok().and_then(|name| self.nodes.get(&name))?;
        let reachable = self.reachable.get(&node.item.name).into_iter().flatten();
        let groups: BTreeSet<&GroupName> = node.leases.values().map(|(group, _)| group).chain(reachable).collect();
        let groups: Vec<&Group> = groups.into_iter().filter_map(|group| self.groups.get(group)).collect();
        // A node learns of its edges' ends, never of another node's.
        let needs_tunnel = node.leases.values().any(|(_, is_encrypted)| *is_encrypted);
        let edges = groups.iter().filter(|_| needs_tunnel).flat_map(|group| &group.edges);
        let mut items = node.items.clone();
        groups.iter().for_each(|group| items.merge(&group.edge_items));
        let far_ends = edges.map(|edge| AgentId::edge(edge.name.as_str()));
        far_ends.filter_map(|end| self.tunnel(&end)).for_each(|tunnel| items.insert(tunnel));
        Some(items)
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

impl Node {
    /// Has it told of the shares that it has now, and of no others.
    fn put_shares(&mut self, agent: &AgentRecord) {
        std::mem::take(&mut self.shares).iter().for_each(|key| self.items.remove(key));
        let shares = agent.node().into_iter().flat_map(|node| &node.shares);
        for item in shares.map(|(persona, share)| Item::Share(share.item(persona))) {
            self.shares.push(item.key());
            self.items.insert(item);
        }
    }

    fn take_lease(&mut self, id: LeaseId) {
        if self.leases.remove(&id).is_some() {
            self.items.remove(&format!("lease/{id}"));
        }
    }
}

impl Group {
    fn take_lease(&mut self, id: LeaseId) {
        self.items.remove(&format!("lease/{id}"));
        self.encrypted.remove(&id);
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
