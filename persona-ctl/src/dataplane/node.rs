//! A node's data plane: its programs, maps and links, all pinned.
//!
//! Whoever opens it again finds everything where it was: flows go on, counters go on, no packet is lost.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use aya::Ebpf;
use persona_common::ABI_VERSION;
use persona_common::node::{Liveness, NodeConfig};
use persona_core::ids::{EdgeNumber, Generation, SubjectNumber, Vni};

use super::attach;
use super::bpffs::PinDirectory;
use super::coexist::Coexistence;
use super::counters::{RawCounters, SubjectTotal};
use super::departures::Departures;
use super::error::DataplaneError;
use super::loader;
use super::maps::Cells;
use super::node_cut::CutLease;
use super::node_fates::NodeFates;
use super::node_maps::{NodeIndex, NodeMaps};
use super::node_validate::validate;
use super::node_wire::numbers_by_wire;
use super::object;
use super::packet_log::{PacketLine, PacketLog, PacketLogging};
use super::tables::NodeTables;
use super::upgrade::{Upgrade, VersionCell};
use super::writers::LivenessWriter;

/// Where the ABI version is: the offset of `abi_version`, in every version.
const VERSION: VersionCell = VersionCell { map: "NODE_CONFIG", offset: 0 };

/// How a node's data plane is opened.
#[derive(Debug, Clone)]
pub struct NodeOptions {
    /// Where the bpffs is, or shall be mounted.
    pub bpffs: PathBuf,
    /// Devices that lead to edges and out of the host, by interface index.
    pub uplinks: Vec<u32>,
    /// Whether the guard drops every forwarded packet that no program of ours has let through.
    pub guard_all_forwarded: bool,
    /// For how long TCP in mid-stream passes as it is; counted from when programs are opened over maps without tables.
    pub adopt: Duration,
    /// What is done about programs of others.
    pub coexist: Coexistence,
    /// Whether the programs log every packet.
    pub logging: PacketLogging,
}

/// A node's programs, maps and links. Dropping it leaves everything attached.
pub struct NodeDataplane {
    pub(super) ebpf: Ebpf,
    pub(super) pins: PinDirectory,
    pub(super) maps: NodeMaps,
    pub(super) index: NodeIndex,
    pub(super) coexist: Coexistence,
    pub(super) uplinks: Vec<u32>,
    /// The encrypted tunnel's device that this process has attached to.
    pub(super) wire_ifindex: Option<u32>,
    /// The one whose program stays: also one that an earlier process has left, until the first tables.
    pub(super) wire_kept: Option<u32>,
    /// Numbers under which edges stand in the maps as the tunnel reaches them.
    pub(super) wire_numbers: BTreeSet<u32>,
    /// The tables in force, as far as this process has written them.
    applied: Option<NodeTables>,
    /// The departure times in force, as far as this process has written them.
    pub(super) departures: Option<Departures>,
    /// Flows that were cut and not told of yet.
    pub(super) cut: Vec<CutLease>,
    liveness: Mutex<Cells<Liveness>>,
}

impl NodeDataplane {
    /// Loads the programs over whatever is pinned already, and attaches or replaces those at the uplinks.
    pub fn open(options: &NodeOptions) -> Result<Self, DataplaneError> {
        let pins = PinDirectory::prepare(&options.bpffs, "node")?;
        let (mut ebpf, upgrade) = loader::load(object::node(), &pins, VERSION, options.logging)?;
        let mut maps = NodeMaps::take(&mut ebpf)?;
        let liveness = Mutex::new(Cells::take(&mut ebpf, "LIVENESS")?);
        let index = NodeIndex::recover(&maps)?;
        let is_first = !has_tables(&maps, &index)?;
        write_config(&mut maps, options, is_first)?;
        for program in ["from_workload", "to_workload", "from_edge", "guard", "depart"] {
            attach::load_tc(&mut ebpf, program)?;
        }
        let (uplinks, cut, coexist) = (Vec::new(), Vec::new(), options.coexist);
        let (applied, departures, wire_ifindex) = Default::default();
        let wire_numbers = numbers_by_wire(&maps)?;
        let wire_kept = Some(maps.wire.get(0)?.ifindex).filter(|ifindex| *ifindex != 0);
        let mut dataplane = Self {
            ebpf,
            pins,
            maps,
            index,
            coexist,
            uplinks,
            wire_ifindex,
            wire_kept,
            wire_numbers,
            applied,
            departures,
            cut,
            liveness,
        };
        dataplane.set_uplinks(&options.uplinks)?;
        dataplane.replace_devices()?;
        dataplane.replace_departures()?;
        upgrade.map_or(Ok(()), Upgrade::finish)?;
        dataplane.reap_vanished()?;
        Ok(dataplane)
    }

    /// Makes the maps and the attached devices what the tables say. Tables that contradict themselves are refused before
    /// anything is written; the same tables again change nothing. After a write that fails the last tables that this value
    /// applied are in force again; if it has applied none, what the maps held is in part what `tables` says.
    pub fn apply(&mut self, tables: &NodeTables) -> Result<(), DataplaneError> {
        validate(tables).map_err(DataplaneError::Invalid)?;
        let outcome = self.apply_validated(tables);
        match &outcome {
            Ok(()) if self.applied.as_ref() == Some(tables) => {}
            Ok(()) => self.applied = Some(tables.clone()),
            Err(DataplaneError::Invalid(_)) => {}
            Err(_) => self.restore()?,
        }
        outcome
    }

    /// After a write that failed: what the maps hold is read anew, and the tables that were in force before are put back,
    /// if this process has applied any. One that has only just started has not: its caller applies the state that it kept
    /// (the agent does, in the same pass). What it was that failed is the caller's to tell.
    fn restore(&mut self) -> Result<(), DataplaneError> {
        let (rows, spare_rows) = (self.index.group_rows.clone(), self.index.spare_rows.clone());
        self.index = NodeIndex { group_rows: rows, spare_rows, ..NodeIndex::recover(&self.maps)? };
        match self.applied.take() {
            None => Ok(()),
            Some(before) => {
                self.apply_validated(&before)?;
                self.applied = Some(before);
                Ok(())
            }
        }
    }

    /// Says whether an edge is alive and which generation its lease table has reached. Takes one map write.
    pub fn set_edge_liveness(
        &self,
        edge: EdgeNumber,
        alive: bool,
        generation: Generation,
    ) -> Result<(), DataplaneError> {
        let cell = Liveness { generation: generation.0, alive: alive.into(), known: 1 };
        self.liveness.lock().expect("nobody panics while holding it").set(edge.0.into(), cell)
    }

    /// A handle for a thread that must not wait for [`Self::apply`].
    pub fn liveness_writer(&self) -> Result<LivenessWriter, DataplaneError> {
        LivenessWriter::open(&self.pins)
    }

    /// A reader of the table of fragments, for the slow path's thread.
    pub fn fragment_fates(&self) -> Result<NodeFates, DataplaneError> {
        NodeFates::open(&self.pins)
    }

    /// What was last said about an edge. None: nothing yet.
    pub fn edge_liveness(&self, edge: EdgeNumber) -> Result<Option<(bool, Generation)>, DataplaneError> {
        let cell = self.liveness.lock().expect("nobody panics while holding it").get(edge.0.into())?;
        Ok((cell.known != 0).then_some((cell.alive != 0, Generation(cell.generation))))
    }

    /// Counters since the programs were first attached.
    pub fn counters(&self) -> Result<RawCounters, DataplaneError> {
        let mut counters = RawCounters { drops: self.maps.drops.totals()?, ..RawCounters::default() };
        let traffic = self.maps.subject_traffic.of_keys(&self.index.subjects)?;
        let counts = self.maps.subject_counts.of_keys(&self.index.subjects)?;
        for ((number, traffic), (_, counts)) in traffic.into_iter().zip(counts) {
            let (opened_flow_count, dropped_packet_count) = (counts.opened_flows, counts.dropped_packets);
            let total = SubjectTotal { traffic, opened_flow_count, dropped_packet_count };
            counters.subjects.insert(SubjectNumber(number), total);
        }
        let personas = self.maps.persona_traffic.of_keys(&self.index.personas)?;
        counters.personas.extend(personas.into_iter().map(|(vni, traffic)| (Vni(vni), traffic)));
        Ok(counters)
    }

    /// The programs' log of packets, to be read by `tell`. Can be taken once, and has lines only under
    /// [`PacketLogging::On`].
    pub fn packet_log(
        &mut self,
        tell: impl Fn(PacketLine) + Send + Sync + 'static,
    ) -> Result<PacketLog, DataplaneError> {
        PacketLog::take(&mut self.ebpf, tell)
    }

    /// Takes our programs off devices that vanished or left for another namespace; says which, by program and index.
    pub fn reap_vanished(&mut self) -> Result<Vec<String>, DataplaneError> {
        attach::reap_vanished(&self.pins.links)
    }

    /// The loaded programs, for tests that run them on built packets.
    pub fn programs(&self) -> &Ebpf {
        &self.ebpf
    }

    /// Whether an agent's tables are in the maps: subjects or devices.
    pub fn has_tables(&self) -> Result<bool, DataplaneError> {
        has_tables(&self.maps, &self.index)
    }
}

fn has_tables(maps: &NodeMaps, index: &NodeIndex) -> Result<bool, DataplaneError> {
    Ok(index.subjects.iter().next().is_some() || !maps.devices.entries()?.is_empty())
}

/// A later start opens no second window of adoption: what has no record by then has expired, and must not leave bare.
fn write_config(maps: &mut NodeMaps, options: &NodeOptions, is_first: bool) -> Result<(), DataplaneError> {
    let before = maps.config.get(0)?;
    let now_secs = super::sys::coarse_secs().wrapping_add(before.clock_offset_secs);
    let adopt_secs = u32::try_from(options.adopt.as_secs()).unwrap_or(u32::MAX);
    let adopt_until_secs = match adopt_secs {
        0 => 0,
        secs if is_first => now_secs.saturating_add(secs),
        secs => before.adopt_until_secs.min(now_secs.saturating_add(secs)),
    };
    let config = NodeConfig {
        abi_version: ABI_VERSION,
        adopt_until_secs,
        guard_all_forwarded: options.guard_all_forwarded.into(),
        ..before
    };
    maps.config.put(0, config)
}
