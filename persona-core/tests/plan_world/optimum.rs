//! How full the fullest edge is at best: that of a flow which may split subjects, so that no plan of whole ones is below it.

use std::collections::BTreeMap;

use persona_core::plan::Fleet;

use super::flow::Network;

/// The lowest fill of the fullest edge: subjects of one persona are one source, edges of one group one sink.
pub(crate) fn optimum(fleet: &Fleet) -> f64 {
    let mut groups: BTreeMap<&str, u64> = BTreeMap::new();
    for edge in fleet.edges.iter().filter(|edge| edge.service.takes_subjects()) {
        *groups.entry(edge.group.as_str()).or_default() += edge.capacity.rate.expect("each edge has one").0 / 1_000;
    }
    let mut demands: BTreeMap<&str, u64> = BTreeMap::new();
    for subject in fleet.nodes.iter().flat_map(|node| &node.subjects) {
        *demands.entry(subject.personas[0].as_str()).or_default() += subject.demand.rate.0 / 1_000;
    }
    let needed: u64 = demands.values().sum();
    let is_enough = |fill: f64| {
        let (personas, end) = (fleet.personas.len(), fleet.personas.len() + groups.len() + 1);
        let mut network = Network::new(end + 1);
        let number = |group: &str| personas + groups.keys().position(|other| *other == group).expect("it has edges");
        for (index, persona) in fleet.personas.iter().enumerate() {
            network.arc(end, index, demands.get(persona.name.as_str()).copied().unwrap_or(0), 0);
            for group in &persona.groups {
                network.arc(index, number(group.as_str()), needed, 0);
            }
        }
        for (group, capacity) in &groups {
            network.arc(number(group), end - 1, (*capacity as f64 * fill) as u64, 0);
        }
        network.max_flow(end, end - 1) as f64 >= needed as f64 * 0.999_99
    };
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..24 {
        let middle = (low + high) / 2.0;
        if is_enough(middle) { high = middle } else { low = middle }
    }
    high
}
