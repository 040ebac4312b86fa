//! What leaves a node under a persona: is it the right tunnel packet, was it refused for a reason, was its sender told?

use std::net::IpAddr;

use persona_common::drop::DropReason;
use persona_common::encapsulation::WAIT;
use persona_core::ids::SubjectNumber;
use persona_ctl::dataplane::tables::{LeaseEntry, LeaseSpace, SubjectEgress};

use super::delivery::judge_waiting;
use super::nat::{Answer, Pressure};
use super::node::{Node, differs, ensure, loses_all, translated};
use super::packet::{Packet, Part, TCP};
use super::rewrite::{Change, Side, changed, is_same};
use super::shape::{Way, embedded_port, ends, opens_connection};
use super::wire::short;
use super::{Seen, Verdict, tunnel};

/// Ports that the program may take for taken when the model does not yet: those about to end.
const SLACK: usize = 2;

impl Node {
    pub(super) fn judge_leaving(
        &mut self,
        number: SubjectNumber,
        egress: &SubjectEgress,
        packet: &Packet,
        (bytes, frame): (&[u8], &[u8]),
        seen: &Seen,
    ) -> Verdict {
        let is_error = packet.is_icmp_error(bytes);
        let too_big = packet.length > usize::from(egress.mtu);
        let ttl = bytes[if packet.source.is_ipv6() { 7 } else { 8 }];
        let Seen::Redirected { frame: out } = seen else {
            return self.judge_refusal((number, egress), packet, bytes, seen);
        };
        let has_slow_path = self.tables.slow_ifindex.is_some();
        let may_be_cut = packet.source.is_ipv4() && short(bytes, 6) & 0x4000 == 0;
        match tunnel::read(out) {
            Ok(found) if found.is_control && has_slow_path => match judge_waiting(packet, bytes, &found) {
                Ok(()) if found.marker == WAIT => Verdict::Agreed,
                Ok(()) => Verdict::no(format!("waits under the marker {}", found.marker)),
                Err(text) => Verdict::no(text),
            },
            Ok(found) if found.is_control => Verdict::no("handed over although there is no slow path"),
            Ok(_) if too_big && !(has_slow_path && may_be_cut) => Verdict::no("larger than the MTU and sent"),
            Ok(_) if ttl <= 1 => Verdict::no("its time to live is over and it is sent"),
            Ok(_) if loses_all(egress) => Verdict::no("all is lost on purpose and it is sent"),
            Ok(found) => match self.judge_tunnel((number, egress), packet, bytes, &found) {
                Ok(()) => Verdict::Agreed,
                Err(text) => Verdict::no(text),
            },
            Err(_) if (too_big || ttl <= 1) && !is_error => {
                if let Some((address, _)) = self.ports(egress) {
                    let now_secs = self.now_secs;
                    self.flows_of(number).nat.refused(
                        packet.protocol,
                        ends(packet),
                        address,
                        opens_connection(packet, bytes),
                        now_secs,
                    );
                }
                judge_answer(packet, bytes, frame, out)
            }
            Err(text) => Verdict::no(text),
        }
    }

    /// Not sent: is there a reason?
    fn judge_refusal(
        &mut self,
        (number, egress): (SubjectNumber, &SubjectEgress),
        packet: &Packet,
        bytes: &[u8],
        seen: &Seen,
    ) -> Verdict {
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
            reasons.extend([DropReason::TooBig, DropReason::NoSlowPath]);
        }
        if self.alive.is_empty() {
            reasons.push(DropReason::NoEdge);
        }
        if egress.impair.loss_millionths > 0 {
            reasons.push(DropReason::Impaired);
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
        match self.outer_of(egress, packet.source) {
            Some(outer) if self.alike[&outer].0.len() > 1 => reasons.push(DropReason::SourceAddress),
            None if packet.source.is_ipv6() => reasons.push(DropReason::SourceAddress),
            _ => {}
        }
        let (inner, remote) = ends(packet);
        let is_known = if packet.source.is_ipv4() {
            self.flows_of(number).nat.outer_of_flow(packet.protocol, inner, remote, now_secs)
        } else {
            Answer::No
        };
        let is_mapped = self.ports(egress).is_some();
        if packet.protocol == TCP && packet.source.is_ipv4() && is_mapped && !matches!(is_known, Answer::Surely(_)) {
            let flags = bytes.get(packet.l4_at + 13).copied().unwrap_or(0);
            if flags & 0x16 != 2 {
                reasons.push(DropReason::MidStream);
            }
        }
        let opens = opens_connection(packet, bytes);
        if packet.source.is_ipv4()
            && (opens || !matches!(is_known, Answer::Surely(_)))
            && let Some((address, count)) = self.ports(egress)
            && self.flows_of(number).nat.taken_count(packet.protocol, address, now_secs) + SLACK >= count
        {
            reasons.push(DropReason::PortsExhausted);
        }
        if packet.part != Part::Later
            && !packet.is_icmp_error(bytes)
            && let Some((address, _)) = self.ports(egress)
        {
            self.flows_of(number).nat.refused(packet.protocol, (inner, remote), address, opens, now_secs);
        }
        Verdict::dropped(seen, &reasons)
    }

    fn judge_tunnel(
        &mut self,
        (number, egress): (SubjectNumber, &SubjectEgress),
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
        let lease = self.lease_of(sent.source).cloned().ok_or_else(|| format!("{} is not leased", sent.source))?;
        ensure(lease.subject == number, || format!("subject {number} sent under a lease of {}", lease.subject))?;
        ensure(lease.vni.0 == found.vni, || format!("vni {} under a lease of {}", found.vni, lease.vni.0))?;
        let mtu = lease.mtu;
        let (inner, remote) = ends(packet);
        let is_error = packet.is_icmp_error(bytes);
        let mut to = out;
        let mut id = None;
        match &lease.space {
            _ if lease.configured => {
                ensure(sent.source == packet.source, || format!("{} became {}", packet.source, sent.source))?;
                to = (packet.source, if is_error { embedded_port(packet, bytes, Way::Outward) } else { inner.1 });
            }
            LeaseSpace::Ports { address, block_bits, blocks } => {
                let judged = if packet.part == Part::Whole && !is_error { out.1 } else { short(found.inner, 4) };
                if packet.part != Part::Whole {
                    id = Some(judged);
                }
                if is_error {
                    to.1 = embedded_port(&sent, found.inner, Way::Outward);
                }
                let judged = if is_error { to.1 } else { judged };
                let is_leased = |number: u16| blocks.iter().any(|it| u32::from(number) >> block_bits == u32::from(*it));
                ensure(is_leased(judged), || format!("{judged} of {address} is in none of the blocks {blocks:?}"))?;
                if packet.length > usize::from(mtu) {
                    // The slow path cuts it: its fragments will be checked by their id.
                    let cut = short(found.inner, 4);
                    ensure(is_leased(cut), || format!("id {cut} of {address} is in none of the blocks {blocks:?}"))?;
                    id = Some(cut);
                }
                if packet.part != Part::Later && !is_error {
                    let now_secs = self.now_secs;
                    let is_full = self.flows_of(number).nat.taken_count(packet.protocol, *address, now_secs) + SLACK
                        >= blocks.len() << block_bits;
                    let opens = opens_connection(packet, bytes);
                    let pressure = Pressure { is_full, opens };
                    self.flows_of(number).nat.left(
                        packet.protocol,
                        (inner, remote),
                        (*address, out.1),
                        pressure,
                        now_secs,
                    )?;
                }
            }
            LeaseSpace::Prefix { prefix } => {
                let translated =
                    translated(packet.source, *prefix).ok_or("an identifier of all ones was translated")?;
                ensure(IpAddr::V6(translated) == sent.source, || format!("{} became {}", packet.source, sent.source))?;
                let holder = self.alike.entry(sent.source).or_default().1.get_or_insert(packet.source);
                ensure(*holder == packet.source, || format!("{} stands for {holder} already", sent.source))?;
            }
        }
        if egress.normalise.id && packet.source.is_ipv4() && packet.part == Part::Whole && id.is_none() {
            id = Some(judge_hidden_id(&lease, bytes, short(found.inner, 4))?);
        }
        let change = Change { side: Side::Source, to, id, dscp: egress.dscp, mtu, hops: 1, hidden: egress.normalise };
        let expected = changed(packet, bytes, &change);
        ensure(is_same(packet, &expected, found.inner), || differs(&expected, found.inner))?;
        ensure(found.tos == inner_tos(found.inner), || "outer and inner type of service differ".to_owned())?;
        if packet.has_right_checksums(bytes) {
            ensure(sent.has_right_checksums(found.inner), || "a right checksum became wrong".to_owned())?;
        }
        Ok(())
    }
}

/// The id of a whole packet whose own is hidden: none where it may not be cut, else one that the lease's ports vouch for.
fn judge_hidden_id(lease: &LeaseEntry, bytes: &[u8], found: u16) -> Result<u16, String> {
    if short(bytes, 6) & 0x4000 != 0 {
        return Ok(0);
    }
    if let LeaseSpace::Ports { block_bits, blocks, .. } = &lease.space {
        let is_leased = blocks.iter().any(|block| u32::from(found) >> block_bits == u32::from(*block));
        ensure(is_leased, || format!("id {found} is in none of the blocks {blocks:?}"))?;
    }
    Ok(found)
}

fn inner_tos(bytes: &[u8]) -> u8 {
    if bytes[0] >> 4 == 4 { bytes[1] } else { (short(bytes, 0) >> 4) as u8 }
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
