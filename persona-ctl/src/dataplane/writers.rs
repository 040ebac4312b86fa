//! Handles for threads that must never wait: each has file descriptors of its own, and no lock that an apply holds.

use std::net::IpAddr;

use persona_common::addr::Address6;
use persona_common::node::Liveness;
use persona_core::ids::{EdgeNumber, Generation};

use super::bpffs::PinDirectory;
use super::error::DataplaneError;
use super::maps::{Cells, Table, address6};

/// Tells a node's programs about edges.
pub struct LivenessWriter {
    liveness: Cells<Liveness>,
}

impl LivenessWriter {
    pub(super) fn open(pins: &PinDirectory) -> Result<Self, DataplaneError> {
        Ok(Self { liveness: Cells::from_pin(pins, "LIVENESS")? })
    }

    /// Says whether an edge is alive and which generation its lease table has reached. Takes one map write.
    pub fn set(&mut self, edge: EdgeNumber, alive: bool, generation: Generation) -> Result<(), DataplaneError> {
        self.liveness.set(edge.0.into(), Liveness { generation: generation.0, alive: alive.into(), known: 1 })
    }
}

/// Tells an edge's programs what to answer for, and who can be reached.
pub struct OwnershipWriter {
    owned: Table<Address6, u32>,
    outside_alive: Cells<u32>,
    peer_alive: Cells<u32>,
    node_indices: Table<Address6, u32>,
    node_silent: Cells<u32>,
}

impl OwnershipWriter {
    pub(super) fn open(pins: &PinDirectory) -> Result<Self, DataplaneError> {
        Ok(Self {
            owned: Table::from_pin(pins, "OWNED")?,
            outside_alive: Cells::from_pin(pins, "OUTSIDE_ALIVE")?,
            peer_alive: Cells::from_pin(pins, "PEER_ALIVE")?,
            node_indices: Table::from_pin(pins, "NODE_INDICES")?,
            node_silent: Cells::from_pin(pins, "NODE_SILENT")?,
        })
    }

    /// Says whether this edge answers for an address: ARP for an egress address, neighbour solicitations for the next hop
    /// of IPv6 pools.
    pub fn set_owned(&mut self, address: IpAddr, owned: bool) -> Result<(), DataplaneError> {
        if owned { self.owned.put(address6(address), 1) } else { self.owned.remove(&address6(address)) }
    }

    /// Says whether the outside next hop answers; while it doesn't, probes stay unanswered.
    pub fn set_outside_alive(&mut self, alive: bool) -> Result<(), DataplaneError> {
        self.outside_alive.set(0, alive.into())
    }

    /// What was last said of the outside, perhaps by a process before this one.
    pub fn is_outside_alive(&self) -> Result<bool, DataplaneError> {
        Ok(self.outside_alive.get(0)? != 0)
    }

    /// Says whether a peer answers probes: only then fragments and packets to unheard nodes are relayed through it.
    pub fn set_peer_alive(&mut self, peer: EdgeNumber, alive: bool) -> Result<(), DataplaneError> {
        self.peer_alive.set(peer.0.into(), alive.into())
    }

    /// Says whether a node has been heard lately; while it hasn't, packets to it are relayed through a peer. False: the
    /// node is in no table yet; a node that comes counts as heard.
    pub fn set_node_heard(&mut self, address: IpAddr, heard: bool) -> Result<bool, DataplaneError> {
        match self.node_indices.get(&address6(address))? {
            Some(index) => self.node_silent.put(index, (!heard).into()).map(|()| true),
            None => Ok(false),
        }
    }
}
