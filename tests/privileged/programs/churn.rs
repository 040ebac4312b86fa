//! A day of flows that come and go under leases that come and go: nothing leaves under what isn't held, nothing is left over.

use std::collections::VecDeque;
use std::net::IpAddr;

use aya::maps::{Array, HashMap, Map, MapData};
use persona_common::flow::{FlowKey, FlowValue, MappingKey, MappingValue};
use persona_common::record::{Record, RecordKey};
use persona_common::share::{SharedFlow, SharedKey};
use persona_core::ids::{EdgeNumber, Generation, LeaseId};
use persona_ctl::dataplane::NodeDataplane;
use persona_ctl::dataplane::tables::*;
use persona_tests::model::generate::{Random, frame, packet, reply, turned_around};
use persona_tests::model::tunnel;

use super::clock::Clock;
use super::frames::{ethernet, geneve};
use super::fuzz_world::{EDGE4, NODE4, Scene, node_tables, underlays, workload_places};
use super::namespace::Namespace;
use super::run::{Facts, TC_REDIRECT, run_tc};
use super::world::{World, is_privileged};

/// One step of the simulated day, seconds.
const STEP_SECS: u32 = 20;
const STEP_COUNT: u32 = 24 * 3_600 / STEP_SECS;
/// Steps between two sweeps, and between two switches to another lease.
const SWEEP_STEPS: u32 = 3;
const SWITCH_STEPS: u32 = 75;
const PACKETS_PER_STEP: usize = 8;
/// Longer than any flow lives without packets.
const SILENCE_SECS: u32 = 7_500;

/// The leases that one switch gives: port blocks and a prefix.
fn leases(number: u16, like: &[LeaseEntry]) -> Vec<LeaseEntry> {
    let mut leases = like[..2].to_vec();
    for (offset, lease) in leases.iter_mut().enumerate() {
        lease.id = LeaseId(100 + 2 * u64::from(number) + offset as u64);
        match &mut lease.space {
            LeaseSpace::Ports { blocks, .. } => *blocks = vec![100 + 2 * number, 101 + 2 * number],
            LeaseSpace::Prefix { prefix } => {
                let mut segments = prefix.segments();
                segments[3] = number;
                *prefix = segments.into();
            }
        }
    }
    leases
}

struct Day {
    node: NodeDataplane,
    clock: Clock,
    tables: NodeTables,
    /// Held, oldest first; the last one is for new flows.
    held: VecDeque<Vec<LeaseEntry>>,
    maps: std::path::PathBuf,
    random: Random,
    returned: u32,
}

impl Day {
    fn switch(&mut self, number: u16) {
        let new = leases(number, &self.tables.leases);
        let egress = self.tables.subjects[0].network.as_mut().unwrap();
        (egress.lease, egress.lease6) = (Some(new[0].id), Some(new[1].id));
        self.held.push_back(new);
        self.apply();
    }

    fn apply(&mut self) {
        let tables = NodeTables { leases: self.held.iter().flatten().cloned().collect(), ..self.tables.clone() };
        self.node.apply(&tables).unwrap();
        self.node.set_edge_liveness(EdgeNumber(1), true, Generation(3)).unwrap();
    }

    /// Gives back what no flow uses any more.
    fn give_back(&mut self) {
        let newest = self.held.len() - 1;
        let is_over = |leases: &Vec<LeaseEntry>| leases.iter().all(|lease| self.node.drained(lease.id).unwrap());
        let over: Vec<bool> = self.held.iter().enumerate().map(|(at, it)| at != newest && is_over(it)).collect();
        if over.contains(&true) {
            let mut at = 0..;
            self.held.retain(|_| !over[at.next().unwrap()]);
            self.returned += over.iter().filter(|is_over| **is_over).count() as u32;
            self.apply();
        }
    }

    fn pinned(&self, name: &str) -> MapData {
        MapData::from_pin(self.maps.join(name)).unwrap()
    }

    /// A packet out, its answer, and now and then somebody who opens a connection to the workload.
    fn traffic(&mut self) {
        let out = frame(&packet(&mut self.random, &workload_places()), [2; 6], [4; 6]);
        if self.random.chance(10) {
            run_tc(self.node.programs(), "to_workload", &turned_around(&out), Facts::default());
        }
        let outcome = run_tc(self.node.programs(), "from_workload", &out, Facts::default());
        let Ok(found) = tunnel::read(&outcome.bytes) else { return };
        if outcome.verdict != TC_REDIRECT {
            return;
        }
        self.assert_held(found.inner);
        if self.random.chance(70)
            && let Some(answer) = reply(&mut self.random, found.inner)
        {
            let kind = if answer[0] >> 4 == 6 { 0x86dd } else { 0x0800 };
            let mut tunnel = geneve(EDGE4, NODE4, 50_000, found.vni, &answer);
            // The inner protocol stands in the base header.
            tunnel[30..32].copy_from_slice(&u16::to_be_bytes(kind));
            run_tc(self.node.programs(), "from_edge", &ethernet(0x0800, &tunnel), Facts::default());
        }
    }

    fn assert_held(&self, inner: &[u8]) {
        let sent = persona_tests::model::packet::Packet::read(inner).unwrap();
        let is_held = self.held.iter().flatten().any(|lease| match (&lease.space, sent.source) {
            (LeaseSpace::Ports { address, block_bits, blocks }, IpAddr::V4(source)) => {
                let is_cut = u16::from_be_bytes([inner[6], inner[7]]) & 0x3fff != 0;
                let number = if is_cut { u16::from_be_bytes([inner[4], inner[5]]) } else { sent.source_port };
                source == *address && (sent.is_icmp_error(inner) || blocks.contains(&(number >> block_bits)))
            }
            (LeaseSpace::Prefix { prefix }, IpAddr::V6(source)) => prefix.octets()[..8] == source.octets()[..8],
            _ => false,
        });
        assert!(is_held, "{} port {} left and nobody holds it", sent.source, sent.source_port);
    }

    /// Entries of the tables of flows: flows, mappings, shared ports, records, fragments, connections towards workloads.
    fn entry_counts(&self) -> [(&'static str, usize); 4] {
        let flows: HashMap<MapData, FlowKey, FlowValue> = Map::HashMap(self.pinned("FLOWS")).try_into().unwrap();
        let mappings: HashMap<MapData, MappingKey, MappingValue> =
            Map::HashMap(self.pinned("MAPPINGS")).try_into().unwrap();
        let shared: HashMap<MapData, SharedKey, SharedFlow> = Map::HashMap(self.pinned("SHARED")).try_into().unwrap();
        let records: HashMap<MapData, RecordKey, Record> = Map::HashMap(self.pinned("RECORDS")).try_into().unwrap();
        [
            ("FLOWS", flows.keys().count()),
            ("MAPPINGS", mappings.keys().count()),
            ("SHARED", shared.keys().count()),
            ("RECORDS", records.keys().count()),
        ]
    }

    fn total(&self) -> usize {
        self.entry_counts().iter().map(|(_, count)| count).sum()
    }
}

#[test]
fn nothing_is_left_of_a_day_of_flows_and_leases() {
    if !is_privileged() {
        return;
    }
    let namespace = Namespace::new("churn");
    let world = World::new();
    namespace.enter(|| {
        let tables = NodeTables { cgroups: vec![], ..node_tables(Scene::Rewritten, &underlays()[0], 1) };
        let tables = NodeTables { subjects: tables.subjects[..1].to_vec(), ..tables };
        let maps = world.bpffs().join("node").join("maps");
        let held = VecDeque::new();
        let (node, random) = (world.node(), Random::new(24));
        let clock = Clock::new(&world.bpffs());
        let mut day = Day { node, clock, tables, held, maps, random, returned: 0 };
        day.switch(0);
        let (mut removed, mut most) = (0, [0; 2]);
        for step in 1..=STEP_COUNT {
            for _ in 0..PACKETS_PER_STEP {
                day.traffic();
            }
            day.clock.advance(STEP_SECS);
            if step % SWEEP_STEPS == 0 {
                let swept = day.node.sweep().unwrap();
                removed += swept.removed_flow_count + swept.removed_mapping_count;
                day.give_back();
            }
            if step % SWITCH_STEPS == 0 {
                day.switch((step / SWITCH_STEPS) as u16);
                let half = usize::from(step > STEP_COUNT / 2);
                most[half] = most[half].max(day.total());
            }
        }
        let (switches, left) = (STEP_COUNT / SWITCH_STEPS, day.total());
        println!(
            "a day: {switches} switches, {} leases given back, {} still held, {removed} entries swept, at most {} in the \
             morning and {} in the afternoon, {left} at midnight",
            day.returned,
            day.held.len(),
            most[0],
            most[1]
        );
        assert!(removed > 1_000 && left > 0, "there was no traffic to speak of");
        assert!(most[1] < most[0] * 3 / 2, "the tables grow");
        day.clock.advance(SILENCE_SECS);
        let swept = day.node.sweep().unwrap();
        assert_eq!(swept.live_flow_count, 0);
        assert_eq!(day.entry_counts().map(|(_, count)| count), [0; 4], "{:?}", day.entry_counts());
        day.give_back();
        assert_eq!(day.held.len(), 1, "only the newest lease is still held");
        let in_use = day.node.lease_use().unwrap();
        assert_eq!(in_use.len(), 2);
        assert!(in_use.iter().all(|it| it.live_slot_count == 0 && it.shared_port_count == 0), "{in_use:?}");
        let leases: Array<MapData, persona_common::node::Lease> =
            Map::Array(day.pinned("LEASES")).try_into().unwrap();
        let taken = leases.iter().filter(|lease| lease.as_ref().is_ok_and(|lease| lease.id != 0)).count();
        assert_eq!(taken, 2, "cells of leases that were given back are free");
    });
}
