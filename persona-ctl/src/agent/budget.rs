//! How large packets of a group's flows may be: what the ways to its edges carry, less the tunnel's headers. Pure.
//!
//! What devices and routes say can refuse a state. What routers say meanwhile only makes packets smaller: it may be forged.

use std::net::IpAddr;

use persona_core::ids::{EdgeNumber, GroupName};
use persona_core::wire::desired::EdgeItem;

use super::observe::Observed;
use crate::wire::encryption_to;

/// IPv4 20, UDP 8, Geneve 8 (RFC 8926 §3.4).
const ENCAPSULATION_BYTES: u32 = 36;
/// IPv6 40, UDP 8, Geneve 8.
const ENCAPSULATION_BYTES_V6: u32 = 56;

/// What limits a group's packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Budget {
    /// Largest inner packet, bytes.
    pub inner: u32,
    /// The edge whose way is the narrowest.
    pub edge: EdgeNumber,
    /// What that way carries, bytes.
    pub underlay: u32,
    /// What the tunnel to it adds, bytes.
    pub encapsulation: u32,
}

/// What is done with a persona whose MTU does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MtuPolicy {
    /// A state that is not in force yet is refused.
    Refuse,
    /// The state in force goes on with smaller packets.
    Lower,
}

/// Bytes that the tunnel to an address adds to a packet, encryption included.
pub(super) fn encapsulation_to(address: IpAddr, is_encrypted: bool) -> u32 {
    let encapsulation = if address.is_ipv4() { ENCAPSULATION_BYTES } else { ENCAPSULATION_BYTES_V6 };
    encapsulation + if is_encrypted { encryption_to(address) } else { 0 }
}

/// The narrowest way to a group's edges. None: no way is known.
pub(super) fn of_group<'a>(
    group: &GroupName,
    is_encrypted: bool,
    edges: impl Iterator<Item = &'a EdgeItem>,
    observed: &Observed,
) -> Option<Budget> {
    let budgets = edges.filter(|edge| edge.group == *group).filter_map(|edge| {
        let (underlay, encapsulation) = (observed.mtu_to(edge.number)?, encapsulation_to(edge.address, is_encrypted));
        Some(Budget { inner: underlay.saturating_sub(encapsulation), edge: edge.number, underlay, encapsulation })
    });
    budgets.min_by_key(|budget| budget.inner)
}

/// The largest inner packet that routers on the ways to a group's edges let through, bytes. None: none has complained.
pub(super) fn narrowed<'a>(
    group: &GroupName,
    is_encrypted: bool,
    edges: impl Iterator<Item = &'a EdgeItem>,
    observed: &Observed,
) -> Option<u32> {
    let narrowed = edges.filter(|edge| edge.group == *group).filter_map(|edge| {
        let underlay = observed.narrowed.get(&edge.address)?;
        Some(underlay.saturating_sub(encapsulation_to(edge.address, is_encrypted)))
    });
    narrowed.min()
}
