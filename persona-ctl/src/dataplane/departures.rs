//! Departure times: which devices have them, and the cells that hold subjects to their rates.
//!
//! Cells are filled before a device or a packet names them, and emptied after none does. What is due stays in a cell whose
//! rate changes: a packet that is let in while the cell is written may count for nothing, once.

use std::collections::BTreeMap;

use aya::programs::TcAttachType;
use persona_common::departure::{DEPARTURE_CLASS, Departure};

use super::attach;
use super::error::DataplaneError;
use super::node::NodeDataplane;

/// The program that says when packets leave.
const DEPART: &str = "depart";

/// What a cell holds to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldRate {
    /// Bits per second of inner IP bytes.
    pub rate_bps: u64,
    /// How much leaves at once after a while without packets, bytes.
    pub burst_bytes: u64,
    /// How much may wait, bytes.
    pub queue_bytes: u64,
}

/// Every cell in use, and the devices whose packets they are for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Departures {
    /// Cell, from 1 on → what it holds to.
    pub cells: BTreeMap<u16, HeldRate>,
    /// Device index → the cell of all that leaves by it; 0: its packets name theirs ([`class_of`]).
    pub devices: BTreeMap<u32, u16>,
}

/// The `skb->priority` by which a packet names its cell.
pub const fn class_of(cell: u16) -> u32 {
    DEPARTURE_CLASS | cell as u32
}

impl NodeDataplane {
    /// Adds and changes what `wanted` says, and leaves cells and devices that it does not name.
    pub fn raise_departures(&mut self, wanted: &Departures) -> Result<(), DataplaneError> {
        if self.departures.as_ref() == Some(wanted) {
            return Ok(());
        }
        self.departures = None;
        for (cell, rate) in &wanted.cells {
            let known = self.maps.departures.get((*cell).into())?;
            let wanted = Departure::new(rate.rate_bps, rate.burst_bytes, rate.queue_bytes);
            if !known.is_like(&wanted) {
                self.maps.departures.set((*cell).into(), Departure { due_ns: known.due_ns, ..wanted })?;
            }
        }
        for (ifindex, cell) in &wanted.devices {
            self.maps.departure_devices.put(*ifindex, (*cell).into())?;
            self.attach_departures(*ifindex)?;
        }
        Ok(())
    }

    /// Removes the cells and devices that `wanted` does not name.
    pub fn trim_departures(&mut self, wanted: &Departures) -> Result<(), DataplaneError> {
        if self.departures.as_ref() == Some(wanted) {
            return Ok(());
        }
        let kept: Vec<u32> = wanted.devices.keys().copied().collect();
        attach::reap_links(&self.pins.links, &[DEPART], &kept)?;
        for (ifindex, _) in self.maps.departure_devices.entries()? {
            if !wanted.devices.contains_key(&ifindex) {
                self.maps.departure_devices.remove(&ifindex)?;
            }
        }
        for (cell, _) in self.maps.departures.used(|cell| *cell != Departure::default())? {
            if !u16::try_from(cell).is_ok_and(|cell| wanted.cells.contains_key(&cell)) {
                self.maps.departures.set(cell, Departure::default())?;
            }
        }
        self.departures = Some(wanted.clone());
        Ok(())
    }

    /// Puts this binary's program on the devices that an earlier process attached.
    pub(super) fn replace_departures(&mut self) -> Result<(), DataplaneError> {
        for (ifindex, _) in self.maps.departure_devices.entries()? {
            match self.attach_departures(ifindex) {
                // It vanished while nobody looked.
                Err(DataplaneError::NoDevice { .. }) => self.maps.departure_devices.remove(&ifindex)?,
                outcome => outcome?,
            }
        }
        Ok(())
    }

    fn attach_departures(&mut self, ifindex: u32) -> Result<(), DataplaneError> {
        self.attach((DEPART, TcAttachType::Egress), ifindex)
    }
}
