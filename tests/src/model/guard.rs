//! The guard: what leaves the uplink and what doesn't, by `persona-ebpf`'s contract: nothing of a managed device or
//! range that no program of ours has let through.

use std::net::IpAddr;

use persona_common::drop::DropReason;
use persona_common::{BYPASS_MARK, PERSONA_MARK};
use persona_ctl::dataplane::tables::NodeTables;

use super::packet::ICMPV6;
use super::shape::{address_at, covers};
use super::wire::short;
use super::{Seen, Verdict};

/// What the kernel says of a packet beside its bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Beside {
    /// The device that it came in by; 0: made on this host.
    pub ingress_ifindex: u32,
    /// `skb->mark`.
    pub mark: u32,
}

/// What the guard must do with a frame.
pub fn guard(tables: &NodeTables, frame: &[u8], beside: Beside, seen: &Seen) -> Verdict {
    let is_ours = beside.mark == PERSONA_MARK || beside.mark == BYPASS_MARK;
    let passes = beside.ingress_ifindex == 0 || is_ours || {
        let (kind, at) = match short(frame, 12) {
            0x8100 | 0x88a8 => (frame.get(16..18).map_or(0, |_| short(frame, 16)), 18),
            kind => (kind, 14),
        };
        let packet = frame.get(at..).unwrap_or_default();
        kind == 0x0806 || is_unrouted_discovery(kind, packet) || !is_watched(tables, kind, packet, beside)
    };
    match (passes, seen) {
        (true, Seen::Passed { mark }) if *mark == beside.mark => Verdict::Agreed,
        (true, other) => Verdict::no(format!("the guard must let it pass as it is, but it is {other:?}")),
        (false, _) => Verdict::dropped(seen, &[DropReason::Guarded]),
    }
}

fn is_watched(tables: &NodeTables, kind: u16, packet: &[u8], beside: Beside) -> bool {
    let source: Option<IpAddr> = match kind {
        0x0800 if packet.len() >= 20 => Some(address_at(packet, false, 12)),
        0x86dd if packet.len() >= 40 => Some(address_at(packet, true, 8)),
        _ => None,
    };
    tables.devices.iter().any(|device| device.ifindex == beside.ingress_ifindex)
        || source.is_some_and(|source| covers(&tables.managed, source))
}

/// Neighbour discovery that no router has forwarded (RFC 4861 §7.1).
fn is_unrouted_discovery(kind: u16, packet: &[u8]) -> bool {
    kind == 0x86dd && packet.len() > 40 && packet[6] == ICMPV6 && packet[7] == 255 && (133..=137).contains(&packet[40])
}
