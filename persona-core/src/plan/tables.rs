//! Edges, personas and policies of a fleet as numbers and bit masks, so that a pair is judged in nanoseconds.
//!
//! Edges are numbered in the order of their names. Nothing here depends on nodes.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::fleet::{Capacity, Content, Demand, Fleet, FleetEdge, FleetPersona, PathLimits, Service};
use super::geometry::Point;
use super::policy::{Apart, Rule};
use super::score;
use crate::ids::{Capability, EdgeName, GroupName, PersonaName};

/// What is reserved: rate, packets, flows, leases.
pub(super) type Amount = [u64; 4];

/// What the parts of an [`Amount`] are called.
pub(super) const DIMENSIONS: [&str; 4] = ["bits per second", "packets per second", "flows", "leases"];

/// Which of them are leases.
pub(super) const LEASES: usize = 3;

/// Stands for a dimension without limit.
pub(super) const UNLIMITED: u64 = u64::MAX;

/// Policies that a fleet may have: a bit each.
pub(super) const POLICY_COUNT_MAX: usize = 64;

/// Different capabilities that its edges may offer: a bit each.
pub(super) const CAPABILITY_COUNT_MAX: usize = 128;

/// Edges that it may have, as in the data plane.
pub(super) const EDGE_COUNT_MAX: usize = 65_000;

/// An edge.
#[derive(Debug, Clone)]
pub(super) struct EdgeFacts {
    pub(super) capacity: Amount,
    /// What one unit of each dimension fills; 0 where there is no limit.
    pub(super) per_unit: [f64; 4],
    pub(super) group: u16,
    pub(super) service: Service,
    pub(super) capabilities: u128,
    /// The policies whose selector of edges, or list of countries, it is in.
    pub(super) policies: u64,
    pub(super) point: Option<Point>,
}

/// A persona.
#[derive(Debug, Clone)]
pub(super) struct PersonaFacts {
    pub(super) groups: Vec<u16>,
    pub(super) requires: Wanted,
    pub(super) prefers: u128,
    pub(super) path: Option<PathLimits>,
    /// Thousandths of points for each edge's distance from the content. Empty: it wants to be close to none.
    pub(super) content_scores: Arc<[i32]>,
}

/// Capabilities that somebody asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) mask: u128,
    /// Whether one of them is offered by no edge at all.
    pub(super) has_unknown: bool,
}

/// Not too many subjects of a policy in one group.
#[derive(Debug, Clone)]
pub(super) struct ShareRule {
    pub(super) policy: usize,
    pub(super) group: Option<u16>,
    pub(super) millionths: u32,
}

/// Not too many subjects with one value of a label on one edge.
#[derive(Debug, Clone)]
pub(super) struct ApartRule {
    pub(super) policy: usize,
    pub(super) rule: Apart,
}

/// All of it.
#[derive(Debug, Clone)]
pub(super) struct Tables {
    pub(super) edges: Vec<EdgeFacts>,
    pub(super) edge_index: HashMap<EdgeName, u16>,
    pub(super) groups: BTreeMap<GroupName, u16>,
    pub(super) edges_of_group: Vec<Vec<u16>>,
    capabilities: BTreeMap<Capability, u32>,
    pub(super) personas: Vec<PersonaFacts>,
    pub(super) persona_index: HashMap<PersonaName, u16>,
    /// By content, thousandths of points for each edge's distance from it.
    content_scores: HashMap<String, Arc<[i32]>>,
    pub(super) allow: u64,
    pub(super) deny: u64,
    pub(super) residency: u64,
    pub(super) shares: Vec<ShareRule>,
    pub(super) aparts: Vec<ApartRule>,
}

impl Tables {
    /// The tables of a fleet that was checked and whose edges are sorted by name.
    pub(super) fn new(fleet: &Fleet) -> Self {
        let names = fleet.edges.iter().map(|edge| &edge.group).chain(fleet.personas.iter().flat_map(|it| &it.groups));
        let mut groups: BTreeMap<GroupName, u16> = names.map(|name| (name.clone(), 0)).collect();
        groups.values_mut().zip(0..).for_each(|(number, next)| *number = next);
        let offered = fleet.edges.iter().flat_map(|edge| &edge.capabilities);
        let mut capabilities: BTreeMap<Capability, u32> = offered.map(|name| (name.clone(), 0)).collect();
        capabilities.values_mut().zip(0..).for_each(|(bit, next)| *bit = next);
        let mut tables = Self {
            edges: Vec::new(),
            edge_index: fleet.edges.iter().map(|edge| edge.name.clone()).zip(0..).collect(),
            edges_of_group: vec![Vec::new(); groups.len()],
            groups,
            capabilities,
            personas: Vec::new(),
            persona_index: fleet.personas.iter().map(|persona| persona.name.clone()).zip(0..).collect(),
            content_scores: fleet
                .contents
                .iter()
                .map(|content| (content.name.clone(), scores_of(fleet, content)))
                .collect(),
            allow: 0,
            deny: 0,
            residency: 0,
            shares: Vec::new(),
            aparts: Vec::new(),
        };
        tables.add_policies(fleet);
        tables.edges = fleet.edges.iter().map(|edge| tables.edge_facts(fleet, edge)).collect();
        for (edge, index) in tables.edges.iter().zip(0..) {
            tables.edges_of_group[usize::from(edge.group)].push(index);
        }
        tables.personas = fleet.personas.iter().map(|persona| tables.persona_facts(persona)).collect();
        tables
    }

    fn add_policies(&mut self, fleet: &Fleet) {
        for (policy, it) in fleet.policies.iter().enumerate() {
            let bit = 1_u64 << policy;
            match &it.rule {
                Rule::Allow(_) => self.allow |= bit,
                Rule::Deny(_) => self.deny |= bit,
                Rule::Residency(_) => self.residency |= bit,
                Rule::MaxGroupShare(rule) => {
                    let group = rule.group.as_ref().and_then(|group| self.groups.get(group)).copied();
                    // A group that nobody knows holds nobody, so its share needs no watch.
                    if group.is_some() || rule.group.is_none() {
                        self.shares.push(ShareRule { policy, group, millionths: rule.share.millionths() });
                    }
                }
                Rule::Apart(rule) => self.aparts.push(ApartRule { policy, rule: rule.clone() }),
            }
        }
    }

    fn edge_facts(&self, fleet: &Fleet, edge: &FleetEdge) -> EdgeFacts {
        let country = edge.location.as_ref().map(|location| location.country.as_str());
        let selects = |rule: &Rule| match rule {
            Rule::Allow(selector) | Rule::Deny(selector) => selector.matches(edge),
            Rule::Residency(countries) => country.is_some_and(|here| countries.iter().any(|it| it == here)),
            Rule::MaxGroupShare(_) | Rule::Apart(_) => false,
        };
        let policies = fleet.policies.iter().enumerate().filter(|(_, policy)| selects(&policy.rule));
        EdgeFacts {
            capacity: capacity_of(&edge.capacity),
            per_unit: per_unit(&edge.capacity),
            group: self.groups[&edge.group],
            service: edge.service,
            capabilities: self.wanted(&edge.capabilities).mask,
            policies: policies.fold(0, |mask, (bit, _)| mask | 1 << bit),
            point: edge.location.as_ref().and_then(Point::of),
        }
    }

    fn persona_facts(&self, persona: &FleetPersona) -> PersonaFacts {
        PersonaFacts {
            groups: persona.groups.iter().map(|group| self.groups[group]).collect(),
            requires: self.wanted(&persona.requires),
            prefers: self.wanted(&persona.prefers).mask,
            path: persona.path,
            content_scores: self.content_scores(persona.content.as_deref()).unwrap_or_default(),
        }
    }

    /// Thousandths of points for each edge's distance from a content. None: closeness to none is wanted.
    pub(super) fn content_scores(&self, content: Option<&str>) -> Option<Arc<[i32]>> {
        content.and_then(|name| self.content_scores.get(name)).cloned()
    }

    /// Writes down what an edge can carry now.
    pub(super) fn set_capacity(&mut self, edge: usize, capacity: &Capacity) {
        let facts = &mut self.edges[edge];
        (facts.capacity, facts.per_unit) = (capacity_of(capacity), per_unit(capacity));
    }

    /// The bits of some capabilities.
    pub(super) fn wanted(&self, capabilities: &[Capability]) -> Wanted {
        capabilities.iter().fold(Wanted::default(), |wanted, name| match self.capabilities.get(name) {
            Some(bit) => Wanted { mask: wanted.mask | 1 << bit, ..wanted },
            None => Wanted { has_unknown: true, ..wanted },
        })
    }
}

fn scores_of(fleet: &Fleet, content: &Content) -> Arc<[i32]> {
    fleet.edges.iter().map(|edge| score::content_score(edge, content)).collect()
}

fn per_unit(capacity: &Capacity) -> [f64; 4] {
    capacity_of(capacity).map(|units| if units == UNLIMITED { 0.0 } else { 1.0 / units as f64 })
}

/// An edge's capacity as an amount.
pub(super) fn capacity_of(capacity: &Capacity) -> Amount {
    // What packets cost of the processor is another reason for the same limit.
    let packets = [capacity.packets_per_sec, capacity.processor_packets_per_sec].into_iter().flatten().min();
    [capacity.rate.map(|rate| rate.0), packets, capacity.flows, capacity.leases].map(|units| units.unwrap_or(UNLIMITED))
}

/// A demand as an amount.
pub(super) fn amount_of(demand: &Demand) -> Amount {
    [demand.rate.0, demand.packets_per_sec, demand.flows, demand.leases]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lower_of_both_limits_on_packets_counts() {
        for (packets_per_sec, processor_packets_per_sec, expected) in [
            (None, None, UNLIMITED),
            (Some(5), None, 5),
            (None, Some(7), 7),
            (Some(5), Some(7), 5),
            (Some(9), Some(7), 7),
        ] {
            let capacity = Capacity { packets_per_sec, processor_packets_per_sec, ..Capacity::default() };
            assert_eq!(capacity_of(&capacity), [UNLIMITED, expected, UNLIMITED, UNLIMITED]);
        }
    }
}
