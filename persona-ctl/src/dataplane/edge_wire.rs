//! The encrypted tunnel in an edge's maps, and the programs at its device. XDP cannot send there: what is to go that way it
//! leaves to the programs at TC, which then hang on both devices too.

use aya::programs::TcAttachType;

use super::attach;
use super::edge::{EdgeDataplane, Hook};
use super::error::DataplaneError;
use super::node_wire::wire_hop;
use super::tables::EdgeTables;

impl EdgeDataplane {
    /// Puts the programs where the tunnel needs them, and says where it is.
    pub(super) fn put_wire(&mut self, tables: &EdgeTables) -> Result<(), DataplaneError> {
        let wire = &tables.wire;
        if self.wire_ifindex != wire.ifindex {
            if let Some(ifindex) = wire.ifindex {
                self.attach_inside("wire", ifindex)?;
            }
            self.wire_ifindex = wire.ifindex;
            let kept: Vec<u32> = wire.ifindex.into_iter().collect();
            attach::reap_links(&self.pins.links, &["tc-wire"], &kept)?;
        }
        let needs_tc = self.hook == Hook::Xdp && wire.ifindex.is_some() && !wire.encrypted.is_empty();
        if needs_tc && !self.has_tc_too {
            let (inside, outside) = self.sides;
            self.attach_inside("inside", inside)?;
            let pin = self.pins.links.join(format!("tc-outside-{outside}"));
            let coexist = self.coexist;
            attach::attach_tc(&mut self.ebpf, "edge_outside", outside, TcAttachType::Ingress, &pin, coexist)?;
            self.has_tc_too = true;
        }
        self.maps.wire.put(0, wire_hop(wire))
    }

    fn attach_inside(&mut self, side: &str, ifindex: u32) -> Result<(), DataplaneError> {
        let pin = self.pins.links.join(format!("tc-{side}-{ifindex}"));
        attach::attach_tc(&mut self.ebpf, "edge_inside", ifindex, TcAttachType::Ingress, &pin, self.coexist)
    }
}

/// Whether packets that a peer shall take go to it through the tunnel: whose they are isn't always known, so all do as soon
/// as one of them might be encrypted.
pub(super) fn relays_by_wire(tables: &EdgeTables) -> bool {
    !tables.wire.encrypted.is_empty()
}
