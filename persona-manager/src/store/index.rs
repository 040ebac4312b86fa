//! What is looked for again and again, found without going through all of a state. It is kept up with every record that is put
//! in or taken out, and shared by versions of a state like their records: whoever goes back to one has its index too.

use std::net::IpAddr;
use std::sync::Arc;

use imbl::{OrdMap, OrdSet};
use persona_core::ids::{LeaseId, NodeName, SubjectId};
use persona_core::lease::LeaseState;
use persona_core::wire::agent::Role;

use super::records::{AgentId, AgentRecord, JoinTokenRecord, JoinedKeyRecord, LeaseRecord, SubjectRecord};
use super::snapshot::Snapshot;

/// Keys by what their records are looked for.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Index {
    /// Leases in any state, by who holds them.
    leases: OrdSet<(SubjectId, LeaseId)>,
    /// Leases that are on their way from one state to another: all but the active ones.
    moving_leases: OrdSet<LeaseId>,
    /// Subjects with something that ends by itself, by when it does.
    ends: OrdSet<(u64, SubjectId)>,
    /// Subjects that wear something by activation.
    activated: OrdSet<SubjectId>,
    /// Subjects with a monitoring section, or alerts that are raised.
    watched: OrdSet<SubjectId>,
    /// Subjects that were told of a total over all nodes.
    sharing: OrdSet<SubjectId>,
    /// Nodes that have a share of one.
    dividing: OrdSet<AgentId>,
    /// Agents with an end of encrypted tunnels.
    tunnels: OrdSet<AgentId>,
    /// Agents by their underlay addresses.
    addresses: OrdSet<(IpAddr, AgentId)>,
    /// How many keys joined with each token.
    joined_counts: OrdMap<String, usize>,
}

/// Puts a key in or takes it out, where that is another answer than before.
fn keep<K: Ord + Clone>(set: &mut OrdSet<K>, (was, is): (bool, bool), key: impl FnOnce() -> K) {
    match (was, is) {
        (false, true) => _ = set.insert(key()),
        (true, false) => _ = set.remove(&key()),
        _ => {}
    }
}

impl Index {
    /// Takes in what became of a lease.
    pub(super) fn follow_lease(&mut self, before: Option<&LeaseRecord>, after: Option<&LeaseRecord>) {
        let holder = |lease: &LeaseRecord| (lease.subject.clone(), lease.id);
        if before.map(|lease| &lease.subject) != after.map(|lease| &lease.subject) {
            before.into_iter().for_each(|lease| _ = self.leases.remove(&holder(lease)));
            after.into_iter().for_each(|lease| _ = self.leases.insert(holder(lease)));
        }
        let Some(lease) = before.or(after) else { return };
        let is_moving = |lease: Option<&LeaseRecord>| lease.is_some_and(|lease| lease.state != LeaseState::Active);
        keep(&mut self.moving_leases, (is_moving(before), is_moving(after)), || lease.id);
    }

    /// Takes in what became of a subject's record.
    pub(super) fn follow_subject(&mut self, before: Option<&SubjectRecord>, after: Option<&SubjectRecord>) {
        let Some(subject) = before.or(after).map(|record| &record.subject) else { return };
        let (old, new) = (before.and_then(SubjectRecord::ends_ms), after.and_then(SubjectRecord::ends_ms));
        if old != new {
            old.into_iter().for_each(|at_ms| _ = self.ends.remove(&(at_ms, subject.clone())));
            new.into_iter().for_each(|at_ms| _ = self.ends.insert((at_ms, subject.clone())));
        }
        let of = |is_so: fn(&SubjectRecord) -> bool| (before.is_some_and(is_so), after.is_some_and(is_so));
        keep(&mut self.activated, of(|record| record.activation.is_some()), || subject.clone());
        keep(&mut self.watched, of(SubjectRecord::is_watched), || subject.clone());
        keep(&mut self.sharing, of(SubjectRecord::shares_with_all), || subject.clone());
    }

    /// Takes in that a key joined with a token, or that this is forgotten.
    pub(super) fn follow_joined_key(&mut self, before: Option<&JoinedKeyRecord>, after: Option<&JoinedKeyRecord>) {
        let Some(joined) = before.or(after) else { return };
        let count = self.joined_counts.get(&joined.token).copied().unwrap_or(0);
        match (before, after) {
            (None, Some(_)) => _ = self.joined_counts.insert(joined.token.clone(), count + 1),
            (Some(_), None) if count > 1 => _ = self.joined_counts.insert(joined.token.clone(), count - 1),
            (Some(_), None) => _ = self.joined_counts.remove(&joined.token),
            _ => {}
        }
    }

    /// Takes in what became of an agent's record.
    pub(super) fn follow_agent(&mut self, before: Option<&AgentRecord>, after: Option<&AgentRecord>) {
        let Some(id) = before.or(after).map(|agent| &agent.id) else { return };
        let of = |is_so: fn(&AgentRecord) -> bool| (before.is_some_and(is_so), after.is_some_and(is_so));
        let has_share = |agent: &AgentRecord| agent.node().is_some_and(|node| !node.shares.is_empty());
        keep(&mut self.dividing, of(has_share), || id.clone());
        keep(&mut self.tunnels, of(|agent| agent.tunnel.is_some()), || id.clone());
        let (old, new) = (before.map(|agent| agent.address), after.map(|agent| agent.address));
        if old != new {
            old.into_iter().for_each(|address| _ = self.addresses.remove(&(address, id.clone())));
            new.into_iter().for_each(|address| _ = self.addresses.insert((address, id.clone())));
        }
    }
}

impl Snapshot {
    /// Whether the index is what reading all records anew gives.
    #[cfg(test)]
    pub(crate) fn has_true_index(&self) -> bool {
        let mut anew = Self::default();
        self.records().iter().for_each(|(table, _, body)| anew.take_in(*table, body).unwrap());
        anew.index == self.index
    }

    /// The leases that a subject holds, in any state.
    pub(crate) fn leases_of(&self, subject: &SubjectId) -> impl Iterator<Item = &Arc<LeaseRecord>> {
        let all = self.index.leases.range((subject.clone(), LeaseId(0))..);
        let own = all.take_while(move |(of, _)| of == subject);
        own.filter_map(|(_, id)| self.leases.get(id))
    }

    /// The leases that a node's subjects hold, in any state.
    pub(crate) fn leases_on<'a>(&'a self, node: &'a NodeName) -> impl Iterator<Item = &'a Arc<LeaseRecord>> {
        let of_node = self.index.leases.range((SubjectId::Node(node.clone()), LeaseId(0))..);
        let of_workloads = self.index.leases.range((SubjectId::before_workloads(node), LeaseId(0))..);
        let is_host = move |(of, _): &&(SubjectId, LeaseId)| matches!(of, SubjectId::Node(it) if it == node);
        let is_there = move |(of, _): &&(SubjectId, LeaseId)| of.node() == node;
        let all = of_node.take_while(is_host).chain(of_workloads.take_while(is_there));
        all.filter_map(|(_, id)| self.leases.get(id))
    }

    /// The leases that are not active: those that are being learnt, and those that end.
    pub(crate) fn moving_leases(&self) -> impl Iterator<Item = &Arc<LeaseRecord>> {
        self.index.moving_leases.iter().filter_map(|id| self.leases.get(id))
    }

    /// The records of a node's subjects.
    pub(crate) fn subjects_on<'a>(&'a self, node: &'a NodeName) -> impl Iterator<Item = &'a Arc<SubjectRecord>> {
        let host = self.subjects.get(&SubjectId::Node(node.clone()));
        let workloads = self.subjects.range(SubjectId::before_workloads(node)..);
        let workloads = workloads.take_while(move |(subject, _)| subject.node() == node);
        host.into_iter().chain(workloads.map(|(_, record)| record))
    }

    /// Subjects of which something has ended by itself.
    pub(crate) fn ended(&self, now_ms: u64) -> impl Iterator<Item = &Arc<SubjectRecord>> {
        let over = self.index.ends.iter().take_while(move |(at_ms, _)| *at_ms <= now_ms);
        over.filter_map(|(_, subject)| self.subjects.get(subject))
    }

    /// Subjects that wear something by activation.
    pub(crate) fn activated(&self) -> impl Iterator<Item = &Arc<SubjectRecord>> {
        self.index.activated.iter().filter_map(|subject| self.subjects.get(subject))
    }

    /// Subjects with a monitoring section, or alerts that are raised.
    pub(crate) fn watched(&self) -> impl Iterator<Item = &Arc<SubjectRecord>> {
        self.index.watched.iter().filter_map(|subject| self.subjects.get(subject))
    }

    /// Subjects that were told of a total over all nodes.
    pub(crate) fn sharing(&self) -> impl Iterator<Item = &Arc<SubjectRecord>> {
        self.index.sharing.iter().filter_map(|subject| self.subjects.get(subject))
    }

    /// Nodes that have a share of a total over all nodes.
    pub(crate) fn dividing(&self) -> impl Iterator<Item = &Arc<AgentRecord>> {
        self.index.dividing.iter().filter_map(|id| self.agents.get(id))
    }

    /// Agents with an end of encrypted tunnels.
    pub(crate) fn with_tunnels(&self) -> impl Iterator<Item = &Arc<AgentRecord>> {
        self.index.tunnels.iter().filter_map(|id| self.agents.get(id))
    }

    /// Agents with an underlay address.
    pub(crate) fn agents_at(&self, address: IpAddr) -> impl Iterator<Item = &Arc<AgentRecord>> {
        let first = (address, AgentId { role: Role::Node, name: String::new() });
        let all = self.index.addresses.range(first..).take_while(move |(at, _)| *at == address);
        all.filter_map(|(_, id)| self.agents.get(id))
    }

    /// How many keys have joined with a token.
    pub(crate) fn joined_count(&self, token: &JoinTokenRecord) -> usize {
        token.keys.len() + self.index.joined_counts.get(&token.id).copied().unwrap_or(0)
    }

    /// Who has joined with a token: its id and the key.
    pub(crate) fn joined_with(&self, token: &str) -> impl Iterator<Item = &(String, String)> {
        let all = self.joined_keys.range((token.to_owned(), String::new())..);
        all.take_while(move |((of, _), _)| of == token).map(|(key, _)| key)
    }

    /// Whether a key has joined with a token.
    pub(crate) fn has_joined(&self, token: &JoinTokenRecord, public_key: &str) -> bool {
        let key = (token.id.clone(), public_key.to_owned());
        self.joined_keys.contains_key(&key) || token.keys.iter().any(|known| known == public_key)
    }

    /// All edges.
    pub(crate) fn edges(&self) -> impl DoubleEndedIterator<Item = &Arc<AgentRecord>> {
        // Edges come after all nodes.
        self.agents.range(AgentId::edge("")..).map(|(_, agent)| agent)
    }
}
