//! Handles for threads that must never wait: each has file descriptors of its own, and no lock that an apply holds.

use std::net::Ipv4Addr;

use persona_common::node::Liveness;
use persona_core::ids::{EdgeNumber, Generation};

use super::bpffs::PinDirectory;
use super::error::DataplaneError;
use super::maps::{Cells, Table, address_be};

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

/// Tells an edge's programs what to answer for.
pub struct OwnershipWriter {
    owned: Table<u32, u32>,
    outside_alive: Cells<u32>,
}

impl OwnershipWriter {
    pub(super) fn open(pins: &PinDirectory) -> Result<Self, DataplaneError> {
        Ok(Self { owned: Table::from_pin(pins, "OWNED")?, outside_alive: Cells::from_pin(pins, "OUTSIDE_ALIVE")? })
    }

    /// Says whether this edge answers ARP for an egress address.
    pub fn set_owned(&mut self, address: Ipv4Addr, owned: bool) -> Result<(), DataplaneError> {
        if owned { self.owned.put(address_be(address), 1) } else { self.owned.remove(&address_be(address)) }
    }

    /// Says whether the outside next hop answers; while it doesn't, probes stay unanswered.
    pub fn set_outside_alive(&mut self, alive: bool) -> Result<(), DataplaneError> {
        self.outside_alive.set(0, alive.into())
    }
}
