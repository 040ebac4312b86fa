//! When the reflecting program last saw a node's probe.

use std::net::IpAddr;
use std::time::Duration;

use persona_common::addr::Address6;

use super::bpffs::PinDirectory;
use super::error::DataplaneError;
use super::maps::{Cells, Table, address6};
use super::sys;

/// Reads the stamps; has file descriptors of its own.
pub struct HeardReader {
    node_indices: Table<Address6, u32>,
    node_heard: Cells<u64>,
}

impl HeardReader {
    pub(super) fn open(pins: &PinDirectory) -> Result<Self, DataplaneError> {
        let (node_indices, node_heard) = (Table::from_pin(pins, "NODE_INDICES")?, Cells::from_pin(pins, "NODE_HEARD")?);
        Ok(Self { node_indices, node_heard })
    }

    /// How long ago a node was heard, to a tick of the coarse clock. None: never, or it is in no table.
    pub fn age(&self, node: IpAddr) -> Result<Option<Duration>, DataplaneError> {
        let Some(index) = self.node_indices.get(&address6(node))? else { return Ok(None) };
        let heard_ns = self.node_heard.get(index)?;
        Ok((heard_ns != 0).then(|| Duration::from_nanos(sys::coarse_ns().saturating_sub(heard_ns))))
    }
}
