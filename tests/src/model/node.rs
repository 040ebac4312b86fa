//! A node: what `from_workload` and `from_edge` must do with a frame, by `docs/packets.md`.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv6Addr};

use persona_common::drop::DropReason;
use persona_common::{BYPASS_MARK, translation};
use persona_core::ids::{EdgeNumber, SubjectNumber};
use persona_ctl::dataplane::tables::{DeviceEntry, Filtering, LeaseEntry, LeaseSpace, NodeTables, SubjectEgress};

use super::nat::{Answer, Nat, Pressure};
use super::packet::{ICMP, ICMPV6, Packet, Part, TCP, UDP};
use super::rewrite::{Change, End, Side, changed, is_same};
use super::wire::{ecn_at_exit, set_ecn, short};
use super::{Seen, Verdict, tunnel};

/// A node as the contract describes it.
pub struct Node {
    tables: NodeTables,
    alive: BTreeSet<EdgeNumber>,
    nat: Nat,
    /// (protocol, inner, remote) of flows without a slot → lease index.
    records: HashMap<(u8, End, End), usize>,
    /// The clock of both sides, seconds.
    pub now_secs: u32,
}

impl Node {
    /// A node with these tables and living edges, without flows.
    pub fn new(tables: NodeTables, alive: impl IntoIterator<Item = EdgeNumber>) -> Self {
        let alive = alive.into_iter().collect();
        Self { tables, alive, nat: Nat::default(), records: HashMap::new(), now_secs: 0 }
    }

    /// A frame came in by a workload's device.
    pub fn from_workload(&mut self, ifindex: u32, frame: &[u8], seen: &Seen) -> Verdict {
        let Some(device) = self.tables.devices.iter().find(|device| device.ifindex == ifindex).cloned() else {
            return Verdict::dropped(seen, &[DropReason::UnknownDevice]);
        };
        if frame.len() < 14 {
            return Verdict::dropped(seen, &[DropReason::Malformed]);
        }
        match short(frame, 12) {
            0x0806 => passed(seen),
            0x0800 | 0x86dd => self.ip_from_workload(&device, frame, seen),
            0x8100 | 0x88a8 => Verdict::dropped(seen, &[DropReason::Vlan, DropReason::EtherType]),
            _ => Verdict::dropped(seen, &[DropReason::EtherType]),
        }
    }

    fn ip_from_workload(&mut self, device: &DeviceEntry, frame: &[u8], seen: &Seen) -> Verdict {
        let bytes = &frame[14..];
        let is_ipv6 = short(frame, 12) == 0x86dd;
        if bytes.len() < if is_ipv6 { 40 } else { 20 } {
            return Verdict::dropped(seen, &[DropReason::Malformed]);
        }
        if is_link_business(bytes, is_ipv6, &self.tables.bypass) {
            return passed(seen);
        }
        let parsed = Packet::read(bytes).ok().filter(|packet| packet.source.is_ipv6() == is_ipv6);
        let mut refusals = BTreeSet::new();
        let source = address_at(bytes, is_ipv6, if is_ipv6 { 8 } else { 12 });
        let destination = address_at(bytes, is_ipv6, if is_ipv6 { 24 } else { 16 });
        if !is_own_source(device, source) {
            return Verdict::dropped(seen, &[DropReason::SourceAddress]);
        }
        let is_near = covers(&self.tables.bypass, destination);
        if is_near && let Seen::Passed { mark: BYPASS_MARK } = seen {
            return Verdict::Agreed;
        }
        let number = device.subject.expect("the model's devices have one subject each");
        let egress = self.egress(number).cloned();
        let Some(packet) = parsed else {
            return Verdict::dropped(
                seen,
                &[DropReason::Malformed, DropReason::ExtensionHeaders, DropReason::NoPersona],
            );
        };
        self.nat.tries(packet.protocol, ends(&packet).0);
        refusals.extend(shape_refusals(&packet, bytes, Way::Outward));
        match &egress {
            None => _ = refusals.insert(DropReason::NoPersona as u32),
            Some(egress) => refusals.extend(self.persona_refusals(egress, &packet, bytes)),
        }
        if is_near && refusals.is_empty() && !packet.is_icmp_error(bytes) {
            // An old flow towards a near destination goes on as it began; the model has no such flows.
            return Verdict::no(format!("near destination {destination} must pass by, but is {seen:?}"));
        }
        if !refusals.is_empty() {
            return dropped_for(seen, &refusals);
        }
        let egress = egress.expect("else it is refused");
        self.judge_leaving(&egress, &packet, bytes, frame, seen)
    }

    fn judge_leaving(
        &mut self,
        egress: &SubjectEgress,
        packet: &Packet,
        bytes: &[u8],
        frame: &[u8],
        seen: &Seen,
    ) -> Verdict {
        let is_error = packet.is_icmp_error(bytes);
        let too_big = packet.length > usize::from(egress.mtu);
        let ttl = bytes[if packet.source.is_ipv6() { 7 } else { 8 }];
        let Seen::Redirected { frame: out } = seen else {
            return self.judge_refusal(egress, packet, bytes, seen);
        };
        match tunnel::read(out) {
            Ok(found) if found.is_control => Verdict::no("handed over although there is no slow path"),
            Ok(_) if too_big => Verdict::no("larger than the MTU and sent"),
            Ok(_) if ttl <= 1 => Verdict::no("its time to live is over and it is sent"),
            Ok(found) => match self.judge_tunnel(egress, packet, bytes, &found) {
                Ok(()) => Verdict::Agreed,
                Err(text) => Verdict::no(text),
            },
            Err(_) if (too_big || ttl <= 1) && !is_error => {
                if let Some((address, _)) = self.ports(egress) {
                    self.nat.refused(
                        packet.protocol,
                        ends(packet),
                        address,
                        opens_connection(packet, bytes),
                        self.now_secs,
                    );
                }
                judge_answer(packet, bytes, frame, out)
            }
            Err(text) => Verdict::no(text),
        }
    }

    /// Not sent: is there a reason?
    fn judge_refusal(&mut self, egress: &SubjectEgress, packet: &Packet, bytes: &[u8], seen: &Seen) -> Verdict {
        let now_secs = self.now_secs;
        let mut reasons = Vec::new();
        let ttl = bytes[if packet.source.is_ipv6() { 7 } else { 8 }];
        if ttl <= 1 {
            reasons.push(DropReason::TtlExpired);
        }
        // Too short to be quoted in an answer.
        if ttl <= 1 && packet.length < 48 {
            reasons.push(DropReason::Malformed);
        }
        if packet.length > usize::from(egress.mtu) {
            reasons.extend([DropReason::TooBig, DropReason::TooBigFragmentable, DropReason::NoSlowPath]);
        }
        if self.alive.is_empty() {
            reasons.push(DropReason::NoEdge);
        }
        if packet.part == Part::Later {
            reasons.push(DropReason::NoSlowPath);
        }
        if packet.part != Part::Whole && packet.source.is_ipv6() {
            // Fragments of fragments: nobody makes them in earnest.
            reasons.extend([DropReason::Malformed, DropReason::ExtensionHeaders]);
        }
        if packet.is_icmp_error(bytes) {
            // What it embeds may be anything.
            reasons.extend([DropReason::NoMapping, DropReason::Malformed, DropReason::Fragment, DropReason::IcmpType]);
            reasons.push(DropReason::ExtensionHeaders);
        }
        let (inner, remote) = ends(packet);
        let is_known = if packet.source.is_ipv4() {
            self.nat.outer_of_flow(packet.protocol, inner, remote, now_secs)
        } else {
            Answer::No
        };
        if packet.protocol == TCP && packet.source.is_ipv4() && !matches!(is_known, Answer::Surely(_)) {
            let flags = bytes.get(packet.l4_at + 13).copied().unwrap_or(0);
            if flags & 0x16 != 2 {
                reasons.push(DropReason::MidStream);
            }
        }
        let opens = opens_connection(packet, bytes);
        if packet.source.is_ipv4()
            && (opens || !matches!(is_known, Answer::Surely(_)))
            && let Some((address, count)) = self.ports(egress)
            && self.nat.taken_count(packet.protocol, address, now_secs) + SLACK >= count
        {
            reasons.push(DropReason::PortsExhausted);
        }
        if packet.part != Part::Later
            && !packet.is_icmp_error(bytes)
            && let Some((address, _)) = self.ports(egress)
        {
            self.nat.refused(packet.protocol, (inner, remote), address, opens, now_secs);
        }
        Verdict::dropped(seen, &reasons)
    }

    fn judge_tunnel(
        &mut self,
        egress: &SubjectEgress,
        packet: &Packet,
        bytes: &[u8],
        found: &tunnel::Tunnel<'_>,
    ) -> Result<(), String> {
        let edge = self.tables.edges.iter().find(|edge| edge.address == found.destination);
        let edge = edge.ok_or_else(|| format!("sent to {}, which is no edge", found.destination))?;
        ensure(self.alive.contains(&edge.number), || format!("sent to edge {}, which is dead", edge.number))?;
        ensure(Some(found.source) == self.tables.underlay_address, || format!("sent from {}", found.source))?;
        let kind = if packet.source.is_ipv6() { 0x86dd } else { 0x0800 };
        ensure(found.kind == kind, || format!("inner protocol {:04x}", found.kind))?;
        let sent = Packet::read(found.inner).map_err(|reason| format!("the inner packet is {}", reason.name()))?;
        let out = (sent.source, sent.source_port);
        let lease = self.lease_of(sent.source).ok_or_else(|| format!("{} is not leased", sent.source))?;
        ensure(lease.vni.0 == found.vni, || format!("vni {} under a lease of {}", found.vni, lease.vni.0))?;
        let mtu = lease.mtu;
        let (inner, remote) = ends(packet);
        let is_error = packet.is_icmp_error(bytes);
        let mut to = out;
        let mut id = None;
        match &lease.space {
            LeaseSpace::Ports { address, block_bits, blocks } => {
                let number = if packet.part == Part::Whole && !is_error { out.1 } else { short(found.inner, 4) };
                if packet.part != Part::Whole {
                    id = Some(number);
                }
                if is_error {
                    to.1 = embedded_port(&sent, found.inner, Way::Outward);
                }
                let judged = if is_error { to.1 } else { number };
                let is_leased = blocks.iter().any(|block| u32::from(judged) >> block_bits == u32::from(*block));
                ensure(is_leased, || format!("{judged} of {address} is in none of the blocks {blocks:?}"))?;
                if packet.part != Part::Later && !is_error {
                    let is_full = self.nat.taken_count(packet.protocol, *address, self.now_secs) + SLACK
                        >= blocks.len() << block_bits;
                    let now_secs = self.now_secs;
                    let opens = opens_connection(packet, bytes);
                    let pressure = Pressure { is_full, opens };
                    self.nat.left(packet.protocol, (inner, remote), (*address, out.1), pressure, now_secs)?;
                }
            }
            LeaseSpace::Prefix { prefix } => {
                let translated =
                    translated(packet.source, *prefix).ok_or("an identifier of all ones was translated")?;
                ensure(IpAddr::V6(translated) == sent.source, || format!("{} became {}", packet.source, sent.source))?;
                let index = self.tables.leases.iter().position(|it| it.id == lease.id).expect("found there");
                self.records.insert((packet.protocol, inner, remote), index);
            }
        }
        let change = Change { side: Side::Source, to, id, dscp: egress.dscp, mtu, hops: 1 };
        let expected = changed(packet, bytes, &change);
        ensure(is_same(packet, &expected, found.inner), || differs(&expected, found.inner))?;
        ensure(found.tos == inner_tos(found.inner), || "outer and inner type of service differ".to_owned())?;
        if packet.has_right_checksums(bytes) {
            ensure(sent.has_right_checksums(found.inner), || "a right checksum became wrong".to_owned())?;
        }
        Ok(())
    }

    /// A frame came in by the uplink.
    pub fn from_edge(&mut self, frame: &[u8], seen: &Seen) -> Verdict {
        let Some(found) = tunnel::read_loosely(frame) else { return judge_alien(seen) };
        if Some(found.destination) != self.tables.underlay_address || found.is_control {
            return judge_alien(seen);
        }
        if !self.tables.edges.iter().any(|edge| edge.address == found.source) {
            return Verdict::dropped(seen, &[DropReason::UnknownPeer, DropReason::Geneve, DropReason::Malformed]);
        }
        let Seen::Redirected { frame: out } = seen else { return self.judge_undelivered(&found, seen) };
        match self.judge_delivery(&found, out) {
            Ok(()) => Verdict::Agreed,
            Err(text) => Verdict::no(text),
        }
    }

    fn judge_delivery(&mut self, found: &tunnel::Tunnel<'_>, out: &[u8]) -> Result<(), String> {
        let packet = Packet::read(found.inner).map_err(|reason| format!("delivered although {}", reason.name()))?;
        let lease = self.lease_of(packet.destination).cloned();
        let lease = lease.ok_or_else(|| format!("{} is not leased and was delivered", packet.destination))?;
        ensure(lease.vni.0 == found.vni, || format!("vni {} delivered under {}", found.vni, lease.vni.0))?;
        let delivered = out.get(14..).unwrap_or_default();
        let got = Packet::read(delivered).map_err(|reason| format!("delivered packet is {}", reason.name()))?;
        // Ethernet's padding may follow.
        let delivered = &delivered[..got.length];
        let is_error = packet.is_icmp_error(found.inner);
        let device = self.tables.devices.iter().find(|device| device.subject == Some(lease.subject));
        let device = device.ok_or("delivered to nobody")?;
        ensure(is_own_source(device, got.destination), || format!("{} is not the workload", got.destination))?;
        let mut to = (got.destination, got.destination_port);
        if is_error {
            to.1 = embedded_port(&got, delivered, Way::Inward);
        }
        if let (LeaseSpace::Ports { address, .. }, Part::Whole | Part::First, false) =
            (&lease.space, packet.part, is_error)
        {
            let outer = (packet.protocol, *address, packet.destination_port);
            let remote = (packet.source, if packet.protocol == ICMP { 0 } else { packet.source_port });
            match self.nat.inner_of(outer, remote, self.now_secs) {
                _ if self.nat.may_be_unseen(packet.protocol, to) => {}
                Answer::No => return Err(format!("port {} stands for nobody and was delivered", outer.2)),
                Answer::Surely(inner) if inner != to => return Err(format!("{inner:?}'s packet went to {to:?}")),
                _ => {}
            }
        }
        if let LeaseSpace::Prefix { prefix } = &lease.space {
            let inner = translated(got.destination, *prefix).map(IpAddr::V6);
            ensure(inner == Some(packet.destination), || format!("{} became {}", packet.destination, got.destination))?;
        }
        let change = Change { side: Side::Destination, to, id: None, dscp: None, mtu: lease.mtu, hops: 1 };
        let mut expected = changed(&packet, found.inner, &change);
        let ecn = ecn_at_exit(super::wire::ecn(&expected), found.tos);
        set_ecn(&mut expected, ecn);
        ensure(is_same(&packet, &expected, delivered), || differs(&expected, delivered))?;
        if packet.has_right_checksums(found.inner) {
            ensure(got.has_right_checksums(delivered), || "a right checksum became wrong".to_owned())?;
        }
        Ok(())
    }

    fn judge_undelivered(&self, found: &tunnel::Tunnel<'_>, seen: &Seen) -> Verdict {
        if let Seen::Passed { .. } = seen {
            return Verdict::no("a tunnel packet for us passed");
        }
        let Ok(packet) = Packet::read(found.inner) else { return Verdict::Agreed };
        let ttl = found.inner[if packet.source.is_ipv6() { 7 } else { 8 }];
        let Some(lease) = self.lease_of(packet.destination) else {
            return Verdict::Agreed;
        };
        let is_plain = packet.part == Part::Whole
            && found.kind == if packet.source.is_ipv6() { 0x86dd } else { 0x0800 }
            && matches!(packet.protocol, TCP | UDP)
            && shape_refusals(&packet, found.inner, Way::Inward).is_empty()
            && lease.vni.0 == found.vni
            && ttl > 1
            && found.tos & 3 != 3;
        let LeaseSpace::Ports { address, .. } = &lease.space else { return Verdict::Agreed };
        let outer = (packet.protocol, *address, packet.destination_port);
        let remote = (packet.source, packet.source_port);
        let Answer::Surely(inner) = self.nat.inner_of(outer, remote, self.now_secs) else { return Verdict::Agreed };
        let is_open = self.egress(lease.subject).is_none_or(|it| it.filtering == Filtering::EndpointIndependent);
        let may_come =
            is_open || matches!(self.nat.has_spoken(packet.protocol, inner, remote, self.now_secs), Answer::Surely(()));
        if is_plain && may_come {
            return Verdict::no(format!("{remote:?} > {}:{} is {inner:?}'s and was dropped", address, outer.2));
        }
        Verdict::Agreed
    }

    fn egress(&self, number: SubjectNumber) -> Option<&SubjectEgress> {
        self.tables.subjects.iter().find(|subject| subject.number == number)?.network.as_ref()
    }

    fn persona_refusals(&self, egress: &SubjectEgress, packet: &Packet, bytes: &[u8]) -> Vec<u32> {
        let mut refusals = Vec::new();
        let is_ipv6 = packet.source.is_ipv6();
        let lease = if is_ipv6 { egress.lease6 } else { egress.lease };
        if lease.is_none() {
            refusals.extend([DropReason::FamilyDenied as u32, DropReason::NoLease as u32]);
        }
        let is_allowed = match packet.protocol {
            TCP => egress.allow.tcp,
            UDP => egress.allow.udp,
            ICMP if !is_ipv6 => egress.allow.icmp,
            ICMPV6 if is_ipv6 => egress.allow.icmp,
            _ if !is_ipv6 => {
                refusals.push(DropReason::ProtocolWithoutPort as u32);
                false
            }
            _ => egress.allow.other,
        };
        // Errors belong to the flow that they are about.
        if !is_allowed && !packet.is_icmp_error(bytes) {
            refusals.push(DropReason::ProtocolDenied as u32);
        }
        refusals
    }

    fn lease_of(&self, address: IpAddr) -> Option<&LeaseEntry> {
        self.tables.leases.iter().find(|lease| match (&lease.space, address) {
            (LeaseSpace::Ports { address: leased, .. }, IpAddr::V4(address)) => *leased == address,
            (LeaseSpace::Prefix { prefix }, IpAddr::V6(address)) => prefix.octets()[..8] == address.octets()[..8],
            _ => false,
        })
    }

    fn ports(&self, egress: &SubjectEgress) -> Option<(std::net::Ipv4Addr, usize)> {
        let lease = self.tables.leases.iter().find(|lease| Some(lease.id) == egress.lease)?;
        match &lease.space {
            LeaseSpace::Ports { address, block_bits, blocks } => Some((*address, blocks.len() << block_bits)),
            LeaseSpace::Prefix { .. } => None,
        }
    }
}

/// Ports that the program may take for taken when the model does not yet: those about to end.
const SLACK: usize = 2;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Outward,
    Inward,
}

fn ensure(is_right: bool, what: impl FnOnce() -> String) -> Result<(), String> {
    if is_right { Ok(()) } else { Err(what()) }
}

fn passed(seen: &Seen) -> Verdict {
    match seen {
        Seen::Passed { mark: BYPASS_MARK } => Verdict::Agreed,
        other => Verdict::no(format!("must pass by, but is {other:?}")),
    }
}

/// Not a tunnel packet for this node: whatever comes next on the host gets it as it is.
fn judge_alien(seen: &Seen) -> Verdict {
    match seen {
        Seen::Passed { mark: 0 } => Verdict::Agreed,
        // A tunnel packet whose headers lie is ours to drop.
        Seen::Dropped => Verdict::Drop(vec![
            DropReason::Malformed,
            DropReason::Geneve,
            DropReason::UnknownPeer,
            DropReason::Unleased,
            DropReason::NoMapping,
        ]),
        other => Verdict::no(format!("none of the node's business, but is {other:?}")),
    }
}

fn dropped_for(seen: &Seen, reasons: &BTreeSet<u32>) -> Verdict {
    let reasons: Vec<DropReason> =
        DropReason::ALL.iter().copied().filter(|reason| reasons.contains(&(*reason as u32))).collect();
    match seen {
        // An answer to what is too big or too old may come first.
        Seen::Redirected { frame } if tunnel::read(frame).is_err() => Verdict::Agreed,
        Seen::Dropped => Verdict::Drop(
            reasons
                .into_iter()
                .chain([DropReason::MidStream, DropReason::TooBig, DropReason::TooBigFragmentable])
                .chain([DropReason::TtlExpired, DropReason::NoSlowPath, DropReason::NoMapping])
                .collect(),
        ),
        other => Verdict::no(format!("must be dropped as {reasons:?}, but is {other:?}")),
    }
}

fn address_at(bytes: &[u8], is_ipv6: bool, at: usize) -> IpAddr {
    if is_ipv6 {
        Ipv6Addr::from(<[u8; 16]>::try_from(&bytes[at..at + 16]).expect("sixteen")).into()
    } else {
        IpAddr::from(<[u8; 4]>::try_from(&bytes[at..at + 4]).expect("four"))
    }
}

fn is_own_source(device: &DeviceEntry, source: IpAddr) -> bool {
    match source {
        IpAddr::V4(source) => device.address == Some(source),
        IpAddr::V6(source) => device.prefix6.is_some_and(|(prefix, length)| {
            let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
            source.to_bits() & mask == prefix.to_bits() & mask
        }),
    }
}

fn covers(prefixes: &[(IpAddr, u8)], address: IpAddr) -> bool {
    prefixes.iter().any(|(prefix, length)| match (prefix, address) {
        (IpAddr::V4(prefix), IpAddr::V4(address)) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(*length)).unwrap_or(0);
            prefix.to_bits() & mask == address.to_bits() & mask
        }
        (IpAddr::V6(prefix), IpAddr::V6(address)) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(*length)).unwrap_or(0);
            prefix.to_bits() & mask == address.to_bits() & mask
        }
        _ => false,
    })
}

/// Multicast, limited broadcast, link-local; DHCP and neighbour discovery towards the host's own neighbourhood.
fn is_link_business(bytes: &[u8], is_ipv6: bool, near: &[(IpAddr, u8)]) -> bool {
    let is_near = covers(near, address_at(bytes, is_ipv6, if is_ipv6 { 24 } else { 16 }));
    let is_link_local = |at: usize| bytes[at] == 0xfe && bytes[at + 1] & 0xc0 == 0x80;
    if is_ipv6 {
        let is_discovery = bytes[6] == ICMPV6 && bytes.get(40).is_some_and(|kind| (133..=137).contains(kind));
        return bytes[24] == 0xff || is_link_local(24) || is_link_local(8) || (is_discovery && is_near);
    }
    let is_dhcp =
        bytes[0] == 0x45 && bytes[9] == UDP && bytes.len() >= 28 && (short(bytes, 20), short(bytes, 22)) == (68, 67);
    let is_everybody = bytes[16] & 0xf0 == 224 || bytes[16..20] == [255; 4];
    is_everybody || (bytes[16] == 169 && bytes[17] == 254) || (is_dhcp && is_near)
}

/// Reasons that lie in the packet alone.
fn shape_refusals(packet: &Packet, bytes: &[u8], way: Way) -> Vec<u32> {
    let mut refusals = Vec::new();
    let mut refuse = |reason: DropReason| refusals.push(reason as u32);
    let l4_length = packet.length - packet.l4_at.min(packet.length);
    if packet.source.is_ipv4() {
        option_refusals(&bytes[20..packet.l4_at], &mut refuse);
    } else {
        refuse_headers(packet, bytes, &mut refuse);
    }
    if packet.part != Part::Whole {
        fragment_refusals(packet, bytes, l4_length, &mut refuse);
    }
    if packet.part == Part::Later {
        return refusals;
    }
    let l4 = &bytes[packet.l4_at.min(packet.length)..packet.length];
    match packet.protocol {
        TCP => {
            let header_length = usize::from(l4.get(12).copied().unwrap_or(0) >> 4) * 4;
            if l4.len() < 20 || header_length < 20 || header_length > l4.len() {
                refuse(DropReason::Malformed);
                refuse(DropReason::Fragment);
            }
        }
        UDP => {
            let udp_length = usize::from(short(l4, 4));
            if l4.len() < 8 || udp_length < 8 || (packet.part == Part::Whole && udp_length > l4.len()) {
                refuse(DropReason::Malformed);
                refuse(DropReason::Fragment);
            }
            // Over IPv6 the checksum isn't optional (RFC 8200 §8.1).
            if packet.source.is_ipv6() && l4.len() >= 8 && short(l4, 6) == 0 {
                refuse(DropReason::Malformed);
            }
        }
        ICMP if packet.source.is_ipv4() => icmp_refusals(packet, bytes, l4, (8, 0), way, &mut refuse),
        ICMPV6 if packet.source.is_ipv6() => icmp_refusals(packet, bytes, l4, (128, 129), way, &mut refuse),
        _ => {}
    }
    refusals
}

fn icmp_refusals(
    packet: &Packet,
    bytes: &[u8],
    l4: &[u8],
    (request, reply): (u8, u8),
    way: Way,
    refuse: &mut impl FnMut(DropReason),
) {
    let wanted = if way == Way::Outward { request } else { reply };
    if l4.len() < 8 {
        refuse(DropReason::Malformed);
        refuse(DropReason::Fragment);
    } else if packet.is_icmp_error(bytes) {
        if packet.part != Part::Whole {
            refuse(DropReason::Fragment);
        }
    } else if l4[0] != wanted || l4[1] != 0 {
        refuse(DropReason::IcmpType);
    }
}

fn option_refusals(options: &[u8], refuse: &mut impl FnMut(DropReason)) {
    let mut at = 0;
    while at < options.len() {
        match options[at] {
            0 => return,
            1 => at += 1,
            131 | 137 => return refuse(DropReason::IpOptions),
            _ => {
                let size = usize::from(options.get(at + 1).copied().unwrap_or(0));
                if size < 2 || at + size > options.len() {
                    return refuse(DropReason::Malformed);
                }
                at += size;
            }
        }
    }
}

/// Too many or too long extension headers, and routing type 0.
fn refuse_headers(packet: &Packet, bytes: &[u8], refuse: &mut impl FnMut(DropReason)) {
    let (mut next, mut at, mut count) = (bytes[6], 40, 0);
    while at < packet.l4_at {
        count += 1;
        if next == 44 {
            let data_length = packet.length - (at + 8);
            let offset = usize::from(short(bytes, at + 2) & 0xfff8);
            let has_more = bytes[at + 3] & 1 == 1;
            // One that is neither first nor later is a whole packet (RFC 6946).
            let is_part = has_more || offset != 0;
            let is_cut_wrong = has_more && !data_length.is_multiple_of(8);
            let is_part_wrong = is_cut_wrong || offset + data_length > 65_535;
            if data_length == 0 || (is_part && is_part_wrong) {
                refuse(DropReason::Malformed);
                refuse(DropReason::ExtensionHeaders);
                refuse(DropReason::Fragment);
            }
        }
        if next == 43 && bytes.get(at + 2) == Some(&0) {
            refuse(DropReason::ExtensionHeaders);
        }
        let size = match next {
            44 => 8,
            51 => (usize::from(bytes[at + 1]) + 2) * 4,
            _ => (usize::from(bytes[at + 1]) + 1) * 8,
        };
        (next, at) = (bytes[at], at + size);
    }
    if count > 8 || packet.l4_at > 40 + 256 {
        refuse(DropReason::ExtensionHeaders);
    }
    if matches!(next, 0 | 43 | 44 | 51 | 60) && packet.part != Part::Later {
        refuse(DropReason::ExtensionHeaders);
    }
}

fn fragment_refusals(packet: &Packet, bytes: &[u8], payload: usize, refuse: &mut impl FnMut(DropReason)) {
    if packet.source.is_ipv4() {
        let word = short(bytes, 6);
        let offset = usize::from(word & 0x1fff) * 8;
        let has_more = word & 0x2000 != 0;
        if payload == 0 || (has_more && !payload.is_multiple_of(8)) || offset + packet.length > 65_535 {
            refuse(DropReason::Malformed);
        }
        if offset == 8 && packet.protocol == TCP {
            refuse(DropReason::Fragment);
        }
    }
}

/// Whether a packet is a TCP SYN and nothing else.
fn opens_connection(packet: &Packet, bytes: &[u8]) -> bool {
    packet.protocol == TCP && bytes.get(packet.l4_at + 13).is_some_and(|flags| flags & 0x16 == 2)
}

/// Inner end and remote of a packet from a workload.
fn ends(packet: &Packet) -> (End, End) {
    let remote_port = if matches!(packet.protocol, TCP | UDP) { packet.destination_port } else { 0 };
    ((packet.source, packet.source_port), (packet.destination, remote_port))
}

/// The port on our side of the packet that an error embeds: its source's for an error that comes in, which is about what
/// went out.
fn embedded_port(error: &Packet, bytes: &[u8], way: Way) -> u16 {
    let at = error.l4_at + 8;
    if error.source.is_ipv6() {
        return 0;
    }
    let l4_at = at + usize::from(bytes.get(at).copied().unwrap_or(0) & 15) * 4;
    match (bytes.get(at + 9), way) {
        (Some(&TCP | &UDP), Way::Inward) => short(bytes, l4_at),
        (Some(&TCP | &UDP), Way::Outward) => short(bytes, l4_at + 2),
        _ => short(bytes, l4_at + 4),
    }
}

/// The other side of a translation between /64s: the program's arithmetic is property-tested by itself.
fn translated(from: IpAddr, prefix: Ipv6Addr) -> Option<Ipv6Addr> {
    let IpAddr::V6(from) = from else { return None };
    let words = |address: Ipv6Addr| persona_common::addr::address6(address.octets());
    let (from, to) = (words(from), words(prefix));
    let adjustment = translation::adjustment([from[0], from[1]], [to[0], to[1]]);
    let out = translation::translate(from, [to[0], to[1]], adjustment)?;
    Some(Ipv6Addr::from(persona_common::addr::octets6(out)))
}

fn inner_tos(bytes: &[u8]) -> u8 {
    if bytes[0] >> 4 == 4 { bytes[1] } else { (short(bytes, 0) >> 4) as u8 }
}

fn differs(expected: &[u8], found: &[u8]) -> String {
    let at = expected.iter().zip(found).position(|(left, right)| left != right);
    format!("bytes differ at {at:?}\nexpected {expected:02x?}\nfound    {found:02x?}")
}

/// The answer to a packet that is too big or too old: an ICMP error of its family to its sender, about it.
fn judge_answer(packet: &Packet, bytes: &[u8], frame: &[u8], out: &[u8]) -> Verdict {
    let answer = || -> Result<(), String> {
        ensure(out.len() > 14 && out[..6] == frame[6..12] && out[6..12] == frame[..6], || {
            "an answer goes back where it came from".to_owned()
        })?;
        let found = Packet::read(&out[14..]).map_err(|reason| format!("the answer is {}", reason.name()))?;
        ensure(found.destination == packet.source, || format!("answered to {}", found.destination))?;
        ensure(found.is_icmp_error(&out[14..]), || "the answer is no error".to_owned())?;
        ensure(found.has_right_checksums(&out[14..]), || "the answer's checksum is wrong".to_owned())?;
        let quoted = &out[14 + found.l4_at + 8..14 + found.length];
        let quoted_length = quoted.len().min(bytes.len());
        ensure(quoted_length >= 28.min(packet.length) && quoted[..quoted_length] == bytes[..quoted_length], || {
            "the answer quotes something else".to_owned()
        })
    };
    match answer() {
        Ok(()) => Verdict::Agreed,
        Err(text) => Verdict::no(text),
    }
}
