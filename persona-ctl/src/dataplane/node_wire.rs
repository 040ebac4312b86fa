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
use super::tables::{NamedRows, NodeTables, WireTable};

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

/// The VNI in a lease's cell.
pub(super) fn vni_cell(vni: u32, is_encrypted: bool) -> u32 {
    if is_encrypted { vni | ENCRYPTED_VNI } else { vni }
}

/// The tunnel's cell in the programs' map.
pub(super) fn wire_hop(wire: &WireTable) -> NextHop {
    NextHop { ifindex: wire.ifindex.unwrap_or(0), resolved: BY_WIRE, ..NextHop::default() }
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
}

impl NamedRows<'_> {
    /// The cells of its rows in the maps.
    pub(super) fn cells(&self) -> Arc<[u32]> {
        let number = |edge: EdgeNumber| match self.by_wire {
            true => number_by_wire(edge).map_or(0, |number| number.0.into()),
            false => u32::from(edge.0),
        };
        self.rows.iter().map(|(first, second)| number(*first) << 16 | number(*second)).collect()
    }
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
        let rows = vec![(EdgeNumber(1), EdgeNumber(0)), (EdgeNumber(2), EdgeNumber(1))];
        let cells = |by_wire| NamedRows { rows: &rows, by_wire }.cells();
        assert_eq!(cells(false)[..], [1 << 16, 2 << 16 | 1]);
        assert_eq!(cells(true)[..], [0x8001 << 16, 0x8002 << 16 | 0x8001]);
    }
}
