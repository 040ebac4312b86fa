//! From one look at a fleet to the next: the difference as events, so that little is read anew where little has changed.
//!
//! Whatever the difference, the planner is then what reading the new fleet and the plan would give.

use std::collections::BTreeMap;

use super::event::Event;
use super::fleet::{Capacity, Demand, Fleet, FleetEdge, FleetNode, Service};
use super::planner::Planner;
use super::read::FleetError;
use crate::ids::NodeName;

impl Planner {
    /// Takes note of all that is different in a new look at the fleet; nothing moves before [`Planner::replan`].
    pub fn follow(&mut self, fleet: Fleet) -> Result<(), Vec<FleetError>> {
        let Some(events) = events_between(self.fleet(), &fleet) else { return self.read_anew(fleet) };
        events.into_iter().try_for_each(|event| self.apply(event))
    }
}

/// What happened between two looks. None: so much that all pairs must be judged anew.
fn events_between(old: &Fleet, new: &Fleet) -> Option<Vec<Event>> {
    let ground = |fleet: &Fleet| (fleet.personas.clone(), fleet.contents.clone(), fleet.policies.clone());
    if ground(old) != ground(new) || old.planning != new.planning || old.edges.len() != new.edges.len() {
        return None;
    }
    let mut events = Vec::new();
    let edges: BTreeMap<_, _> = old.edges.iter().map(|edge| (&edge.name, edge)).collect();
    for edge in &new.edges {
        let before = edges.get(&edge.name)?;
        if standing(before) != standing(edge) {
            return None;
        }
        let (name, is_other) = (&edge.name, before.service != edge.service);
        events.extend(is_other.then(|| Event::Service(name.clone(), edge.service)));
        events.extend((before.capacity != edge.capacity).then(|| Event::Capacity(name.clone(), edge.capacity)));
    }
    let mut gone: BTreeMap<&NodeName, &FleetNode> = old.nodes.iter().map(|node| (&node.name, node)).collect();
    for node in &new.nodes {
        match gone.remove(&node.name) {
            Some(before) if before == node => {}
            Some(before) if resting(before) == resting(node) => events.extend(demands(before, node)),
            _ => events.push(Event::Node(Box::new(node.clone()))),
        }
    }
    events.extend(gone.into_keys().map(|name| Event::NodeLeft(name.clone())));
    Some(events)
}

/// An edge without what events of their own are for.
fn standing(edge: &FleetEdge) -> FleetEdge {
    FleetEdge { service: Service::default(), capacity: Capacity::default(), ..edge.clone() }
}

/// A node without its subjects' demands, in the order of names.
fn resting(node: &FleetNode) -> FleetNode {
    let mut node = node.clone();
    node.subjects.sort_by(|one, other| one.workload.cmp(&other.workload));
    node.subjects.iter_mut().for_each(|subject| subject.demand = Demand::default());
    node
}

fn demands(before: &FleetNode, now: &FleetNode) -> Vec<Event> {
    let old: BTreeMap<_, _> = before.subjects.iter().map(|subject| (&subject.workload, subject.demand)).collect();
    let changed = now.subjects.iter().filter(|subject| old.get(&subject.workload) != Some(&subject.demand));
    changed.map(|subject| Event::Demand(subject.id(&now.name), subject.demand)).collect()
}
