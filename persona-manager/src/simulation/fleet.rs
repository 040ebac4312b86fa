//! Nodes and edges that do what they are told when they can, and to which things happen.

use std::collections::BTreeMap;
use std::sync::Arc;

use persona_core::health::EdgeState;
use persona_core::ids::{EdgeName, LeaseId, NodeName, SubjectId};
use persona_core::wire::agent::{EdgeHealth, Report, Role, WorkloadReport};
use persona_core::wire::desired::{DesiredState, Item};

use super::{Dice, Manager};
use crate::store::{
    AgentDetails, AgentId, AgentRecord, Draft, EdgeDetails, NodeDetails, WorkloadRecord, weight_default,
};

/// Workloads that a node may have.
const WORKLOAD_COUNT: u64 = 10;

/// One node or edge.
pub(super) struct Agent {
    pub(super) id: AgentId,
    /// Edges: which group.
    group: Option<&'static str>,
    /// Whether it runs.
    is_alive: bool,
    /// Whether it reaches the manager.
    is_linked: bool,
    /// Whether it reaches nodes and edges.
    pub(super) is_near: bool,
    /// Whether it was alone since it last heard the manager: it then answers for nothing until it has.
    was_alone: bool,
    /// The state in force.
    state: Arc<DesiredState>,
    /// Nodes: its workloads.
    workloads: Vec<String>,
    /// Nodes: retiring leases and when their last flow ends.
    ends: BTreeMap<LeaseId, u64>,
}

impl Agent {
    /// Whether its tables move packets: a node's own flows, or an edge that somebody reaches.
    pub(super) fn is_active(&self) -> bool {
        match self.id.role {
            Role::Node => self.is_alive,
            Role::Edge => self.is_alive && self.is_near && !self.was_alone,
        }
    }

    /// The leases in its tables.
    pub(super) fn leases(&self) -> impl Iterator<Item = &persona_core::wire::desired::LeaseItem> {
        self.state.items.values().filter_map(|item| match item {
            Item::Lease(lease) => Some(lease),
            _ => None,
        })
    }
}

/// All of them.
pub(super) struct Fleet {
    pub(super) agents: Vec<Agent>,
    pub(super) death_count: u32,
    pub(super) cut_count: u32,
}

impl Fleet {
    /// Registers nodes, and edges in two groups.
    pub(super) fn join(manager: &mut Manager, node_count: u8, edge_count: u8) -> Self {
        let nodes = (1..=node_count).map(|number| (Role::Node, format!("n{number}"), number, None));
        let group = |group: &'static str, first: u8| {
            (0..edge_count).map(move |index| (Role::Edge, format!("{group}{index}"), first + index, Some(group)))
        };
        let mut agents = Vec::new();
        for (role, name, byte, group) in nodes.chain(group("fra", 100)).chain(group("tyo", 200)) {
            let id = AgentId { role, name };
            let register = |draft: &mut Draft| {
                register(draft, &id, byte, group);
                Ok(())
            };
            manager.change(register).unwrap();
            let workloads = Vec::new();
            let (state, ends) = (Arc::default(), BTreeMap::new());
            let (is_alive, is_linked, is_near, was_alone) = (true, true, true, false);
            agents.push(Agent { id, group, is_alive, is_linked, is_near, was_alone, state, workloads, ends });
        }
        Self { agents, death_count: 0, cut_count: 0 }
    }

    /// Somebody dies, returns, is cut off or reached again; workloads come and go.
    pub(super) fn suffer(&mut self, dice: &mut Dice) {
        for agent in &mut self.agents {
            let (die, cut) = if agent.id.role == Role::Edge { (150, 150) } else { (400, 200) };
            if dice.once_in(if agent.is_alive { die } else { 20 }) {
                agent.is_alive = !agent.is_alive;
                self.death_count += u32::from(!agent.is_alive);
            }
            if dice.once_in(if agent.is_linked { cut } else { 20 }) {
                agent.is_linked = !agent.is_linked;
                self.cut_count += u32::from(!agent.is_linked);
            }
            if agent.id.role == Role::Edge && dice.once_in(if agent.is_near { 200 } else { 15 }) {
                agent.is_near = !agent.is_near;
            }
            if agent.id.role == Role::Node && dice.once_in(6) {
                let name = format!("w{}", dice.below(WORKLOAD_COUNT));
                match agent.workloads.iter().position(|known| *known == name) {
                    Some(index) => drop(agent.workloads.swap_remove(index)),
                    None => agent.workloads.push(name),
                }
            }
        }
    }

    /// Every node has so many workloads.
    pub(super) fn host(&mut self, count: usize) {
        for agent in self.agents.iter_mut().filter(|agent| agent.id.role == Role::Node) {
            agent.workloads = (0..count).map(|number| format!("w{number}")).collect();
        }
    }

    /// Everybody is well again, and no workload is left.
    pub(super) fn heal_and_empty(&mut self) {
        for agent in &mut self.agents {
            (agent.is_alive, agent.is_linked, agent.is_near) = (true, true, true);
            agent.workloads.clear();
        }
    }

    /// A workload that a node has.
    pub(super) fn any_subject(&self, dice: &mut Dice) -> Option<SubjectId> {
        let nodes: Vec<&Agent> = self.agents.iter().filter(|agent| !agent.workloads.is_empty()).collect();
        let node = nodes.get(dice.below(nodes.len().max(1) as u64) as usize)?;
        let name = &node.workloads[dice.below(node.workloads.len() as u64) as usize];
        format!("workload/{}/{name}", node.id.name).parse().ok()
    }

    /// Who can reports, the manager decides, and who can takes the new state, some of them only next time.
    pub(super) fn talk(&mut self, manager: &mut Manager, dice: &mut Dice) {
        let elapsed_ms = manager.elapsed_ms();
        let reachable: Vec<(String, Option<&str>)> =
            self.agents.iter().filter(|it| it.is_alive && it.is_near).map(|it| (it.id.to_string(), it.group)).collect();
        let mut found = Vec::new();
        for agent in &mut self.agents {
            if agent.id.role == Role::Edge && !(agent.is_alive && agent.is_near) {
                agent.was_alone = true;
            }
            if !(agent.is_alive && agent.is_linked) {
                continue;
            }
            let report = report_of(agent, &reachable, elapsed_ms, dice);
            manager.live.report(&agent.id, &report, manager.now_ms());
            if agent.id.role == Role::Node {
                found.push((agent.id.clone(), agent.workloads.clone()));
            }
        }
        let note = |draft: &mut Draft| {
            found.iter().for_each(|(id, names)| set_workloads(draft, id, names));
            Ok(())
        };
        manager.change(note).unwrap();
        let snapshot = manager.snapshot.clone();
        manager.live.forget_leases(|id| snapshot.leases.contains_key(id));
        for agent in self.agents.iter_mut().filter(|agent| agent.is_alive && agent.is_linked) {
            let Some(desired) = snapshot.desired.get(&agent.id) else { continue };
            if !dice.once_in(5) {
                agent.state = desired.clone();
                agent.was_alone &= !agent.is_near;
            }
        }
    }
}

fn report_of(agent: &mut Agent, reachable: &[(String, Option<&str>)], elapsed_ms: u64, dice: &mut Dice) -> Report {
    let retiring: Vec<LeaseId> = agent.leases().filter(|lease| lease.retiring).map(|lease| lease.id).collect();
    agent.ends.retain(|id, _| retiring.contains(id));
    for id in retiring {
        agent.ends.entry(id).or_insert_with(|| elapsed_ms + dice.below(900_000));
    }
    let known = agent.state.items.values().filter_map(|item| match item {
        Item::Edge(edge) if edge.name.as_str() != agent.id.name => Some(edge.name.clone()),
        _ => None,
    });
    let health = |edge: EdgeName| EdgeHealth {
        alive: agent.is_near && reachable.iter().any(|(id, _)| *id == format!("edge/{edge}")),
        edge,
        rtt_us: Some(300),
        jitter_us: Some(20),
        loss: 0.0,
        generation: agent.state.generation,
    };
    let drained = agent.ends.iter().filter(|(_, end)| **end <= elapsed_ms).map(|(id, _)| *id);
    let is_edge = agent.id.role == Role::Edge;
    Report {
        applied: agent.state.generation,
        edges: Some(known.map(health).collect()),
        drained: drained.collect(),
        outside_alive: is_edge.then_some(true),
        ..Report::default()
    }
}

fn register(draft: &mut Draft, id: &AgentId, byte: u8, group: Option<&str>) {
    let details = match group {
        None => AgentDetails::Node(NodeDetails::default()),
        Some(group) => AgentDetails::Edge(EdgeDetails {
            number: draft.next_edge_number().unwrap(),
            group: group.parse().unwrap(),
            capacity: None,
            state: EdgeState::New,
            reason: String::new(),
            weight: weight_default(),
            draining: false,
            maintenance: None,
            is_leaving: false,
            hold: Default::default(),
            flags: Vec::new(),
            is_lifeline: false,
            is_degraded: false,
            content_rtt_us: Default::default(),
        }),
    };
    draft.put(AgentRecord {
        id: id.clone(),
        public_key: String::new(),
        registration_count: 0,
        certificate_issuer: None,
        certificate_expires_ms: 0,
        address: [10, 0, 0, byte].into(),
        tunnel: None,
        capabilities: Vec::new(),
        labels: BTreeMap::new(),
        bound_labels: BTreeMap::new(),
        version: String::new(),
        details,
    });
}

fn set_workloads(draft: &mut Draft, id: &AgentId, names: &[String]) {
    let node: NodeName = id.name.parse().unwrap();
    let known: Vec<SubjectId> = draft.state().workloads.keys().filter(|it| *it.node() == node).cloned().collect();
    let subject = |name: &String| SubjectId::Workload(node.clone(), name.parse().unwrap());
    for gone in known.iter().filter(|it| !names.iter().any(|name| subject(name) == **it)) {
        draft.delete::<WorkloadRecord>(gone);
    }
    for name in names.iter().filter(|name| !known.contains(&subject(name))) {
        let report = WorkloadReport {
            name: name.parse().unwrap(),
            device: format!("veth-{name}"),
            address: None,
            prefix6: None,
            kind: Default::default(),
            labels: BTreeMap::new(),
            attached: true,
        };
        draft.put(WorkloadRecord { node: node.clone(), report });
    }
}
