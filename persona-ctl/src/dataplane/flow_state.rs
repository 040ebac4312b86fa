//! Whether a flow that was seen to open still is: asked of the maps, because one that falls silent ends without a word.

use std::net::IpAddr;
use std::path::Path;

use persona_common::addr::address6;
use persona_common::flow::{FLOW_CLOSED, FLOW_SHARED, FlowKey, FlowValue, Slot};
use persona_common::record::{Record, RecordKey};

use super::bpffs::PinDirectory;
use super::error::DataplaneError;
use super::maps::{Cells, Table};
use super::sys;
use crate::monitor::FlowView;

/// A reader of the node's flows.
pub struct FlowStates {
    flows: Table<FlowKey, FlowValue>,
    slots: Cells<Slot>,
    records: Table<RecordKey, Record>,
}

impl FlowStates {
    /// Opens the maps that are pinned below `bpffs`.
    pub fn open(bpffs: &Path) -> Result<Self, DataplaneError> {
        let pins = PinDirectory::existing(bpffs, "node")?;
        Ok(Self {
            flows: Table::from_pin(&pins, "FLOWS")?,
            slots: Cells::from_pin(&pins, "SLOTS")?,
            records: Table::from_pin(&pins, "RECORDS")?,
        })
    }

    /// Whether a flow has ended: closed by both sides, reset, silent for too long, or swept.
    pub fn has_ended(&self, flow: &FlowView) -> Result<bool, DataplaneError> {
        if let (IpAddr::V4(inner), IpAddr::V4(remote)) = (flow.inner, flow.remote) {
            let key = FlowKey {
                subject: flow.subject,
                inner_address: u32::from_ne_bytes(inner.octets()),
                remote_address: u32::from_ne_bytes(remote.octets()),
                inner_port: flow.inner_port,
                remote_port: flow.remote_port,
                protocol: flow.protocol.into(),
            };
            if let Some(value) = self.flows.get(&key)? {
                return self.has_slot_ended(&value);
            }
        }
        // IPv6 and configured leases have records and no slots.
        self.has_record_ended(flow)
    }

    fn has_slot_ended(&self, flow: &FlowValue) -> Result<bool, DataplaneError> {
        if flow.flags & FLOW_CLOSED != 0 || flow.flags & FLOW_SHARED != 0 {
            return Ok(flow.flags & FLOW_CLOSED != 0);
        }
        let slot = self.slots.get(flow.slot_index)?;
        Ok(slot.sequence != flow.sequence || !slot.is_live(sys::coarse_secs()))
    }

    fn has_record_ended(&self, flow: &FlowView) -> Result<bool, DataplaneError> {
        let octets = |address: IpAddr| match address {
            IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
            IpAddr::V6(address) => address.octets(),
        };
        let key = RecordKey {
            subject: flow.subject,
            local: address6(octets(flow.inner)),
            remote: address6(octets(flow.remote)),
            local_port: flow.inner_port,
            remote_port: flow.remote_port,
            protocol: flow.protocol.into(),
        };
        let Some(record) = self.records.get(&key)? else { return Ok(true) };
        Ok(record.is_over() || !record.is_live(key.protocol, sys::coarse_secs()))
    }
}
