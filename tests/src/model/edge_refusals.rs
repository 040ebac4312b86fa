//! What an edge may refuse a packet for: several things may be wrong with it, and the program names one of them.

use persona_common::drop::DropReason;
use persona_common::encapsulation::RELAY;

use super::edge::{Edge, holds_address, judged_number};
use super::packet::{ICMP, Packet, Part, TCP, UDP};
use super::shape::{Way, shape_refusals};
use super::tunnel;

impl Edge {
    /// What may be wrong with a tunnel packet for this edge; several things may be, and the program names one.
    pub(super) fn inside_refusals(&self, frame: &[u8], found: &tunnel::Tunnel<'_>, packet: &Packet) -> Vec<DropReason> {
        let mut reasons = named(shape_refusals(packet, found.inner, Way::Outward));
        let kind = if packet.source.is_ipv6() { 0x86dd } else { 0x0800 };
        if tunnel::read(frame).is_err() || found.kind != kind {
            reasons.extend([DropReason::Geneve, DropReason::Malformed, DropReason::Unleased]);
        }
        if found.marker == RELAY {
            if !self.is_peer(found.source) {
                reasons.push(DropReason::UnknownPeer);
            }
            reasons.extend(self.outside_refusals(packet, found.inner));
            reasons.push(DropReason::Unleased);
            return reasons;
        }
        match self.holder(packet.source, judged_number(packet, found.inner, true)) {
            None => reasons.push(DropReason::Unleased),
            Some(lease) if lease.node != found.source => reasons.push(DropReason::UnknownPeer),
            Some(lease) if lease.vni.0 != found.vni => reasons.push(DropReason::VniMismatch),
            Some(_) => {}
        }
        if packet.part == Part::First {
            // Both its id and its port must be in a block of its node's.
            reasons.push(DropReason::Unleased);
        }
        if found.tos & 3 == 3 && super::wire::ecn(found.inner) == 0 {
            reasons.push(DropReason::Ecn);
        }
        self.carried_refusals(packet, found.inner, &mut reasons);
        if self.is_own(packet.destination) {
            // Turned around, it is a packet that comes in.
            reasons.extend(named(shape_refusals(packet, found.inner, Way::Inward)));
            self.entering_refusals(packet, found.inner, &mut reasons);
        }
        reasons
    }

    /// What may be wrong with a packet whichever way it goes.
    fn carried_refusals(&self, packet: &Packet, bytes: &[u8], reasons: &mut Vec<DropReason>) {
        if bytes[if packet.source.is_ipv6() { 7 } else { 8 }] <= 1 {
            reasons.extend([DropReason::TtlExpired, DropReason::IcmpRate]);
        }
        let is_portless = !matches!(packet.protocol, TCP | UDP | ICMP);
        if packet.source.is_ipv4() && is_portless {
            reasons.push(DropReason::ProtocolWithoutPort);
        }
        if packet.is_icmp_error(bytes) {
            // What it embeds may be anything.
            reasons.extend([DropReason::Malformed, DropReason::Fragment, DropReason::IcmpType]);
            reasons.extend([DropReason::Unleased, DropReason::NoMapping, DropReason::ExtensionHeaders]);
        }
    }

    /// What may be wrong with a packet to one of our own addresses.
    fn entering_refusals(&self, packet: &Packet, bytes: &[u8], reasons: &mut Vec<DropReason>) {
        self.carried_refusals(packet, bytes, reasons);
        let holder = self.holder(packet.destination, judged_number(packet, bytes, false));
        if holder.is_none() || packet.part == Part::Later {
            reasons.push(DropReason::Unleased);
        }
        if packet.part == Part::Later {
            // Its first hasn't come.
            reasons.push(DropReason::NoSlowPath);
        }
        let mtu = self.tables.leases.iter().filter(|lease| holds_address(lease, packet.destination));
        if mtu.map(|lease| usize::from(lease.mtu)).min().is_some_and(|mtu| packet.length > mtu) {
            reasons.extend([DropReason::TooBig, DropReason::NoSlowPath, DropReason::IcmpRate]);
        }
    }

    /// What may be wrong with a packet from outside to one of our own addresses.
    pub(super) fn outside_refusals(&self, packet: &Packet, bytes: &[u8]) -> Vec<DropReason> {
        let mut reasons = named(shape_refusals(packet, bytes, Way::Inward));
        self.entering_refusals(packet, bytes, &mut reasons);
        reasons
    }
}

fn named(numbers: Vec<u32>) -> Vec<DropReason> {
    DropReason::ALL.iter().copied().filter(|reason| numbers.contains(&(*reason as u32))).collect()
}
