//! Firewall rules, by `docs/firewall.md`: what a subject may open, and what may be opened towards it.
//!
//! What has been let in or out once is remembered without its end, so that of answers to what is long over the model says nothing.

use std::net::IpAddr;

use persona_common::drop::DropReason;
use persona_core::document::{Direction, FirewallAction};
use persona_core::firewall::{Opening, decide};
use persona_core::ids::SubjectNumber;
use persona_ctl::dataplane::tables::FirewallRule;

use super::node::{Node, untouched};
use super::packet::{ICMP, ICMPV6, Packet, Part, TCP, UDP};
use super::shape::{Way, address_at, ends, opens_connection, shape_refusals};
use super::wire::short;
use super::{Seen, Verdict, guard::Beside};

impl Node {
    pub(super) fn rules(&self, number: SubjectNumber) -> &[FirewallRule] {
        let subject = self.tables.subjects.iter().find(|subject| subject.number == number);
        subject.map_or(&[], |subject| &subject.firewall)
    }

    /// Whether the rules let a packet of the subject open its flow; its direction and ports are the packet's.
    pub(super) fn may_open(&self, number: SubjectNumber, packet: &Packet, direction: Direction) -> bool {
        let (remote, port) = match direction {
            Direction::Egress => (packet.destination, packet.destination_port),
            Direction::Ingress => (packet.source, packet.destination_port),
        };
        let port = if matches!(packet.protocol, TCP | UDP) { port } else { 0 };
        self.allows(number, direction, remote, (packet.protocol, port))
    }

    fn allows(&self, number: SubjectNumber, direction: Direction, remote: IpAddr, (protocol, port): (u8, u16)) -> bool {
        let opening = Opening { direction, remote, protocol, port };
        decide(self.rules(number), &opening).action == FirewallAction::Allow
    }

    fn allows_icmp(&self, number: SubjectNumber, direction: Direction, remote: IpAddr) -> bool {
        let protocol = if remote.is_ipv6() { ICMPV6 } else { ICMP };
        self.allows(number, direction, remote, (protocol, 0))
    }

    /// What a subject sends past its persona: may it?
    pub(super) fn judge_passing(&mut self, number: SubjectNumber, packet: Option<&Packet>, bytes: &[u8]) -> Verdict {
        if self.rules(number).is_empty() {
            return Verdict::Agreed;
        }
        let Some(packet) = packet else { return Verdict::no("passed a firewall unread") };
        let refusals = shape_refusals(packet, bytes, Way::Outward);
        let may = match &refusals[..] {
            [] if packet.part == Part::Later || packet.is_icmp_error(bytes) => true,
            [] => self.may_leave(number, packet, bytes),
            [reason] if *reason == DropReason::IcmpType as u32 => [Direction::Egress, Direction::Ingress]
                .into_iter()
                .any(|direction| self.allows_icmp(number, direction, packet.destination)),
            _ => false,
        };
        if !may {
            return Verdict::no("passed a firewall that denies it");
        }
        if refusals.is_empty() {
            let (inner, remote) = ends(packet);
            self.flows_of(number).sent_beside.insert((packet.protocol, inner, remote));
        }
        Verdict::Agreed
    }

    /// Whether the packet opens a flow that may be opened, or may be of one that was opened towards the subject.
    fn may_leave(&mut self, number: SubjectNumber, packet: &Packet, bytes: &[u8]) -> bool {
        let (inner, remote) = ends(packet);
        let is_answer = self.flows_of(number).let_in.contains(&(packet.protocol, inner, remote));
        self.may_open(number, packet, Direction::Egress) || (is_answer && !opens_connection(packet, bytes))
    }

    /// What the rules say of a packet of the subject that does not pass by. None: nothing against it.
    pub(super) fn judge_denied(
        &mut self,
        number: SubjectNumber,
        packet: &Packet,
        (bytes, is_near): (&[u8], bool),
        seen: &Seen,
    ) -> Option<Verdict> {
        if self.rules(number).is_empty() {
            return None;
        }
        let is_dropped = *seen == Seen::Dropped;
        if packet.part == Part::Later {
            return (is_dropped && is_near).then_some(Verdict::Agreed);
        }
        if packet.is_icmp_error(bytes) {
            let may = self.allows_icmp(number, Direction::Egress, packet.destination);
            return (is_dropped && (is_near || !may)).then_some(Verdict::Agreed);
        }
        if self.may_open(number, packet, Direction::Egress) {
            return None;
        }
        if self.may_leave(number, packet, bytes) {
            return is_dropped.then_some(Verdict::Agreed);
        }
        Some(Verdict::dropped(seen, &[DropReason::Firewall]))
    }

    /// A frame that no program of ours let in goes to a workload with a firewall.
    pub(super) fn judge_neighbour(
        &mut self,
        number: SubjectNumber,
        frame: &[u8],
        beside: Beside,
        seen: &Seen,
    ) -> Verdict {
        let bytes = &frame[14..];
        let is_ipv6 = match short(frame, 12) {
            0x0800 => false,
            0x86dd => true,
            0x0806 => return untouched(beside, seen),
            _ => return Verdict::dropped(seen, &[DropReason::EtherType]),
        };
        if bytes.len() < if is_ipv6 { 40 } else { 20 } {
            return Verdict::dropped(seen, &[DropReason::Malformed]);
        }
        if is_links_own(bytes, is_ipv6) {
            return untouched(beside, seen);
        }
        let unread = [DropReason::Malformed, DropReason::ExtensionHeaders, DropReason::Fragment, DropReason::IpOptions];
        let parsed = Packet::read(bytes).ok().filter(|packet| packet.source.is_ipv6() == is_ipv6);
        let Some(packet) = parsed else { return Verdict::dropped(seen, &unread) };
        let refusals = shape_refusals(&packet, bytes, Way::Inward);
        match &refusals[..] {
            [] => self.judge_arriving(number, &packet, frame, beside, seen),
            [reason] if *reason == DropReason::IcmpType as u32 => {
                match self.allows_icmp(number, Direction::Ingress, packet.source) {
                    true => untouched(beside, seen),
                    false => Verdict::dropped(seen, &[DropReason::Firewall]),
                }
            }
            _ => Verdict::dropped(seen, &[&unread[..], &[DropReason::IcmpType, DropReason::Firewall]].concat()),
        }
    }

    fn judge_arriving(
        &mut self,
        number: SubjectNumber,
        packet: &Packet,
        frame: &[u8],
        beside: Beside,
        seen: &Seen,
    ) -> Verdict {
        let bytes = &frame[14..];
        let is_dropped = *seen == Seen::Dropped;
        // What an error embeds may be anything; what became of a first fragment is long past.
        if packet.is_icmp_error(bytes) || packet.part == Part::Later {
            return if is_dropped { Verdict::Agreed } else { untouched(beside, seen) };
        }
        let is_dhcp = packet.protocol == UDP && (packet.source_port, packet.destination_port) == (67, 68);
        if matches!(packet.protocol, ICMP | ICMPV6) || is_dhcp {
            return untouched(beside, seen);
        }
        let flow =
            (packet.protocol, (packet.destination, packet.destination_port), (packet.source, packet.source_port));
        if self.may_open(number, packet, Direction::Ingress) {
            let now_secs = self.now_secs;
            let flows = self.flows_of(number);
            flows.let_in.insert(flow);
            flows.towards.note(frame, now_secs);
            return untouched(beside, seen);
        }
        let is_answer = self.flows_of(number).sent_beside.contains(&flow) && !opens_connection(packet, bytes);
        match is_answer {
            true if is_dropped => Verdict::Agreed,
            true => untouched(beside, seen),
            false => Verdict::dropped(seen, &[DropReason::Firewall]),
        }
    }
}

/// Link-local, multicast, broadcast, and neighbour discovery.
fn is_links_own(bytes: &[u8], is_ipv6: bool) -> bool {
    let address = |at: [usize; 2]| address_at(bytes, is_ipv6, at[usize::from(is_ipv6)]);
    let is_discovery = is_ipv6 && bytes[6] == ICMPV6 && bytes.get(40).is_some_and(|kind| (133..=137).contains(kind));
    let is_own = |address: IpAddr| match address {
        IpAddr::V4(address) => address.octets()[0] & 0xf0 == 224 || address.is_broadcast() || address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    let (source, destination) = (address([12, 8]), address([16, 24]));
    is_discovery || is_own(source) || is_own(destination) || (is_ipv6 && destination.is_multicast())
}
