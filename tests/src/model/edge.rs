//! An edge: what `edge_inside` and `edge_outside` must do with a frame, by `docs/packets.md` §9.
//!
//! An edge keeps no flows, so nearly all of it is predicted: who holds a block, and what the packet looks like then.

use std::net::IpAddr;

use persona_common::drop::DropReason;
use persona_common::encapsulation::{RELAY, WAIT_INWARD};
use persona_ctl::dataplane::tables::{EdgeLeaseEntry, EdgeTables, LeaseSpace};

use super::delivery::judge_waiting;
use super::packet::{ICMP, ICMPV6, Packet, Part, TCP, UDP};
use super::wire::{ecn_at_exit, put, set_ecn, short, updated};
use super::{Seen, Verdict, tunnel};

/// An edge as the contract describes it.
pub struct Edge {
    pub(super) tables: EdgeTables,
    /// Whether its peers answer its probes.
    pub are_peers_alive: bool,
    /// Whether it has not heard the node lately.
    pub is_node_silent: bool,
}

impl Edge {
    /// An edge with these tables, which hears the node and no peer; every next hop is resolved.
    pub fn new(tables: EdgeTables) -> Self {
        Self { tables, are_peers_alive: false, is_node_silent: false }
    }

    /// A frame came in at the underlay.
    pub fn inside(&self, frame: &[u8], seen: &Seen) -> Verdict {
        let Some(found) = tunnel::read_loosely(frame) else { return judge_alien(seen) };
        if Some(found.destination) != self.tables.underlay_address || found.is_control {
            return judge_alien(seen);
        }
        let Seen::Redirected { frame: out } = seen else { return self.judge_kept(frame, &found, seen) };
        let judged =
            if found.marker == RELAY { self.judge_relayed(&found, out) } else { self.judge_leaving(&found, out) };
        match judged {
            Ok(()) => Verdict::Agreed,
            Err(text) => Verdict::no(text),
        }
    }

    /// A peer has passed on what came to it from outside: it goes to its node, and is never passed on again.
    fn judge_relayed(&self, found: &tunnel::Tunnel<'_>, out: &[u8]) -> Result<(), String> {
        ensure(self.is_peer(found.source), || format!("{} is no peer", found.source))?;
        let packet = Packet::read(found.inner).map_err(|reason| format!("passed on although {}", reason.name()))?;
        if let Ok(turned) = tunnel::read(out)
            && Some(turned.source) == self.tables.underlay_address
        {
            ensure(turned.marker != RELAY, || "passed on twice".to_owned())?;
            return self.judge_turned(&packet, found, &turned);
        }
        let answer = out.get(14..).and_then(|answer| Some((Packet::read(answer).ok()?, answer)));
        let is_answer = answer.is_some_and(|(answer, bytes)| {
            answer.is_icmp_error(bytes) && answer.destination == packet.source && answer.has_right_checksums(bytes)
        });
        ensure(is_answer, || format!("neither a tunnel packet nor an answer: {out:02x?}"))
    }

    pub(super) fn is_peer(&self, address: IpAddr) -> bool {
        self.tables.peers.iter().any(|peer| peer.address == address)
    }

    /// Passed on, as it was, to a peer: a fragment that is another's, or a packet whose node isn't heard.
    fn judge_passing_on(&self, packet: &Packet, bytes: &[u8], relayed: &tunnel::Tunnel<'_>) -> Result<(), String> {
        ensure(self.are_peers_alive && self.is_peer(relayed.destination), || {
            format!("passed on to {}, which is no living peer", relayed.destination)
        })?;
        let is_anothers = packet.part != Part::Whole && packet.source.is_ipv4();
        ensure(is_anothers || self.is_node_silent, || "passed on without need".to_owned())?;
        ensure(relayed.vni == 0 && relayed.inner == &bytes[..packet.length], || {
            format!("passed on under {}, changed to {:02x?}", relayed.vni, relayed.inner)
        })
    }

    fn judge_leaving(&self, found: &tunnel::Tunnel<'_>, out: &[u8]) -> Result<(), String> {
        let packet = Packet::read(found.inner).map_err(|reason| format!("sent although {}", reason.name()))?;
        let lease = self.holder(packet.source, judged_number(&packet, found.inner, true));
        let lease = lease.ok_or_else(|| format!("sent from {}, which nobody holds", packet.source))?;
        ensure(lease.node == found.source, || format!("sent for {}, but {} holds it", found.source, lease.node))?;
        ensure(lease.vni.0 == found.vni, || format!("vni {} sent under {}", found.vni, lease.vni.0))?;
        // Somebody's own packet to that port is none.
        if let Ok(turned) = tunnel::read(out)
            && Some(turned.source) == self.tables.underlay_address
        {
            // Turned around: to a lease of our own.
            return self.judge_turned(&packet, found, &turned);
        }
        if found.inner.len() < packet.length || out.len() < 14 {
            return Err("cut short".to_owned());
        }
        if Packet::read(&out[14..])
            .is_ok_and(|answer| answer.destination == packet.source && answer.is_icmp_error(&out[14..]))
        {
            return Ok(());
        }
        let mut expected = found.inner[..packet.length].to_vec();
        count_hop(&packet, &mut expected);
        let ecn = ecn_at_exit(super::wire::ecn(&expected), found.tos);
        set_ecn(&mut expected, ecn);
        let sent = &out[14..];
        ensure(sent.get(..packet.length).is_some_and(|sent| is_same_header(&packet, &expected, sent)), || {
            format!("bytes differ\nexpected {expected:02x?}\nfound    {sent:02x?}")
        })
    }

    /// Turned around: to whom, and what has changed. A later fragment goes where its first went, to one of the address's.
    fn judge_turned(
        &self,
        packet: &Packet,
        found: &tunnel::Tunnel<'_>,
        turned: &tunnel::Tunnel<'_>,
    ) -> Result<(), String> {
        if turned.marker == RELAY {
            return self.judge_passing_on(packet, found.inner, turned);
        }
        if turned.is_control {
            return self.judge_handed_over(packet, found.inner, turned);
        }
        let inner = Packet::read(turned.inner).map_err(|reason| format!("turned around although {}", reason.name()))?;
        let holder = self.holder(inner.destination, judged_number(&inner, turned.inner, false));
        let is_one_of_them = |lease: &&EdgeLeaseEntry| {
            holds_address(lease, inner.destination) && lease.node == turned.destination && lease.vni.0 == turned.vni
        };
        let to = match inner.part {
            Part::Later => self.tables.leases.iter().find(is_one_of_them),
            _ => holder.filter(|lease| is_one_of_them(lease)),
        };
        let to = to.ok_or_else(|| {
            format!("turned around for {} to {} under {}", inner.destination, turned.destination, turned.vni)
        })?;
        // An error of the edge's own, about a packet that it had to turn back.
        if inner.destination == packet.source && inner.is_icmp_error(turned.inner) && !packet.is_icmp_error(found.inner)
        {
            return ensure(inner.has_right_checksums(turned.inner), || "an answer's checksum is wrong".to_owned());
        }
        ensure(packet.length <= usize::from(to.mtu) || self.may_be_cut(packet, found.inner), || {
            "larger than the MTU and turned around".to_owned()
        })?;
        ensure(turned.tos == found.tos, || "the tunnel's type of service has changed on the turn".to_owned())?;
        let mut expected = found.inner[..packet.length].to_vec();
        count_hop(packet, &mut expected);
        ensure(is_same_header(packet, &expected, turned.inner), || {
            format!("turned around, bytes differ\nexpected {expected:02x?}\nfound    {:02x?}", turned.inner)
        })
    }

    /// What is larger than the MTU goes to the slow path, where there is one, if it may be cut.
    fn may_be_cut(&self, packet: &Packet, bytes: &[u8]) -> bool {
        self.tables.slow_ifindex.is_some() && packet.source.is_ipv4() && short(bytes, 6) & 0x4000 == 0
    }

    /// Handed over: a later fragment, as it was, that waits for its first.
    fn judge_handed_over(&self, packet: &Packet, bytes: &[u8], waiting: &tunnel::Tunnel<'_>) -> Result<(), String> {
        ensure(self.tables.slow_ifindex.is_some() && waiting.marker == WAIT_INWARD, || {
            format!("handed over under the marker {}", waiting.marker)
        })?;
        judge_waiting(packet, bytes, waiting)
    }

    /// Not sent: would it have had to be, and for which reasons may it be refused?
    fn judge_kept(&self, frame: &[u8], found: &tunnel::Tunnel<'_>, seen: &Seen) -> Verdict {
        if let Seen::Passed { .. } = seen {
            return Verdict::no("a tunnel packet for this edge passed");
        }
        let Ok(packet) = Packet::read(found.inner) else { return Verdict::Agreed };
        let ttl = found.inner[if packet.source.is_ipv6() { 7 } else { 8 }];
        let kind = if packet.source.is_ipv6() { 0x86dd } else { 0x0800 };
        let is_plain = packet.part == Part::Whole
            && ttl > 1
            && found.kind == kind
            && found.marker == 0
            && found.tos & 3 != 3
            && is_whole_l4(&packet, found.inner)
            && (packet.source.is_ipv6() || packet.l4_at == 20)
            && (packet.source.is_ipv4() || packet.l4_at == 40)
            && !self.is_own(packet.destination);
        let holder = self.holder(packet.source, judged_number(&packet, found.inner, true));
        let is_right = holder.is_some_and(|lease| lease.node == found.source && lease.vni.0 == found.vni);
        if is_plain && is_right {
            return Verdict::no(format!("{} > {} is in order and was dropped", packet.source, packet.destination));
        }
        Verdict::Drop(self.inside_refusals(frame, found, &packet))
    }

    /// A frame came in from the outside.
    pub fn outside(&self, frame: &[u8], seen: &Seen) -> Verdict {
        let bytes = frame.get(14..).unwrap_or_default();
        // A switch floods what it hasn't learnt: what is addressed to another station is not ours.
        let is_ours = self.tables.outside.is_none_or(|hop| frame.get(..6) == Some(&hop.source_mac[..]));
        if !is_ours {
            return match seen {
                Seen::Redirected { .. } => Verdict::no("addressed to another station and sent"),
                _ => Verdict::Agreed,
            };
        }
        // What the frame announces as one family is never read as the other.
        let kind = |packet: &Packet| if packet.source.is_ipv6() { 0x86dd } else { 0x0800 };
        let Some(packet) = Packet::read(bytes).ok().filter(|packet| kind(packet) == short(frame, 12)) else {
            return Verdict::Agreed;
        };
        let holder = if packet.part == Part::Later {
            // Its first fragment had the port; all leases of the address are one node's here.
            self.tables.leases.iter().find(|lease| holds_address(lease, packet.destination))
        } else {
            self.holder(packet.destination, judged_number(&packet, bytes, false))
        };
        match seen {
            Seen::Redirected { frame: out } => match self.judge_entering(&packet, bytes, holder, out) {
                Ok(()) => Verdict::Agreed,
                Err(text) => Verdict::no(text),
            },
            Seen::Passed { .. } if self.is_own(packet.destination) => {
                Verdict::no("a packet to an egress address passed")
            }
            Seen::Passed { .. } => Verdict::Agreed,
            Seen::Dropped => {
                let ttl = bytes[if packet.source.is_ipv6() { 7 } else { 8 }];
                let is_plain = packet.part == Part::Whole
                    && ttl > 1
                    && is_whole_l4(&packet, bytes)
                    && matches!(packet.protocol, TCP | UDP)
                    && (packet.source.is_ipv6() || packet.l4_at == 20)
                    && (packet.source.is_ipv4() || packet.l4_at == 40);
                match holder {
                    Some(lease) if is_plain && packet.length <= usize::from(lease.mtu) => {
                        Verdict::no(format!("{} > {} is in order and was dropped", packet.source, packet.destination))
                    }
                    _ => Verdict::Drop(self.outside_refusals(&packet, bytes)),
                }
            }
        }
    }

    fn judge_entering(
        &self,
        packet: &Packet,
        bytes: &[u8],
        holder: Option<&EdgeLeaseEntry>,
        out: &[u8],
    ) -> Result<(), String> {
        let Ok(found) = tunnel::read(out) else {
            let answer = out.get(14..).and_then(|answer| Some((Packet::read(answer).ok()?, answer)));
            let is_answer = answer.is_some_and(|(answer, bytes)| {
                (answer.is_icmp_error(bytes) && answer.destination == packet.source && answer.has_right_checksums(bytes))
                    // A neighbour advertisement.
                    || (answer.protocol == ICMPV6 && bytes.get(40) == Some(&136))
            });
            return ensure(is_answer, || format!("neither a tunnel packet nor an answer: {out:02x?}"));
        };
        if found.marker == RELAY {
            return self.judge_passing_on(packet, bytes, &found);
        }
        if found.is_control {
            return self.judge_handed_over(packet, bytes, &found);
        }
        let lease = holder.ok_or_else(|| format!("nobody holds {} and it was sent", packet.destination))?;
        ensure(found.destination == lease.node, || {
            format!("sent to {}, but {} holds it", found.destination, lease.node)
        })?;
        ensure(packet.length <= usize::from(lease.mtu) || self.may_be_cut(packet, bytes), || {
            "larger than the MTU and sent".to_owned()
        })?;
        ensure(found.vni == lease.vni.0, || format!("vni {}", found.vni))?;
        let mut expected = bytes[..packet.length].to_vec();
        count_hop(packet, &mut expected);
        ensure(is_same_header(packet, &expected, found.inner), || {
            format!("bytes differ\nexpected {expected:02x?}\nfound    {:02x?}", found.inner)
        })
    }

    pub(super) fn holder(&self, address: IpAddr, number: u16) -> Option<&EdgeLeaseEntry> {
        self.tables.leases.iter().find(|lease| match (&lease.space, address) {
            (LeaseSpace::Ports { address: leased, block_bits, blocks }, IpAddr::V4(address)) => {
                *leased == address && blocks.iter().any(|block| u32::from(number) >> block_bits == u32::from(*block))
            }
            (LeaseSpace::Prefix { prefix }, IpAddr::V6(address)) => prefix.octets()[..8] == address.octets()[..8],
            _ => false,
        })
    }

    pub(super) fn is_own(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => self.tables.addresses.iter().any(|entry| entry.address == address),
            IpAddr::V6(address) => self.tables.prefixes.iter().any(|(prefix, length)| {
                let mask = u128::MAX.checked_shl(128 - u32::from(*length)).unwrap_or(0);
                prefix.to_bits() & mask == address.to_bits() & mask
            }),
        }
    }
}

fn ensure(is_right: bool, what: impl FnOnce() -> String) -> Result<(), String> {
    if is_right { Ok(()) } else { Err(what()) }
}

pub(super) fn holds_address(lease: &EdgeLeaseEntry, address: IpAddr) -> bool {
    match (&lease.space, address) {
        (LeaseSpace::Ports { address: leased, .. }, IpAddr::V4(address)) => *leased == address,
        (LeaseSpace::Prefix { prefix }, IpAddr::V6(address)) => prefix.octets()[..8] == address.octets()[..8],
        _ => false,
    }
}

fn judge_alien(seen: &Seen) -> Verdict {
    match seen {
        Seen::Passed { .. } => Verdict::Agreed,
        Seen::Dropped => Verdict::Drop(DropReason::ALL.to_vec()),
        // A probe's reply.
        Seen::Redirected { frame } if tunnel::read_loosely(frame).is_some_and(|found| found.is_control) => {
            Verdict::Agreed
        }
        Seen::Redirected { frame } => Verdict::no(format!("none of the edge's business and sent: {frame:02x?}")),
    }
}

/// The number that is looked up with an address: a port, an echo's id, the id of a later or first fragment that leaves, or
/// the port that an error embeds.
pub(super) fn judged_number(packet: &Packet, bytes: &[u8], is_leaving: bool) -> u16 {
    if packet.source.is_ipv6() {
        return 0;
    }
    if packet.is_icmp_error(bytes) {
        let at = packet.l4_at + 8;
        let l4_at = at + usize::from(bytes.get(at).copied().unwrap_or(0) & 15) * 4;
        let is_ported = matches!(bytes.get(at + 9), Some(&TCP | &UDP));
        let offset = if !is_ported {
            4
        } else if is_leaving {
            2
        } else {
            0
        };
        return short(bytes, l4_at + offset);
    }
    match (packet.part, is_leaving) {
        (Part::First | Part::Later, true) => short(bytes, 4),
        _ if is_leaving => packet.source_port,
        _ => packet.destination_port,
    }
}

fn is_whole_l4(packet: &Packet, bytes: &[u8]) -> bool {
    let l4 = &bytes[packet.l4_at.min(packet.length)..packet.length];
    match packet.protocol {
        TCP => {
            let header_length = usize::from(l4.get(12).copied().unwrap_or(0) >> 4) * 4;
            l4.len() >= 20 && header_length >= 20 && header_length <= l4.len()
        }
        UDP => {
            let is_summed = packet.source.is_ipv4() || (l4.len() >= 8 && short(l4, 6) != 0);
            is_summed && l4.len() >= 8 && (8..=l4.len()).contains(&usize::from(short(l4, 4)))
        }
        ICMP => l4.len() >= 8 && l4[0] == 8 && l4[1] == 0,
        _ => false,
    }
}

fn count_hop(packet: &Packet, bytes: &mut [u8]) {
    if packet.source.is_ipv6() {
        bytes[7] = bytes[7].wrapping_sub(1);
        return;
    }
    let before = short(bytes, 8);
    bytes[8] = bytes[8].wrapping_sub(1);
    let checksum = updated(short(bytes, 10), before.into(), short(bytes, 8).into());
    put(bytes, 10, checksum);
}

/// The same up to the two forms of zero in the header's checksum.
fn is_same_header(packet: &Packet, expected: &[u8], found: &[u8]) -> bool {
    if packet.source.is_ipv6() {
        return expected == &found[..expected.len().min(found.len())];
    }
    let is_same_sum = super::wire::same_checksum(short(expected, 10), short(found, 10));
    found.len() >= expected.len()
        && is_same_sum
        && expected[..10] == found[..10]
        && expected[12..] == found[12..expected.len()]
}
