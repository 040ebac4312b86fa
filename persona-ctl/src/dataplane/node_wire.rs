//! The encrypted tunnel in a node's maps: every edge that it leads to stands there a second time, under a number of its own
//! whose way is the tunnel's device; groups have a second table, over those numbers. So an edge may be alive and its tunnel
//! not, and no packet of an encrypted lease finds another way.

use std::collections::BTreeSet;
use std::sync::Arc;

use aya::programs::TcAttachType;
use persona_common::edge::{BY_WIRE, NextHop};
use persona_common::encapsulation::ENCRYPTED_VNI;
use persona_common::node::EdgeHop;
use persona_core::ids::EdgeNumber;

use super::attach;
use super::error::DataplaneError;
use super::maps::address6;
use super::node::NodeDataplane;
use super::node_maps::NodeMaps;
use super::node_rows::name_hash;
use super::tables::{GroupTable, LeaseEntry, NodeTables, WireTable};

/// Edges' numbers in the tunnel start here.
const FIRST_NUMBER: u16 = 1 << 15;

/// The number under which an edge is reached through the tunnel. None: its own is too high, which no manager gives before it
/// has given 32,767 others.
pub fn number_by_wire(edge: EdgeNumber) -> Option<EdgeNumber> {
    (1..FIRST_NUMBER).contains(&edge.0).then_some(EdgeNumber(edge.0 | FIRST_NUMBER))
}

/// The numbers in the tunnel that the maps hold, after a restart.
pub(super) fn numbers_by_wire(maps: &NodeMaps) -> Result<BTreeSet<u32>, DataplaneError> {
    let used = maps.edges.used(|hop| hop.ifindex != 0)?;
    Ok(used.into_iter().map(|(number, _)| number).filter(|number| *number >= FIRST_NUMBER.into()).collect())
}

/// The key of a group's table for a lease.
pub(super) fn group_key(entry: &LeaseEntry, wire: &WireTable) -> u64 {
    if wire.is_encrypted(&entry.space) { encrypted_key(entry.group.as_str()) } else { name_hash(entry.group.as_str()) }
}

/// No group's name has a slash.
fn encrypted_key(group: &str) -> u64 {
    name_hash(&format!("{group}/encrypted"))
}

/// The VNI in a lease's cell.
pub(super) fn vni_cell(vni: u32, is_encrypted: bool) -> u32 {
    if is_encrypted { vni | ENCRYPTED_VNI } else { vni }
}

/// The tunnel's cell in the programs' map.
pub(super) fn wire_hop(wire: &WireTable) -> NextHop {
    NextHop { ifindex: wire.ifindex.unwrap_or(0), resolved: BY_WIRE, ..NextHop::default() }
}

/// Keys of all tables: a group's own, and that of its encrypted leases where it has some.
pub(super) fn group_keys(tables: &NodeTables) -> BTreeSet<u64> {
    let own = tables.groups.iter().map(|group| name_hash(group.group.as_str()));
    own.chain(tables.leases.iter().map(|lease| group_key(lease, &tables.wire))).collect()
}

/// The edges as the tunnel reaches them; none without a device.
pub(super) fn edges_by_wire(tables: &NodeTables) -> Vec<(u32, EdgeHop)> {
    let Some(ifindex) = tables.wire.ifindex.filter(|_| !tables.wire.encrypted.is_empty()) else { return Vec::new() };
    let reached = tables.edges.iter().filter(|edge| tables.wire.edges.contains(&edge.address));
    let hops = reached.filter_map(|edge| {
        let address = address6(edge.address);
        Some((number_by_wire(edge.number)?.0.into(), EdgeHop { address, next_hop: address, ifindex }))
    });
    hops.collect()
}

impl NodeDataplane {
    /// Puts the program for what comes from edges on the tunnel's device, and says where the tunnel is.
    pub(super) fn put_wire(&mut self, tables: &NodeTables) -> Result<(), DataplaneError> {
        if self.wire_ifindex != tables.wire.ifindex {
            if let Some(ifindex) = tables.wire.ifindex {
                let pin = self.pins.links.join(format!("from_edge-{ifindex}"));
                attach::attach_tc(&mut self.ebpf, "from_edge", ifindex, TcAttachType::Ingress, &pin, self.coexist)?;
            }
            self.wire_ifindex = tables.wire.ifindex;
        }
        if self.wire_kept != tables.wire.ifindex {
            self.wire_kept = tables.wire.ifindex;
            self.reap_uplinks()?;
        }
        self.maps.wire.put(0, wire_hop(&tables.wire))
    }

    /// The tables of encrypted leases: those of their groups, over the numbers of edges that the tunnel leads to.
    pub(super) fn put_encrypted_groups(&mut self, tables: &NodeTables) -> Result<(), DataplaneError> {
        let encrypted = tables.leases.iter().filter(|lease| tables.wire.is_encrypted(&lease.space));
        let names: BTreeSet<&str> = encrypted.map(|lease| lease.group.as_str()).collect();
        for table in tables.groups.iter().filter(|table| names.contains(table.group.as_str())) {
            self.put_rows(encrypted_key(table.group.as_str()), rows_by_wire(table))?;
        }
        Ok(())
    }
}

fn rows_by_wire(table: &GroupTable) -> Arc<[u32]> {
    let number = |edge: EdgeNumber| number_by_wire(edge).map_or(0, |number| u32::from(number.0));
    table.rows.iter().map(|(first, second)| number(*first) << 16 | number(*second)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_the_tunnel_meet_nobodys() {
        let numbers = [(0, None), (1, Some(0x8001)), (32_767, Some(0xffff)), (32_768, None), (65_535, None)];
        for (number, expected) in numbers {
            assert_eq!(number_by_wire(EdgeNumber(number)).map(|it| it.0), expected, "{number}");
        }
        let table = GroupTable { group: "fra".parse().unwrap(), rows: vec![(EdgeNumber(1), EdgeNumber(0))] };
        assert_eq!(rows_by_wire(&table)[..], [0x8001 << 16]);
        assert_ne!(encrypted_key("fra"), name_hash("fra"));
    }
}
