//! What a rewritten packet must look like: the packet as it came, with what the contract says is changed, and nothing else.

use std::net::IpAddr;

use persona_common::normalise::{HOPS_TO_EDGE, WINDOW_SHOWN};
use persona_ctl::dataplane::tables::Normalisation;

use super::packet::{ICMP, ICMPV6, Packet, Part, TCP, UDP};
use super::wire::{put, same_checksum, short, sum, updated};

/// One end of a packet: an address and a port or echo id.
pub type End = (IpAddr, u16);

/// What is done to a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// Whose end is replaced.
    pub side: Side,
    /// By what.
    pub to: End,
    /// Fragments of IPv4: the new id.
    pub id: Option<u16>,
    /// The new DSCP.
    pub dscp: Option<u8>,
    /// The lease's MTU, which bounds the MSS of a SYN.
    pub mtu: u16,
    /// Hops that are counted.
    pub hops: u8,
    /// What is hidden beside; the id of IPv4 is [`Self::id`].
    pub hidden: Normalisation,
}

/// What connections may ask for.
#[derive(Debug, Clone, Copy)]
struct Terms {
    mss: u16,
    hides_timestamps: bool,
    arranges_options: bool,
}

impl Change {
    fn hops_left(&self, hops: u8) -> u8 {
        if self.hidden.hops { HOPS_TO_EDGE } else { hops.wrapping_sub(self.hops) }
    }

    fn terms(&self, headers_length: u16) -> Terms {
        Terms {
            mss: self.mtu.saturating_sub(headers_length),
            hides_timestamps: self.hidden.timestamps,
            arranges_options: self.hidden.options,
        }
    }
}

/// Which end of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The source.
    Source,
    /// The destination.
    Destination,
}

/// The packet after the change. Checksums are updated, so a wrong one stays wrong by as much.
pub fn changed(packet: &Packet, bytes: &[u8], change: &Change) -> Vec<u8> {
    let mut out = bytes[..packet.length].to_vec();
    if packet.source.is_ipv4() {
        change_v4(packet, &mut out, change)
    } else {
        change_v6(packet, &mut out, change)
    }
    out
}

/// Whether two packets are the same up to the two forms of zero in their checksums.
pub fn is_same(packet: &Packet, expected: &[u8], found: &[u8]) -> bool {
    let mut checksums = if packet.source.is_ipv4() { vec![10] } else { vec![] };
    if packet.part != Part::Later {
        match packet.protocol {
            TCP => checksums.push(packet.l4_at + 16),
            UDP => checksums.push(packet.l4_at + 6),
            ICMP | ICMPV6 => checksums.push(packet.l4_at + 2),
            _ => {}
        }
    }
    if packet.is_icmp_error(expected) && packet.source.is_ipv4() {
        let embedded_at = packet.l4_at + 8;
        let embedded_l4_at = embedded_at + usize::from(expected.get(embedded_at).unwrap_or(&0) & 15) * 4;
        let inner = match expected.get(embedded_at + 9) {
            Some(&TCP) => 16,
            Some(&UDP) => 6,
            _ => 2,
        };
        checksums.extend([embedded_at + 10, embedded_l4_at + inner]);
    }
    if expected.len() != found.len() {
        return false;
    }
    let (mut expected, mut found) = (expected.to_vec(), found.to_vec());
    for at in checksums {
        if at + 2 <= expected.len() && same_checksum(short(&expected, at), short(&found, at)) {
            put(&mut expected, at, 0);
            put(&mut found, at, 0);
        }
    }
    expected == found
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// Writes bytes at an even offset, and updates a checksum for it.
fn write(out: &mut [u8], at: usize, bytes: &[u8], checksum_at: Option<usize>) {
    let end = at + bytes.len();
    let (removed, added) = (sum(&out[at..end], 0), sum(bytes, 0));
    out[at..end].copy_from_slice(bytes);
    if let Some(checksum_at) = checksum_at {
        let checksum = updated(short(out, checksum_at), removed, added);
        put(out, checksum_at, checksum);
    }
}

fn change_v4(packet: &Packet, out: &mut [u8], change: &Change) {
    let header_sum = Some(10);
    let ttl = [change.hops_left(out[8]), out[9]];
    write(out, 8, &ttl, header_sum);
    if let Some(dscp) = change.dscp {
        let word = [out[0], dscp << 2 | out[1] & 3];
        write(out, 0, &word, header_sum);
    }
    if let Some(id) = change.id {
        write(out, 4, &id.to_be_bytes(), header_sum);
    }
    let address_at = if change.side == Side::Source { 12 } else { 16 };
    let before = out[address_at..address_at + 4].to_vec();
    write(out, address_at, &octets(change.to.0), header_sum);
    if packet.part != Part::Later {
        change_l4(packet, out, change, &before);
    }
}

fn change_l4(packet: &Packet, out: &mut [u8], change: &Change, address_before: &[u8]) {
    let at = packet.l4_at;
    let port_at = at + if change.side == Side::Source { 0 } else { 2 };
    let port = change.to.1.to_be_bytes();
    match packet.protocol {
        TCP if out.len() >= at + 20 => {
            hold(packet, out, change.terms(40));
            let checksum = updated(short(out, at + 16), sum(address_before, 0), sum(&octets(change.to.0), 0));
            put(out, at + 16, checksum);
            write(out, port_at, &port, Some(at + 16));
        }
        UDP if out.len() >= at + 8 && short(out, at + 6) == 0 => write(out, port_at, &port, None),
        UDP if out.len() >= at + 8 => {
            let checksum = updated(short(out, at + 6), sum(address_before, 0), sum(&octets(change.to.0), 0));
            put(out, at + 6, checksum);
            write(out, port_at, &port, Some(at + 6));
            if short(out, at + 6) == 0 {
                put(out, at + 6, 0xffff);
            }
        }
        ICMP if packet.is_icmp_error(out) => change_embedded(packet, out, change),
        ICMP if out.len() >= at + 8 => write(out, at + 4, &port, Some(at + 2)),
        _ => {}
    }
}

/// The packet inside an error went the other way: what is the error's destination is its source.
fn change_embedded(packet: &Packet, out: &mut [u8], change: &Change) {
    let icmp_sum = packet.l4_at + 2;
    let at = packet.l4_at + 8;
    let header_length = usize::from(out[at] & 15) * 4;
    let l4_at = at + header_length;
    let protocol = out[at + 9];
    let (address_at, port_at) = match change.side {
        Side::Destination => (at + 12, l4_at),
        Side::Source => (at + 16, l4_at + 2),
    };
    let port_at = if matches!(protocol, TCP | UDP) { port_at } else { l4_at + 4 };
    let before = out.to_vec();
    let address_before = out[address_at..address_at + 4].to_vec();
    write(out, address_at, &octets(change.to.0), Some(at + 10));
    let inner_sum_at = l4_at
        + match protocol {
            TCP => 16,
            UDP => 6,
            _ => 2,
        };
    let has_sum = inner_sum_at + 2 <= out.len() && !(protocol == UDP && short(out, inner_sum_at) == 0);
    if has_sum && matches!(protocol, TCP | UDP) {
        let checksum = updated(short(out, inner_sum_at), sum(&address_before, 0), sum(&octets(change.to.0), 0));
        put(out, inner_sum_at, checksum);
    }
    write(out, port_at, &change.to.1.to_be_bytes(), has_sum.then_some(inner_sum_at));
    if has_sum && protocol == UDP && short(out, inner_sum_at) == 0 {
        put(out, inner_sum_at, 0xffff);
    }
    // The error's own checksum covers all that changed.
    let (removed, added) = (sum(&before[at..], 0), sum(&out[at..], 0));
    let checksum = updated(short(out, icmp_sum), removed, added);
    put(out, icmp_sum, checksum);
}

fn change_v6(packet: &Packet, out: &mut [u8], change: &Change) {
    out[7] = change.hops_left(out[7]);
    if change.hidden.id {
        out[1] &= 0xf0;
        out[2..4].fill(0);
    }
    if let Some(dscp) = change.dscp {
        let word = short(out, 0);
        put(out, 0, word & 0xf03f | u16::from(dscp) << 6);
    }
    let address_at = if change.side == Side::Source { 8 } else { 24 };
    let before = out[address_at..address_at + 16].to_vec();
    out[address_at..address_at + 16].copy_from_slice(&octets(change.to.0));
    if packet.part == Part::Later {
        return;
    }
    // A SYN in fragments isn't looked into: nobody sends one who wants an answer.
    if packet.protocol == TCP && packet.part == Part::Whole && out.len() >= packet.l4_at + 20 {
        hold(packet, out, change.terms(60));
    }
    if packet.is_icmp_error(out) {
        let embedded_at = packet.l4_at + 8 + if change.side == Side::Source { 24 } else { 8 };
        let is_ours = out.get(embedded_at..embedded_at + 16) == Some(&before[..]);
        if is_ours {
            out[embedded_at..embedded_at + 16].copy_from_slice(&octets(change.to.0));
        }
    }
}

/// Lowers the MSS of a SYN or SYN-ACK (RFC 9293 §3.7.1), takes timestamps out of a SYN, and puts options in order.
fn hold(packet: &Packet, out: &mut [u8], terms: Terms) {
    let at = packet.l4_at;
    let header_length = usize::from(out[at + 12] >> 4) * 4;
    let flags = out[at + 13];
    if flags & 2 == 0 || header_length <= 20 || at + header_length > out.len() {
        return;
    }
    let end = at + header_length;
    // At an odd offset the words of the sum lie across; the sum over the whole header is the same.
    let removed = sum(&out[at..end], 0);
    rewrite_options(&mut out[at + 20..end], terms.mss, terms.hides_timestamps && flags & 16 == 0);
    if terms.arranges_options && arrange_options(&mut out[at + 20..end]) {
        let window = short(out, at + 14).min(WINDOW_SHOWN);
        put(out, at + 14, window);
    }
    let added = sum(&out[at..end], 0);
    let checksum = updated(short(out, at + 16), removed, added);
    put(out, at + 16, checksum);
}

fn rewrite_options(options: &mut [u8], limit: u16, hides_timestamps: bool) {
    let (mut at, mut mss_at) = (0, None);
    while at + 4 <= options.len() {
        let (kind, size) = (options[at], usize::from(options[at + 1]));
        match kind {
            0 => break,
            1 => {
                at += 1;
                continue;
            }
            _ if size < 2 => break,
            2 if size == 4 && mss_at.is_none() => mss_at = (short(options, at + 2) != 0).then_some(at + 2),
            8 if size == 10 && hides_timestamps && at + 10 <= options.len() => options[at..at + 10].fill(1),
            _ => {}
        }
        if kind == 2 && size == 4 && !hides_timestamps {
            break;
        }
        at += size;
    }
    if let Some(mss_at) = mss_at.filter(|at| short(options, *at) > limit) {
        put(options, mss_at, limit);
    }
}

/// Whether it was a list of options that nothing signs, which is in order now.
fn arrange_options(options: &mut [u8]) -> bool {
    let mut found: Vec<(u8, Vec<u8>)> = Vec::new();
    let mut rest = &options[..];
    while let Some((kind, behind)) = rest.split_first() {
        match (kind, behind.first()) {
            (0, _) => break,
            (1, _) => rest = behind,
            (19 | 29, _) | (_, None) => return false,
            (kind, Some(size)) => {
                let Some((option, behind)) = rest.split_at_checked(usize::from(*size)) else { return false };
                if option.len() < 2 {
                    return false;
                }
                found.push((*kind, option.to_vec()));
                rest = behind;
            }
        }
    }
    let order = [2, 3, 4, 8];
    // What has no place of its own stays in the order in which it came.
    found.sort_by_key(|(kind, _)| order.iter().position(|known| known == kind).unwrap_or(order.len()));
    let mut arranged: Vec<u8> = found.into_iter().flat_map(|(_, option)| option).collect();
    arranged.resize(options.len(), 1);
    options.copy_from_slice(&arranged);
    true
}
