//! Made-up fleets: in each, edges stand in groups of their own or in regions, and every draw comes from one seed.

#![allow(dead_code, reason = "every test binary uses a part")]

pub(crate) mod flow;
pub(crate) mod optimum;
pub(crate) mod units;

use persona_core::document::Format;
use persona_core::plan::{
    Capacity, Demand, Fleet, FleetEdge, FleetNode, FleetPersona, FleetSubject, Path, parse_fleet,
};
use persona_core::units::BitRate;

/// Numbers that look random and come out alike each time.
pub(crate) struct Noise(pub(crate) u64);

impl Noise {
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (((self.0 >> 32) * end) >> 32).min(end - 1)
    }

    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    pub(crate) fn hits(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// Different numbers below `end`, in order.
    pub(crate) fn some_of(&mut self, count: usize, end: usize) -> Vec<usize> {
        let mut all: Vec<usize> = (0..end).collect();
        for at in 0..count.min(end) {
            let other = at + self.below((end - at) as u64) as usize;
            all.swap(at, other);
        }
        all.truncate(count);
        all.sort_unstable();
        all
    }
}

pub(crate) fn edge(name: &str, group: &str, leases: u64) -> FleetEdge {
    FleetEdge {
        name: name.parse().expect("it is a name"),
        group: group.parse().expect("it is a name"),
        location: None,
        capacity: Capacity { leases: Some(leases), ..Capacity::default() },
        service: Default::default(),
        capabilities: Vec::new(),
        labels: Default::default(),
        content_rtt_ms: Default::default(),
    }
}

pub(crate) fn persona(name: &str, groups: impl IntoIterator<Item = String>) -> FleetPersona {
    FleetPersona {
        name: name.parse().expect("it is a name"),
        groups: groups.into_iter().map(|group| group.parse().expect("it is a name")).collect(),
        requires: Vec::new(),
        prefers: Vec::new(),
        content: None,
        path: None,
    }
}

pub(crate) fn subject(persona: &str, demand: Demand) -> FleetSubject {
    FleetSubject {
        workload: None,
        personas: vec![persona.parse().expect("it is a name")],
        group: None,
        demand,
        requires: Vec::new(),
        prefers: Vec::new(),
        content: None,
        labels: Default::default(),
    }
}

pub(crate) fn node(name: &str, subjects: Vec<FleetSubject>) -> FleetNode {
    let name = name.parse().expect("it is a name");
    FleetNode { name, location: None, labels: Default::default(), paths: Default::default(), subjects }
}

/// A fleet in which each subject needs one lease and may be on a few edges of its own.
pub(crate) fn unit_fleet(noise: &mut Noise, subject_count: usize, edge_count: usize, choices: (u64, u64)) -> Fleet {
    let capacity = |noise: &mut Noise| noise.between(2, 4) * (subject_count as u64).div_ceil(edge_count as u64);
    let edges = (0..edge_count).map(|it| edge(&format!("e{it:03}"), &format!("g{it:03}"), capacity(noise))).collect();
    let mut fleet = Fleet { edges, ..Fleet::default() };
    for it in 0..subject_count {
        let count = noise.between(choices.0, choices.1) as usize;
        let groups = noise.some_of(count, edge_count);
        let name = format!("p{it:04}");
        fleet.personas.push(persona(&name, groups.iter().map(|group| format!("g{group:03}"))));
        let mut node = node(&format!("n{it:04}"), vec![subject(&name, Demand::default())]);
        for edge in groups {
            let rtt_ms = noise.between(1, 150) as f64;
            node.paths.insert(
                format!("e{edge:03}").parse().expect("it is a name"),
                Path { rtt_ms, loss: Default::default(), jitter_ms: 0.0 },
            );
        }
        fleet.nodes.push(node);
    }
    fleet
}

/// Regions of eight edges; each node may be in three of them that lie next to each other, and has measured its paths.
pub(crate) fn regional_fleet(noise: &mut Noise, node_count: usize, region_count: usize) -> Fleet {
    let mut fleet = Fleet::default();
    let mean = (node_count / region_count / 8).max(1) as u64;
    for region in 0..region_count {
        for it in 0..8 {
            let mut edge = edge(&format!("r{region:03}-{it}"), &format!("r{region:03}"), mean * 4);
            // Demands are 20 Mbit/s on the mean; edges differ by a factor of two.
            edge.capacity.rate = Some(BitRate(mean * 20_000_000 * noise.between(10, 20) / 10));
            fleet.edges.push(edge);
        }
        let groups = (0..3).map(|next| format!("r{:03}", (region + next) % region_count));
        fleet.personas.push(persona(&format!("p{region:03}"), groups));
    }
    for it in 0..node_count {
        fleet.nodes.push(regional_node(noise, it, region_count));
    }
    fleet
}

pub(crate) fn regional_node(noise: &mut Noise, number: usize, region_count: usize) -> FleetNode {
    let region = noise.below(region_count as u64) as usize;
    let rate = BitRate(noise.between(1, 39) * 1_000_000);
    let demand = Demand { rate, ..Demand::default() };
    let mut node = node(&format!("n{number:06}"), vec![subject(&format!("p{region:03}"), demand)]);
    for next in 0..3 {
        for it in 0..8 {
            let name = format!("r{:03}-{it}", (region + next) % region_count);
            let rtt_ms = (noise.between(10, 300) + 200 * next as u64) as f64 / 10.0;
            let jitter_ms = noise.below(20) as f64 / 10.0;
            node.paths
                .insert(name.parse().expect("it is a name"), Path { rtt_ms, loss: Default::default(), jitter_ms });
        }
    }
    node
}

/// The fleet of the documentation.
pub(crate) fn example() -> Fleet {
    let text = include_str!("../fleets/three-cities.yaml");
    parse_fleet(text, Format::Yaml).unwrap_or_else(|errors| panic!("{errors:?}"))
}
