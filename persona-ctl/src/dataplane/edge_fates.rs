//! What becomes of fragments at an edge: the port that the first left in `FRAGMENTS` names the block, the block its
//! holder.

use std::net::IpAddr;

use persona_common::addr::address_be;
use persona_common::drop::DropReason;
use persona_common::edge::{EdgeBlock, EdgeConfig, EdgeNode, EdgePeer, NextHop};
use persona_common::encapsulation::RELAY;
use persona_common::flow::{entropy_port, flow_hash};
use persona_common::fragment::{FragmentKey, FragmentValue};
use persona_common::node::EgressAddress;

use super::bpffs::PinDirectory;
use super::error::DataplaneError;
use super::maps::{Cells, Table};
use super::node_fates::{address6_from, fragment_key};
use super::sys;
use crate::slow_path::{Fate, Fates, Hops, Key, Outer, Rewrite, Way, wire_ifindex};

/// Reads an edge's table of fragments.
pub struct EdgeFates {
    fragments: Table<FragmentKey, FragmentValue>,
    config: Cells<EdgeConfig>,
    addresses: Table<u32, EgressAddress>,
    blocks: Cells<EdgeBlock>,
    personas: Cells<u32>,
    nodes: Cells<EdgeNode>,
    node_silent: Cells<u32>,
    peers: Cells<EdgePeer>,
    peer_alive: Cells<u32>,
    wire: Cells<NextHop>,
}

impl EdgeFates {
    pub(super) fn open(pins: &PinDirectory) -> Result<Self, DataplaneError> {
        Ok(Self {
            fragments: Table::from_pin(pins, "FRAGMENTS")?,
            config: Cells::from_pin(pins, "EDGE_CONFIG")?,
            addresses: Table::from_pin(pins, "ADDRESSES")?,
            blocks: Cells::from_pin(pins, "BLOCKS")?,
            personas: Cells::from_pin(pins, "PERSONAS")?,
            nodes: Cells::from_pin(pins, "NODES")?,
            node_silent: Cells::from_pin(pins, "NODE_SILENT")?,
            peers: Cells::from_pin(pins, "PEERS")?,
            peer_alive: Cells::from_pin(pins, "PEER_ALIVE")?,
            wire: Cells::from_pin(pins, "WIRE")?,
        })
    }

    fn look_up(&self, key: &Key) -> Result<Option<Fate>, DataplaneError> {
        // Only IPv4 waits here: IPv6 goes by prefix, without the first.
        let (Way::Inward, IpAddr::V4(source), IpAddr::V4(destination)) = (key.way, key.source, key.destination) else {
            return Ok(Some(Fate::Drop(DropReason::Fragment)));
        };
        let config = self.config.get(0)?;
        let now_secs = sys::coarse_secs().wrapping_add(config.clock_offset_secs);
        let Some(value) = self.fragments.get(&fragment_key(key))?.filter(|value| value.is_fresh(now_secs)) else {
            return Ok(None);
        };
        let (source, destination) = (address_be(source.octets()), address_be(destination.octets()));
        let Some(address) = self.addresses.get(&destination)? else {
            return Ok(Some(Fate::Drop(DropReason::Unleased)));
        };
        let block = self.blocks.get(address.block_base + (value.port >> address.block_bits))?;
        let Some(node_index) = block.node_index() else {
            return Ok(Some(Fate::Drop(DropReason::Unleased)));
        };
        let node = self.nodes.get(node_index)?;
        let entropy_port = entropy_port(flow_hash(destination, source, key.id, key.protocol));
        if self.node_silent.get(node_index)? != 0
            && !block.is_encrypted()
            && let Some((from, to)) = self.way_to_peer(&config)?
        {
            let outer = Outer { reserved: RELAY, ..Outer::new(from, to, entropy_port) };
            return Ok(Some(Fate::Tunnel { rewrite: Rewrite::default(), outer, mtu: block.mtu() as u16, class: 0 }));
        }
        let ends = address6_from(config.underlay_address).zip(address6_from(node.address));
        let Some((from, to)) = ends else { return Ok(Some(Fate::Drop(DropReason::Unleased))) };
        let outer = Outer {
            vni: self.personas.get(block.persona_index())?,
            wire_ifindex: self.wire_of(block)?,
            ..Outer::new(from, to, entropy_port)
        };
        let rewrite = Rewrite { hops: Hops::Count, ..Rewrite::default() };
        Ok(Some(Fate::Tunnel { rewrite, outer, mtu: block.mtu() as u16, class: 0 }))
    }

    /// The encrypted tunnel's device, for a block that wants it.
    fn wire_of(&self, block: EdgeBlock) -> Result<u32, DataplaneError> {
        let device = self.wire.get(0)?.ifindex;
        Ok(wire_ifindex(block.is_encrypted(), (device != 0).then_some(device)))
    }

    /// From here to a peer that is alive: it may reach a node that this edge does not.
    fn way_to_peer(&self, config: &EdgeConfig) -> Result<Option<(IpAddr, IpAddr)>, DataplaneError> {
        for index in 0..config.peer_count {
            let peer = self.peers.get(index)?;
            if self.peer_alive.get(peer.number)? != 0 {
                return Ok(address6_from(config.underlay_address).zip(address6_from(peer.address)));
            }
        }
        Ok(None)
    }
}

impl Fates for EdgeFates {
    fn find(&mut self, key: &Key) -> Option<Fate> {
        self.look_up(key).unwrap_or_else(|error| {
            tracing::debug!(error = crate::host::error_chain(&error), "fragments cannot be looked up");
            None
        })
    }
}
